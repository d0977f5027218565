//! Names to addresses: a stub resolver that remembers answers for their TTL and uses old ones while servers fail.
//!
//! | file | holds |
//! |---|---|
//! | `settings` | what we, `/etc/resolv.conf` and `/etc/hosts` say |
//! | `cache`    | what is known of names and what is asked for, without clock and sockets |
//! | `lookup`   | search list, order of kinds, canonical names, services |
//! | `client`   | one question to the servers, UDP and TCP |
//! | `message`, `name` | the wire |
//!
//! Semantics are those of Kong's DNS client; where a name has several kinds of records, the first kind of
//! [`ResolverSettings::order`] that has any counts. A lookup runs in a task of its own that the [`Resolver`] owns: who asked
//! may leave, and an answer that nears its end is asked for again while it is used.
//!
//! Ours and not a library's: a resolver that keeps old answers, tells TTL, ports and weights, and asks once a name has to
//! be built on top of any of them, and the part below that (one question, one answer) is what is in `client` and `message`.

mod cache;
mod client;
mod error;
mod lookup;
mod message;
mod name;
mod settings;

pub use cache::{Answer, Endpoint};
pub use error::ResolveError;
pub use settings::{RecordKind, ResolverSettings};

use crate::shutdown::Tasks;
use arc_swap::ArcSwap;
use cache::{Ask, Cache, Found, Ttls, Waiting};
use client::Client;
use model::limits::{DNS_LOOKUP_MS_MAX, DNS_LOOKUPS_MAX};
use parking_lot::Mutex;
use settings::Config;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Resolves names. One for the whole process, so that each name is asked for once.
#[derive(Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
    /// Where lookups run, whoever asks.
    runtime: Handle,
    /// The lookups under way; `None` after the end.
    tasks: Mutex<Option<Tasks>>,
}

#[derive(Debug)]
struct Shared {
    config: ArcSwap<Config>,
    client: Client,
    cache: Mutex<Cache>,
    /// Lookups that may be under way.
    lookups: Semaphore,
}

impl Resolver {
    /// A resolver that knows nothing yet; its lookups run on the runtime this is called on. Reads the system's files.
    #[must_use]
    pub fn new(settings: &ResolverSettings) -> Arc<Self> {
        let shared = Shared {
            config: ArcSwap::from_pointee(Config::read(settings)),
            client: Client::default(),
            cache: Mutex::default(),
            lookups: Semaphore::new(DNS_LOOKUPS_MAX),
        };
        let tasks = Mutex::new(Some(Tasks::new()));
        Arc::new(Self { shared: Arc::new(shared), runtime: Handle::current(), tasks })
    }

    /// Takes over other settings and what the system's files say now. If that changes anything, all is asked for anew.
    pub fn reload(&self, settings: &ResolverSettings) {
        let config = Config::read(settings);
        if config != **self.shared.config.load() {
            self.shared.config.store(Arc::new(config));
            *self.shared.cache.lock() = Cache::default();
        }
    }

    /// The addresses of `host`, a name or an address, with or without brackets: at least one, each time another one
    /// first. A port that a service record says goes before `port`.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Some(ip) = literal(host) {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let answer = self.answer(host).await?;
        let turn = self.shared.cache.lock().turn(host);
        Ok(in_turn(&answer.endpoints, turn, port))
    }

    /// What `host` stands for, for those who share requests out themselves.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn answer(&self, host: &str) -> Result<Answer, ResolveError> {
        if let Some(ip) = literal(host) {
            let endpoints = [Endpoint::plain(ip)].into();
            return Ok(Answer { endpoints, until: Instant::now() + Duration::from_secs(u32::MAX.into()) });
        }
        // A reload may make the lookup void that is waited for; the second one is under the new settings.
        for _ in 0..2 {
            if let Some(outcome) = self.known_or_asked(host).await {
                return outcome;
            }
        }
        Err(ResolveError::Stopped)
    }

    async fn known_or_asked(&self, host: &str) -> Option<Result<Answer, ResolveError>> {
        let ttls = self.shared.config.load().ttls();
        let (found, ask) = self.shared.cache.lock().look(host, ttls, Instant::now());
        if let Some(ask) = ask {
            self.begin(host, ask);
        }
        match found {
            Found::Answer(answer) => return Some(Ok(answer)),
            Found::Failed(error) => return Some(Err(error)),
            Found::Stale(answer, waiting, until) => {
                if !wait(waiting, until).await {
                    return Some(Ok(answer));
                }
            }
            Found::Unknown(waiting) => {
                // The lookup ends itself; this is for one that waits for its turn.
                let until = Instant::now() + 2 * Duration::from_millis(DNS_LOOKUP_MS_MAX);
                if !wait(waiting, until).await {
                    return Some(Err(ResolveError::Timeout));
                }
            }
        }
        self.shared.cache.lock().outcome(host, ttls, Instant::now())
    }

    /// Names that are remembered.
    #[must_use]
    pub fn names_len(&self) -> usize {
        self.shared.cache.lock().len()
    }

    /// Ends the lookups under way; there are no more from now on.
    pub async fn stop(&self) {
        let tasks = self.tasks.lock().take();
        if let Some(tasks) = tasks {
            tasks.join(Duration::ZERO).await;
        }
    }

    fn begin(&self, host: &str, ask: Ask) {
        let (shared, host) = (Arc::clone(&self.shared), Arc::<str>::from(host));
        if let Some(tasks) = &mut *self.tasks.lock() {
            tasks.spawn_on(async move { shared.run(&host, ask).await }, &self.runtime);
        }
    }
}

impl Shared {
    /// A lookup from its turn to what it brought.
    async fn run(&self, host: &str, Ask { last, done }: Ask) {
        let Ok(_turn) = self.lookups.acquire().await else { return };
        let config = self.config.load_full();
        let patience = Duration::from_millis(DNS_LOOKUP_MS_MAX);
        let looked_up = tokio::time::timeout(patience, lookup::look_up(&self.client, &config, host, last)).await;
        let result = looked_up.unwrap_or(Err(ResolveError::Timeout));
        if let Err(error) = &result {
            tracing::debug!(host, %error, "a name was not resolved");
        }
        if Arc::ptr_eq(&config, &self.config.load()) {
            self.cache.lock().settle(host, result, config.ttls(), Instant::now());
        }
        drop(done);
    }
}

impl Config {
    const fn ttls(&self) -> Ttls {
        Ttls { stale: self.stale_ttl, not_found: self.not_found_ttl, error: self.error_ttl }
    }
}

/// Whether the lookup ended before `until`.
async fn wait(mut waiting: Waiting, until: Instant) -> bool {
    // Nobody ever sends; the other end is dropped.
    tokio::time::timeout_at(until, waiting.changed()).await.is_ok()
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// All endpoints, beginning with the one whose turn it is; those of services by their weights.
fn in_turn(endpoints: &[Endpoint], turn: usize, port: u16) -> Vec<SocketAddr> {
    let weight = |endpoint: &Endpoint| usize::from(endpoint.weight.unwrap_or(1));
    let total: usize = endpoints.iter().map(weight).sum();
    let mut left = turn % total.max(1);
    let first = endpoints.iter().position(|endpoint| match left.checked_sub(weight(endpoint)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    let (behind, front) = endpoints.split_at(first.unwrap_or(0));
    let address = |endpoint: &Endpoint| SocketAddr::new(endpoint.ip, endpoint.port.unwrap_or(port));
    front.iter().chain(behind).map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_by_their_weights() {
        let endpoint =
            |last: u8, weight| Endpoint { port: Some(last.into()), weight, ..Endpoint::plain([10, 0, 0, last].into()) };
        let plain = [endpoint(1, None), endpoint(2, None), endpoint(3, None)];
        let firsts = |endpoints: &[Endpoint], turns: usize| -> Vec<u16> {
            (0..turns).map(|turn| in_turn(endpoints, turn, 80)[0].port()).collect()
        };
        assert_eq!(firsts(&plain, 4), [1, 2, 3, 1]);
        assert_eq!(in_turn(&plain, 1, 80).len(), 3);
        assert_eq!(firsts(&[endpoint(1, Some(3)), endpoint(2, Some(1))], 8), [1, 1, 1, 2, 1, 1, 1, 2]);
    }

    #[test]
    fn an_address_is_its_own_name() {
        assert_eq!(literal("127.0.0.1"), Some([127, 0, 0, 1].into()));
        assert_eq!(literal("[::1]"), Some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)));
        assert_eq!(literal("::1"), literal("[::1]"));
        assert_eq!(literal("localhost"), None);
    }
}
