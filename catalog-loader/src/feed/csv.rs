//! Comma- or tab-separated values, the first record naming the fields.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use csv::{ByteRecord, ErrorKind, ReaderBuilder};
use serde_json::Value;

use super::{Fields, ROW_BYTES_MAX, Row, normalised};

/// The rows of a reader.
pub(super) fn rows(
    reader: impl Read + Send + 'static,
    delimiter: u8,
) -> io::Result<impl Iterator<Item = io::Result<Row>> + Send> {
    let since_record = Arc::new(AtomicUsize::new(0));
    let reader = Capped { inner: reader, since_record: Arc::clone(&since_record) };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
    let names: Vec<String> = match reader.byte_headers() {
        Ok(headers) => headers.iter().map(|name| normalised(&String::from_utf8_lossy(name))).collect(),
        Err(error) => return Err(error.into()),
    };
    let mut number = 0;
    let mut ended = false;
    Ok(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        since_record.store(0, Ordering::Relaxed);
        let mut record = ByteRecord::new();
        let read = reader.read_byte_record(&mut record);
        number += 1;
        match read {
            Ok(false) => None,
            Ok(true) => Some(Ok(Row { number, fields: fields(&names, &record) })),
            Err(error) => {
                if let ErrorKind::UnequalLengths { expected_len, len, .. } = error.kind() {
                    let problem = format!("has {len} cells, but the header has {expected_len}");
                    return Some(Ok(Row { number, fields: Err(problem) }));
                }
                ended = true;
                Some(Err(io::Error::other(format!("row {number}: {error}"))))
            }
        }
    }))
}

fn fields(names: &[String], record: &ByteRecord) -> Result<Fields, String> {
    let cells = names.iter().zip(record).filter(|(_, cell)| !cell.trim_ascii().is_empty());
    let cells = cells.map(|(name, cell)| match std::str::from_utf8(cell) {
        Ok(text) => Ok((name.clone(), Value::String(text.trim().to_owned()))),
        Err(_) => Err(format!("field `{name}` is not UTF-8")),
    });
    cells.collect()
}

/// Fails when too much is read without a record coming of it, so that a quote that is never closed cannot fill the
/// memory with the rest of the feed.
struct Capped<R> {
    inner: R,
    since_record: Arc<AtomicUsize>,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if self.since_record.fetch_add(read, Ordering::Relaxed) > ROW_BYTES_MAX {
            let problem = format!("is longer than {ROW_BYTES_MAX} bytes; a quote is probably not closed");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::fields, *};

    #[test]
    fn a_bad_record_fails_alone() {
        let feed = b"id,Title\n1,\"a, \"\"b\"\"\"\n2\n3,\xff\n4,\n".as_slice();
        let rows = fields(rows(feed, b',').unwrap());
        assert_eq!(rows[0], (1, Ok("{\"id\":\"1\",\"title\":\"a, \\\"b\\\"\"}".to_owned())));
        assert_eq!(rows[1], (2, Err("has 1 cells, but the header has 2".to_owned())));
        assert_eq!(rows[2], (3, Err("field `title` is not UTF-8".to_owned())));
        assert_eq!(rows[3], (4, Ok("{\"id\":\"4\"}".to_owned())));
    }

    #[test]
    fn a_quote_that_is_never_closed_ends_the_feed_with_an_error() {
        let feed = format!("id,title\n1,\"{}", "x\n".repeat(ROW_BYTES_MAX));
        let error = rows(io::Cursor::new(feed), b',').unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().contains("row 1") && error.to_string().contains("a quote"), "{error}");
    }
}
