//! How far the load is: a bar on a terminal, a line every few seconds elsewhere.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// 5 s: often enough to see that it runs, rarely enough for a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// What is shown.
pub(crate) enum Progress {
    /// To a person.
    Bar(ProgressBar),
    /// To a log.
    Lines { total: u64, done: u64, started: Instant, last: Instant },
}

impl Progress {
    pub(crate) fn start(total: u64) -> Self {
        if stderr().is_terminal() {
            let style = "{bar:40.cyan/dim} {pos}/{len} rows  {per_sec}  {eta} left  {msg}";
            let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
            return Self::Bar(ProgressBar::new(total).with_style(style));
        }
        let now = Instant::now();
        Self::Lines { total, done: 0, started: now, last: now }
    }

    pub(crate) fn advance(&mut self, failed: usize) {
        match self {
            Self::Bar(bar) => {
                bar.inc(1);
                if failed > 0 {
                    bar.set_message(format!("{failed} failed"));
                }
            }
            Self::Lines { total, done, started, last } => {
                *done += 1;
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    let seconds = started.elapsed().as_secs().max(1);
                    eprintln!("{done} of {total} rows, {failed} failed, {} rows/s", *done / seconds);
                }
            }
        }
    }

    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
