//! The model: from the arguments to parts, machines, hours and money.

use super::costs::{
    DISK_BYTES, MEMORY_BYTES, P99_OF_P50, SEARCH_OVERHEAD_MS, Vectors, product_photo_ms, query_photo_ms, search_cores,
    text_ms,
};
use crate::cli::PlanArguments;

const GIB: f64 = 1_073_741_824.0;
/// Generations of a catalogue on disk while a load runs: the one that serves, the one before it (`--generations-kept 2`), and
/// the one that is being built.
const GENERATIONS: f64 = 3.0;
/// Share of a machine's memory and disk that is planned with. The rest is for the model, the system, and what was not foreseen.
/// Estimate.
const FILL_SHARE: f64 = 0.8;
/// Share of the cores that searches may take, and a load beside them: half each. Estimate.
const CORE_SHARE: f64 = 0.5;
/// Least share that searches are given where the latency asks for idle cores. Below it, more cores hardly shorten a wait.
const CORE_SHARE_MIN: f64 = 0.1;
/// The share of searches that may be later than the latency asked for.
const LATE_SHARE: f64 = 0.01;

/// What can ask for more machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// So many copies were asked for, each on its own machine.
    Copies,
    /// The memory of all generations that are open.
    Memory,
    /// The disk of all generations.
    Disk,
    /// The cores that searches take.
    Queries,
    /// The cores that a load takes to be ready in time.
    Load,
}

impl Bound {
    /// In the order in which one of several alike is named.
    pub(super) const ALL: [Self; 5] = [Self::Copies, Self::Memory, Self::Disk, Self::Queries, Self::Load];

    /// As it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Copies => "copies",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Queries => "queries",
            Self::Load => "load",
        }
    }
}

/// A plan. Memory and disk are in bytes, `…_total` of all copies.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Parts that a copy is split into, so that each fits on a machine.
    pub(super) parts: f64,
    /// Memory of one generation of one copy when it is open.
    pub(super) memory_bytes_open: f64,
    /// The part of it that cannot be read again from disk.
    pub(super) memory_bytes_pinned: f64,
    /// Memory of all copies while a load runs.
    pub(super) memory_bytes_total: f64,
    /// Disk of one generation of one copy.
    pub(super) disk_bytes_generation: f64,
    /// Disk of all copies while a load runs.
    pub(super) disk_bytes_total: f64,
    /// Processor hours of a load.
    pub(super) load: LoadHours,
    /// A search, as they come on average.
    pub(super) query: QueryCost,
    /// Machines that each bound asks for.
    pub(super) nodes_by: NodesBy,
    /// Machines.
    pub(super) nodes: f64,
    /// What asks for the most machines.
    pub(super) decides: Bound,
    /// Money for all machines for a month.
    pub(super) money_per_month: f64,
}

/// Processor hours of a load, and how long it takes.
#[derive(Debug, Clone)]
pub(super) struct LoadHours {
    /// Pictures and texts through the model, once.
    pub(super) embed_cpu: f64,
    /// Adding products, and taking over those that have not changed, in every copy.
    pub(super) add_cpu: f64,
    /// Graphs, in every copy.
    pub(super) graph_cpu: f64,
    /// By the clock, on half of the cores of all machines.
    pub(super) elapsed: f64,
}

impl LoadHours {
    /// All processor hours.
    pub(super) fn cpu(&self) -> f64 {
        self.embed_cpu + self.add_cpu + self.graph_cpu
    }
}

/// What a search takes.
#[derive(Debug, Clone)]
pub(super) struct QueryCost {
    /// Of a processor, in ms, for the model.
    pub(super) embed_cpu_ms: f64,
    /// Of a processor, in ms, in all parts of the index.
    pub(super) index_cpu_ms: f64,
    /// Searches that a core answers in a second if it does nothing else.
    pub(super) per_core_second: f64,
    /// Share of the cores that they may take.
    pub(super) core_share: f64,
    /// Time of 99 % of the dearest kind of search that is asked for, in ms, with the cores as busy as that.
    pub(super) p99_ms: f64,
}

/// Machines that each bound asks for.
#[derive(Debug, Clone)]
pub(super) struct NodesBy {
    copies: f64,
    memory: f64,
    disk: f64,
    queries: f64,
    load: f64,
}

impl NodesBy {
    /// By one of them.
    pub(super) fn get(&self, bound: Bound) -> f64 {
        match bound {
            Bound::Copies => self.copies,
            Bound::Memory => self.memory,
            Bound::Disk => self.disk,
            Bound::Queries => self.queries,
            Bound::Load => self.load,
        }
    }
}

impl Plan {
    /// The plan for these arguments. More products never take less of anything.
    pub(super) fn of(arguments: &PlanArguments) -> Self {
        let vectors = Vectors {
            dimensions: arguments.dimensions.into(),
            pictures: arguments.pictures_per_product.into(),
            quantisation: arguments.quantisation,
        };
        let (products, copies) = (f64::from(arguments.products), f64::from(arguments.replicas));
        let memory = Room {
            of_node: FILL_SHARE * GIB * f64::from(arguments.node_memory_gib),
            // The one that serves and the one that is being built; of the one before, what cannot be given back.
            of_part: 2.0 * MEMORY_BYTES,
            of_product: 2.0 * vectors.memory_bytes() + vectors.pinned_bytes(),
        };
        let disk = Room {
            of_node: FILL_SHARE * GIB * f64::from(arguments.node_disk_gib),
            of_part: GENERATIONS * DISK_BYTES,
            of_product: GENERATIONS * vectors.disk_bytes() + vectors.log_bytes(),
        };
        let parts = memory.parts(products).max(disk.parts(products));
        // Reckoned as if parts were full, so that one more part is never cheaper than one less.
        let of_part = products.min(memory.products()).min(disk.products());
        let mut load = load_hours(arguments, vectors, of_part);
        let query = query_cost(arguments, vectors, parts, of_part);
        let cores = f64::from(arguments.node_cores);
        let query_cores = arguments.queries_per_second / query.per_core_second;
        let nodes_by = NodesBy {
            copies,
            memory: copies * memory.parts(products),
            disk: copies * disk.parts(products),
            queries: (query_cores / query.core_share / cores).ceil(),
            load: (load.cpu() / f64::from(arguments.load_hours) / CORE_SHARE / cores).ceil(),
        };
        let most = |most: Bound, bound| if nodes_by.get(bound) > nodes_by.get(most) { bound } else { most };
        let decides = Bound::ALL.into_iter().fold(Bound::Copies, most);
        let nodes = nodes_by.get(decides);
        load.elapsed = load.cpu() / (nodes * cores * CORE_SHARE);
        Self {
            parts,
            memory_bytes_open: parts * MEMORY_BYTES + products * vectors.memory_bytes(),
            memory_bytes_pinned: products * vectors.pinned_bytes(),
            memory_bytes_total: copies * memory.taken(products),
            disk_bytes_generation: parts * DISK_BYTES + products * vectors.disk_bytes(),
            disk_bytes_total: copies * disk.taken(products),
            load,
            query,
            nodes_by,
            nodes,
            decides,
            money_per_month: nodes * node_price(arguments),
        }
    }
}

/// How much of something there is, and is taken.
struct Room {
    of_node: f64,
    of_part: f64,
    of_product: f64,
}

impl Room {
    /// Products that a machine has room for; at least one.
    fn products(&self) -> f64 {
        ((self.of_node - self.of_part) / self.of_product).floor().max(1.0)
    }

    /// Parts that so many products must be split into.
    fn parts(&self, products: f64) -> f64 {
        (products / self.products()).ceil()
    }

    /// What so many products take, in one copy.
    fn taken(&self, products: f64) -> f64 {
        self.parts(products) * self.of_part + products * self.of_product
    }
}

/// Whether a directory is not enough for parts of so many products.
fn is_on_server(arguments: &PlanArguments, of_part: f64) -> bool {
    arguments.replicas > 1 || of_part < f64::from(arguments.products)
}

/// Without the time by the clock, which the number of machines decides.
fn load_hours(arguments: &PlanArguments, vectors: Vectors, of_part: f64) -> LoadHours {
    let copies = f64::from(arguments.replicas);
    let (products, changed_share) = (f64::from(arguments.products), arguments.changed_share);
    let on_server = is_on_server(arguments, of_part);
    let (changed, unchanged) = (changed_share * products / 3600.0, (1.0 - changed_share) * products / 3600.0);
    let embed_ms = vectors.pictures * product_photo_ms(arguments.model) + text_ms(arguments.model);
    let (add, carry) = (vectors.add_seconds(of_part), vectors.carry_seconds(on_server));
    LoadHours {
        embed_cpu: changed * embed_ms / 1000.0,
        add_cpu: copies * (changed * add + unchanged * carry),
        graph_cpu: copies * changed * vectors.build_seconds(of_part, on_server),
        elapsed: 0.0,
    }
}

/// A kind of search.
struct Kind {
    /// Of all searches.
    share: f64,
    embed_ms: f64,
    /// In one part.
    index_ms: f64,
}

fn query_cost(arguments: &PlanArguments, vectors: Vectors, parts: f64, of_part: f64) -> QueryCost {
    let on_server = is_on_server(arguments, of_part);
    let of = |share: f64, yes: bool| if yes { share } else { 1.0 - share };
    let kinds = [(false, false), (false, true), (true, false), (true, true)].map(|(words, filtered)| Kind {
        share: of(arguments.words_share, words) * of(arguments.filtered_share, filtered),
        embed_ms: if words { text_ms(arguments.model) } else { query_photo_ms(arguments.model) },
        index_ms: vectors.search_ms(of_part, words, filtered, on_server),
    });
    let mean = |cost: fn(&Kind) -> f64| kinds.iter().map(|kind| kind.share * cost(kind)).sum::<f64>();
    let embed_cpu_ms = mean(|kind| kind.embed_ms);
    let index_cpu_ms = parts * mean(|kind| kind.index_ms);
    // Parts are searched side by side, and so are the segments of each.
    let busy = search_cores(f64::from(arguments.node_cores), on_server);
    let mean_ms = embed_cpu_ms + SEARCH_OVERHEAD_MS + mean(|kind| kind.index_ms);
    let asked = kinds.iter().filter(|kind| kind.share > 0.0);
    let alone_ms =
        asked.map(|kind| kind.embed_ms + P99_OF_P50 * kind.index_ms / busy).fold(0.0, f64::max) + SEARCH_OVERHEAD_MS;
    let p99_ms = |core_share| alone_ms + mean_ms * late_wait(arguments.node_cores, core_share);
    let shares = (1..=8_u8).map(|step| CORE_SHARE - f64::from(step) * 0.05);
    let fits = |share: &f64| p99_ms(*share) <= f64::from(arguments.p99_ms);
    let core_share = std::iter::once(CORE_SHARE).chain(shares).find(fits).unwrap_or(CORE_SHARE_MIN);
    QueryCost {
        embed_cpu_ms,
        index_cpu_ms,
        per_core_second: 1000.0 / (embed_cpu_ms + SEARCH_OVERHEAD_MS + index_cpu_ms),
        core_share,
        p99_ms: p99_ms(core_share),
    }
}

/// How long one in a hundred waits for a core at least, in mean times of service, where so large a share of the cores is busy:
/// Erlang's C, with arrivals at random and times of service that vary as exponential ones do.
fn late_wait(cores: u16, busy_share: f64) -> f64 {
    let offered = f64::from(cores) * busy_share;
    let blocked = (1..=cores).fold(1.0, |blocked, core| offered * blocked / (f64::from(core) + offered * blocked));
    let waits = blocked / (1.0 - busy_share * (1.0 - blocked));
    ((waits / LATE_SHARE).ln() / (f64::from(cores) * (1.0 - busy_share))).max(0.0)
}

/// Money for a machine for a month.
fn node_price(arguments: &PlanArguments) -> f64 {
    f64::from(arguments.node_memory_gib) * arguments.memory_price_per_gib_month
        + f64::from(arguments.node_cores) * arguments.core_price_per_month
        + f64::from(arguments.node_disk_gib) * arguments.disk_price_per_gib_month
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::arguments;

    fn plan(line: &str) -> Plan {
        Plan::of(&arguments(line))
    }

    #[test]
    fn more_products_never_take_less() {
        for options in [
            "",
            "--replicas 1 --quantisation int8",
            "--pictures-per-product 5 --model vit-b32",
            "--queries-per-second 5000 --p99-ms 60",
            "--queries-per-second 5000 --node-memory-gib 1 --node-cores 2",
            "--node-disk-gib 10 --load-hours 1",
        ] {
            let mut before = plan(&format!("--products 1 {options}"));
            let mut products = 1_u32;
            while products < 3_000_000_000 {
                products += products / 8 + 1;
                let after = plan(&format!("--products {products} {options}"));
                for bound in Bound::ALL {
                    let (less, more) = (before.nodes_by.get(bound), after.nodes_by.get(bound));
                    assert!(less <= more, "{products} {options}: {bound:?} from {less} to {more}");
                }
                for (less, more) in [
                    (before.money_per_month, after.money_per_month),
                    (before.memory_bytes_open, after.memory_bytes_open),
                    (before.memory_bytes_total, after.memory_bytes_total),
                    (before.disk_bytes_total, after.disk_bytes_total),
                    (before.load.cpu(), after.load.cpu()),
                    (before.query.index_cpu_ms, after.query.index_cpu_ms),
                ] {
                    assert!(less <= more, "{products} {options}: from {less} to {more}");
                }
                before = after;
            }
        }
    }

    #[test]
    fn what_there_is_most_to_do_of_decides() {
        for (line, bound) in [
            ("--products 1000", Bound::Copies),
            ("--products 100000000 --changed-share 0", Bound::Memory),
            ("--products 100000000 --quantisation int8 --node-disk-gib 100", Bound::Disk),
            ("--products 1000 --queries-per-second 5000", Bound::Queries),
            ("--products 1000000 --load-hours 1 --model vit-b32", Bound::Load),
        ] {
            let plan = plan(line);
            assert_eq!(plan.decides, bound, "{line}: {:?}", plan.nodes_by);
            assert!(Bound::ALL.iter().all(|bound| plan.nodes_by.get(*bound) <= plan.nodes));
        }
    }

    #[test]
    fn a_copy_is_in_as_many_parts_as_it_takes_to_fit() {
        let small = plan("--products 1000000 --replicas 3");
        assert!((small.parts - 1.0).abs() < 1e-9 && (small.nodes - 3.0).abs() < 1e-9);
        let large = plan("--products 100000000 --replicas 3 --changed-share 0");
        assert!(large.parts > 1.0 && (large.nodes_by.memory - 3.0 * large.parts).abs() < 1e-9);
        let of_node = large.memory_bytes_total / large.nodes_by.memory;
        assert!(of_node < FILL_SHARE * 64.0 * GIB && of_node > 0.9 * FILL_SHARE * 64.0 * GIB, "{of_node}");
    }

    #[test]
    fn a_latency_that_leaves_less_of_the_cores_takes_more_of_them() {
        let line = "--products 100000 --queries-per-second 2000 --node-cores 2 --filtered-share 0 --p99-ms";
        let (patient, hasty) = (plan(&format!("{line} 1000")), plan(&format!("{line} 90")));
        assert!(hasty.query.core_share < patient.query.core_share && hasty.nodes > patient.nodes);
        assert!(hasty.query.p99_ms <= 90.0, "{}", hasty.query.p99_ms);
        assert!(plan(&format!("{line} 10")).query.p99_ms > 10.0, "what cannot be had is not promised");
    }

    /// `make bench-bars`: photos at a fifth of the peak have a p99 of 42 ms on two cores, the bundled model taking 16.9.
    #[test]
    fn waits_on_two_cores_are_as_measured() {
        let p99_ms = 16.9 * (1.0 + late_wait(2, 0.2));
        assert!((p99_ms / 42.0 - 1.0).abs() < 0.25, "{p99_ms}");
        assert!(late_wait(16, 0.5) < 0.3 && late_wait(1, 0.5) > late_wait(2, 0.5));
    }

    /// benches/README.md, *The main job*: 4,369 products with the bundled model in 46 seconds, on two cores.
    #[test]
    fn a_real_load_takes_about_as_long_as_it_did() {
        let cpu_hours = plan("--products 4369 --dimensions 792 --model mini --replicas 1").load.cpu();
        assert!((cpu_hours * 3600.0 / 92.0 - 1.0).abs() < 0.25, "{cpu_hours}");
    }

    #[test]
    fn money_is_the_price_of_the_machines() {
        let line = "--products 1000 --node-memory-gib 10 --node-cores 4 --node-disk-gib 100 --memory-price-per-gib-month 2 \
            --core-price-per-month 5 --disk-price-per-gib-month 0.5";
        let plan = plan(line);
        assert!((plan.money_per_month - plan.nodes * (20.0 + 20.0 + 50.0)).abs() < 1e-6);
    }
}
