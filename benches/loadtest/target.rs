//! Which server is loaded, and whether it may be.

use std::net::{SocketAddr, ToSocketAddrs as _};

use http::{Uri, uri::Authority};

/// A server that may be loaded.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As it was named, for the `:authority` of requests.
    pub(crate) authority: Authority,
    /// Where it is, never empty. Found once: what was checked is what is loaded.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Target {
    /// Looks up a server; refuses one that is not on this machine unless `anywhere`.
    ///
    /// # Errors
    /// What is wrong, naming the flag.
    pub(crate) fn find(server: &str, anywhere: bool) -> Result<Self, String> {
        let wrong = |problem: &str| format!("--server {server}: {problem}");
        let uri: Uri = server.parse().map_err(|error| wrong(&format!("is no address: {error}")))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("does not begin with http:// (TLS is not supported)"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(80);
        let addresses = (host, port).to_socket_addrs().map_err(|error| wrong(&format!("look up the host: {error}")))?;
        let addresses: Vec<_> = addresses.collect();
        if addresses.is_empty() {
            return Err(wrong("the host has no address"));
        }
        if !anywhere && !addresses.iter().all(|address| address.ip().to_canonical().is_loopback()) {
            return Err(wrong("is not on this machine; --i-may-load-this-host says that you may load it"));
        }
        Ok(Self { authority: authority.clone(), addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded_unasked() {
        for server in ["http://127.0.0.1:50051", "http://127.8.8.8:1", "http://[::1]:50051"] {
            assert!(Target::find(server, false).is_ok(), "{server}");
        }
        for server in ["http://192.0.2.1:50051", "http://[2001:db8::1]:1", "http://0.0.0.0:50051"] {
            assert!(Target::find(server, false).unwrap_err().contains("--i-may-load-this-host"), "{server}");
            assert!(Target::find(server, true).is_ok(), "{server}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for server in ["127.0.0.1:50051", "https://127.0.0.1:50051", "", "http://", "http://a b"] {
            assert!(Target::find(server, true).unwrap_err().starts_with("--server"), "{server}");
        }
    }
}
