//! `vitrine plan`: what a catalogue of a size takes of machines, on paper.

mod advice;
mod costs;
mod limits;
mod model;
mod show;

use self::{limits::Limits, model::Plan};
use crate::cli::PlanArguments;

/// Prints the plan, as a table for people or as JSON.
pub fn plan(arguments: &PlanArguments) {
    let plan = Plan::of(arguments);
    let limits = Limits::of(arguments, &plan);
    if arguments.json {
        show::json(arguments, &plan, &limits);
    } else {
        show::table(arguments, &plan, &limits);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::PlanArguments;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: PlanArguments,
    }

    /// The arguments of a command line, such as `--products 10 --replicas 1`.
    pub(super) fn arguments(line: &str) -> PlanArguments {
        Cli::parse_from(["plan"].into_iter().chain(line.split_whitespace())).arguments
    }

    #[test]
    fn a_wrong_number_is_refused_by_the_name_of_its_flag_and_its_limit() {
        for (line, limit) in [
            ("--products 0", "1..=4000000000"),
            ("--products 5000000000", "1..=4000000000"),
            ("--dimensions 0", "1..=8192"),
            ("--pictures-per-product 51", "1..=50"),
            ("--quantisation float", "not none, int8, binary or product"),
            ("--model clip", "mini, vit-b32, vit-b32-int8"),
            ("--replicas 0", "1..=16"),
            ("--queries-per-second NaN", "from 0 to 1000000"),
            ("--words-share 1.1", "from 0 to 1"),
            ("--filtered-share=-1", "from 0 to 1"),
            ("--p99-ms 0", "1..=60000"),
            ("--load-hours 0", "1..=720"),
            ("--changed-share many", "from 0 to 1"),
            ("--node-memory-gib 0", "1..=65536"),
            ("--node-cores 0", "1..=1024"),
            ("--node-disk-gib 9", "10..=1000000"),
            ("--memory-price-per-gib-month=-1", "from 0 to 1000000"),
            ("--core-price-per-month inf", "from 0 to 1000000"),
            ("--disk-price-per-gib-month x", "from 0 to 1000000"),
        ] {
            let rest = if line.starts_with("--products") { "" } else { " --products 1" };
            let line = format!("plan {line}{rest}");
            let Err(error) = Cli::try_parse_from(line.split(' ')) else { panic!("{line} was taken") };
            let (error, flag) = (error.to_string(), line.split([' ', '=']).nth(1).unwrap_or_default().to_owned());
            assert!(error.contains(&flag) && error.contains(limit), "{line}: {error}");
        }
    }
}
