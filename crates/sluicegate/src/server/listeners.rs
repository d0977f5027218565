//! Every listening socket: bound before anything is served, so that a taken port is an error and not half a start.

use super::Server;
use super::gateway_service::GatewayService;
use super::pages::Pages;
use super::protocols::{self, Protocol, ProtocolSettings};
use crate::commands::{Failure, complain};
use broker::{Broker, ConnectionMeta};
use config::Listener as ListenerSettings;
use gateway::tls::CertificateTable;
use model::NameSource;
use net::http::{HttpService, ServerSettings, ServerTls, TlsFiles, serve_connection};
use net::{Accepted, Clock, Drain, DriverSettings, Listener, Peer, Place, Shards, drive};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Connections of one listener.
const CONNECTIONS_MAX: usize = 65_536;

/// What listens.
pub(super) struct Listeners {
    tasks: JoinSet<usize>,
    gateway: Arc<GatewayService>,
    shards: Arc<Shards>,
    /// Whose files are read again on SIGHUP.
    tls: Vec<Arc<ServerTls>>,
    bound: Vec<(&'static str, SocketAddr)>,
}

impl Listeners {
    /// Binds all, then serves all.
    pub(super) fn bind(server: &Server, drain: &Drain) -> Result<Self, Failure> {
        let listen = &server.settings.listen;
        let patience = server.settings.limits.drain_timeout;
        let mut binder = Binder { drain: drain.clone(), patience, starts: Vec::new(), tls: Vec::new() };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = Arc::new(Shards::start(cores).map_err(Failure::new)?);
        let gateway = GatewayService::new(Arc::clone(&server.gateway), &server.resolver, shards.count(), server.clock);
        let gateway = Arc::new(gateway);
        for listener in &listen.http {
            let name = if listener.tls.is_some() { "https" } else { "http" };
            let gateway = Arc::clone(&gateway);
            let place = Place::Spread(Arc::clone(&shards));
            let offer = Offer { alpn: &["h2", "http/1.1"], names: Some(Arc::clone(server.gateway.certificates())) };
            binder.http(name, listener, place, offer, move |peer| Arc::new(gateway.connection(peer)))?;
        }
        let settings = ProtocolSettings { message_bytes_max: server.settings.limits.message_size_max };
        for protocol in protocols::registry(&settings) {
            for listener in (protocol.listeners)(listen) {
                binder.protocol(&protocol, listener, &server.broker, server.clock)?;
            }
        }
        for listener in &listen.admin {
            let router = admin::admin(Arc::clone(&server.state), access(listener));
            let pages = Arc::new(Pages(router));
            binder.http("admin", listener, Place::Here, Offer::of(&["http/1.1"]), move |_| Arc::clone(&pages))?;
        }
        for listener in &listen.management {
            let router = admin::management(Arc::clone(&server.state), access(listener));
            let pages = Arc::new(Pages(router));
            binder.http("management", listener, Place::Here, Offer::of(&["http/1.1"]), move |_| Arc::clone(&pages))?;
        }
        Ok(binder.start(gateway, shards))
    }

    /// What listens where, for people.
    pub(super) fn describe(&self) -> String {
        let parts: Vec<String> = self.bound.iter().map(|(name, address)| format!("{name} {address}")).collect();
        parts.join(", ")
    }

    /// Waits until all have drained; returns how many connections had to be ended.
    pub(super) async fn join(mut self) -> usize {
        let mut ended = 0;
        while let Some(listener) = self.tasks.join_next().await {
            ended += listener.unwrap_or_default();
        }
        self.gateway.stop().await;
        if let Some(shards) = Arc::into_inner(self.shards)
            && tokio::task::spawn_blocking(|| shards.stop()).await.is_err()
        {
            tracing::error!("the HTTP threads could not be joined");
        }
        ended
    }

    /// Reads the certificate files of all listeners again; what cannot be used is told, and the old stays.
    pub(super) fn reload_certificates(&self) {
        for tls in &self.tls {
            if let Err(error) = tls.reload() {
                complain(&format!("{error}; the old certificate stays in force"));
            }
        }
    }

    /// Closes upstream connections that were idle too long.
    pub(super) fn sweep(&self) {
        self.gateway.sweep();
    }
}

fn access(listener: &ListenerSettings) -> admin::Access {
    match listener.access() {
        config::Access::Loopback => admin::Access::Loopback,
        config::Access::ClientCertificate => admin::Access::ClientCertificate,
        config::Access::Administrators => admin::Access::Administrators,
    }
}

/// What a listener with TLS offers.
struct Offer<'o> {
    /// Protocols, the best first.
    alpn: &'o [&'o str],
    /// The certificates of server names, beside the listener's own.
    names: Option<Arc<CertificateTable>>,
}

impl<'o> Offer<'o> {
    const fn of(alpn: &'o [&'o str]) -> Self {
        Self { alpn, names: None }
    }
}

type Start = Box<dyn FnOnce(&mut JoinSet<usize>) + Send>;

/// Binds sockets and keeps what to start when all are bound.
struct Binder {
    drain: Drain,
    patience: Duration,
    starts: Vec<(&'static str, SocketAddr, Start)>,
    tls: Vec<Arc<ServerTls>>,
}

impl Binder {
    fn http<S: HttpService>(
        &mut self,
        name: &'static str,
        settings: &ListenerSettings,
        place: Place,
        offer: Offer<'_>,
        service: impl Fn(&Peer) -> Arc<S> + Clone + Send + 'static,
    ) -> Result<(), Failure> {
        let drain = self.drain.clone();
        self.serve(name, settings, place, offer, move |io, peer| {
            let service = service(&peer);
            serve_connection(io, peer, service, ServerSettings::default(), drain.clone())
        })
    }

    fn protocol(
        &mut self,
        protocol: &Protocol,
        settings: &ListenerSettings,
        broker: &Arc<Broker>,
        clock: Clock,
    ) -> Result<(), Failure> {
        let (drain, broker, name) = (self.drain.clone(), Arc::clone(broker), protocol.name);
        let connect = Arc::clone(&protocol.connect);
        let driver = DriverSettings { drain_patience: self.patience };
        self.serve(name, settings, Place::Here, Offer::of(&[]), move |io: Accepted, peer: Peer| {
            let meta = ConnectionMeta {
                peer: format!("{} -> {}", peer.address, peer.local),
                loopback: is_loopback(&peer),
                protocol: name,
            };
            let connection = connect(NameSource::new(entropy()), clock.now());
            drive(io, connection, Arc::clone(&broker), meta, clock, drain.clone(), driver)
        })
    }

    fn serve<F, S>(
        &mut self,
        name: &'static str,
        settings: &ListenerSettings,
        place: Place,
        offer: Offer<'_>,
        serve: S,
    ) -> Result<(), Failure>
    where
        S: Fn(Accepted, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let tls = match &settings.tls {
            None => None,
            Some(files) => {
                let files =
                    TlsFiles { cert: files.cert.clone(), key: files.key.clone(), client_ca: files.client_ca.clone() };
                let tls = ServerTls::load(&files, offer.alpn, offer.names).map_err(Failure::new)?;
                self.tls.push(Arc::clone(&tls));
                Some(tls)
            }
        };
        let listener = Listener::bind(settings.address, tls).map_err(Failure::new)?;
        let listener = listener.with_proxy_protocol(settings.proxy_protocol);
        let address = listener.address().map_err(Failure::new)?;
        let (drain, patience) = (self.drain.clone(), self.patience);
        let start: Start = Box::new(move |tasks| {
            tasks.spawn(listener.run(CONNECTIONS_MAX, place, drain, patience, serve));
        });
        self.starts.push((name, address, start));
        Ok(())
    }

    fn start(self, gateway: Arc<GatewayService>, shards: Arc<Shards>) -> Listeners {
        let mut listeners = Listeners { tasks: JoinSet::new(), gateway, shards, tls: self.tls, bound: Vec::new() };
        for (name, address, start) in self.starts {
            start(&mut listeners.tasks);
            listeners.bound.push((name, address));
        }
        listeners
    }
}

/// Whether a client is on this machine. Where a PROXY header says so, the proxy that says it has to be too.
fn is_loopback(peer: &Peer) -> bool {
    let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
    is_loopback(peer.address) && peer.via.is_none_or(is_loopback)
}

/// A seed for a connection's names.
fn entropy() -> u64 {
    // Without entropy from the system names only have to differ from each other.
    getrandom::u64().unwrap_or_else(|_| {
        static FALLBACK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        FALLBACK.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    })
}
