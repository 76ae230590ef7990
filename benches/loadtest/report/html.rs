//! The report as one page.

use std::{collections::BTreeSet, fmt};

use super::{
    Report, Search, number, percent,
    plot::{Axis, Form, Plot, Series},
};
use crate::{
    status::Status,
    summary::{Latency, Summary, real},
};

const STYLE: &str = "\
:root{color-scheme:light}\
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fff;max-width:920px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
th,td{padding:.2rem .7rem;border-bottom:1px solid #e3e3e3;text-align:right;vertical-align:top}\
th:first-child,td:first-child,.text td,.text th{text-align:left}\
.key{display:flex;flex-wrap:wrap;gap:1rem 2.2rem;margin:1.2rem 0}\
.key b{display:block;font-size:1.5rem;font-weight:600}\
.warning{background:#fff4dc;border-left:4px solid #e0a030;padding:.4rem .8rem;margin:.5rem 0}\
figure{margin:1.5rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}svg text{font-size:12px;fill:#555}\
code{font-size:.9em;overflow-wrap:anywhere}small,.note{color:#666}";

/// Seconds, whose numbers come from lists of at most 3,600.
const SECONDS: &str = "seconds since measuring began";

/// A report as a page.
pub(super) struct Page<'a>(pub(super) &'a Report);

/// Text from outside, made harmless for elements and for quoted attributes.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            _ => write!(f, "{letter}"),
        })
    }
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { summary, started, server, .. } = self.0;
        writeln!(f, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")?;
        writeln!(f, r#"<meta name="viewport" content="width=device-width, initial-scale=1">"#)?;
        writeln!(f, "<title>Load test of {}, {}</title>", Escaped(server), Escaped(started))?;
        writeln!(f, "<style>{STYLE}</style></head><body><h1>Load test</h1>")?;
        writeln!(f, "<small>{} at {}</small>", Escaped(server), Escaped(started))?;
        for warning in &self.0.warnings {
            writeln!(f, r#"<p class="warning">{}</p>"#, Escaped(warning))?;
        }
        write_key_numbers(f, summary)?;
        if let Some(search) = &self.0.search {
            write_search(f, search)?;
        }
        write_latencies(f, summary)?;
        write!(f, "{}{}{}", latency_over_time(summary), percentiles(summary), throughput(summary))?;
        write_statuses(f, summary)?;
        write_run(f, self.0)?;
        writeln!(f, "</body></html>")
    }
}

fn write_key_numbers(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    let rate = |rate| number(Some(rate));
    write!(f, r#"<div class="key">"#)?;
    for (name, value) in [
        ("p50", format!("{} ms", number(summary.latency_ms.p50))),
        ("p99", format!("{} ms", number(summary.latency_ms.p99))),
        ("succeeded", percent(summary.succeeded_share)),
        ("offered", format!("{}/s", rate(summary.offered_per_second))),
        ("answered", format!("{}/s", rate(summary.achieved_per_second))),
        ("goodput", format!("{}/s", rate(summary.goodput_per_second))),
    ] {
        write!(f, "<div><b>{value}</b>{name}</div>")?;
    }
    writeln!(f, "</div>")?;
    writeln!(
        f,
        r#"<p class="note">{} of {} requests succeeded in {} s, {} of them after their own deadline; {} MB were sent. Goodput
is the successes that came within their deadline.</p>"#,
        summary.succeeded,
        summary.requests,
        rate(summary.seconds),
        summary.succeeded_late,
        rate(real(summary.bytes_sent) / 1e6),
    )
}

fn write_search(f: &mut fmt::Formatter<'_>, search: &Search) -> fmt::Result {
    writeln!(f, "<h2>Search for the highest rate</h2><p>{}.</p>", search.outcome())?;
    writeln!(f, "<table><tr><th>rate/s<th>offered/s<th>p50 ms<th>p99 ms<th>succeeded<th>goodput/s<th>holds</tr>")?;
    for step in &search.steps {
        let (summary, held) = (&step.summary, if step.held { "yes" } else { "no" });
        let rates = [Some(step.rate_per_second), Some(summary.offered_per_second)].map(number);
        let latencies = [summary.latency_ms.p50, summary.latency_ms.p99].map(number);
        let (share, goodput) = (percent(summary.succeeded_share), number(Some(summary.goodput_per_second)));
        writeln!(f, "<tr><td>{}<td>{share}<td>{goodput}<td>{held}</tr>", [rates, latencies].concat().join("<td>"))?;
    }
    let what = if search.rate_found.is_some() { "the rate that was found" } else { "the last rate that was tried" };
    writeln!(f, "</table><p class=\"note\">What follows is of {what}.</p>")
}

fn write_latencies(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    writeln!(
        f,
        "<h2>Latency</h2><table><tr><th>ms<th>count<th>mean<th>p50<th>p90<th>p95<th>p99<th>p99.9<th>p99.99<th>max</tr>"
    )?;
    let mut row = |name: &str, latency: &Latency| {
        let Latency { mean, p50, p90, p95, p99, p99_9, p99_99, max, .. } = latency;
        let numbers = [mean, p50, p90, p95, p99, p99_9, p99_99, max].map(|latency| number(*latency));
        writeln!(f, "<tr><td>{name}<td>{}<td>{}</tr>", latency.count, numbers.join("<td>"))
    };
    row("all", &summary.latency_ms)?;
    summary.kinds.iter().try_for_each(|(kind, counts)| row(kind.name(), &counts.latency_ms))?;
    row("refused", &summary.refused.latency_ms)?;
    row("late by", &summary.late_by_ms)?;
    row("sent late by", &summary.send_lag_ms)?;
    writeln!(
        f,
        r#"</table><p class="note">Of successes, from the moment a request was due (in a closed loop, sent); refusals
have their own row. <i>Late by</i> is how long after their deadline successes came; <i>sent late by</i> is what the
generator itself adds.</p>"#
    )
}

fn write_statuses(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    writeln!(f, r#"<h2>Statuses</h2><table class="text"><tr><th>status<th>requests<th>first message</tr>"#)?;
    for (status, count) in &summary.statuses {
        let message = summary.first_messages.get(status).map_or("", String::as_str);
        writeln!(f, "<tr><td>{}<td>{count}<td>{}</tr>", status.name(), Escaped(message))?;
    }
    let refused = &summary.refused;
    let (with, all) = (refused.with_retry_info, refused.requests);
    writeln!(f, "</table><p class=\"note\">{with} of {all} refusals said when to try again.</p>")
}

fn write_run(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f, r#"<h2>Run</h2><table class="text">"#)?;
    for (name, value) in [
        ("command line", report.command_line.as_str()),
        ("server", &report.server),
        ("catalogue", &report.catalog),
        ("load", &report.load),
        ("queries", &report.workload),
        ("seed", &report.seed.to_string()),
        ("deadline", &format!("{} ms", report.deadline_ms)),
        ("started", &report.started),
        ("made by", &format!("{} {}", report.tool, report.version)),
    ] {
        writeln!(f, "<tr><td>{name}<td><code>{}</code></tr>", Escaped(value))?;
    }
    writeln!(f, "</table>")
}

/// Places of the seconds of a run, each with something of it.
fn over_time<T>(summary: &Summary, of: impl Fn(&crate::summary::SecondSummary) -> T) -> Vec<(f64, T)> {
    let places = (0_u32..).map(f64::from);
    places.zip(summary.per_second.iter().map(of)).collect()
}

fn seconds_axis(summary: &Summary) -> Axis {
    let seconds = summary.per_second.iter().map(|_| 1.0).sum::<f64>().max(1.0);
    Axis::round(SECONDS, seconds).ended_at(seconds)
}

fn highest<'a>(series: impl IntoIterator<Item = &'a Series>) -> f64 {
    series.into_iter().flat_map(|series| &series.points).filter_map(|(_, value)| *value).fold(0.0, f64::max)
}

fn latency_over_time(summary: &Summary) -> Plot {
    let line = |name: &str, colour, points: Vec<(f64, Option<f64>)>| {
        // A second's number stands in its middle.
        let points = points.into_iter().map(|(place, value)| (place + 0.5, value)).collect();
        Series { name: name.to_owned(), colour, points }
    };
    let series = vec![
        line("p50", "#2b6cb0", over_time(summary, |second| second.p50_ms)),
        line("p99", "#c05621", over_time(summary, |second| second.p99_ms)),
    ];
    let (x, y) = (seconds_axis(summary), Axis::round("ms", highest(&series)));
    Plot { title: "Latency of the requests due in each second", x, y, series, form: Form::Lines }
}

fn percentiles(summary: &Summary) -> Plot {
    let line = |name: &str, colour, latency: &Latency| Series {
        name: name.to_owned(),
        colour,
        points: latency.curve.iter().map(|(nines, ms)| (*nines, Some(*ms))).collect(),
    };
    let kinds = summary.kinds.iter().zip(["#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b7791f"]);
    let kinds = kinds.map(|((kind, counts), colour)| line(kind.name(), colour, &counts.latency_ms));
    let series: Vec<_> = [line("all", "#222", &summary.latency_ms)].into_iter().chain(kinds).collect();
    let marks =
        [(0.0, "0"), (std::f64::consts::LOG10_2, "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99")];
    let marks = marks.map(|(nines, percent)| (nines, percent.to_owned())).to_vec();
    let (x, y) = (Axis { label: "percentile", max: 4.0, marks }, Axis::round("ms", highest(&series)));
    Plot { title: "Latency by percentile, as far as there are samples", x, y, series, form: Form::Lines }
}

fn throughput(summary: &Summary) -> Plot {
    let statuses: BTreeSet<_> = summary.per_second.iter().flat_map(|second| second.statuses.keys().copied()).collect();
    let counts =
        |status| over_time(summary, move |second| Some(real(second.statuses.get(&status).copied().unwrap_or(0))));
    let series: Vec<_> = statuses
        .into_iter()
        .map(|status| Series { name: status.name().to_owned(), colour: colour(status), points: counts(status) })
        .collect();
    let all = summary.per_second.iter().map(|second| real(second.statuses.values().sum())).fold(0.0, f64::max);
    let (x, y) = (seconds_axis(summary), Axis::round("per second", all));
    Plot { title: "What came in each second, by status", x, y, series, form: Form::Stacked }
}

fn colour(status: Status) -> &'static str {
    match status.name() {
        "OK" => "#48a868",
        "RESOURCE_EXHAUSTED" => "#e0a030",
        "DEADLINE_EXCEEDED" => "#d1495b",
        "UNAVAILABLE" => "#805ad5",
        "NO_ANSWER" => "#8c5a2b",
        "CONNECTION_LOST" => "#222",
        "NOT_SENT" => "#9aa5b1",
        _ => "#3b82c4",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let page = Page(&report()).to_string();
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&quot;full&quot;)"));
        assert!(page.contains("price &lt; 50 &amp; &quot;x&quot;"));
    }

    #[test]
    fn the_page_stands_alone_with_its_plots_and_where_it_came_from() {
        let page = Page(&report()).to_string();
        assert_eq!(page.matches("<svg").count(), 3);
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        for fact in ["http://127.0.0.1:50051", "2026-01-01T00:00:00Z", "loadtest 0.1.0", "<code>1</code>"] {
            assert!(page.contains(fact), "{fact}");
        }
    }

    #[test]
    fn a_run_without_an_answer_still_makes_a_page() {
        let mut report = report();
        let record = crate::record::Record::new(std::time::Duration::ZERO, 1, std::time::Duration::ZERO);
        report.summary = Summary::of(&record);
        let page = Page(&report).to_string();
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }
}
