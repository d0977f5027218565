//! Consul's catalogue: the healthy instances of a service, by blocking queries.
//!
//! `GET /v1/health/service/<name>?passing=1&index=<n>&wait=<s>s` is answered when the instances differ from those of
//! index `n`, or the wait is over. The answer's `X-Consul-Index` is the next `n`; one that went back means that the
//! server's state is another one, so the next query does not wait (Consul, "Blocking Queries").

use super::{Asked, Failure, Instance};
use gateway::entity::{ConsulCatalogue, Discovery};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");

/// Where the queries of one service stand.
#[derive(Debug)]
pub(super) struct Consul {
    settings: ConsulCatalogue,
    /// The state of the last answer; 0 before the first.
    index: u64,
}

impl Consul {
    pub(super) const fn new(settings: ConsulCatalogue) -> Self {
        Self { settings, index: 0 }
    }

    /// The next query.
    pub(super) fn ask(&self, discovery: &Discovery) -> Asked {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let mut target = format!("/v1/health/service/{}?passing=1", encoded(&discovery.service));
        if let Some(datacenter) = &self.settings.datacenter {
            let _ = write!(target, "&dc={}", encoded(datacenter));
        }
        for tag in &self.settings.tags {
            let _ = write!(target, "&tag={}", encoded(tag));
        }
        let mut patience = Duration::from_millis(discovery.timeout_ms.into());
        if self.index > 0 {
            let wait_s = (discovery.interval_ms / 1_000).max(1);
            let _ = write!(target, "&index={}&wait={wait_s}s", self.index);
            // Servers add up to a sixteenth, so that not all come back at once.
            let wait = Duration::from_secs(wait_s.into());
            patience += wait + wait / 16;
        }
        let mut headers = HeaderMap::new();
        if let Some(token) = &self.settings.token
            && let Ok(mut value) = HeaderValue::from_str(token.reveal())
        {
            value.set_sensitive(true);
            headers.insert(TOKEN, value);
        }
        Asked { target, headers, patience }
    }

    /// Takes a good answer in. A failure begins anew: the next query does not wait.
    pub(super) fn take(&mut self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Instance>, Failure> {
        let before = std::mem::take(&mut self.index);
        let entries: Vec<Value> = serde_json::from_slice(body).map_err(|error| Failure::Garbage(error.to_string()))?;
        let instances: Option<Vec<Instance>> = entries.iter().map(read).collect();
        let instances = instances.ok_or_else(|| Failure::Garbage("an entry is not an instance".to_owned()))?;
        let index = headers.get(INDEX).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let index = index.ok_or_else(|| Failure::Garbage("there is no X-Consul-Index".to_owned()))?;
        // An index of 0 would never wait.
        self.index = if index < before { 0 } else { index.max(1) };
        Ok(instances)
    }

    /// The next query does not wait.
    pub(super) fn begin_anew(&mut self) {
        self.index = 0;
    }

    /// Whether the next query waits for a change, so that it may follow at once.
    pub(super) const fn waits(&self) -> bool {
        self.index > 0
    }
}

/// An entry: a service on a node. Without an address of its own the service is at the node's.
fn read(entry: &Value) -> Option<Instance> {
    let (node, service) = (entry.get("Node")?, entry.get("Service")?);
    let own = service.get("Address").and_then(Value::as_str).filter(|address| !address.is_empty());
    let host = own.or_else(|| node.get("Address")?.as_str())?;
    let port = u16::try_from(service.get("Port")?.as_u64()?).ok()?;
    let weight = service.get("Weights").and_then(|weights| weights.get("Passing")?.as_u64()).unwrap_or(1);
    Some(Instance { host: host.to_owned(), port, weight: u16::try_from(weight).unwrap_or(u16::MAX).max(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consul() -> Consul {
        Consul::new(ConsulCatalogue::default())
    }

    fn settings() -> ConsulCatalogue {
        ConsulCatalogue {
            datacenter: Some("dc 1".to_owned()),
            tags: vec!["v2".to_owned(), "eu&west".to_owned()],
            token: Some(model::Secret::new("s3cret".to_owned())),
        }
    }

    fn index(value: &'static str) -> HeaderMap {
        [(INDEX, HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn the_first_query_does_not_wait_and_the_next_ones_do() {
        let discovery = Discovery::consul("http://127.0.0.1:8500", "orders/v1").unwrap();
        let mut consul = Consul::new(settings());
        let asked = consul.ask(&discovery);
        assert_eq!(asked.target, "/v1/health/service/orders%2Fv1?passing=1&dc=dc%201&tag=v2&tag=eu%26west");
        assert_eq!(asked.headers[TOKEN], "s3cret");
        assert!(asked.headers[TOKEN].is_sensitive());
        consul.take(&index("41"), b"[]").unwrap();
        let again = consul.ask(&discovery);
        assert!(again.target.ends_with("&index=41&wait=30s"), "{}", again.target);
        assert!(again.patience > asked.patience + Duration::from_secs(30));
    }

    #[test]
    fn an_index_that_goes_back_begins_anew() {
        let mut consul = consul();
        consul.take(&index("41"), b"[]").unwrap();
        consul.take(&index("7"), b"[]").unwrap();
        assert!(!consul.waits());
        consul.take(&index("0"), b"[]").unwrap();
        assert_eq!(consul.index, 1);
    }

    #[test]
    fn instances_are_read_from_what_an_agent_says() {
        let body = br#"[
            {"Node": {"ID": "x", "Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"},
             "Service": {"ID": "a", "Service": "orders", "Tags": [], "Address": "", "Port": 8001,
                         "Weights": {"Passing": 10, "Warning": 1}, "EnableTagOverride": false},
             "Checks": [{"Status": "passing"}]},
            {"Node": {"Address": "10.0.0.2"}, "Service": {"Address": "b.example", "Port": 8002}, "Checks": []}
        ]"#;
        let instances = consul().take(&index("1"), body).unwrap();
        let instance = |host: &str, port, weight| Instance { host: host.to_owned(), port, weight };
        assert_eq!(instances, [instance("10.0.0.1", 8001, 10), instance("b.example", 8002, 1)]);
    }

    #[test]
    fn garbage_is_refused_and_the_next_query_does_not_wait() {
        let mut consul = consul();
        consul.take(&index("41"), b"[]").unwrap();
        for (headers, body) in [
            (index("42"), &b"{}"[..]),
            (index("42"), b"[{}]"),
            (index("42"), b"[{\"Node\":{\"Address\":\"a\"},\"Service\":{\"Port\":70000}}]"),
            (index("42"), b"<html>"),
            (HeaderMap::new(), b"[]"),
        ] {
            assert!(matches!(consul.take(&headers, body), Err(Failure::Garbage(_))));
            assert!(!consul.waits());
        }
    }
}
