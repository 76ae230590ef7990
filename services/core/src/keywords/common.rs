//! Words that so many products have that they tell none apart. They are not kept to be found by: their lists are what
//! filling and searching an index of words takes most time for, and what they mean is in the vectors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Keywords, VERSION};

/// Most products that may have a word of a small catalogue. 20,000: Qdrant Edge takes time for the square of it, 0.4 s.
const HAVING_MAX: usize = 20_000;
/// One product of so many may have a word of a large one. 50: of an average of sixteen words, at most 800 are common then.
const ONE_OF: usize = 50;
/// Counters that words share by number. 2²⁰: of a million products each has sixteen more than it should.
const COUNTERS: usize = 1 << 20;

/// How the words of a generation's products are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWords {
    /// The [`VERSION`] by which they were made.
    pub version: u32,
    /// Those that are common, and that a query should not look for.
    pub common: BTreeSet<u32>,
}

/// Counts how many products have each word while they are added, and leaves out those that are common by then. What was
/// added before still has them, and nobody looks for them.
#[derive(Debug)]
pub struct WordCounter {
    products: usize,
    having: Vec<u32>,
    common: BTreeSet<u32>,
}

impl WordCounter {
    /// Of no products yet, among words of which these are common.
    pub fn new(common: BTreeSet<u32>) -> Self {
        Self { products: 0, having: vec![0; COUNTERS], common }
    }

    /// What is to be kept of the words of one more product.
    #[must_use]
    pub fn keep(&mut self, mut keywords: Keywords) -> Keywords {
        self.products += 1;
        keywords.0.retain(|word, _| !self.is_common(*word));
        keywords
    }

    /// What has become of all.
    pub fn kept(&self) -> KeptWords {
        KeptWords { version: VERSION, common: self.common.clone() }
    }

    fn is_common(&mut self, word: u32) -> bool {
        let place = usize::try_from(word).unwrap_or(0) % COUNTERS;
        let Some(having) = self.having.get_mut(place) else { return false };
        *having = having.saturating_add(1);
        let most = HAVING_MAX.max(self.products / ONE_OF);
        if usize::try_from(*having).is_ok_and(|having| having > most) {
            self.common.insert(word);
        }
        self.common.contains(&word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keywords(words: &str) -> Keywords {
        Keywords::of_query([(words, 1.0)])
    }

    #[test]
    fn a_word_is_left_out_once_too_many_products_have_it() {
        let mut counter = WordCounter::new(BTreeSet::new());
        for product in 0..HAVING_MAX {
            let words = format!("shoe {}", if product % 2 == 0 { "red" } else { "blue" });
            assert_eq!(counter.keep(keywords(&words)), keywords(&words));
        }
        assert!(counter.kept().common.is_empty());
        assert_eq!(counter.keep(keywords("red shoe")), keywords("red"));
        assert_eq!(keywords("a red shoe").without(&counter.kept().common), keywords("a red"));
        let mut next = WordCounter::new(counter.kept().common);
        assert_eq!(next.keep(keywords("red shoe")), keywords("red"), "what was common stays so");
        assert_eq!(next.kept(), counter.kept());
    }

    #[test]
    fn of_very_many_products_a_fiftieth_may_have_a_word() {
        let mut counter = WordCounter::new(BTreeSet::new());
        counter.products = HAVING_MAX * ONE_OF * 2;
        for _ in 0..2 * HAVING_MAX {
            assert!(!counter.keep(keywords("shoe")).is_empty());
        }
        counter.products = HAVING_MAX * ONE_OF * 2;
        assert!(counter.keep(keywords("shoe")).is_empty());
    }
}
