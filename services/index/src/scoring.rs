//! How the candidates of a query become a page: the same for both of Qdrant's shapes.

use std::{collections::HashMap, hash::Hash};

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
/// Candidates taken for each vector of a query of several, whose best sums need not lead in either. The same for every
/// page, so that pages join.
pub(crate) const CANDIDATES: usize = 1000;

/// The candidates of all vectors of a query, with what each vector makes of each.
#[derive(Debug)]
pub(crate) struct Union<I> {
    vectors: usize,
    cosines: HashMap<I, Vec<Option<f32>>>,
}

impl<I: Copy + Eq + Hash> Union<I> {
    /// Of none yet.
    pub(crate) fn new(vectors: usize) -> Self {
        Self { vectors, cosines: HashMap::new() }
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
