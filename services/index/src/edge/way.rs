//! How the nearest of what passes a filter are found.
//!
//! The constants are of a million products with 512 dimensions (`benches/README.md`, *The index*).

use qdrant_edge::{EdgeConfig, Filter};

use super::{
    filter::to_filter,
    graph::{few, has_edges, is_scanned},
};
use crate::{
    among::{self, COMPARED_FOR_ONE, FOUND_MAX, NONE_PASSED_MIN, SPARE, sketch, to_find},
    filter::Clause,
    scoring::search_width,
};

/// Most products that are compared if none of the nearest passes. 150,000: a tenth of a million takes 1.9 times as long as
/// a search by way of what passes, which misses a quarter of them.
const COMPARED_MAX: usize = 150_000;
/// Products that are tried with the rest of a filter in the time that one takes to be compared.
const TRIED_FOR_ONE: usize = 2;
/// Fewest candidates in hand where a category's own edges are searched for what few of its products are like. Of ten thousand
/// products that are nothing like the query, 1000 find all of the true neighbours, 300 all but 17 in a thousand.
const CATEGORY_WIDTH: usize = 1000;
/// The same where none of the nearest is of the category, and its products are not compared. 2000: with int8, of a hundred thousand
/// products that are nothing like the query, they find all but 6 in a thousand of the true neighbours, 1000 all but 38.
const FAR_CATEGORY_WIDTH: usize = 2000;

/// How the nearest of what passes a filter are found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Way {
    /// There is no filter, and the graph finds them.
    Graph {
        /// Fewest candidates in hand.
        width: usize,
    },
    /// All that pass are compared.
    Scan(Filter),
    /// More than are wanted are found without the filter, and those that pass are taken. A search by way of what passes
    /// would miss half of them in a large graph: a tenth of the products have too few edges among themselves.
    Among(Among),
}

/// How what passes a filter is found among what is nearest without it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Among {
    /// What is to pass.
    pub(super) filter: Filter,
    /// How many are found at first. No more than are needed: to see whether one passes takes Qdrant some microseconds.
    pub(super) first: usize,
    /// Fewest candidates in hand.
    pub(super) width: usize,
    /// How others are found if too few of those pass.
    pub(super) others: Others,
    /// Whether what passes is a category with edges of its own. Where some of the nearest pass, these are searched for others, and
    /// more are not found without the filter. Where none does, 1000 candidates miss an eighth of the true neighbours of a
    /// hundred thousand products, without quantisation.
    pub(super) is_category: bool,
}

/// How what passes is found where it is nothing like the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// If none of the nearest passes, all that pass are compared.
    Compared,
    /// There are too many: the graph is searched by way of what passes.
    Searched,
}

/// What is searched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Searched<'a> {
    /// How many products there are.
    pub(super) products: usize,
    /// What their shard was made with.
    pub(super) config: &'a EdgeConfig,
    /// The key of their categories, if they have any.
    pub(super) category: Option<&'a str>,
}

impl Way {
    /// How to find so many of what passes. `count` estimates how many products pass a filter.
    pub(super) fn of<E>(
        clause: Option<Clause>,
        limit: usize,
        searched: Searched<'_>,
        count: impl Fn(Filter) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let Searched { products, config, category } = searched;
        let width = search_width(products);
        let Some(clause) = clause else { return Ok(Self::Graph { width }) };
        let estimate =
            |(sketch, times): (Clause, usize)| Ok(count(to_filter(sketch))?.saturating_mul(times).min(products));
        let (short, times) = sketch(&clause);
        let passing = estimate((short, times))?;
        let required = clause.required();
        let mut asked = required.iter().filter(|clause| !clause.leaves_out_points());
        let is_category = asked.next().is_some_and(|clause| clause.is_one_text(category)) && asked.next().is_none();
        let is_category = is_category && has_edges(config, passing, products);
        // Of several clauses, an index has what passes one, each of which is tried with the others.
        let tried = if required.len() > 1 {
            let each = required.into_iter().map(|clause| estimate(sketch(clause))).collect::<Result<Vec<_>, E>>()?;
            each.into_iter().min().unwrap_or(products)
        } else {
            0
        };
        let compared = passing + tried / TRIED_FOR_ONE;
        let found = to_find(limit, passing, products).min(FOUND_MAX);
        let sooner = compared <= COMPARED_FOR_ONE * found.max(width) && is_scanned(config, compared);
        let filter = to_filter(clause);
        if few(config, compared) || sooner {
            return Ok(Self::Scan(filter));
        }
        let comparable = compared <= COMPARED_MAX && is_scanned(config, compared);
        let others = if comparable { Others::Compared } else { Others::Searched };
        let first = among::first(found, limit, times);
        // None of the nearest may be of the category, which it takes so many to settle.
        let first = if is_category { first.max(NONE_PASSED_MIN) } else { first };
        Ok(Self::Among(Among { filter, first, width, others, is_category }))
    }
}

impl Among {
    /// How many to find without the filter, when `passed` of so many did and `limit` are wanted; `None`, if they are enough, or
    /// more would not do.
    pub(super) fn wider(&self, found: usize, passed: usize, limit: usize) -> Option<usize> {
        if self.is_category && passed > 0 {
            None
        } else {
            among::wider(found, passed, limit, limit.saturating_add(SPARE))
        }
    }

    /// Whether the nearest that pass are among so many that did, and `limit` are wanted.
    pub(super) fn are_enough(&self, passed: usize, limit: usize) -> bool {
        // Of others, it has been decided by `wider` that there are no more to be had.
        passed >= if self.is_category { limit.saturating_add(SPARE) } else { limit }
    }
}

/// Fewest candidates in hand where a category's own edges are searched and so many of the nearest passed.
pub(super) fn category_width(passed: usize) -> usize {
    if passed == 0 { FAR_CATEGORY_WIDTH } else { CATEGORY_WIDTH }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use qdrant_edge::HnswIndexConfig;
    use uuid::Uuid;

    use super::*;
    use crate::{
        among::FIRST_MAX,
        edge::graph::{CATEGORY_EDGES, config, regraphed},
        filter::Limits,
        quantisation::Quantisation,
    };

    fn price() -> Clause {
        Clause::Range("a.price.EUR".to_owned(), Limits { lt: Some(2.0), ..Limits::default() })
    }

    /// The way among a million products, of which so many pass each clause, and all of them together.
    fn way(clauses: &[Clause], limit: usize, each: usize, together: usize) -> Way {
        quantised_way(Quantisation::None, clauses, limit, each, together)
    }

    fn quantised_way(kind: Quantisation, clauses: &[Clause], limit: usize, each: usize, together: usize) -> Way {
        let mut config = config(512, kind);
        let edges = Some(CATEGORY_EDGES);
        config.hnsw_config = HnswIndexConfig { payload_m: edges, ..regraphed(&config, 1_000_000, 1) };
        let clause = Clause::All(clauses.to_vec());
        let whole = to_filter(clause.clone());
        let count = |filter| Ok::<_, Infallible>(if filter == whole { together } else { each });
        let searched = Searched { products: 1_000_000, config: &config, category: Some("under.product_type") };
        let Ok(way) = Way::of(Some(clause), limit, searched, count);
        way
    }

    fn under(category: &str) -> Clause {
        Clause::Texts("under.product_type".to_owned(), vec![category.to_owned()])
    }

    #[test]
    fn a_category_has_edges_of_its_own_if_it_is_large_and_not_the_most_of_the_shop() {
        let is_category = |clauses: &[Clause], passing| match way(clauses, 10, passing, passing) {
            Way::Among(Among { is_category, .. }) => is_category,
            other @ (Way::Graph { .. } | Way::Scan(_)) => panic!("{other:?}"),
        };
        for (passing, expected) in [(25_000, true), (125_000, true), (125_001, false)] {
            assert_eq!(is_category(&[under("Home")], passing), expected, "{passing}");
        }
        let liked = Clause::Not(Box::new(Clause::Ids(vec![Uuid::nil()])));
        assert!(is_category(&[under("Home"), liked.clone()], 100_000));
        let paths =
            |key: &str, paths: &[&str]| Clause::Texts(key.to_owned(), paths.iter().map(ToString::to_string).collect());
        for clauses in [
            vec![under("Home"), price()],
            vec![liked],
            vec![paths("under.google_product_category", &["Home"])],
            vec![paths("under.product_type", &["Home", "Garden"])],
        ] {
            assert!(!is_category(&clauses, 100_000), "{clauses:?}");
        }
    }

    #[test]
    fn of_a_category_so_many_are_found_at_first_that_it_is_settled_whether_any_passes() {
        let first = |clause| match way(&[clause], 10, 100_000, 100_000) {
            Way::Among(among) => among.first,
            other @ (Way::Graph { .. } | Way::Scan(_)) => panic!("{other:?}"),
        };
        assert_eq!([first(under("Home")), first(price())], [NONE_PASSED_MIN, 200]);
        assert_eq!([0, 1].map(category_width), [2000, 1000]);
    }

    #[test]
    fn as_many_are_found_without_a_filter_as_are_needed_for_enough_of_them_to_pass() {
        for (passing, limit, first) in [
            (0, 10, None),
            (16_000, 10, None),
            (17_000, 10, Some(FIRST_MAX)),
            (100_000, 10, Some(200)),
            (400_000, 10, Some(50)),
            (1_000_000, 10, Some(20)),
            (1_000_000, 1, Some(2)),
            (400_000, 100, Some(500)),
            (200_000, 100, Some(FIRST_MAX)),
            (400_000, 1000, Some(1000)),
            (1_000_000, usize::MAX, Some(FOUND_MAX)),
        ] {
            let found = match way(&[price()], limit, passing, passing) {
                Way::Among(Among { first, width, .. }) => {
                    assert_eq!(width, search_width(1_000_000));
                    Some(first)
                }
                Way::Graph { .. } | Way::Scan(_) => None,
            };
            assert_eq!(found, first, "{passing} {limit}");
        }
    }

    #[test]
    fn what_must_be_tried_with_several_clauses_counts_as_well_as_what_passes_them() {
        let both = [price(), Clause::Texts("a.brand".to_owned(), vec!["Home".to_owned()])];
        assert!(matches!(way(&both, 10, 20_000, 10_000), Way::Scan(_)));
        assert!(matches!(way(&both, 10, 100_000, 10_000), Way::Among(Among { first: FIRST_MAX, .. })));
    }

    #[test]
    fn quantised_vectors_are_compared_where_qdrant_surely_compares_them() {
        for (passing, float, int8) in [(5_000, true, true), (10_000, true, true), (12_000, true, false)] {
            for (kind, scan) in [(Quantisation::None, float), (Quantisation::Int8, int8)] {
                let way = quantised_way(kind, &[price()], 10, passing, passing);
                assert_eq!(matches!(way, Way::Scan(_)), scan, "{passing} {kind:?}");
            }
        }
    }

    #[test]
    fn what_is_nothing_like_the_query_is_compared_unless_it_is_too_much() {
        for (passing, float, int8) in [(100_000, true, false), (150_000, true, false), (150_001, false, false)] {
            for (kind, compared) in [(Quantisation::None, float), (Quantisation::Int8, int8)] {
                let others = match quantised_way(kind, &[price()], 10, passing, passing) {
                    Way::Among(Among { others, .. }) => others,
                    other @ (Way::Graph { .. } | Way::Scan(_)) => panic!("{other:?}"),
                };
                assert_eq!(others == Others::Compared, compared, "{passing} {kind:?}");
            }
        }
    }

    #[test]
    fn for_a_long_list_as_many_are_found_at_first_as_will_do() {
        for (listed, first) in [(900, FIRST_MAX), (1100, 1500)] {
            let groups = Clause::Texts("a.item_group_id".to_owned(), vec![String::new(); listed]);
            // A list is estimated by a part of it, so many times fewer pass that.
            let (_, times) = sketch(&groups);
            match way(&[groups], 10, 20_000 / times, 20_000 / times) {
                Way::Among(among) => assert!(among.first.abs_diff(first) < 10, "{listed}: {}", among.first),
                other @ (Way::Graph { .. } | Way::Scan(_)) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn of_a_category_that_some_of_the_nearest_are_of_more_are_found_by_its_edges() {
        let category = Among {
            filter: to_filter(under("Home")),
            first: 300,
            width: 300,
            others: Others::Compared,
            is_category: true,
        };
        assert_eq!(category.wider(300, 3, 10), None);
        assert_eq!(category.wider(75, 0, 10), Some(NONE_PASSED_MIN));
        assert_eq!([10, 11].map(|passed| category.are_enough(passed, 10)), [false, true]);
        let other = Among { is_category: false, ..category };
        assert_eq!(other.wider(300, 3, 10), Some(FOUND_MAX));
        assert!(other.are_enough(10, 10));
    }
}
