//! How the candidates of a query become a page: the same for both of Qdrant's shapes.

use std::{collections::HashMap, hash::Hash, iter};

use vitrine_core::{
    index::{IndexQuery, QueryVector, Similarity, Target},
    keywords::{self, Keywords},
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
/// How many times as many as each vector the keywords of a query take. They are quick to find, and of many products that have
/// equally much of them only those are scored that may be on the page. 10: with 5, a brand of 300 products settles few pages.
const BY_WORDS_RATIO: usize = 10;

/// How many candidates each vector of a query of several takes in turn, until they settle what is wanted.
pub(crate) fn candidate_counts(wanted: usize) -> impl Iterator<Item = usize> {
    let more = |count: usize| count.saturating_mul(CANDIDATES_RATIO).clamp(CANDIDATES_MIN, CANDIDATES_MAX);
    iter::successors(Some(more(wanted)), move |count| (*count < CANDIDATES_MAX).then(|| more(*count)))
}

/// The candidates of all vectors of a query and of its keywords, with what each of them makes of each.
#[derive(Debug)]
pub(crate) struct Union<'a, I> {
    query: &'a IndexQuery,
    /// What each side makes of what a vector has found, or is to score.
    similarities: HashMap<I, Vec<Option<f32>>>,
    /// What the keywords make of what they have found.
    by_words: HashMap<I, f32>,
    /// The most that they make of anything else.
    by_words_last: f32,
    /// How many they were asked for.
    by_words_asked: usize,
}

impl<'a, I: Copy + Eq + Hash> Union<'a, I> {
    /// Of none yet.
    pub(crate) fn new(query: &'a IndexQuery) -> Self {
        Self { query, similarities: HashMap::new(), by_words: HashMap::new(), by_words_last: 0.0, by_words_asked: 0 }
    }

    /// The keywords to ask for so many, when each vector is asked for `count`; `None` if there are none, or they have found enough.
    pub(crate) fn words_to_ask(&self, count: usize) -> Option<(&'a Keywords, usize)> {
        let asked = count.saturating_mul(BY_WORDS_RATIO).min(CANDIDATES_MAX);
        let more = self.by_words_asked == 0 || (self.by_words_last > 0.0 && asked > self.by_words_asked);
        self.query.keywords.as_ref().filter(|_| more).map(|words| (&words.keywords, asked))
    }

    /// Takes in what the keywords found, best first, when so many were asked for. They miss nobody that has one of the words.
    pub(crate) fn add_words(&mut self, list: Vec<(I, f32)>, asked: usize) {
        let last = list.last().filter(|_| list.len() >= asked);
        self.by_words_last = last.map_or(0.0, |(_, similarity)| within_one(*similarity));
        self.by_words_asked = asked;
        self.by_words = list.into_iter().collect();
    }

    /// Takes in what each vector found.
    pub(crate) fn add_all(&mut self, lists: &[Vec<(I, f32)>]) {
        for (nth, list) in lists.iter().enumerate() {
            self.add_list(nth, list);
        }
    }

    /// Takes in what the `nth` vector, or the keywords after them, make of candidates; what is known stays.
    pub(crate) fn add_list(&mut self, nth: usize, list: &[(I, f32)]) {
        for (id, similarity) in list {
            if let Some(slot) = self.known(*id).get_mut(nth) {
                slot.get_or_insert(within_one(*similarity));
            }
        }
    }

    /// What is known of a candidate.
    fn known(&mut self, id: I) -> &mut Vec<Option<f32>> {
        let all_words_are_known = self.by_words_last <= 0.0;
        let by_words = || self.by_words.get(&id).copied().or(all_words_are_known.then_some(0.0));
        self.similarities.entry(id).or_insert_with(|| {
            let mut known = vec![None; self.query.vectors.len()];
            known.extend(self.query.keywords.as_ref().map(|_| by_words()));
            known
        })
    }

    /// The candidates that the `nth` vector, or the keywords after them, have said nothing of.
    pub(crate) fn missing(&self, nth: usize) -> impl Iterator<Item = I> {
        let unknown = move |known: &Vec<Option<f32>>| known.get(nth).is_some_and(Option::is_none);
        self.similarities.iter().filter(move |(_, known)| unknown(known)).map(|(id, _)| *id)
    }

    /// Makes candidates of what only the keywords have found, as far as it may be on the page: each vector makes no more of it
    /// than of the last of the `count` that it was asked for. Out: whether there are any.
    pub(crate) fn admit(&mut self, lists: &[Vec<(I, f32)>], count: usize) -> bool {
        if self.by_words.is_empty() {
            return false;
        }
        let mut scores: Vec<f32> = self.candidates().iter().map(|candidate| candidate.score).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        let least = self.query.wanted().checked_sub(1).and_then(|last| scores.get(last).copied());
        let (by_vectors, share) = (self.by_vectors_max(lists, count).unwrap_or(1.0), self.share_of_words());
        let may_be_wanted = |similarity: f32| least.is_none_or(|least| by_vectors + share * similarity >= least);
        let is_new = |id: &I| !self.similarities.contains_key(id);
        let found = self.by_words.iter().filter(|(id, similarity)| is_new(id) && may_be_wanted(**similarity));
        let admitted: Vec<I> = found.map(|(id, _)| *id).collect();
        for id in &admitted {
            self.known(*id);
        }
        !admitted.is_empty()
    }

    /// Takes in what the `nth` vector, or the keywords after them, make of all that they were asked about, and nothing of the
    /// rest.
    pub(crate) fn add_asked(&mut self, nth: usize, asked: &[I], list: &[(I, f32)]) {
        self.add_list(nth, list);
        self.add_list(nth, &asked.iter().map(|id| (*id, 0.0)).collect::<Vec<_>>());
    }

    /// Each candidate with the sum of its similarities by share.
    pub(crate) fn candidates(&self) -> Vec<Candidate<I>> {
        let candidate = |(id, known): (&I, &Vec<Option<f32>>)| {
            let similarities: Vec<f32> = known.iter().map(|similarity| similarity.unwrap_or_default()).collect();
            let score = shares(self.query).zip(&similarities).map(|(share, similarity)| share * similarity).sum();
            Candidate { id: *id, score, similarities }
        };
        self.similarities.iter().map(candidate).collect()
    }

    /// Whether the page of a query is among its candidates, whatever a search for more would find. Each vector found at most
    /// `count`, best first: what neither they nor the keywords have found scores no more than the last of all. This is the
    /// threshold algorithm of Fagin, Lotem and Naor, *Optimal aggregation algorithms for middleware*, 2001.
    pub(crate) fn is_page_settled(&self, candidates: &[Candidate<I>], lists: &[Vec<(I, f32)>], count: usize) -> bool {
        // Every product has something for each vector. So either there are no others, or a graph with gaps did not come to them.
        let Some(by_vectors) = self.by_vectors_max(lists, count) else {
            return lists.iter().all(|list| list.len() < count);
        };
        let others_max = by_vectors + self.share_of_words() * self.by_words_last;
        let better = candidates.iter().filter(|candidate| candidate.score > others_max).count();
        better >= self.query.wanted() || self.query.score_min.is_some_and(|score_min| score_min > others_max)
    }

    /// The most that the vectors make, by share, of what none of them has found when each found `count`, best first; `None` if one
    /// found fewer.
    fn by_vectors_max(&self, lists: &[Vec<(I, f32)>], count: usize) -> Option<f32> {
        let last = |list: &Vec<(I, f32)>| Some(within_one(list.last().filter(|_| list.len() >= count)?.1));
        self.query.vectors.iter().zip(lists).map(|(vector, list)| Some(vector.share * last(list)?)).sum()
    }

    fn share_of_words(&self) -> f32 {
        self.query.keywords.as_ref().map_or(0.0, |keywords| keywords.share)
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

    /// What the keywords of the query make of the product, if the query has any.
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
    use vitrine_core::{embed::Embedding, index::QueryKeywords};

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
            union.add_list(0, &[(*id, *image)]);
            union.add_list(1, &[(*id, *text)]);
        }
        assert_eq!([0, 1].map(|nth| union.missing(nth).count()), [0, 0]);
        union.candidates()
    }

    fn is_page_settled(
        candidates: &[Candidate<u8>],
        query: &IndexQuery,
        lists: &[Vec<(u8, f32)>],
        count: usize,
    ) -> bool {
        Union::new(query).is_page_settled(candidates, lists, count)
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
        let mut scores: Vec<_> = union.candidates().into_iter().map(|found| (found.id, found.score)).collect();
        scores.sort_unstable_by_key(|(id, _)| *id);
        assert_eq!(scores, [(1, 0.9), (2, 0.8)]);
    }

    /// A query with one vector, and words that count a quarter.
    fn with_words(limit: usize) -> IndexQuery {
        let vectors = vec![QueryVector { share: 0.75, ..query(0, 1, None).vectors.swap_remove(0) }];
        let keywords = Some(QueryKeywords { keywords: Keywords::of_query([("boot", 1.0)]), share: 0.25 });
        IndexQuery { vectors, keywords, ..query(0, limit, None) }
    }

    #[test]
    fn keywords_count_by_their_share_and_those_that_are_in_no_list_of_theirs_have_none() {
        let query = with_words(3);
        let mut union = Union::new(&query);
        union.add_words(vec![(3, 0.9), (2, 0.5)], 3);
        let lists = [vec![(1, 0.8), (3, 0.4)]];
        union.add_all(&lists);
        assert_eq!(union.missing(1).count(), 0);
        assert!(union.admit(&lists, 2) && union.missing(0).eq([2]));
        union.add_list(0, &[(2, 0.4)]);
        assert!(!union.admit(&lists, 2));
        let mut found = union.candidates();
        found.sort_unstable_by_key(|candidate| candidate.id);
        let scores = found.iter().map(|candidate| (candidate.id, candidate.score, candidate.keywords(&query)));
        assert_eq!(scores.collect::<Vec<_>>(), [(1, 0.6, Some(0.0)), (2, 0.425, Some(0.5)), (3, 0.525, Some(0.9))]);
        // What neither has found scores 0.3 at most.
        assert!(union.is_page_settled(&found, &lists, 2));
    }

    #[test]
    fn what_only_keywords_have_found_is_looked_at_if_it_may_be_on_the_page() {
        // One that is as near as the last, at 0.4, scores 0.3 and a quarter of what the words make.
        for (limit, words, admitted) in
            [(1, 0.9, false), (2, 0.9, true), (2, 0.1, false), (2, 0.2, true), (3, 0.1, true)]
        {
            let query = with_words(limit);
            let mut union = Union::new(&query);
            union.add_words(vec![(2, words), (3, 0.15)], 2);
            let lists = [vec![(1, 0.8), (3, 0.4)]];
            union.add_all(&lists);
            union.add_list(1, &[(1, 0.0)]);
            assert_eq!(union.admit(&lists, 2), admitted, "{limit} {words}");
            // A vector that found fewer than were asked for may make anything of it.
            assert!(union.admit(&lists, 3) || admitted);
        }
        // Others have at most what the last in the list of the words has, and those who are not in it must be asked about.
        let query = with_words(2);
        for (last, settled) in [(0.1, true), (0.2, false)] {
            let mut union = Union::new(&query);
            union.add_words(vec![(3, 0.2), (2, last)], 2);
            let lists = [vec![(1, 0.8), (3, 0.4)]];
            union.add_all(&lists);
            assert!(union.missing(1).eq([1]));
            assert_eq!(union.is_page_settled(&union.candidates(), &lists, 2), settled, "{last}");
        }
    }

    #[test]
    fn keywords_are_asked_for_more_only_if_there_are_more() {
        let query = with_words(1);
        let asked = |union: &Union<u8>, count| union.words_to_ask(count).map(|(_, asked)| asked);
        let mut union = Union::new(&query);
        assert_eq!([1, 50, 250].map(|count| asked(&union, count)), [Some(10), Some(500), Some(1000)]);
        union.add_words(vec![(1, 0.5), (2, 0.2)], 2);
        assert_eq!(asked(&union, 1), Some(10));
        union.add_words(vec![(1, 0.5), (2, 0.2)], 1000);
        assert_eq!(asked(&union, 250), None, "all were found");
        let mut full = Union::new(&query);
        full.add_words((0..10).map(|id| (id, 0.2)).collect(), 10);
        assert_eq!([1, 2].map(|count| asked(&full, count)), [None, Some(20)]);
        // Who was asked about and has none of the words is not asked about again.
        full.add_all(&[vec![(77, 0.5)]]);
        assert!(full.missing(1).eq([77]));
        full.add_asked(1, &[77], &[]);
        assert_eq!((full.missing(1).count(), full.candidates()[0].keywords(&query)), (0, Some(0.0)));
    }
}
