//! How a pool is used.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use http::{Uri, uri::Scheme};

/// Most endpoints of one pool: each is watched over a connection of its own.
const ENDPOINTS_MAX: usize = 64;
/// Longest name of a pool, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Address of one endpoint: `http://host:port`, or `https://` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUrl(Uri);

impl PoolUrl {
    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }
}

impl FromStr for PoolUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const WRONG: &str = "is not an address such as `http://127.0.0.1:50051`";
        let uri: Uri = text.parse().map_err(|_| WRONG)?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return Err(WRONG) };
        if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
            return Err(WRONG);
        }
        if authority.as_str().contains('@') {
            return Err("has a user or a password in it");
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("has something behind the port");
        }
        if authority.port_u16().is_none() {
            return Err("names no port; `vitrine serve` listens on 50051 if it is not told otherwise");
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for PoolUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

/// 1 to 64 different endpoints, written with commas between them, or as a list of TOML or JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUrls(Vec<PoolUrl>);

impl PoolUrls {
    /// The endpoints, as they were listed.
    pub fn get(&self) -> &[PoolUrl] {
        &self.0
    }
}

impl FromStr for PoolUrls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let items: Vec<String> = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).map_err(|_| "is not a list of addresses".to_owned())?
        } else {
            text.split(',').map(|item| item.trim().to_owned()).collect()
        };
        let mut urls: Vec<PoolUrl> = Vec::new();
        for item in items {
            let url = item.parse().map_err(|problem| format!("`{item}` {problem}"))?;
            if urls.contains(&url) {
                return Err(format!("names `{url}` twice"));
            }
            urls.push(url);
        }
        match urls.len() {
            0 => Err("names no endpoint".to_owned()),
            1..=ENDPOINTS_MAX => Ok(Self(urls)),
            count => Err(format!("names {count} endpoints, more than the limit of {ENDPOINTS_MAX}")),
        }
    }
}

/// What a pool is called in errors: 1 to 64 letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolName(Arc<str>);

impl PoolName {
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Default for PoolName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for PoolName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(plain) {
            return Err("is not 1 to 64 letters, digits, `-`, `_` and `.`");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a pool is used.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// What it is called in errors.
    pub name: PoolName,
    /// Its endpoints. Where they run different models, the first that answers decides, and the others are left out.
    pub urls: PoolUrls,
    /// Longest wait for one answer, however much time the caller has.
    pub timeout: Duration,
    /// Most photos and texts waiting in each lane.
    pub queue_size_max: usize,
    /// For how long a job without a deadline tries again while the pool is busy or away.
    pub patience: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_with_commas_and_from_toml() {
        let urls: PoolUrls = "http://a:1, https://b:443/".parse().unwrap();
        let shown: Vec<_> = urls.get().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["http://a:1", "https://b:443"]);
        assert_eq!(urls.get().iter().map(PoolUrl::is_tls).collect::<Vec<_>>(), [false, true]);
        assert_eq!(r#"["http://a:1","https://b:443/"]"#.parse(), Ok(urls));
    }

    #[test]
    fn what_is_no_list_of_endpoints_is_refused_with_the_one_that_is_wrong() {
        for (text, problem) in [
            ("", "`` is not an address"),
            ("[]", "names no endpoint"),
            ("[1]", "is not a list"),
            ("http://a:1,", "`` is not an address"),
            ("http://a:1,http://a:1", "names `http://a:1` twice"),
            ("http://a", "`http://a` names no port"),
            ("http://a:1,ftp://b:1", "`ftp://b:1` is not an address"),
            ("http://u:p@a:1", "has a user"),
            ("http://a:1/path", "behind the port"),
        ] {
            let error = text.parse::<PoolUrls>().unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
        let many: Vec<_> = (1..=65).map(|port| format!("http://a:{port}")).collect();
        assert!(many.join(",").parse::<PoolUrls>().unwrap_err().contains("limit of 64"));
    }

    #[test]
    fn names_are_short_and_plain() {
        assert_eq!("gpu-1.eu_west".parse::<PoolName>().unwrap().to_string(), "gpu-1.eu_west");
        for name in ["", "a b", "`", &"a".repeat(65)] {
            assert!(name.parse::<PoolName>().is_err(), "{name}");
        }
    }
}
