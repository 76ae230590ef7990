//! Feeds: files of rows, read one row at a time.

mod csv;
mod jsonl;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Longest row, in bytes: beyond it a quote was not closed, or a line not ended.
const ROW_BYTES_MAX: usize = 1 << 20;

/// A feed's file, which can be read more than once.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Jsonl,
    Csv { delimiter: u8 },
}

/// The fields of one row, by normalised name. Cells of CSV are strings; empty ones are left out.
pub(crate) type Fields = BTreeMap<String, Value>;

/// One row, and where it is in the feed.
#[derive(Debug)]
pub(crate) struct Row {
    /// Line of JSONL, record of CSV; counted from 1, a CSV header not counted.
    pub(crate) number: u64,
    /// Its fields, or why it cannot be read.
    pub(crate) fields: Result<Fields, String>,
}

/// Rows, until the end or an error that nothing can be read after.
pub(crate) type Rows = Box<dyn Iterator<Item = io::Result<Row>> + Send>;

impl Feed {
    /// Looks at the file's name; `.csv`, `.tsv` and `.jsonl` are known.
    pub(crate) fn new(path: &Path) -> Result<Self, String> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let format = match extension.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Format::Jsonl,
            "csv" => Format::Csv { delimiter: b',' },
            "tsv" => Format::Csv { delimiter: b'\t' },
            _ => return Err(format!("{} is not a .jsonl, .csv or .tsv file", path.display())),
        };
        Ok(Self { path: path.to_owned(), format })
    }

    /// The directory that its pictures' paths are relative to.
    pub(crate) fn directory(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }

    /// Whether its cells are all text, so that numbers are known by their form only.
    pub(crate) fn is_text_only(&self) -> bool {
        self.format != Format::Jsonl
    }

    /// Opens it at the first row.
    pub(crate) fn rows(&self) -> io::Result<Rows> {
        let file = File::open(&self.path)?;
        Ok(match self.format {
            Format::Jsonl => Box::new(jsonl::rows(io::BufReader::new(file))),
            Format::Csv { delimiter } => Box::new(csv::rows(file, delimiter)?),
        })
    }
}

/// A field's name as this program knows it: `Image Link`, `g:image_link` and `image-link` are all `image_link`.
fn normalised(name: &str) -> String {
    let name = name.trim().trim_start_matches('\u{feff}').to_lowercase();
    let name = name.strip_prefix("g:").unwrap_or(&name);
    let simple: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let words: Vec<_> = simple.split('_').filter(|word| !word.is_empty()).collect();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_however_they_are_written() {
        for name in ["Image Link", "g:image_link", "image-link", " \u{feff}image_link "] {
            assert_eq!(normalised(name), "image_link");
        }
        assert_eq!(normalised("Weight (kg)"), "weight_kg");
    }

    pub(super) fn fields(rows: impl Iterator<Item = io::Result<Row>>) -> Vec<(u64, Result<String, String>)> {
        rows.map(|row| {
            let row = row.unwrap();
            (row.number, row.fields.map(|fields| serde_json::to_string(&fields).unwrap()))
        })
        .collect()
    }
}
