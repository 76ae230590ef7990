//! Leaves out words that so many products have that they tell none apart: their lists are what filling and searching an index
//! of words takes most time for, and what they mean is in the vectors.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Keywords, VERSION};

/// Most products that may have a word of a small catalogue. 20,000: Qdrant Edge takes time for the square of it, 0.4 s.
const HAVING_MAX: usize = 20_000;
/// One product of so many may have a word of a large one. 50: of an average of sixteen words, at most 800 are common then.
const ONE_OF: usize = 50;
/// Counters in each of two rows, of which words share one each by different digits of their numbers; the smaller count is
/// nearer to the truth (Cormode and Muthukrishnan, *An improved data stream summary: the count-min sketch*, 2005). 2²⁰: with
/// 800 words that are common, one in two million others is taken for one.
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
    having: [Vec<u32>; 2],
    common: BTreeSet<u32>,
}

impl WordCounter {
    /// Of no products yet.
    pub fn empty() -> Self {
        Self::going_on(BTreeSet::new(), 0)
    }

    /// Goes on from so many products, of whose words these are common. Which of the others they have is not known any more.
    pub fn going_on(common: BTreeSet<u32>, products: usize) -> Self {
        Self { products, having: [vec![0; COUNTERS], vec![0; COUNTERS]], common }
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
        let number = usize::try_from(word).unwrap_or(0);
        let mut least = u32::MAX;
        for (row, number) in self.having.iter_mut().zip([number, number >> 12]) {
            if let Some(having) = row.get_mut(number % COUNTERS) {
                *having = having.saturating_add(1);
                least = least.min(*having);
            }
        }
        let most = HAVING_MAX.max(self.products / ONE_OF);
        if usize::try_from(least).is_ok_and(|having| having > most) {
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
        let mut counter = WordCounter::empty();
        for product in 0..HAVING_MAX {
            let words = format!("shoe {}", if product % 2 == 0 { "red" } else { "blue" });
            assert_eq!(counter.keep(keywords(&words)), keywords(&words));
        }
        assert!(counter.kept().common.is_empty());
        assert_eq!(counter.keep(keywords("red shoe")), keywords("red"));
        assert_eq!(keywords("a red shoe").without(&counter.kept().common), keywords("a red"));
        let mut next = WordCounter::going_on(counter.kept().common, 0);
        assert_eq!(next.keep(keywords("red shoe")), keywords("red"), "what was common stays so");
        assert_eq!(next.kept(), counter.kept());
    }

    #[test]
    fn of_very_many_products_a_fiftieth_may_have_a_word() {
        let mut counter = WordCounter::empty();
        counter.products = HAVING_MAX * ONE_OF * 2;
        for _ in 0..2 * HAVING_MAX {
            assert!(!counter.keep(keywords("shoe")).is_empty());
        }
        counter.products = HAVING_MAX * ONE_OF * 2;
        assert!(counter.keep(keywords("shoe")).is_empty());
    }

    #[test]
    fn a_word_is_not_common_because_another_with_the_same_last_digits_is() {
        let mut counter = WordCounter::empty();
        let numbers = [5, 5 + (1 << 20)];
        for _ in 0..=HAVING_MAX {
            counter.is_common(numbers[0]);
        }
        assert_eq!(numbers.map(|number| counter.is_common(number)), [true, false]);
    }
}
