//! Page tokens: where a page begins, bound to the query and the generation that made them.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Invalid;

const BYTES: usize = 1 + 4 + 16;
const VERSION: u8 = 1;

/// Hash of everything that a page depends on except where it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QueryKey(pub(crate) [u8; 32]);

impl QueryKey {
    fn short(&self) -> &[u8] {
        self.0.get(..16).unwrap_or_default()
    }
}

/// Writes the token of the page that begins at `offset`.
pub(crate) fn encode(offset: usize, key: &QueryKey) -> String {
    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
    let bytes = [&[VERSION], offset.to_le_bytes().as_slice(), key.short()].concat();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads where the page begins. An empty token is the first page.
///
/// # Errors
/// When it is not a token, or was made by another query or another generation.
pub(crate) fn decode(token: &str, key: &QueryKey) -> Result<usize, Invalid> {
    if token.is_empty() {
        return Ok(0);
    }
    let unreadable = || Invalid::new("page_token", "is not a token that this service made");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| unreadable())?;
    let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| unreadable())?;
    let [VERSION, a, b, c, d, made_for @ ..] = bytes else { return Err(unreadable()) };
    if made_for != key.short() {
        let problem = "belongs to another query, or to a generation that serves no more; begin with the first page";
        return Err(Invalid::new("page_token", problem));
    }
    usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| unreadable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_fits_its_own_query_only() {
        let (mine, other) = (QueryKey([1; 32]), QueryKey([2; 32]));
        assert_eq!(decode(&encode(40, &mine), &mine), Ok(40));
        assert_eq!(decode("", &mine), Ok(0));
        assert!(decode(&encode(40, &mine), &other).unwrap_err().problem.contains("another query"));
        for token in ["x", "!!!", &encode(40, &mine)[1..], &"A".repeat(1000)] {
            assert!(decode(token, &mine).unwrap_err().problem.contains("not a token"), "{token}");
        }
    }
}
