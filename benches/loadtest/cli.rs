//! The command line.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr};

use clap::{ArgGroup, Parser};

use crate::{mix::Mix, schedule::Arrivals};

/// Sends searches to a running server, and says how long the answers took.
///
/// Closed loop: --clients. Open loop: --rate. The highest rate that keeps a promise: --find-rate.
///
/// Exit codes: 0 the report is there, whatever the answers were; 1 the server cannot be reached, or the report cannot
/// be written; 64 wrong arguments. Ctrl-C ends the run early and still reports; a second one ends at once.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
#[command(group(ArgGroup::new("load").required(true).multiple(true).args(["clients", "rate", "find_rate"])))]
pub(crate) struct Arguments {
    /// Closed loop: so many clients, each of which sends its next request when its answer came. 1 to 10000.
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["rate", "find_rate"], value_parser = within(1..=10_000_u32))]
    pub(crate) clients: Option<u32>,
    /// Open loop: so many requests per second, however long the answers take; latency counts from the moment a request
    /// was due. 0.1 to 100000. With --find-rate: the first rate that is tried, 10 if it is not said.
    #[arg(long, value_name = "PER_SECOND", value_parser = within(0.1..=RATE_MAX))]
    pub(crate) rate: Option<f64>,
    /// How the requests of the open loop are spread: poisson, as from many people, or fixed.
    #[arg(long, value_name = "NAME", default_value = "poisson")]
    pub(crate) arrivals: Arrivals,
    /// Most requests in flight in the open loop; what would be due beyond them is counted as `NOT_SENT`. 1 to 1000000.
    #[arg(long, value_name = "COUNT", default_value = "10000", value_parser = within(1..=1_000_000_u32))]
    pub(crate) in_flight_max: u32,

    /// Finds the highest rate of the open loop at which p99 is at most --p99-ms-max and 99 % of the requests succeed.
    #[arg(long, requires = "p99_ms_max")]
    pub(crate) find_rate: bool,
    /// Largest p99 of --find-rate, in ms. 0.1 to 600000.
    #[arg(long, value_name = "MS", requires = "find_rate", value_parser = within(0.1..=600_000.0))]
    pub(crate) p99_ms_max: Option<f64>,
    /// How long --find-rate tries each rate, in s. 2 to 600.
    /// 10 s: at 10 per second, p99 is still of a hundred requests.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = within(2..=600_u32))]
    pub(crate) step_seconds: u32,

    /// Kinds of query and their weights. [default: of photo=4,text=3,repeat=2,filtered=1 those that --photos, --texts
    /// and --filter allow]
    ///
    /// photo: a picture of --photos. text: a line of --texts. repeat: one of --repeat-count photos and texts that may
    /// come from the caches. filtered: a text with --filter. bulk: eight pictures to embed, with the priority of a job;
    /// one request, which succeeds if each of them does. All but repeat bypass the caches.
    #[arg(long, value_name = "KIND=WEIGHT,…")]
    pub(crate) mix: Option<Mix>,
    /// Directory of pictures, searched with what is below it: .jpg, .jpeg, .png and .webp. All are read into memory.
    #[arg(long, value_name = "DIR")]
    pub(crate) photos: Option<PathBuf>,
    /// File of texts, one on each line.
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// What `filtered` asks for, such as: price < 50 AND brand = "Daybird"
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) filter: Option<String>,
    /// How many queries `repeat` has. 1 to 10000.
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = within(1..=10_000_usize))]
    pub(crate) repeat_count: usize,
    /// Lets every kind of query come from the caches.
    #[arg(long)]
    pub(crate) no_bypass: bool,
    /// Most products in an answer. 1 to 200.
    #[arg(long, value_name = "COUNT", default_value = "10", value_parser = within(1..=200))]
    pub(crate) page_size: i32,
    /// Catalogue to search.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) catalog: String,
    /// Chooses the queries and the arrivals: the same seed sends the same in the same order.
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub(crate) seed: u64,

    /// Address of the server.
    #[arg(long, value_name = "URL", env = "VITRINE_SERVER", default_value = "http://127.0.0.1:50051")]
    pub(crate) server: String,
    /// Allows a server that is not on this machine.
    #[arg(long)]
    pub(crate) i_may_load_this_host: bool,
    /// Connections that the requests take in turn. 1 to 256.
    #[arg(long, value_name = "COUNT", default_value = "4", value_parser = within(1..=256_usize))]
    pub(crate) connections: usize,
    /// Deadline that each request brings, in ms. 1 to 600000. An answer is waited for two seconds longer, to see whether
    /// the server keeps it.
    #[arg(long, value_name = "MS", default_value = "10000", value_parser = within(1..=600_000_u32))]
    pub(crate) deadline_ms: u32,

    /// How long to send before anything counts, in s. 0 to 600.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = within(0..=600_u32))]
    pub(crate) warm_up_seconds: u32,
    /// How long to measure, in s. 1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = within(1..=3600_u32))]
    pub(crate) seconds: u32,
    /// Threads that send and receive. 1 to 64.
    /// 1: the generator often shares its machine with the server, and one core sends thousands per second.
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = within(1..=64_usize))]
    pub(crate) threads: usize,
    /// Directory for report.json and report.html.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

/// Highest rate that can be asked for, or found, in requests per second.
pub(crate) const RATE_MAX: f64 = 100_000.0;

/// Reads a number within limits; neither NaN nor infinity is.
fn within<T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static>(
    limits: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| match text.parse() {
        Ok(number) if limits.contains(&number) => Ok(number),
        _ => Err(format!("is not a number from {} to {}", limits.start(), limits.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &str) -> String {
        let arguments = ["loadtest"].into_iter().chain(arguments.split_whitespace());
        Arguments::try_parse_from(arguments).unwrap_err().to_string()
    }

    #[test]
    fn a_number_beyond_its_limit_is_refused_with_the_flag_and_the_limit() {
        for (arguments, flag, limit) in [
            ("--clients 0", "--clients", "1 to 10000"),
            ("--rate NaN", "--rate", "0.1 to 100000"),
            ("--rate inf", "--rate", "0.1 to 100000"),
            ("--clients 1 --seconds 3601", "--seconds", "1 to 3600"),
            ("--clients 1 --page-size 201", "--page-size", "1 to 200"),
        ] {
            let refusal = refusal(arguments);
            assert!(refusal.contains(flag) && refusal.contains(limit), "{refusal}");
        }
    }

    #[test]
    fn closed_and_open_loop_exclude_each_other_and_one_must_be_chosen() {
        assert!(refusal("--clients 1 --rate 5").contains("--rate"));
        assert!(refusal("--seconds 5").contains("--clients"));
        assert!(refusal("--find-rate").contains("--p99-ms-max"));
        assert!(refusal("--rate 5 --p99-ms-max 3").contains("--find-rate"));
    }
}
