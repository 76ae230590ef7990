//! How the candidates of a query become a page: the same for both of Qdrant's shapes.

use std::{collections::HashMap, hash::Hash, iter, ops::RangeInclusive};

use vitrine_core::index::{IndexQuery, QueryVector, Similarity, Target};

/// Fewest candidates that the search of any graph keeps in hand; more find more of the true neighbours.
/// 128: Qdrant's own default is 100, and a page of products is read by people who notice what is missing.
pub(crate) const SEARCH_WIDTH_MIN: usize = 128;
/// Products from which on a graph is large.
const LARGE: usize = 250_000;
/// Fewest candidates in a large graph. 300: of a million products, with 128 three queries in a hundred never find the way
/// to where their neighbours are, and with 300 half as many.
const LARGE_SEARCH_WIDTH_MIN: usize = 300;

/// Fewest candidates that the search of a graph of so many products keeps in hand.
pub(crate) fn search_width(products: usize) -> usize {
    if products < LARGE { SEARCH_WIDTH_MIN } else { LARGE_SEARCH_WIDTH_MIN }
}

/// Largest share of the products that pass a filter with which the search goes through those that do not, too (ACORN), if it
/// wants so many. 0.5: at 0.4, Qdrant's own, a filter that 40 % passed was just
/// above it and found 91 % of the true neighbours; where more pass, enough edges are left. A wide search finds its way with fewer, and takes
/// two to three times as long with ACORN.
pub(crate) fn acorn_share_max(limit: usize) -> f64 {
    if limit <= SEARCH_WIDTH_MIN { 0.5 } else { 0.15 }
}

/// Fewest and most candidates that are taken for each vector of a query of several, whose best sums need not lead in either.
const CANDIDATES: RangeInclusive<usize> = 50..=1000;
/// How many times as many candidates as are wanted are taken at first, and then as many as before that did not settle it. 5: ten
/// products of a million are settled by 50 candidates for a photo and words that go together.
const CANDIDATES_RATIO: usize = 5;

/// How many candidates to take for each vector of a query of several, in turn, until they settle what is wanted.
pub(crate) fn candidates(wanted: usize) -> impl Iterator<Item = usize> {
    let more = |count: usize| count.saturating_mul(CANDIDATES_RATIO).clamp(*CANDIDATES.start(), *CANDIDATES.end());
    iter::successors(Some(more(wanted)), move |count| (count < CANDIDATES.end()).then(|| more(*count)))
}

/// The candidates of all vectors of a query, with what each vector makes of each.
#[derive(Debug)]
pub(crate) struct Union<I> {
    vectors: usize,
    cosines: HashMap<I, Vec<Option<f32>>>,
}

impl<I: Copy + Eq + Hash> Union<I> {
    /// Of what each vector found, in the order of the vectors.
    pub(crate) fn of(lists: &[Vec<(I, f32)>]) -> Self {
        let mut union = Self { vectors: lists.len(), cosines: HashMap::new() };
        for (nth, list) in lists.iter().enumerate() {
            for (id, cosine) in list {
                union.add(nth, *id, *cosine);
            }
        }
        union
    }

    /// Takes in what the `nth` vector makes of a candidate; what is known stays.
    pub(crate) fn add(&mut self, nth: usize, id: I, cosine: f32) {
        let known = self.cosines.entry(id).or_insert_with(|| vec![None; self.vectors]);
        if let Some(slot) = known.get_mut(nth) {
            slot.get_or_insert(within_one(cosine));
        }
    }

    /// The candidates of other vectors that the `nth` has said nothing of.
    pub(crate) fn missing(&self, nth: usize) -> impl Iterator<Item = I> {
        self.cosines.iter().filter(move |(_, known)| known.get(nth).is_some_and(Option::is_none)).map(|(id, _)| *id)
    }

    /// Each candidate with the sum of its cosines by share.
    pub(crate) fn candidates(self, vectors: &[QueryVector]) -> Vec<Candidate<I>> {
        let candidate = |(id, known): (I, Vec<Option<f32>>)| {
            let cosines: Vec<f32> = known.into_iter().map(Option::unwrap_or_default).collect();
            let score = vectors.iter().zip(&cosines).map(|(vector, cosine)| vector.share * cosine).sum();
            Candidate { id, score, cosines }
        };
        self.cosines.into_iter().map(candidate).collect()
    }
}

/// Whether the page of a query is among these candidates, whatever a search for more would find. Each vector found at most `count`,
/// best first: what none has found scores no more than the last of all. This is the threshold algorithm of Fagin, Lotem and
/// Naor, *Optimal aggregation algorithms for middleware*, 2001.
pub(crate) fn are_settled<I>(
    candidates: &[Candidate<I>],
    query: &IndexQuery,
    lists: &[Vec<(I, f32)>],
    count: usize,
) -> bool {
    let mut others_max = 0.0;
    for (vector, list) in query.vectors.iter().zip(lists) {
        match list.last() {
            Some((_, cosine)) if list.len() >= count => others_max += vector.share * within_one(*cosine),
            // It found all that there are.
            Some(_) | None => return true,
        }
    }
    let better = candidates.iter().filter(|candidate| candidate.score > others_max).count();
    better >= query.offset + query.limit || query.score_min.is_some_and(|score_min| score_min > others_max)
}

/// A point that may be in the answer.
#[derive(Debug)]
pub(crate) struct Candidate<I> {
    /// The point.
    pub(crate) id: I,
    /// Sum of the cosines by share.
    pub(crate) score: f32,
    /// To each vector of the query, in order.
    cosines: Vec<f32>,
}

impl<I> Candidate<I> {
    /// Of a query with one vector.
    pub(crate) fn of_one(vector: &QueryVector, id: I, cosine: f32) -> Self {
        let cosine = within_one(cosine);
        Self { id, score: cosine * vector.share, cosines: vec![cosine] }
    }

    /// How near each side of the product comes, as its score has it. `picture` says which of its pictures comes nearest to a
    /// vector.
    pub(crate) fn similarities(
        &self,
        vectors: &[QueryVector],
        picture: impl Fn(&QueryVector) -> Option<usize>,
    ) -> Vec<Similarity> {
        let similarity = |(vector, cosine): (&QueryVector, &f32)| {
            let picture = if vector.target == Target::Image { picture(vector) } else { None };
            Similarity { target: vector.target, cosine: *cosine, picture }
        };
        vectors.iter().zip(&self.cosines).map(similarity).collect()
    }
}

/// A cosine that rounding may have carried beyond what there is: of vectors of 16 bits, by less than a thousandth.
fn within_one(cosine: f32) -> f32 {
    cosine.clamp(-1.0, 1.0)
}

/// The page of a query: best first, equal scores by point, so that the order stays the same.
pub(crate) fn page<I: Copy + Ord>(mut candidates: Vec<Candidate<I>>, query: &IndexQuery) -> Vec<Candidate<I>> {
    candidates.retain(|candidate| query.score_min.is_none_or(|score_min| candidate.score >= score_min));
    candidates.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    candidates.into_iter().skip(query.offset).take(query.limit).collect()
}

/// Which of a product's pictures comes nearest to a vector. `pictures` are their vectors, of length 1.
pub(crate) fn nearest_picture<V: AsRef<[f32]>>(vector: &QueryVector, pictures: &[V]) -> Option<usize> {
    let cosines = pictures.iter().map(|picture| vector.embedding.cosine_to(picture.as_ref())).enumerate();
    cosines.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(picture, _)| picture)
}

#[cfg(test)]
mod tests {
    use vitrine_core::embed::Embedding;

    use super::*;

    fn query(offset: usize, limit: usize, score_min: Option<f32>) -> IndexQuery {
        let embedding = Embedding::normalized(vec![1.0]).unwrap();
        let vector = |target, share| QueryVector { target, embedding: embedding.clone(), share };
        let vectors = vec![vector(Target::Image, 0.75), vector(Target::Text, 0.25)];
        IndexQuery { vectors, filter: None, exclude: Vec::new(), offset, limit, score_min }
    }

    /// The candidates of these lists, each of which was scored by both vectors.
    fn scored(query: &IndexQuery, lists: &[Vec<(u8, f32)>], cosines: &[(u8, f32, f32)]) -> Vec<Candidate<u8>> {
        let mut union = Union::of(lists);
        for (id, image, text) in cosines {
            union.add(0, *id, *image);
            union.add(1, *id, *text);
        }
        assert_eq!([0, 1].map(|nth| union.missing(nth).count()), [0, 0]);
        union.candidates(&query.vectors)
    }

    #[test]
    fn a_page_is_settled_once_what_was_not_found_cannot_be_on_it() {
        let lists = [vec![(1, 0.9), (2, 0.5)], vec![(2, 0.8), (3, 0.6)]];
        let cosines = [(1, 0.9, 0.0), (2, 0.5, 0.8), (3, 0.25, 0.6)];
        // Scores are 0.675, 0.575 and 0.3375; what was not found has 0.525 at most.
        for (offset, limit, score_min, count, settled) in [
            (0, 1, None, 2, true),
            (0, 2, None, 2, true),
            (1, 1, None, 2, true),
            (0, 3, None, 2, false),
            (1, 2, None, 2, false),
            (0, 3, Some(0.52), 2, false),
            (0, 3, Some(0.53), 2, true),
            // There are no more than were found.
            (0, 3, None, 3, true),
        ] {
            let query = query(offset, limit, score_min);
            let candidates = scored(&query, &lists, &cosines);
            assert_eq!(
                are_settled(&candidates, &query, &lists, count),
                settled,
                "{offset} {limit} {score_min:?} {count}"
            );
        }
    }

    #[test]
    fn what_ties_with_the_last_does_not_settle_a_page() {
        let lists = [vec![(1, 0.5)], vec![(1, 0.5)]];
        let query = query(0, 1, None);
        assert!(!are_settled(&scored(&query, &lists, &[]), &query, &lists, 1));
    }

    #[test]
    fn more_candidates_are_taken_until_there_are_a_thousand() {
        let counts = |wanted| candidates(wanted).collect::<Vec<_>>();
        assert_eq!(counts(1), [50, 250, 1000]);
        assert_eq!(counts(24), [120, 600, 1000]);
        for wanted in [200, 2000, usize::MAX] {
            assert_eq!(counts(wanted), [1000]);
        }
    }
}
