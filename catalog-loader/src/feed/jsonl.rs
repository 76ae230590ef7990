//! One JSON object for each line.

use std::io::{self, BufRead, Read as _};

use serde_json::{Map, Value};

use super::{Fields, ROW_BYTES_MAX, Row, normalised};

/// The rows of a reader. Blank lines are passed over, but counted.
pub(super) fn rows(mut reader: impl BufRead + Send + 'static) -> impl Iterator<Item = io::Result<Row>> + Send {
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            number += 1;
            match line(&mut reader) {
                Err(error) => return Some(Err(error)),
                Ok(None) => return None,
                Ok(Some(Err(problem))) => return Some(Ok(Row { number, fields: Err(problem) })),
                Ok(Some(Ok(line))) if line.trim_ascii().is_empty() => {}
                Ok(Some(Ok(line))) => return Some(Ok(Row { number, fields: parse(&line) })),
            }
        }
    })
}

/// The next line, or why it is left out; `None` at the end.
fn line(reader: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>, String>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(ROW_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() > ROW_BYTES_MAX && !line.ends_with(b"\n") {
        reader.skip_until(b'\n')?;
        return Ok(Some(Err(format!("is longer than {ROW_BYTES_MAX} bytes"))));
    }
    Ok(Some(Ok(line)))
}

fn parse(line: &[u8]) -> Result<Fields, String> {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("is not a JSON object: {error}"))?;
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    };
    Ok(object.into_iter().filter(|(_, value)| !empty(value)).map(|(name, value)| (normalised(&name), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::fields, *};

    #[test]
    fn a_bad_line_fails_alone() {
        let long = "x".repeat(ROW_BYTES_MAX + 9);
        let feed = format!("\u{feff}{{\"ID\": 1, \"x\": null}}\n\nnonsense\n{long}\n[1]\n{{\"id\": \"b\"}}");
        let rows = fields(rows(io::Cursor::new(feed)));
        assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
        assert_eq!(rows[0].1, Ok("{\"id\":1}".to_owned()));
        assert!(rows[1].1.as_ref().unwrap_err().contains("not a JSON object"));
        assert!(rows[2].1.as_ref().unwrap_err().contains("longer than"));
        assert_eq!(rows[4].1, Ok("{\"id\":\"b\"}".to_owned()));
    }
}
