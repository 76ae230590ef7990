//! An error with what it came from.

use std::{error::Error, fmt};

/// Shows an error and its sources in one line, joined by `: `.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use super::*;
    use crate::index::IndexError;

    #[test]
    fn every_source_is_shown() {
        let source = Arc::new(io::Error::other("the disk is on fire"));
        let error = IndexError::Unavailable { context: "open the index".to_owned(), source };
        assert_eq!(error.to_string(), "open the index");
        assert_eq!(Chain(&error).to_string(), "open the index: the disk is on fire");
    }
}
