//! Catalogues as sources of an upstream's targets (ours; Kong has none).

use super::{Scheme, Secret};
use http::Uri;

/// Where the targets of an upstream are listed.
#[derive(Clone, PartialEq, Debug)]
pub struct Discovery {
    /// Which catalogue, with what only it has.
    pub catalogue: Catalogue,
    /// Where it answers.
    pub address: CatalogueAddress,
    /// What the service is called there.
    pub service: String,
    /// Consul: how long a query waits for a change; Eureka: time between two polls. Default 30 s, 1 s to 10 min.
    pub interval_ms: u32,
    /// Time for an answer, beside what a query waits. Default 10 s, at least 1 ms.
    pub timeout_ms: u32,
}

/// The kinds of catalogue.
#[derive(Clone, PartialEq, Debug)]
pub enum Catalogue {
    /// HashiCorp's Consul: instances whose checks pass.
    Consul(ConsulCatalogue),
    /// Netflix' Eureka: instances that are up.
    Eureka,
}

/// What a query to Consul says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ConsulCatalogue {
    /// The datacenter; the agent's own if none.
    pub datacenter: Option<String>,
    /// Tags an instance must have, all of them.
    pub tags: Vec<String>,
    /// The token of the request.
    pub token: Option<Secret>,
}

/// The base URL of a catalogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CatalogueAddress {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What stands before every path: empty, or begins with `/` and does not end with it.
    pub path: String,
}

impl Discovery {
    /// A service in Consul; `None`: `address` is not a URL of a catalogue.
    #[must_use]
    pub fn consul(address: &str, service: &str) -> Option<Self> {
        Self::new(Catalogue::Consul(ConsulCatalogue::default()), address, service)
    }

    /// A service in Eureka; `address` is with its path, such as `http://eureka:8761/eureka`.
    #[must_use]
    pub fn eureka(address: &str, service: &str) -> Option<Self> {
        Self::new(Catalogue::Eureka, address, service)
    }

    /// The kind, as the configuration writes it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.catalogue {
            Catalogue::Consul(_) => "consul",
            Catalogue::Eureka => "eureka",
        }
    }

    fn new(catalogue: Catalogue, address: &str, service: &str) -> Option<Self> {
        let address = CatalogueAddress::parse(address)?;
        Some(Self { catalogue, address, service: service.to_owned(), interval_ms: 30_000, timeout_ms: 10_000 })
    }
}

impl CatalogueAddress {
    /// Reads `http://host:port/path` or `https://…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (scheme, port) = match uri.scheme_str()? {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path().trim_end_matches('/').to_owned();
        (!host.is_empty()).then(|| Self { scheme, host, port: authority.port_u16().unwrap_or(port), path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_catalogue_is_a_url() {
        let read = |text| CatalogueAddress::parse(text).map(|a| (a.scheme, a.host, a.port, a.path));
        let of = |scheme, host: &str, port, path: &str| Some((scheme, host.to_owned(), port, path.to_owned()));
        assert_eq!(read("http://127.0.0.1:8500"), of(Scheme::Http, "127.0.0.1", 8500, ""));
        assert_eq!(read("https://eureka.local/eureka/"), of(Scheme::Https, "eureka.local", 443, "/eureka"));
        assert_eq!(read("http://[::1]:8500/"), of(Scheme::Http, "::1", 8500, ""));
        for bad in ["", "127.0.0.1:8500", "ftp://a", "http://u:p@a", "http://a/?x=1", "/v1", "http://"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
