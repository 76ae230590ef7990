//! How a run goes: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    io::{IsTerminal as _, stderr},
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::{task::JoinHandle, time::interval};

use crate::{record::Record, run::Run, schedule::Clock as _, status::Status, summary::quantile_ms};

/// 5 s: often enough to see that it runs, rarely enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Half a second: the numbers are those of whole seconds.
const BAR_EVERY: Duration = Duration::from_millis(500);

/// Shows a run until it is dropped.
#[derive(Debug)]
pub(crate) struct Live {
    task: JoinHandle<()>,
    bar: Option<ProgressBar>,
}

impl Live {
    pub(crate) fn show(run: &Arc<Run>) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30.cyan/dim} {pos}/{len} s  {msg}");
            ProgressBar::new(run.record().end.as_secs())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let (run, shown) = (Arc::clone(run), bar.clone());
        let task = tokio::spawn(async move {
            let mut ticks = interval(if shown.is_some() { BAR_EVERY } else { LINE_EVERY });
            // The first tick comes at once, when there is nothing to say.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let (now, in_flight) = (run.now(), run.in_flight());
                let (line, length) = {
                    let record = run.record();
                    (describe(&record, now, in_flight), record.end.as_secs())
                };
                match &shown {
                    Some(bar) => {
                        bar.set_position(now.as_secs().min(length));
                        bar.set_message(line);
                    }
                    None => eprintln!("{} of {length} s: {line}", now.as_secs().min(length)),
                }
            }
        });
        Self { task, bar }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The last whole second, and what is in flight.
fn describe(record: &Record, now: Duration, in_flight: u64) -> String {
    if now < record.begin {
        return format!("warming up, {in_flight} in flight");
    }
    if now > record.end {
        return format!("waiting for {in_flight} answers");
    }
    let last =
        now.saturating_sub(record.begin).as_secs().checked_sub(1).and_then(|second| usize::try_from(second).ok());
    let Some(second) = last.and_then(|last| record.seconds.get(last)) else {
        return format!("measuring, {in_flight} in flight");
    };
    let ok = second.statuses.get(&Status::OK).copied().unwrap_or(0);
    let others: Vec<_> = second.statuses.iter().filter(|(status, _)| **status != Status::OK).collect();
    let others: Vec<_> = others.iter().map(|(status, count)| format!(", {count} {}", status.name())).collect();
    let p99 = quantile_ms(&second.latency, 0.99).map_or_else(|| "–".to_owned(), |p99| format!("{p99:.1} ms"));
    format!("{ok} OK/s{}, p99 {p99}, {in_flight} in flight", others.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ask::Outcome, mix::Kind, record::Sent};

    #[test]
    fn the_last_whole_second_is_shown() {
        let second = Duration::from_secs(1);
        let mut record = Record::new(second, 5, second);
        for (status, latency) in [(Status::OK, 20), (Status::OK, 30), (Status::REFUSED, 1)] {
            let request = Sent { kind: Kind::Text, due: 2 * second, sent: 2 * second, bytes: 1 };
            let outcome = Outcome { status, message: None, retry_info: false, empty: false };
            record.ended(request, outcome, 2 * second + Duration::from_millis(latency));
        }
        let at = |millis| describe(&record, Duration::from_millis(millis), 7);
        assert_eq!(at(500), "warming up, 7 in flight");
        assert_eq!(at(1500), "measuring, 7 in flight");
        assert!(at(3200).starts_with("2 OK/s, 1 RESOURCE_EXHAUSTED, p99 30."), "{}", at(3200));
        assert_eq!(at(6001), "waiting for 7 answers");
    }
}
