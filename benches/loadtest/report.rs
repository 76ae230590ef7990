//! The report of a run.

mod html;
mod plot;
mod table;

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

use crate::{find::Step, summary::Summary};

/// A generator that is later than this at its p99 measures itself, in ms.
const SEND_LAG_MS_MAX: f64 = 5.0;
/// Fewer samples have no percentile above the 99th but their maximum.
const P99_SAMPLES_MIN: u64 = 100;

/// Everything that is reported.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) tool: &'static str,
    pub(crate) version: &'static str,
    /// When the run began, in RFC 3339.
    pub(crate) started: String,
    pub(crate) command_line: String,
    pub(crate) server: String,
    pub(crate) catalog: String,
    pub(crate) seed: u64,
    /// How the requests were sent, in words.
    pub(crate) load: String,
    /// What was sent, in words.
    pub(crate) workload: String,
    pub(crate) deadline_ms: u32,
    /// Whether Ctrl-C ended it.
    pub(crate) interrupted: bool,
    /// What a reader must know before the numbers are believed.
    pub(crate) warnings: Vec<String>,
    /// The run; of a search for a rate, the step of the rate that was found, else the last one.
    pub(crate) summary: Summary,
    /// The search for a rate, if it was one.
    pub(crate) search: Option<Search>,
}

/// A search for the highest rate that holds.
#[derive(Debug, Serialize)]
pub(crate) struct Search {
    pub(crate) p99_ms_max: f64,
    /// In requests per second; nothing when no rate held.
    pub(crate) rate_found: Option<f64>,
    /// In the order in which they were tried.
    pub(crate) steps: Vec<Step>,
}

impl Report {
    /// Notes what a reader must know before the numbers are believed.
    pub(crate) fn warn(&mut self) {
        let summary = &self.summary;
        let mut warnings = Vec::new();
        if self.interrupted {
            warnings.push("the run was interrupted; the numbers are of the time it had".to_owned());
        }
        if summary.requests == 0 {
            warnings.push("no request was due while it was measured".to_owned());
        }
        let succeeded = summary.latency_ms.count;
        if (1..P99_SAMPLES_MIN).contains(&succeeded) {
            warnings.push(format!("p99 is the slowest of {succeeded} successes; measure longer"));
        }
        if let Some(lag) = summary.send_lag_ms.p99.filter(|lag| *lag > SEND_LAG_MS_MAX) {
            warnings.push(format!(
                "the generator was late itself: 1 % of the requests were sent {lag:.1} ms or more after they were due"
            ));
        }
        if summary.succeeded_empty > 0 {
            warnings.push(format!("successes without a product: {}", summary.succeeded_empty));
        }
        let plain = summary.refused.requests - summary.refused.with_retry_info;
        if plain > 0 {
            warnings.push(format!("refusals that did not say when to try again: {plain}"));
        }
        self.warnings = warnings;
    }

    /// Writes `report.json` and `report.html`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let write = |name: &str, content: String| {
            let path = directory.join(name);
            fs::write(&path, content).with_context(|| format!("--report: write {}", path.display()))
        };
        write("report.json", serde_json::to_string_pretty(self).context("write the report as JSON")?)?;
        write("report.html", html::Page(self).to_string())
    }
}

/// A number for people: as many digits as say something.
pub(crate) fn number(number: Option<f64>) -> String {
    match number {
        None => "–".to_owned(),
        Some(number) if number >= 100.0 => format!("{number:.0}"),
        Some(number) if number >= 10.0 => format!("{number:.1}"),
        Some(number) => format!("{number:.2}"),
    }
}

/// A share as a percentage, rounded down: what is not all never reads as 100 %.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.2} %", (share * 1e4).floor() / 1e2))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        ask::Outcome,
        mix::Kind,
        record::{Record, Sent},
        status::Status,
    };

    /// A report of three requests, with a hostile message.
    pub(super) fn report() -> Report {
        let second = Duration::from_secs(1);
        let mut record = Record::new(Duration::ZERO, 3, second);
        for (number, status) in [(0, Status::OK), (1, Status::REFUSED), (2, Status::OK)] {
            let due = number * second;
            let request = Sent { kind: Kind::Photo, due, sent: due, bytes: 1000 };
            let message = Some("<script>alert(\"full\")</script>".to_owned());
            let outcome = Outcome { status, message, retry_info: false, empty: number == 0 };
            record.ended(request, outcome, due + Duration::from_millis(20));
        }
        let summary = Summary::of(&record);
        let step = |rate, held| Step { rate_per_second: rate, held, summary: summary.clone() };
        let steps = vec![step(10.0, true), step(20.0, false)];
        let mut report = Report {
            tool: "loadtest",
            version: "0.1.0",
            started: "2026-01-01T00:00:00Z".to_owned(),
            command_line: "loadtest --filter 'price < 50 & \"x\"'".to_owned(),
            server: "http://127.0.0.1:50051".to_owned(),
            catalog: "default".to_owned(),
            seed: 1,
            load: "closed loop, 1 client".to_owned(),
            workload: "photo=1 of 2 photo queries".to_owned(),
            deadline_ms: 1000,
            interrupted: false,
            warnings: Vec::new(),
            summary: summary.clone(),
            search: Some(Search { p99_ms_max: 40.0, rate_found: Some(10.0), steps }),
        };
        report.warn();
        report
    }

    #[test]
    fn what_spoils_the_numbers_is_said_with_them() {
        let report = report();
        let expected = [
            "p99 is the slowest of 2 successes; measure longer",
            "successes without a product: 1",
            "refusals that did not say when to try again: 1",
        ];
        assert_eq!(report.warnings, expected);
    }

    #[test]
    fn a_share_that_is_not_whole_never_reads_as_whole() {
        assert_eq!(percent(Some(0.999_999)), "99.99 %");
        assert_eq!(percent(Some(1.0)), "100.00 %");
    }

    #[test]
    fn both_files_are_written_and_the_json_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        report().write(directory.path()).unwrap();
        let json = fs::read_to_string(directory.path().join("report.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["summary"]["statuses"]["RESOURCE_EXHAUSTED"], 1);
        assert_eq!(json["summary"]["kinds"]["photo"]["requests"], 3);
        assert!(directory.path().join("report.html").is_file());
    }
}
