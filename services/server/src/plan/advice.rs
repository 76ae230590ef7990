//! What is to be known of a plan, and what to change when something breaks.

use vitrine_index::Quantisation;

use super::{
    limits::Breaking,
    model::{Bound, Plan, QueryCost},
};
use crate::cli::PlanArguments;

/// What holds of the plan as it is, a line each.
pub(super) fn notes(arguments: &PlanArguments, plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    let copies = arguments.replicas;
    if copies == 1 && plan.parts <= 1.0 {
        notes.push(
            "one copy on one machine: a directory (Qdrant Edge) is enough, and nothing serves if it fails".to_owned(),
        );
    } else {
        let parts = plan.parts;
        notes.push(format!("needs a Qdrant cluster: --index-url, --index-shards {parts}, --index-replicas {copies}"));
    }
    if plan.query.p99_ms > f64::from(arguments.p99_ms) {
        let (asked, p99_ms) = (arguments.p99_ms, plan.query.p99_ms);
        let then = then(Breaking::Latency, arguments, plan);
        notes.push(format!("no number of machines answers within {asked} ms (p99: {p99_ms:.0} ms); {then}"));
    }
    if arguments.changed_share < 1.0 {
        notes.push(
            "graphs are kept until a fifth of the products has changed or gone since they were built: that load takes as \
             long as with --changed-share 1, but for embedding"
                .to_owned(),
        );
    }
    if arguments.quantisation == Quantisation::None && plan.parts > 1.0 {
        notes.push("--quantisation int8 takes a fraction of the memory: vectors stay on disk".to_owned());
    }
    notes
}

/// What to change when this breaks.
pub(super) fn then(what: Breaking, arguments: &PlanArguments, plan: &Plan) -> &'static str {
    match what {
        Breaking::Machines(Bound::Memory) if arguments.quantisation == Quantisation::None => {
            "int8 (vectors stay on disk), then more parts: a Qdrant cluster"
        }
        Breaking::Machines(Bound::Memory) => {
            "more parts on more machines (a Qdrant cluster), or machines with more memory"
        }
        Breaking::Machines(Bound::Copies) => "fewer copies",
        Breaking::Machines(Bound::Disk) => "keep fewer generations, larger disks, then more parts: a Qdrant cluster",
        Breaking::Machines(Bound::Queries) if embedding_is_dearest(&plan.query) => {
            "8-bit files or a smaller model, an embedding pool with GPUs, then more machines"
        }
        Breaking::Machines(Bound::Queries) => "fewer, larger parts (each search asks all of them), then more copies",
        Breaking::Machines(Bound::Load) if plan.load.embed_cpu > plan.load.cpu() / 2.0 => {
            "8-bit files, or an embedding pool for the hours of the load; what has not changed is not embedded again"
        }
        Breaking::Machines(Bound::Load) => "more machines, since each builds the graphs of its own parts",
        Breaking::Latency if embedding_is_dearest(&plan.query) => "a faster model, or an embedding pool with GPUs",
        Breaking::Latency => "smaller parts on smaller machines, or filters that fewer products pass",
    }
}

fn embedding_is_dearest(query: &QueryCost) -> bool {
    query.embed_cpu_ms > query.index_cpu_ms
}
