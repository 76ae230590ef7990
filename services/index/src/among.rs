//! What passes a filter, among what is nearest without it: how many to find, so that enough of them pass. The same for both of
//! Qdrant's shapes.
//!
//! The constants are of a million products with 512 dimensions (`benches/README.md`, *The index*).

use std::{collections::HashSet, hash::Hash};

use crate::filter::Clause;

/// How many times as many are found without the filter as should pass it on average, if the filter has nothing to do with
/// the query. 2: the last of those found are the least certain, and are not needed then.
const MARGIN: usize = 2;
/// How many more than are wanted must pass for those to be the nearest. 1: if twenty pass on average, fewer than eleven do for one
/// query in a hundred, which is asked again; fewer than fifteen, for one in ten.
pub(crate) const SPARE: usize = 1;
/// Most that are found at first, unless more are wanted. 700: what three in a hundred pass takes one search; where the filter goes with
/// the query, as its own category does, they are more than enough.
pub(crate) const FIRST_MAX: usize = 700;
/// Fewest that are found before it is settled that none of the nearest passes.
pub(crate) const NONE_PASSED_MIN: usize = 300;
/// Most that are found without the filter.
pub(crate) const FOUND_MAX: usize = 2000;
/// Products that are compared one by one in the time that the graph takes to find one more.
pub(crate) const COMPARED_FOR_ONE: usize = 14;
/// Listed values from which on it is dearer to ask for another few hundred again than to find them at first: Qdrant takes half a
/// microsecond for each value whenever it sees the list.
const LISTED_MANY: usize = 1000;
/// [`MARGIN`] at first for so long a list. 3: where thirty pass on average, nobody has to ask again; where twenty do, one query in
/// a hundred has to.
const LISTED_MARGIN: usize = 3;
/// Listed values by which it is estimated how many products have one of a longer list.
const ESTIMATED_BY: usize = 64;

/// What a formula takes from the score of what does not pass a filter. It is below minus a half of this then, as no cosine is.
pub(crate) const AWAY: f32 = 10.0;

/// How many to find without a filter that `passing` of so many products pass, so that twice as many as are wanted do on average.
pub(crate) fn to_find(limit: usize, passing: usize, products: usize) -> usize {
    enough(limit).saturating_mul(products) / passing.max(1)
}

/// How many are to pass on average, if so many are wanted.
pub(crate) fn enough(limit: usize) -> usize {
    limit.saturating_mul(MARGIN).max(limit.saturating_add(SPARE))
}

/// How many to find at first where [`to_find`] says `found`, with a filter that is `times` as long as its [`sketch`].
pub(crate) fn first(found: usize, limit: usize, times: usize) -> usize {
    if times.saturating_mul(ESTIMATED_BY) >= LISTED_MANY {
        (found * LISTED_MARGIN / MARGIN).min(FOUND_MAX)
    } else {
        found.min(limit.max(FIRST_MAX))
    }
}

/// How many to find without the filter, when `passed` of so many did, `limit` are wanted and `sure` would settle them; `None`, if
/// that many passed, or more would not do.
pub(crate) fn wider(found: usize, passed: usize, limit: usize, sure: usize) -> Option<usize> {
    if passed == 0 {
        return (found < NONE_PASSED_MIN).then_some(NONE_PASSED_MIN);
    }
    let done = passed >= sure || found >= FOUND_MAX;
    // Half of what is wanted among the most: by so few, the share is not known better than that.
    let in_vain = passed.saturating_mul(2 * FOUND_MAX) < limit.saturating_mul(found);
    let wanted = found.saturating_mul(enough(limit)) / passed;
    (!done && !in_vain).then(|| wanted.max(2 * found).min(FOUND_MAX))
}

/// Two lists as one, best first; what is in both is as the first has it.
pub(crate) fn merged<T, I: Eq + Hash + Ord>(
    first: Vec<(T, f32)>,
    second: Vec<(T, f32)>,
    id: impl Fn(&T) -> I,
) -> Vec<(T, f32)> {
    let known: HashSet<I> = first.iter().map(|(found, _)| id(found)).collect();
    let new = second.into_iter().filter(|(found, _)| !known.contains(&id(found)));
    let mut merged: Vec<_> = first.into_iter().chain(new).collect();
    merged.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then_with(|| id(&a.0).cmp(&id(&b.0))));
    merged
}

/// A shorter clause by which to estimate how many products pass this one, and how many times as many that is.
pub(crate) fn sketch(clause: &Clause) -> (Clause, usize) {
    let step = |listed: usize| (listed / ESTIMATED_BY).max(1);
    match clause {
        Clause::Texts(key, texts) => {
            let step = step(texts.len());
            (Clause::Texts(key.clone(), texts.iter().step_by(step).cloned().collect()), step)
        }
        Clause::Integers(key, numbers) => {
            let step = step(numbers.len());
            (Clause::Integers(key.clone(), numbers.iter().step_by(step).copied().collect()), step)
        }
        Clause::All(clauses) => {
            let (sketches, times): (Vec<_>, Vec<_>) = clauses.iter().map(sketch).unzip();
            (Clause::All(sketches), times.into_iter().fold(1, usize::saturating_mul))
        }
        Clause::Any(_) | Clause::Not(_) | Clause::Bool(..) | Clause::Range(..) | Clause::Empty(_) | Clause::Ids(_) => {
            (clause.clone(), 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Limits;

    #[test]
    fn a_search_is_widened_by_what_passed_until_enough_did_or_never_will() {
        for (found, passed, limit, expected) in [
            (300, 11, 10, None),
            (300, 10, 10, Some(600)),
            (300, 5, 10, Some(1200)),
            (300, 1, 10, Some(FOUND_MAX)),
            (300, 0, 10, None),
            (75, 0, 10, Some(NONE_PASSED_MIN)),
            (30, 10, 10, Some(60)),
            (2, 1, 1, Some(4)),
            (1500, 10, 10, Some(FOUND_MAX)),
            (FOUND_MAX, 9, 10, None),
            (1000, 990, 1000, Some(FOUND_MAX)),
            (1000, 249, 1000, None),
        ] {
            assert_eq!(wider(found, passed, limit, limit + SPARE), expected, "{passed} of {found}");
        }
    }

    #[test]
    fn what_is_in_both_lists_is_in_the_merged_one_once_and_the_best_leads() {
        let merged = merged(vec![('b', 0.5), ('a', 0.1)], vec![('c', 0.9), ('a', 0.7), ('d', 0.5)], |found| *found);
        assert_eq!(merged, [('c', 0.9), ('b', 0.5), ('d', 0.5), ('a', 0.1)]);
    }

    #[test]
    fn a_long_list_is_estimated_by_a_part_of_it() {
        let texts = |count: usize| (0..count).map(|number| number.to_string()).collect();
        let of = |count| Clause::Texts("a.brand".to_owned(), texts(count));
        let listed = |clause: &Clause| match sketch(clause) {
            (Clause::Texts(_, texts), times) => (texts.len(), times),
            other => panic!("{other:?}"),
        };
        assert_eq!([listed(&of(3)), listed(&of(64)), listed(&of(6400))], [(3, 1), (64, 1), (64, 100)]);
        let price = Clause::Range("a.price.EUR".to_owned(), Limits { lt: Some(2.0), ..Limits::default() });
        let (_, times) = sketch(&Clause::All(vec![of(128), price, Clause::Integers(String::new(), vec![1; 192])]));
        assert_eq!(times, 6);
    }
}
