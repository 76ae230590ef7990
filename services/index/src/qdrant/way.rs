//! How the nearest of what passes a filter are found on a server, whose graphs have edges for every attribute.
//!
//! The constants are of a million products with 512 dimensions on Qdrant 1.18 (`benches/README.md`, *The index*).

use qdrant_client::qdrant::Filter;
use vitrine_core::index::QueryVector;

use super::{description::Parts, point::Found};
use crate::{
    GRAPH_KIB_MIN,
    among::{self, COMPARED_FOR_ONE, FOUND_MAX, SPARE, enough, merged, to_find},
    filter::Clause,
    scoring::search_width,
};

/// Most vector data of a segment that passes a filter and is compared without the graph, in KiB. 5,000: by its default the server
/// compares up to 10,000, and its estimate may be twice the truth.
const COMPARED_KIB: usize = 5_000;
/// Fewest that each of several shards finds without a filter. 100: some shards have more of the nearest than others, and a search
/// has more candidates in hand anyway.
const OF_SHARD_MIN: usize = 100;
/// Fewest candidates in hand where the nearest of what passes are not among the nearest of all. 600: of another category of a tenth of
/// the products, 300 miss 18 to 43 in a thousand of the true neighbours, 600 miss 3.
const FAR_WIDTH: usize = 600;

/// What is searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Searched {
    /// How many products there are.
    pub(super) products: usize,
    /// Length of their vectors.
    pub(super) dimensions: usize,
    /// Into how many parts they are split.
    pub(super) parts: Parts,
    /// Fewest candidates in hand, if somebody has said so.
    pub(super) width_set: Option<usize>,
}

/// What a query's filter lets pass.
#[derive(Debug)]
pub(super) struct Passing {
    /// `None` lets everything pass.
    pub(super) filter: Option<Filter>,
    /// About how many products pass, where it was worth asking.
    pub(super) estimate: Option<Estimate>,
    pub(super) searched: Searched,
}

/// About how many products pass a filter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Estimate {
    pub(super) passing: usize,
    /// How many times as long the filter is as the one that was counted.
    pub(super) times: usize,
}

/// What a server is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The nearest of what passes, which it finds its own way.
    Filtered {
        /// Fewest candidates in hand.
        width: usize,
    },
    /// Those that pass, of so many that are nearest without the filter. If enough do, they are the nearest as surely as the graph
    /// finds the nearest at all. The server's own way goes through what does not pass as well, and takes several times as long.
    Among {
        /// How many.
        found: usize,
    },
}

impl Searched {
    /// What of a filter is worth a call to ask how many pass it, if so many are wanted; `None` if nothing is: products without a graph
    /// are compared anyway, and all but a few pass what only leaves some out by name.
    pub(super) fn worth_estimating(&self, clause: &Clause, limit: usize) -> Option<Clause> {
        let required = clause.required().into_iter().filter(|clause| !clause.leaves_out_points());
        let asked: Vec<Clause> = required.cloned().collect();
        let has_graphs = self.kib(self.products) > GRAPH_KIB_MIN.saturating_mul(self.parts.segments);
        (!asked.is_empty() && has_graphs && enough(limit) <= FOUND_MAX).then_some(Clause::All(asked))
    }

    /// Fewest candidates in hand without a filter. A segment's graph has edges for every attribute, too, and is searched as well as
    /// one of half of its size without them: of a million products in segments of 484,500 and less, 64 candidates found all.
    pub(super) fn width(&self) -> usize {
        self.width_set.unwrap_or_else(|| search_width(self.products / self.parts.segments / 2))
    }

    /// The same with one.
    fn filtered_width(&self) -> usize {
        self.width_set.unwrap_or_else(|| search_width(self.products))
    }

    /// The vector data of so many products, in KiB, with numbers of 16 bits and one picture each.
    fn kib(&self, products: usize) -> usize {
        products.saturating_mul(2 * self.dimensions) / 1024
    }

    /// How many must pass, if so many are wanted, for those to be the nearest. Each shard finds its own: where few pass, one may have
    /// come less far than others.
    fn sure(&self, limit: usize) -> usize {
        let spare = if self.parts.shards > 1 { limit.div_ceil(2) } else { SPARE };
        limit.saturating_add(spare)
    }

    /// How many each shard is to find.
    pub(super) fn of_shard(&self, found: usize) -> usize {
        found.div_ceil(self.parts.shards).max(OF_SHARD_MIN).min(found)
    }
}

impl Passing {
    /// What to ask for first, if so many are wanted.
    fn first(&self, limit: usize) -> Step {
        let Searched { products, parts, .. } = self.searched;
        // All pass, or nearly all, or there are no graphs.
        let Some(Estimate { passing, times }) = self.estimate else {
            return Step::Filtered { width: self.searched.width() };
        };
        let width = self.searched.filtered_width();
        let found = to_find(limit, passing, products);
        let compared = self.searched.kib(passing) <= COMPARED_KIB.saturating_mul(parts.segments);
        if compared && passing <= COMPARED_FOR_ONE * found.min(FOUND_MAX).max(width) {
            Step::Filtered { width }
        } else if found > FOUND_MAX {
            self.others()
        } else {
            Step::Among { found: among::first(found, limit, times) }
        }
    }

    /// What to ask for next, if so many were found and `limit` are wanted; `None` if they are the nearest that there are.
    fn next(&self, step: Step, found: usize, limit: usize) -> Option<Step> {
        let Step::Among { found: among } = step else { return None };
        match among::wider(among, found, limit, self.searched.sure(limit)) {
            Some(found) => Some(Step::Among { found }),
            None => (found < limit).then(|| self.others()),
        }
    }

    /// What to ask for where too few of the nearest pass.
    fn others(&self) -> Step {
        Step::Filtered { width: self.searched.filtered_width().max(FAR_WIDTH) }
    }
}

/// The search for the nearest to one vector, step by step.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub(super) vector: &'a QueryVector,
    pub(super) passing: &'a Passing,
    limit: usize,
    /// What to ask for next; `None` if it is done.
    pub(super) step: Option<Step>,
    found: Vec<(Found, f32)>,
}

impl<'a> Search<'a> {
    /// For so many of what passes.
    pub(super) fn new(vector: &'a QueryVector, passing: &'a Passing, limit: usize) -> Self {
        Self { vector, passing, limit, step: Some(passing.first(limit)), found: Vec::new() }
    }

    /// How many to ask for.
    pub(super) fn limit(&self) -> usize {
        match self.step {
            Some(Step::Among { .. }) => self.passing.searched.sure(self.limit),
            Some(Step::Filtered { .. }) | None => self.limit,
        }
    }

    /// Takes in the answer, best first.
    pub(super) fn take(&mut self, list: Vec<(Found, f32)>) {
        self.step = self.step.and_then(|step| self.passing.next(step, list.len(), self.limit));
        // What passed among the nearest may have been missed by another way.
        self.found = merged(list, std::mem::take(&mut self.found), |found| found.id);
        self.found.truncate(self.limit);
    }

    /// What was found, best first.
    pub(super) fn into_found(self) -> Vec<(Found, f32)> {
        self.found
    }
}

#[cfg(test)]
mod tests {
    use qdrant_client::qdrant::ScoredPoint;
    use uuid::Uuid;
    use vitrine_core::{embed::Embedding, index::Target};

    use super::*;
    use crate::among::{FIRST_MAX, NONE_PASSED_MIN};

    fn searched(products: usize, shards: usize) -> Searched {
        Searched { products, dimensions: 512, parts: Parts { shards, segments: 2 * shards }, width_set: None }
    }

    fn passing(passing: Option<usize>, shards: usize) -> Passing {
        let estimate = passing.map(|passing| Estimate { passing, times: 1 });
        Passing { filter: None, estimate, searched: searched(1_000_000, shards) }
    }

    #[test]
    fn what_passes_is_found_among_the_nearest_where_enough_of_them_pass() {
        let (among, own) = (|found| Step::Among { found }, |width| Step::Filtered { width });
        for (estimate, limit, step) in [
            (Some(0), 10, own(300)),
            // The server compares them in less time than 2000 are found in; one more, and it may not compare them.
            (Some(10_000), 10, own(300)),
            (Some(10_001), 10, among(FIRST_MAX)),
            (Some(10_000), 1, among(200)),
            (Some(10_001), 11, own(600)),
            (Some(100_000), 10, among(200)),
            (Some(1_000_000), 10, among(20)),
            (Some(900_000), 1000, own(600)),
        ] {
            assert_eq!(passing(estimate, 1).first(limit), step, "{estimate:?} {limit}");
        }
        let all = Passing { searched: searched(900_000, 1), ..passing(None, 1) };
        assert_eq!(all.first(10), own(128));
    }

    #[test]
    fn a_search_widens_and_at_last_goes_the_servers_own_way() {
        let (among, own) = (|found| Step::Among { found }, Step::Filtered { width: FAR_WIDTH });
        for (shards, step, found, next) in [
            (1, among(200), 11, None),
            (1, among(200), 10, Some(among(400))),
            (3, among(200), 14, Some(among(400))),
            (3, among(200), 15, None),
            (1, among(200), 0, Some(among(NONE_PASSED_MIN))),
            (1, among(NONE_PASSED_MIN), 0, Some(own)),
            (1, among(FOUND_MAX), 10, None),
            (1, among(FOUND_MAX), 9, Some(own)),
            (1, own, 3, None),
        ] {
            assert_eq!(passing(Some(100_000), shards).next(step, found, 10), next, "{shards} {step:?} {found}");
        }
    }

    #[test]
    fn what_passed_among_the_nearest_stays_though_another_way_misses_it() {
        let embedding = Embedding::normalized(vec![1.0]).unwrap();
        let vector = QueryVector { target: Target::Image, embedding, share: 1.0 };
        let passing = passing(Some(100_000), 1);
        let mut search = Search::new(&vector, &passing, 3);
        let found = |point: u128, score| {
            let id = Some(Uuid::from_u128(point).to_string().into());
            Found::scored(ScoredPoint { id, score, ..ScoredPoint::default() }).unwrap()
        };
        // A fifth of what twice as many as are wanted would be: more is in vain.
        assert_eq!((search.step, search.limit()), (Some(Step::Among { found: 60 }), 4));
        search.take(Vec::new());
        assert_eq!((search.step, search.limit()), (Some(Step::Among { found: 300 }), 4));
        search.take(vec![found(1, 0.9)]);
        assert_eq!(search.step, Some(Step::Among { found: 1800 }));
        search.take(vec![found(1, 0.9)]);
        assert_eq!((search.step, search.limit()), (Some(Step::Filtered { width: FAR_WIDTH }), 3));
        search.take(vec![found(2, 0.8), found(3, 0.7), found(4, 0.6)]);
        assert_eq!(search.step, None);
        let scores: Vec<_> = search.into_found().iter().map(|(found, score)| (found.id.as_u128(), *score)).collect();
        assert_eq!(scores, [(1, 0.9), (2, 0.8), (3, 0.7)]);
    }

    #[test]
    fn as_many_candidates_are_in_hand_as_the_largest_graphs_need_or_somebody_has_asked_for() {
        let of = |products, width_set| Searched { width_set, ..searched(products, 1) };
        for (searched, without, with) in [
            (of(100_000, None), 128, 128),
            (of(999_999, None), 128, 300),
            (of(1_000_000, None), 300, 300),
            (of(1_000_000, Some(700)), 700, 700),
        ] {
            assert_eq!((searched.width(), searched.filtered_width()), (without, with), "{searched:?}");
        }
    }

    #[test]
    fn each_of_several_shards_finds_its_part_and_some_more() {
        for (shards, found, of_shard) in [(1, 20, 20), (1, 700, 700), (3, 20, 20), (3, 200, 100), (3, 700, 234)] {
            assert_eq!(searched(1_000_000, shards).of_shard(found), of_shard, "{shards} {found}");
        }
    }

    #[test]
    fn it_is_asked_how_many_pass_where_that_can_matter() {
        let others = || Clause::Not(Box::new(Clause::Ids(Vec::new())));
        let yes = || Clause::Bool("a.vegan".to_owned(), true);
        let asked = Some(Clause::All(vec![yes()]));
        for (products, shards, clause, limit, expected) in [
            (20_500, 1, yes(), 10, asked.clone()),
            (20_500, 1, Clause::All(vec![yes(), others()]), 1000, asked),
            // Without graphs; nearly all pass; more than are ever found.
            (20_000, 1, yes(), 10, None),
            (20_500, 2, yes(), 10, None),
            (20_500, 1, others(), 10, None),
            (20_500, 1, yes(), 1001, None),
        ] {
            let estimated = searched(products, shards).worth_estimating(&clause, limit);
            assert_eq!(estimated, expected, "{products} {shards} {clause:?} {limit}");
        }
    }
}
