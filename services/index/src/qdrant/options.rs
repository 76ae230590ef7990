//! How a Qdrant server is used.

use std::{fmt, str::FromStr, time::Duration};

use super::address::{RestUrl, ServerUrl};
use crate::quantisation::Quantisation;

/// The key that a Qdrant server asks for. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// For the header that it is sent in.
    pub(super) fn reveal(&self) -> String {
        self.0.clone()
    }
}

impl FromStr for ApiKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // The client would show in its error what cannot be a header.
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("is empty, or has a character that is not visible ASCII");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// How a Qdrant server is used.
#[derive(Debug, Clone)]
pub struct QdrantOptions {
    /// Where it is.
    pub url: ServerUrl,
    /// The REST service of its nodes, which generations are carried over by: of one node, which knows the others, or of
    /// each. Empty: at the address's host, on Qdrant's usual port.
    pub rest_urls: Vec<RestUrl>,
    /// The key that it asks for.
    pub api_key: Option<ApiKey>,
    /// Longest wait for the answer to one call, and for a connection.
    pub timeout: Duration,
    /// Connections that calls take turns on.
    pub connections: usize,
    /// Most searches at once; more are refused.
    pub queue_size_max: usize,
    /// Fewest candidates that the graph search keeps in hand; more find more of the true neighbours. `None` is by the
    /// number of products.
    pub search_width: Option<usize>,
    /// How many times more candidates than asked for are found by quantised vectors, before they are scored exactly;
    /// `None`: by the kind, see [`BuildOptions::quantisation`].
    pub oversampling: Option<f64>,
    /// How generations are built.
    pub build: BuildOptions,
}

impl QdrantOptions {
    /// For a server at this address, all else as by default.
    pub fn new(url: ServerUrl) -> Self {
        Self {
            url,
            rest_urls: Vec::new(),
            api_key: None,
            // 5 s: a hundred times what a query takes; a server that needs longer does not answer any more.
            timeout: Duration::from_secs(5),
            // 4: one HTTP/2 connection carries about a gigabit on one core of the server; more only help larger answers.
            connections: 4,
            queue_size_max: 256,
            search_width: None,
            oversampling: None,
            build: BuildOptions::default(),
        }
    }
}

/// How generations are built on a Qdrant server. The defaults are in [`BuildOptions::default`].
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Parts that a generation is split into; `None`: one for each node of the cluster.
    pub shards: Option<u32>,
    /// Copies of each part, on different nodes; as many as there are nodes at most.
    pub replicas: u32,
    /// Copies that must have taken a write before it counts.
    pub write_consistency: u32,
    /// Whether vectors stay on disk, and are in memory only as far as the page cache has them.
    pub on_disk: bool,
    /// How vectors are kept a second time, smaller, always in memory.
    pub quantisation: Quantisation,
    /// Edges of each point in the graph.
    pub hnsw_m: u32,
    /// Candidates kept in hand while the graph is built.
    pub hnsw_ef_construct: u32,
    /// Longest wait for the graph to be whole, once all products are there; and for a generation to be carried over.
    pub green_wait_max: Duration,
    /// How many generations stay after a new one was published, that one among them; at least 1.
    pub generations_kept: usize,
    /// How often a loader says that it lives. Another one that finds its unfinished generation waits for three of them
    /// and a half before it takes the silence for death. Each goes through a cluster's consensus, which brings back the
    /// copies of a node that was away only when it is idle: seconds, not less.
    pub beat: Duration,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self {
            shards: None,
            // 2: one node may go away and searches go on; a single node keeps one copy whatever this says.
            replicas: 2,
            // 1: nothing reads a generation that is being built, and it is not published before every copy is whole.
            write_consistency: 1,
            on_disk: false,
            quantisation: Quantisation::None,
            // Qdrant's own, which are Edge's, too, where vectors are not quantised.
            hnsw_m: 16,
            hnsw_ef_construct: 100,
            // 6 h: a graph of 100,000 products takes minutes on two cores; what takes a night would not be ready by day.
            green_wait_max: Duration::from_hours(6),
            generations_kept: 2,
            // 10 s: the next loader waits 35 s after a crash, and a cluster's consensus has six changes a minute more.
            beat: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown_and_one_that_no_header_can_hold_is_refused() {
        let key: ApiKey = "s3cret".parse().unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
        assert!(["", "a b", "a\n", "schlüssel"].iter().all(|text| text.parse::<ApiKey>().is_err()));
    }
}
