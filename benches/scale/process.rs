//! What this process takes of the machine, as Linux counts it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Ticks of `/proc/*/stat` in a second, on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often memory is looked at.
const PEAK_PAUSE: Duration = Duration::from_millis(50);

/// Resident memory, in MB.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// All of it.
    pub(crate) total_mb: f64,
    /// What only this process has, and what no file could bring back.
    pub(crate) anonymous_mb: f64,
    /// Pages of files, which the system may take back.
    pub(crate) file_mb: f64,
}

impl Memory {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? * 1024.0 / 1e6)
        };
        Self {
            total_mb: field("VmRSS").unwrap_or_default(),
            anonymous_mb: field("RssAnon").unwrap_or_default(),
            file_mb: field("RssFile").unwrap_or_default(),
        }
    }
}

/// Watches the memory of a phase for its peak. Each number is the highest by itself.
#[derive(Debug)]
pub(crate) struct Peak {
    over: Arc<AtomicBool>,
    watching: JoinHandle<Memory>,
}

impl Peak {
    pub(crate) fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let watching = thread::spawn(move || {
            let mut peak = Memory::now();
            while !seen.load(Ordering::Relaxed) {
                thread::sleep(PEAK_PAUSE);
                let now = Memory::now();
                peak.total_mb = peak.total_mb.max(now.total_mb);
                peak.anonymous_mb = peak.anonymous_mb.max(now.anonymous_mb);
                peak.file_mb = peak.file_mb.max(now.file_mb);
            }
            peak
        });
        Self { over, watching }
    }

    pub(crate) fn end(self) -> Memory {
        self.over.store(true, Ordering::Relaxed);
        self.watching.join().unwrap_or_default()
    }
}

/// How long something took, by the clock and by the processor.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Spent {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
}

/// A clock of both.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    cpu_seconds: f64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), cpu_seconds: cpu_seconds() }
    }

    pub(crate) fn spent(&self) -> Spent {
        Spent { seconds: self.started.elapsed().as_secs_f64(), cpu_seconds: cpu_seconds() - self.cpu_seconds }
    }
}

/// Of all threads, those that have ended, too.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, which may have anything in it, ends with the last bracket.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |nth: usize| fields.get(nth).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

/// What a directory takes of the disk, in MB.
pub(crate) fn disk_mb(path: &Path) -> io::Result<f64> {
    let mut blocks = 0;
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let data = entry.metadata()?;
            blocks += data.blocks();
            if data.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(blocks as f64 * 512.0 / 1e6)
}
