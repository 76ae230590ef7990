//! How the candidates of a query become a page: the same for both of Qdrant's shapes.

use std::{collections::HashMap, hash::Hash};

use vitrine_core::{
    embed::Embedding,
    index::{IndexQuery, QueryVector, Similarity, Target},
};

/// Fewest candidates that the graph search keeps in hand; more find more of the true neighbours.
/// 128: Qdrant's own default is 100, and a page of products is read by people who notice what is missing.
pub(crate) const SEARCH_WIDTH_MIN: usize = 128;
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
            slot.get_or_insert(cosine);
        }
    }

    /// The candidates of other vectors that the `nth` has said nothing of.
    pub(crate) fn missing(&self, nth: usize) -> impl Iterator<Item = I> {
        self.cosines.iter().filter(move |(_, known)| known.get(nth).is_some_and(Option::is_none)).map(|(id, _)| *id)
    }

    /// The sum of each candidate's cosines by share.
    pub(crate) fn scores(self, vectors: &[QueryVector]) -> Vec<(I, f32)> {
        let sum = |known: Vec<Option<f32>>| {
            vectors.iter().zip(known).map(|(vector, cosine)| vector.share * cosine.unwrap_or(0.0)).sum()
        };
        self.cosines.into_iter().map(|(id, known)| (id, sum(known))).collect()
    }
}

/// The page of a query: best first, equal scores by point, so that the order stays the same.
pub(crate) fn page<I: Copy + Ord>(mut scored: Vec<(I, f32)>, query: &IndexQuery) -> Vec<(I, f32)> {
    scored.retain(|(_, score)| query.score_min.is_none_or(|score_min| *score >= score_min));
    scored.sort_unstable_by(|(a, left), (b, right)| right.total_cmp(left).then(a.cmp(b)));
    scored.into_iter().skip(query.offset).take(query.limit).collect()
}

/// How near each side of a product comes to its vector of the query.
pub(crate) fn similarities(vectors: &[QueryVector], sides: impl Fn(Target) -> Vec<Embedding>) -> Vec<Similarity> {
    let nearest = |vector: &QueryVector| {
        let sides = sides(vector.target);
        let cosines = sides.iter().map(|side| vector.embedding.cosine(side)).enumerate();
        let (picture, cosine) = cosines.max_by(|a, b| a.1.total_cmp(&b.1))?;
        let picture = (vector.target == Target::Image).then_some(picture);
        Some(Similarity { target: vector.target, cosine, picture })
    };
    vectors.iter().filter_map(nearest).collect()
}
