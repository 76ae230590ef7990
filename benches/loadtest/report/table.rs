//! The report for a terminal.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::{Report, Search, number, percent};
use crate::summary::{Latency, Summary, real};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(search) = &self.search {
            write_search(f, search)?;
        }
        let summary = &self.summary;
        writeln!(f, "{}; {}; seed {}", self.load, self.workload, self.seed)?;
        writeln!(f, "{}\n", counts(summary))?;
        writeln!(f, "{}\n", latencies(summary))?;
        for (status, count) in &summary.statuses {
            write!(f, "{:>9}  {}", count, status.name())?;
            match summary.first_messages.get(status) {
                Some(message) => writeln!(f, "  first: {message}")?,
                None => writeln!(f)?,
            }
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "\nwarning: {warning}"))
    }
}

fn write_search(f: &mut fmt::Formatter<'_>, search: &Search) -> fmt::Result {
    let mut table = table(["rate/s", "offered/s", "p50 ms", "p99 ms", "succeeded", "goodput/s", "holds"]);
    for step in &search.steps {
        let summary = &step.summary;
        table.add_row([
            number(Some(step.rate_per_second)),
            number(Some(summary.offered_per_second)),
            number(summary.latency_ms.p50),
            number(summary.latency_ms.p99),
            percent(summary.succeeded_share),
            number(Some(summary.goodput_per_second)),
            if step.held { "yes" } else { "no" }.to_owned(),
        ]);
    }
    writeln!(f, "{table}\n\n{}\n", search.outcome())
}

impl Search {
    /// What was found, in a sentence.
    pub(super) fn outcome(&self) -> String {
        let promise = format!("p99 at most {} ms and 99 % successes", number(Some(self.p99_ms_max)));
        match self.rate_found {
            Some(rate) => format!("highest rate found with {promise}: {} per second", number(Some(rate))),
            None => format!("no rate was found with {promise}"),
        }
    }
}

fn counts(summary: &Summary) -> String {
    let rate = |rate| number(Some(rate));
    let refused = &summary.refused;
    format!(
        "{} s: offered {}/s, answered {}/s, succeeded in time {}/s; {} of {} requests succeeded ({}), {} of them after \
         their deadline\n{} MB sent; {} refused, {} of them with RetryInfo",
        rate(summary.seconds),
        rate(summary.offered_per_second),
        rate(summary.achieved_per_second),
        rate(summary.goodput_per_second),
        summary.succeeded,
        summary.requests,
        percent(summary.succeeded_share),
        summary.succeeded_late,
        rate(real(summary.bytes_sent) / 1e6),
        refused.requests,
        refused.with_retry_info,
    )
}

fn latencies(summary: &Summary) -> Table {
    let mut table = table(["ms", "count", "mean", "p50", "p90", "p95", "p99", "p99.9", "p99.99", "max"]);
    let mut add = |name: &str, latency: &Latency| {
        let Latency { mean, p50, p90, p95, p99, p99_9, p99_99, max, .. } = latency;
        let numbers = [mean, p50, p90, p95, p99, p99_9, p99_99, max].map(|latency| number(*latency));
        table.add_row([name.to_owned(), latency.count.to_string()].into_iter().chain(numbers));
    };
    add("all", &summary.latency_ms);
    summary.kinds.iter().for_each(|(kind, counts)| add(kind.name(), &counts.latency_ms));
    if summary.refused.requests > 0 {
        add("refused", &summary.refused.latency_ms);
    }
    if summary.succeeded_late > 0 {
        add("late by", &summary.late_by_ms);
    }
    add("sent late by", &summary.send_lag_ms);
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table
}
