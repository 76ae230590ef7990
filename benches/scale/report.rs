//! What was measured, as tables and as JSON.

use std::{fmt, fs, path::Path};

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

use crate::{
    ask::percent,
    load::Loaded,
    measure::{Beside, Row},
    plot::Plot,
    process::{Memory, Spent},
};

/// Everything that is reported.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) tool: &'static str,
    pub(crate) version: &'static str,
    pub(crate) started: String,
    pub(crate) index: String,
    pub(crate) quantisation: String,
    pub(crate) shape: String,
    pub(crate) products: usize,
    pub(crate) dimensions: usize,
    pub(crate) seed: u64,
    pub(crate) queries: usize,
    pub(crate) rounds: usize,
    /// Of the run that made the index, if it is known.
    pub(crate) loaded: Option<Loaded>,
    /// Opening it; the first query comes after it.
    pub(crate) open: Spent,
    /// Before it was opened: what the bench itself takes.
    pub(crate) memory_before: Memory,
    pub(crate) memory_open: Memory,
    pub(crate) memory_asked: Memory,
    pub(crate) rows: Vec<Row>,
    pub(crate) beside: Vec<Beside>,
}

impl Report {
    /// Writes index.json and index.svg.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let write = |name: &str, content: String| {
            let file = directory.join(name);
            fs::write(&file, content).with_context(|| format!("write {}", file.display()))
        };
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        write("index.json", serde_json::to_string_pretty(self)?)?;
        write("index.svg", Plot::of(&self.rows, self.products).to_string())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} products of {} dimensions, {}", self.products, self.dimensions, self.index)?;
        writeln!(f, "vectors: {}; quantisation: {}\n", self.shape, self.quantisation)?;
        if let Some(loaded) = &self.loaded {
            writeln!(f, "{}\n", phases(loaded))?;
            if let Some(disk_mb) = loaded.disk_mb {
                writeln!(f, "disk: {} MB\n", round(disk_mb))?;
            }
        }
        writeln!(f, "{}\n\nopened in {} s\n", self.memory(), number(self.open.seconds))?;
        writeln!(f, "{}", self.filters())?;
        if self.beside.is_empty() { Ok(()) } else { writeln!(f, "\n{}", self.beside()) }
    }
}

/// What the phases of a load took.
pub(crate) fn phases(loaded: &Loaded) -> Table {
    let mut table = table(["phase", "s", "CPU s", "peak memory MB", "of which anonymous"]);
    let begin = loaded.again.map_or_else(|| "begin".to_owned(), |per_cent| format!("copy; {per_cent} % are added"));
    for (phase, spent, peak) in [
        (begin.as_str(), loaded.begin, None),
        ("add", loaded.insert, Some(loaded.insert_peak)),
        ("build graphs", loaded.seal, Some(loaded.seal_peak)),
        ("publish", loaded.publish, None),
    ] {
        let memory = |part: fn(Memory) -> f64| peak.map(|peak| round(part(peak))).unwrap_or_default();
        let (total, anonymous) = (memory(|peak| peak.total_mb), memory(|peak| peak.anonymous_mb));
        table.add_row([phase.to_owned(), number(spent.seconds), number(spent.cpu_seconds), total, anonymous]);
    }
    table
}

impl Report {
    fn memory(&self) -> Table {
        let mut table = table(["memory, MB", "all", "anonymous", "files"]);
        let moments = [
            ("before opening", self.memory_before),
            ("open", self.memory_open),
            ("after all queries", self.memory_asked),
        ];
        for (moment, Memory { total_mb, anonymous_mb, file_mb }) in moments {
            table.add_row([moment.to_owned(), round(total_mb), round(anonymous_mb), round(file_mb)]);
        }
        table
    }

    fn filters(&self) -> Table {
        let columns =
            ["filter", "passes", "products", "recall@10", "p50 ms", "p99 ms", "max ms", "mean ms", "index ms"];
        let mut table = table(columns);
        for row in &self.rows {
            table.add_row([
                if row.words { format!("words: {}", row.kind) } else { row.kind.to_owned() },
                percent(row.share),
                round(row.passed),
                format!("{:.3}", row.recall),
                number(row.p50_ms),
                number(row.p99_ms),
                number(row.max_ms),
                number(row.mean_ms),
                number(row.index_ms),
            ]);
        }
        table
    }

    fn beside(&self) -> Table {
        let mut table = table(["beside a load by", "phase", "queries", "p50 ms", "p99 ms", "p99.9 ms", "max ms"]);
        for row in &self.beside {
            table.add_row([
                row.loader.to_owned(),
                row.phase.to_owned(),
                row.queries.to_string(),
                number(row.p50_ms),
                number(row.p99_ms),
                number(row.p999_ms),
                number(row.max_ms),
            ]);
        }
        table
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table.column_iter_mut().skip(1).for_each(|column| {
        column.set_cell_alignment(CellAlignment::Right);
    });
    table
}

fn number(value: f64) -> String {
    if value >= 100.0 { round(value) } else { format!("{value:.2}") }
}

fn round(value: f64) -> String {
    format!("{value:.0}")
}
