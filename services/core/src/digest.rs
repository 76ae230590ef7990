//! What a product in an index was made of, to know again what has not changed.

use std::{fmt, str::FromStr};

use crate::Invalid;

/// BLAKE3, cut to 16 bytes, over all that a product and its vectors were made of. As text: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u128);

impl Digest {
    /// Over parts, whose borders count: `ab`, `c` is not `a`, `bc`.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(blake3::hash(part).as_bytes());
        }
        let mut short = [0; 16];
        hasher.finalize_xof().fill(&mut short);
        Self(u128::from_be_bytes(short))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32 && !text.starts_with('+'));
        number.map(Self).ok_or_else(|| Invalid::new("digest", "is not 32 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&str]) -> Digest {
        Digest::of(parts.iter().map(|part| part.as_bytes()))
    }

    #[test]
    fn equal_parts_make_equal_digests_and_their_borders_count() {
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab", ""]), of(&["ab"]));
    }

    #[test]
    fn a_digest_is_read_back_from_its_text_and_nothing_else_is_one() {
        let digest = of(&["a"]);
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for text in ["", "12", "+0000000000000000000000000000001", &"g".repeat(32), &"0".repeat(33)] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
