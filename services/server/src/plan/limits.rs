//! How far a catalogue can grow: what breaks first, on one machine and on the machines of a plan.

use super::model::{Bound, Plan};
use crate::cli::PlanArguments;

/// What a catalogue can outgrow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breaking {
    /// The machines, by what asks for more of them; never by the copies, which do not grow.
    Machines(Bound),
    /// The time of a search on a machine with nothing else to do: more machines do not help.
    Latency,
}

impl Breaking {
    fn all() -> impl Iterator<Item = Self> {
        let growing = Bound::ALL.into_iter().filter(|bound| *bound != Bound::Copies);
        growing.map(Self::Machines).chain([Self::Latency])
    }

    /// As it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Machines(bound) => bound.name(),
            Self::Latency => "latency",
        }
    }

    /// Machines that it asks for; none, if there is no number that is enough.
    fn nodes(self, arguments: &PlanArguments, plan: &Plan) -> Option<f64> {
        match self {
            Self::Machines(bound) => Some(plan.nodes_by.get(bound)),
            Self::Latency => (plan.query.p99_ms <= f64::from(arguments.p99_ms)).then_some(0.0),
        }
    }
}

/// The most products with which one of them holds.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) what: Breaking,
    /// With one copy on one machine, as Qdrant Edge has it. 0 if it does not hold with any; none if with 4 billion.
    pub(super) one_machine_products: Option<u32>,
    /// On as many machines as the plan has.
    pub(super) plan_products: Option<u32>,
}

/// All of them.
#[derive(Debug, Clone)]
pub(super) struct Limits(pub(super) Vec<Limit>);

impl Limits {
    pub(super) fn of(arguments: &PlanArguments, plan: &Plan) -> Self {
        let one = PlanArguments { replicas: 1, ..arguments.clone() };
        let limit = |what| Limit {
            what,
            one_machine_products: most(what, &one, 1.0),
            plan_products: most(what, arguments, plan.nodes),
        };
        Self(Breaking::all().map(limit).collect())
    }

    /// How far this goes.
    pub(super) fn of_what(&self, what: Breaking) -> Option<&Limit> {
        self.0.iter().find(|limit| limit.what == what)
    }

    /// What the plan outgrows first, and beyond how many products.
    pub(super) fn first(&self) -> Option<(Breaking, u32)> {
        self.least(|limit| limit.plan_products)
    }

    /// What one machine outgrows first.
    pub(super) fn first_on_one(&self) -> Option<(Breaking, u32)> {
        self.least(|limit| limit.one_machine_products)
    }

    fn least(&self, products: impl Fn(&Limit) -> Option<u32>) -> Option<(Breaking, u32)> {
        let limits = self.0.iter().filter_map(|limit| Some((limit.what, products(limit)?)));
        limits.min_by_key(|(_, products)| *products)
    }
}

/// The most products that so many machines are enough for; none, if they are enough for all that can be asked about.
fn most(what: Breaking, arguments: &PlanArguments, nodes: f64) -> Option<u32> {
    let enough = |products| {
        let arguments = PlanArguments { products, ..arguments.clone() };
        what.nodes(&arguments, &Plan::of(&arguments)).is_some_and(|asked| asked <= nodes)
    };
    if enough(u32::MAX) {
        return None;
    }
    // Enough for `low`, or that is 0, and not for `high`.
    let (mut low, mut high) = (0, u32::MAX);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if enough(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::arguments;

    fn limits(line: &str) -> (Plan, Limits) {
        let arguments = arguments(line);
        let plan = Plan::of(&arguments);
        let limits = Limits::of(&arguments, &plan);
        (plan, limits)
    }

    #[test]
    fn a_limit_is_the_last_size_with_which_the_machines_are_enough() {
        let (plan, limits) = limits("--products 20000000 --changed-share 0.1");
        let (_, at) = limits.first().unwrap();
        assert!(at >= 20_000_000, "{limits:?}");
        let with = |products: u32| Plan::of(&arguments(&format!("--products {products} --changed-share 0.1"))).nodes;
        assert!(with(at) <= plan.nodes && with(at + 1) > plan.nodes, "{limits:?}");
    }

    #[test]
    fn what_no_machine_can_do_breaks_with_no_products_at_all() {
        let (_, limits) = limits("--products 1000 --p99-ms 10");
        assert_eq!(limits.first(), Some((Breaking::Latency, 0)));
    }

    #[test]
    fn small_vectors_let_one_machine_hold_more() {
        let one = |line: &str| {
            let (_, limits) = limits(line);
            limits.of_what(Breaking::Machines(Bound::Memory)).unwrap().one_machine_products.unwrap()
        };
        assert!(2 * one("--products 1 --quantisation int8") > 3 * one("--products 1"));
    }
}
