//! Addresses of upstream names, by the system's resolver, remembered for a moment.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is used; the system's resolver does not tell its TTL.
const TTL: Duration = Duration::from_secs(5);
/// Names remembered; beyond it all are forgotten, which only costs asking again.
const NAMES_MAX: usize = 1_024;

/// Remembers answers.
#[derive(Debug, Default)]
pub(super) struct Names {
    answers: Mutex<HashMap<Arc<str>, Answer>>,
}

#[derive(Clone, Debug)]
struct Answer {
    until: Instant,
    addresses: Arc<[IpAddr]>,
}

impl Names {
    /// The addresses of `host`, at least one.
    pub(super) async fn resolve(&self, host: &Arc<str>, port: u16) -> io::Result<Vec<SocketAddr>> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let known = self.answers.lock().get(host).filter(|answer| answer.until > Instant::now()).cloned();
        let addresses = match known {
            Some(answer) => answer.addresses,
            None => self.ask(host).await?,
        };
        Ok(addresses.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }

    async fn ask(&self, host: &Arc<str>) -> io::Result<Arc<[IpAddr]>> {
        let found = tokio::net::lookup_host((&**host, 0)).await?;
        let addresses: Arc<[IpAddr]> = found.map(|address| address.ip()).collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let mut answers = self.answers.lock();
        if answers.len() >= NAMES_MAX {
            answers.clear();
        }
        answers.insert(Arc::clone(host), Answer { until: Instant::now() + TTL, addresses: Arc::clone(&addresses) });
        Ok(addresses)
    }
}
