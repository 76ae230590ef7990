//! How the candidates of a query become a page: the same for both of Qdrant's shapes.

use std::{collections::HashMap, hash::Hash, iter};

use vitrine_core::{
    index::{IndexQuery, QueryVector, Similarity, Target},
    keywords,
};

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

/// Fewest candidates that each vector of a query of several takes at first, whose best sums need not lead in either. 50: ten
/// products of a million are settled by them, for a photo and words that go together.
const CANDIDATES_MIN: usize = 50;
/// Most candidates that each takes, whether they settle the page or not. 1000: for a photo and words that have nothing to do with
/// each other, they have at least 994 in a thousand of the best sums of a million.
pub(crate) const CANDIDATES_MAX: usize = 1000;
/// How many times as many as are wanted each takes at first, and as many as before where those do not settle the page.
const CANDIDATES_RATIO: usize = 5;

/// How many candidates each vector of a query of several takes in turn, until they settle what is wanted.
pub(crate) fn candidate_counts(wanted: usize) -> impl Iterator<Item = usize> {
    let more = |count: usize| count.saturating_mul(CANDIDATES_RATIO).clamp(CANDIDATES_MIN, CANDIDATES_MAX);
    iter::successors(Some(more(wanted)), move |count| (*count < CANDIDATES_MAX).then(|| more(*count)))
}

/// The candidates of all vectors of a query and of its keywords, with what each of them makes of each.
#[derive(Debug)]
pub(crate) struct Union<I> {
    /// How many vectors there are, and one for the keywords, if there are any.
    sides: usize,
    similarities: HashMap<I, Vec<Option<f32>>>,
}

impl<I: Copy + Eq + Hash> Union<I> {
    /// Of none yet.
    pub(crate) fn new(query: &IndexQuery) -> Self {
        Self { sides: query.vectors.len() + usize::from(query.keywords.is_some()), similarities: HashMap::new() }
    }

    /// Takes in what each vector found, and then the keywords.
    pub(crate) fn add_all(&mut self, lists: &[Vec<(I, f32)>]) {
        for (nth, list) in lists.iter().enumerate() {
            self.add_list(nth, list);
        }
    }

    /// Takes in what the `nth` of them makes of candidates; what is known stays.
    pub(crate) fn add_list(&mut self, nth: usize, list: &[(I, f32)]) {
        for (id, similarity) in list {
            self.add(nth, *id, *similarity);
        }
    }

    fn add(&mut self, nth: usize, id: I, similarity: f32) {
        let known = self.similarities.entry(id).or_insert_with(|| vec![None; self.sides]);
        if let Some(slot) = known.get_mut(nth) {
            slot.get_or_insert(within_one(similarity));
        }
    }

    /// The candidates of others that the `nth` has said nothing of.
    pub(crate) fn missing(&self, nth: usize) -> impl Iterator<Item = I> {
        let unknown = move |known: &Vec<Option<f32>>| known.get(nth).is_some_and(Option::is_none);
        self.similarities.iter().filter(move |(_, known)| unknown(known)).map(|(id, _)| *id)
    }

    /// Each candidate with the sum of its similarities by share. What has said nothing of one, though it was asked, makes nothing
    /// of it.
    pub(crate) fn candidates(&self, query: &IndexQuery) -> Vec<Candidate<I>> {
        let candidate = |(id, known): (&I, &Vec<Option<f32>>)| {
            let similarities: Vec<f32> = known.iter().map(|similarity| similarity.unwrap_or_default()).collect();
            let score = shares(query).zip(&similarities).map(|(share, similarity)| share * similarity).sum();
            Candidate { id: *id, score, similarities }
        };
        self.similarities.iter().map(candidate).collect()
    }
}

/// The share of each vector of a query, and then of its keywords.
fn shares(query: &IndexQuery) -> impl Iterator<Item = f32> + '_ {
    let vectors = query.vectors.iter().map(|vector| vector.share);
    vectors.chain(query.keywords.iter().map(|keywords| keywords.share))
}

/// Makes similarities of what Qdrant scored by keywords, among so many products.
pub(crate) fn to_similarities<I>(scored: &mut [(I, f32)], products: usize) {
    for (_, score) in scored {
        *score = keywords::similarity(*score, products);
    }
}

/// Whether the page of a query is among these candidates, whatever a search for more would find. Each vector, and then the
/// keywords, found at most `count`, best first: what none has found scores no more than the last of all. This is the threshold algorithm of Fagin, Lotem and
/// Naor, *Optimal aggregation algorithms for middleware*, 2001.
pub(crate) fn is_page_settled<I>(
    candidates: &[Candidate<I>],
    query: &IndexQuery,
    lists: &[Vec<(I, f32)>],
    count: usize,
) -> bool {
    let by_vectors = lists.get(..query.vectors.len()).unwrap_or(lists);
    // Every product has something for each vector. So either there are no others, or a graph with gaps did not come to them.
    if by_vectors.iter().any(|list| list.len() < count) {
        return by_vectors.iter().all(|list| list.len() < count);
    }
    // Those who do not have one of the words are not in the list of the keywords, which misses nobody else.
    let last = |list: &Vec<(I, f32)>| match list.last() {
        Some((_, similarity)) if list.len() >= count => within_one(*similarity),
        Some(_) | None => 0.0,
    };
    let others_max = shares(query).zip(lists).map(|(share, list)| share * last(list)).sum();
    let better = candidates.iter().filter(|candidate| candidate.score > others_max).count();
    better >= query.wanted() || query.score_min.is_some_and(|score_min| score_min > others_max)
}

/// A point that may be in the answer.
#[derive(Debug)]
pub(crate) struct Candidate<I> {
    /// The point.
    pub(crate) id: I,
    /// Sum of the similarities by share.
    pub(crate) score: f32,
    /// To each vector of the query, in order, and to its keywords.
    similarities: Vec<f32>,
}

impl<I> Candidate<I> {
    /// Of a query with one vector.
    pub(crate) fn of_one(vector: &QueryVector, id: I, cosine: f32) -> Self {
        let cosine = within_one(cosine);
        Self { id, score: cosine * vector.share, similarities: vec![cosine] }
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
        vectors.iter().zip(&self.similarities).map(similarity).collect()
    }

    /// What the keywords of the query make of the product, if it has any.
    pub(crate) fn keywords(&self, query: &IndexQuery) -> Option<f32> {
        query.keywords.as_ref().and(self.similarities.last().copied())
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
    use vitrine_core::{embed::Embedding, index::QueryKeywords, keywords::Keywords};

    use super::*;

    fn query(offset: usize, limit: usize, score_min: Option<f32>) -> IndexQuery {
        let embedding = Embedding::normalized(vec![1.0]).unwrap();
        let vector = |target, share| QueryVector { target, embedding: embedding.clone(), share };
        let vectors = vec![vector(Target::Image, 0.75), vector(Target::Text, 0.25)];
        IndexQuery { vectors, keywords: None, filter: None, exclude: Vec::new(), offset, limit, score_min }
    }

    /// The candidates of these lists, each of which was scored by both vectors.
    fn scored(query: &IndexQuery, lists: &[Vec<(u8, f32)>], cosines: &[(u8, f32, f32)]) -> Vec<Candidate<u8>> {
        let mut union = Union::new(query);
        union.add_all(lists);
        for (id, image, text) in cosines {
            union.add(0, *id, *image);
            union.add(1, *id, *text);
        }
        assert_eq!([0, 1].map(|nth| union.missing(nth).count()), [0, 0]);
        union.candidates(query)
    }

    #[test]
    fn a_page_is_settled_once_what_was_not_found_cannot_be_on_it() {
        let lists = [vec![(1, 0.9), (2, 0.5)], vec![(2, 0.8), (3, 0.6)]];
        let cosines = [(1, 0.9, 0.0), (2, 0.5, 0.8), (3, 0.25, 0.6)];
        // Scores are 0.675, 0.575 and 0.3375; what was not found has 0.525 at most.
        for (offset, limit, score_min, settled) in [
            (0, 1, None, true),
            (0, 2, None, true),
            (1, 1, None, true),
            (0, 3, None, false),
            (1, 2, None, false),
            (0, 3, Some(0.52), false),
            (0, 3, Some(0.53), true),
        ] {
            let query = query(offset, limit, score_min);
            let candidates = scored(&query, &lists, &cosines);
            assert_eq!(is_page_settled(&candidates, &query, &lists, 2), settled, "{offset} {limit} {score_min:?}");
        }
    }

    #[test]
    fn a_page_is_settled_by_fewer_than_were_wanted_only_if_every_vector_found_fewer() {
        let query = query(0, 3, None);
        let long = [vec![(1, 0.9), (2, 0.5)], vec![(2, 0.8)]];
        let candidates = scored(&query, &long, &[(1, 0.9, 0.0)]);
        assert!(!is_page_settled(&candidates, &query, &long, 2));
        assert!(is_page_settled(&candidates, &query, &long, 3));
        let [_, short] = long;
        let gap = [Vec::new(), short];
        assert!(!is_page_settled(&scored(&query, &gap, &[(2, 0.5, 0.8)]), &query, &gap, 1));
    }

    #[test]
    fn what_ties_with_the_last_does_not_settle_a_page() {
        let query = query(0, 1, None);
        for cosine in [0.5, -0.5] {
            let tied = [vec![(1, cosine)], vec![(1, cosine)]];
            assert!(!is_page_settled(&scored(&query, &tied, &[]), &query, &tied, 1), "{cosine}");
            let worse = [vec![(1, cosine), (2, -0.75)], vec![(1, cosine), (2, -0.75)]];
            assert!(is_page_settled(&scored(&query, &worse, &[]), &query, &worse, 2), "{cosine}");
        }
    }

    #[test]
    fn more_candidates_are_taken_until_there_are_a_thousand() {
        let counts = |wanted| candidate_counts(wanted).collect::<Vec<_>>();
        assert_eq!(counts(1), [50, 250, 1000]);
        assert_eq!(counts(24), [120, 600, 1000]);
        for wanted in [200, 2000, usize::MAX] {
            assert_eq!(counts(wanted), [1000]);
        }
    }

    #[test]
    fn what_was_found_before_stays_when_a_wider_search_finds_other() {
        let query = query(0, 2, None);
        let mut union = Union::new(&query);
        union.add_all(&[vec![(1, 0.9)], vec![(1, 0.9)]]);
        union.add_all(&[vec![(2, 0.8)], vec![(2, 0.8), (1, 0.1)]]);
        let mut scores: Vec<_> = union.candidates(&query).into_iter().map(|found| (found.id, found.score)).collect();
        scores.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(scores, [(1, 0.9), (2, 0.8)]);
    }

    #[test]
    fn keywords_count_by_their_share_and_what_has_none_of_them_is_not_in_their_list() {
        let vectors = vec![QueryVector { share: 0.75, ..query(0, 1, None).vectors.swap_remove(0) }];
        let keywords = Keywords::of_query([("boot", 1.0)]);
        let keywords = Some(QueryKeywords { keywords, share: 0.25 });
        let query = IndexQuery { vectors, keywords, ..query(0, 1, None) };
        let by = |lists: &[Vec<(u8, f32)>]| {
            let mut union = Union::new(&query);
            union.add_all(lists);
            union.candidates(&query)
        };
        // 1 has none of the words, 2 was only found by them.
        let lists = [vec![(1, 0.8), (3, 0.4)], vec![(3, 0.9), (2, 0.5)]];
        let mut found = by(&lists);
        found.sort_unstable_by_key(|candidate| candidate.id);
        let scores = found.iter().map(|candidate| (candidate.id, candidate.score, candidate.keywords(&query)));
        assert_eq!(scores.collect::<Vec<_>>(), [(1, 0.6, Some(0.0)), (2, 0.125, Some(0.5)), (3, 0.525, Some(0.9))]);
        // What was not found scores 0.425 at most, or 0.3 if all that have the words were found.
        for (lists, score_min, settled) in [
            (&lists, None, true),
            (&lists, Some(0.4), true),
            (&[vec![(1, 0.5), (3, 0.4)], vec![(3, 0.9), (2, 0.5)]], None, true),
            (&[vec![(1, 0.5), (3, 0.4)], vec![(4, 0.2), (2, 0.2)]], None, true),
            (&[vec![(1, 0.4), (3, 0.4)], vec![(4, 0.2), (2, 0.2)]], None, false),
            (&[vec![(1, 0.5), (3, 0.4)], vec![(4, 0.2)]], None, true),
        ] {
            assert_eq!(is_page_settled(&by(lists), &IndexQuery { score_min, ..query.clone() }, lists, 2), settled);
        }
    }
}
