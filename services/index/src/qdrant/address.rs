//! Where a Qdrant server and its nodes are.

use std::{fmt, net::IpAddr, str::FromStr};

use http::{
    Uri,
    uri::{Authority, Scheme},
};

const GRPC_PORT: u16 = 6334;
const REST_PORT: u16 = 6333;

/// Address of a Qdrant server or of a cluster's entrance, for gRPC: `http://host:port`, or `https://` for TLS; port 6334
/// where none is named.
pub type ServerUrl = Address<GRPC_PORT>;

/// Address of the REST service of a node: the same, with port 6333.
pub type RestUrl = Address<REST_PORT>;

/// Address of a service that is on this port where none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address<const DEFAULT_PORT: u16>(Uri);

impl<const DEFAULT_PORT: u16> Address<DEFAULT_PORT> {
    pub(super) fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    /// Whether what is sent to it may be read on the way: without TLS, and not to this machine.
    pub(super) fn is_in_the_open(&self) -> bool {
        let host = self.0.host().unwrap_or_default().trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        !self.is_tls() && !loopback
    }
}

impl RestUrl {
    /// Where a server's is, unless somebody has moved it.
    pub(super) fn beside(server: &ServerUrl) -> Option<Self> {
        Self::new(&server.0, server.0.host()?, REST_PORT)
    }

    /// Where that of another node is, whose address within the cluster is known: on the same port as this one.
    pub(super) fn of_peer(&self, peer: &str) -> Option<Self> {
        let peer: Uri = peer.parse().ok()?;
        Self::new(&self.0, peer.host()?, self.0.port_u16()?)
    }

    /// Another host and port, by the same scheme.
    fn new(like: &Uri, host: &str, port: u16) -> Option<Self> {
        let authority = Authority::try_from(format!("{host}:{port}")).ok()?;
        Uri::builder().scheme(like.scheme()?.clone()).authority(authority).path_and_query("/").build().ok().map(Self)
    }
}

impl<const DEFAULT_PORT: u16> FromStr for Address<DEFAULT_PORT> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = match DEFAULT_PORT {
            REST_PORT => "is not an address such as `http://127.0.0.1:6333`",
            _ => "is not an address such as `http://127.0.0.1:6334`",
        };
        let uri: Uri = text.parse().map_err(|_| wrong)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return Err(wrong) };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(wrong);
        }
        if authority.as_str().contains('@') {
            return Err("has a user or a password in it; the key goes into `VITRINE_INDEX_API_KEY`");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("has something behind the port");
        }
        let port = authority.port_u16().unwrap_or(DEFAULT_PORT);
        format!("{scheme}://{}:{port}", authority.host()).parse().map(Self).map_err(|_| wrong)
    }
}

impl<const DEFAULT_PORT: u16> fmt::Display for Address<DEFAULT_PORT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_means_the_grpc_port() {
        for (text, url) in [
            ("http://127.0.0.1:6334", "http://127.0.0.1:6334"),
            ("https://qdrant.shop.example/", "https://qdrant.shop.example:6334"),
            ("http://[::1]:7000", "http://[::1]:7000"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), url);
        }
    }

    #[test]
    fn what_is_no_address_of_a_server_is_refused() {
        for text in
            ["", "127.0.0.1:6334", "qdrant", "ftp://a:1", "http://u:secret@a:1", "http://a:1/path", "http://a:1?b"]
        {
            assert!(text.parse::<ServerUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_rest_service_is_at_the_host_of_the_server_and_of_each_node() {
        let server = |text: &str| RestUrl::beside(&text.parse().unwrap()).unwrap();
        assert_eq!(server("http://qdrant:7334").to_string(), "http://qdrant:6333");
        assert_eq!(server("https://[::1]").to_string(), "https://[::1]:6333");
        let node: RestUrl = "https://qdrant-0.shop:7333/".parse().unwrap();
        assert_eq!(node.of_peer("http://qdrant-1.shop:6335/").unwrap().to_string(), "https://qdrant-1.shop:7333");
        assert_eq!("http://qdrant".parse::<RestUrl>().unwrap().to_string(), "http://qdrant:6333");
        assert!(node.of_peer("").is_none() && "qdrant:6333".parse::<RestUrl>().is_err());
    }

    #[test]
    fn a_key_is_only_safe_from_listeners_with_tls_or_on_this_machine() {
        let open = |text: &str| text.parse::<ServerUrl>().unwrap().is_in_the_open();
        assert!(open("http://qdrant:6334") && open("http://10.0.0.1"));
        assert!(
            !open("https://qdrant") && !open("http://127.0.0.1") && !open("http://[::1]") && !open("http://localhost")
        );
    }
}
