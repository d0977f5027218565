//! Every listening socket: bound before anything is served on it, so that a taken port is an error and not half a start.
//!
//! Those of HTTP, with those of connections, and those that need the data directory are served and joined apart: when another process takes over, they
//! begin and end at different times. A socket that was handed over is listened on and not bound anew.

use super::Server;
use super::front::Front;
use super::gateway_service::GatewayService;
use super::pages::Pages;
use super::protocols::{self, Protocol, ProtocolSettings};
use super::stream_service::{StreamService, StreamTls};
use super::upgrade::{Inheritance, Socket, UDP};
use crate::commands::{Failure, complain};
use broker::{Broker, ConnectionMeta};
use config::{Listener as ListenerSettings, StreamTransport};
use gateway::tls::CertificateTable;
use model::NameSource;
use net::http::{HttpService, ServerSettings, ServerTls, TlsFiles, serve_connection};
use net::stream::{DatagramListener, DatagramRoom};
use net::{Accepted, Clock, Drain, DriverSettings, Listener, Peer, Place, Shards, drive};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Connections of one listener.
const CONNECTIONS_MAX: usize = 65_536;

/// What listens.
pub(super) struct Listeners {
    http: Vec<Bound>,
    streams: Vec<(StreamTls, Listener)>,
    datagrams: Vec<DatagramListener>,
    stored: Vec<(Stored, Bound)>,
    /// Those that are served.
    http_tasks: JoinSet<usize>,
    stored_tasks: JoinSet<usize>,
    gateway: Arc<GatewayService>,
    connections: Arc<StreamService>,
    datagram_room: DatagramRoom,
    shards: Arc<Shards>,
    /// Whose files are read again on SIGHUP.
    tls: Vec<Arc<ServerTls>>,
    places: Vec<BoundPlace>,
    patience: Duration,
}

/// What needs the data directory.
enum Stored {
    Protocol(Protocol),
    Admin,
    Management,
}

/// A socket that nothing is served on yet.
struct Bound {
    settings: ListenerSettings,
    listener: Listener,
}

/// Where something listens.
struct BoundPlace {
    name: &'static str,
    configured: SocketAddr,
    bound: SocketAddr,
    /// The socket once more, for another process.
    socket: OwnedFd,
}

impl Listeners {
    /// Binds all that is not handed over, and closes what is handed over and not wanted.
    pub(super) fn bind(front: &Front, mut inheritance: Inheritance) -> Result<Self, Failure> {
        let listen = &front.settings.listen;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = Arc::new(Shards::start(cores).map_err(Failure::new)?);
        let gateway = GatewayService::new(Arc::clone(&front.gateway), &front.resolver, shards.count(), front.clock);
        let connections = StreamService {
            gateway: Arc::clone(&front.gateway),
            resolver: Arc::clone(&front.resolver),
            pool: Arc::clone(&front.pool),
            clock: front.clock,
        };
        let mut listeners = Self {
            http: Vec::new(),
            streams: Vec::new(),
            datagrams: Vec::new(),
            stored: Vec::new(),
            http_tasks: JoinSet::new(),
            stored_tasks: JoinSet::new(),
            gateway: Arc::new(gateway),
            connections: Arc::new(connections),
            datagram_room: DatagramRoom::new(files_max(), Arc::clone(front.gateway.stats().datagram_drops())),
            shards,
            tls: Vec::new(),
            places: Vec::new(),
            patience: front.settings.limits.drain_timeout,
        };
        for settings in &listen.http {
            let name = if settings.tls.is_some() { "https" } else { "http" };
            let names = Some(Arc::clone(front.gateway.certificates()));
            let offer = Offer { alpn: &["h2", "http/1.1"], names };
            let bound = listeners.open(name, settings, offer, &mut inheritance)?;
            listeners.http.push(bound);
        }
        for settings in &listen.stream {
            let (name, tls, proxy_protocol) = match &settings.carries {
                StreamTransport::Tcp { proxy_protocol } => ("tcp", StreamTls::None, *proxy_protocol),
                StreamTransport::Tls { files, proxy_protocol } => {
                    let offer = || Offer { alpn: &[], names: Some(Arc::clone(front.gateway.certificates())) };
                    let own = files.as_ref().map(|files| listeners.load_tls(files, offer())).transpose()?;
                    ("tls", own.map_or(StreamTls::PassingThrough, StreamTls::Ending), *proxy_protocol)
                }
                StreamTransport::Udp => {
                    listeners.listen_to_datagrams(settings.address, &mut inheritance)?;
                    continue;
                }
            };
            let listener = listeners.listen(name, settings.address, None, proxy_protocol, &mut inheritance)?;
            listeners.streams.push((tls, listener));
        }
        let protocols = ProtocolSettings { message_bytes_max: front.settings.limits.message_size_max };
        for protocol in protocols::registry(&protocols) {
            for settings in (protocol.listeners)(listen) {
                let bound = listeners.open(protocol.name, settings, Offer::of(&[]), &mut inheritance)?;
                listeners.stored.push((Stored::Protocol(protocol.clone()), bound));
            }
        }
        for settings in &listen.admin {
            let bound = listeners.open("admin", settings, Offer::of(&["http/1.1"]), &mut inheritance)?;
            listeners.stored.push((Stored::Admin, bound));
        }
        for settings in &listen.management {
            let bound = listeners.open("management", settings, Offer::of(&["http/1.1"]), &mut inheritance)?;
            listeners.stored.push((Stored::Management, bound));
        }
        Ok(listeners)
    }

    fn open(
        &mut self,
        name: &'static str,
        settings: &ListenerSettings,
        offer: Offer<'_>,
        inheritance: &mut Inheritance,
    ) -> Result<Bound, Failure> {
        let tls = settings.tls.as_ref().map(|files| self.load_tls(files, offer)).transpose()?;
        let listener = self.listen(name, settings.address, tls, settings.proxy_protocol, inheritance)?;
        Ok(Bound { settings: settings.clone(), listener })
    }

    fn load_tls(&mut self, files: &config::TlsFiles, offer: Offer<'_>) -> Result<Arc<ServerTls>, Failure> {
        let files = TlsFiles { cert: files.cert.clone(), key: files.key.clone(), client_ca: files.client_ca.clone() };
        let tls = ServerTls::load(&files, offer.alpn, offer.names).map_err(Failure::new)?;
        self.tls.push(Arc::clone(&tls));
        Ok(tls)
    }

    fn listen(
        &mut self,
        name: &'static str,
        address: SocketAddr,
        tls: Option<Arc<ServerTls>>,
        proxy_protocol: bool,
        inheritance: &mut Inheritance,
    ) -> Result<Listener, Failure> {
        let listener = match inheritance.take_socket(name, address) {
            Some(socket) => Listener::adopt(socket, tls).map_err(Failure::new)?,
            None => Listener::bind(address, tls).map_err(Failure::new)?,
        };
        let listener = listener.with_proxy_protocol(proxy_protocol);
        self.places.push(BoundPlace {
            name,
            configured: address,
            bound: listener.address().map_err(Failure::new)?,
            socket: listener.socket().map_err(Failure::new)?,
        });
        Ok(listener)
    }

    fn listen_to_datagrams(&mut self, address: SocketAddr, inheritance: &mut Inheritance) -> Result<(), Failure> {
        let listener = match inheritance.take_socket(UDP, address) {
            Some(socket) => DatagramListener::adopt(socket).map_err(Failure::new)?,
            None => DatagramListener::bind(address).map_err(Failure::new)?,
        };
        self.places.push(BoundPlace {
            name: UDP,
            configured: address,
            bound: listener.address().map_err(Failure::new)?,
            socket: listener.socket().map_err(Failure::new)?,
        });
        self.datagrams.push(listener);
        Ok(())
    }

    /// Serves HTTP, connections and datagrams, by the gateway.
    pub(super) fn serve_http(&mut self, drain: &Drain) {
        for Bound { listener, .. } in std::mem::take(&mut self.http) {
            let gateway = Arc::clone(&self.gateway);
            let way = self.way(Place::Spread(Arc::clone(&self.shards)), drain);
            way.serve(&mut self.http_tasks, listener, move |peer| Arc::new(gateway.connection(peer)));
        }
        for (tls, listener) in std::mem::take(&mut self.streams) {
            let way = self.way(Place::Spread(Arc::clone(&self.shards)), drain);
            way.carry(&mut self.http_tasks, listener, &self.connections, tls);
        }
        for listener in std::mem::take(&mut self.datagrams) {
            let (service, seen) = (Arc::clone(&self.connections), drain.clone());
            let serve = move |session| {
                let (drain, service) = (seen.clone(), Arc::clone(&service));
                async move { service.serve_datagrams(session, drain).await }
            };
            let run = listener.run(self.datagram_room.clone(), drain.clone(), self.patience, serve);
            self.http_tasks.spawn_on(run, self.shards.runtime());
        }
    }

    /// Serves what needs the data directory.
    pub(super) fn serve_stored(&mut self, server: &Server, drain: &Drain) {
        for (what, Bound { settings, listener }) in std::mem::take(&mut self.stored) {
            let way = self.way(Place::Here, drain);
            let pages = match what {
                Stored::Protocol(protocol) => {
                    way.drive(&mut self.stored_tasks, listener, &protocol, &server.broker, server.front.clock);
                    continue;
                }
                Stored::Admin => admin::admin(Arc::clone(&server.state), access(&settings)),
                Stored::Management => admin::management(Arc::clone(&server.state), access(&settings)),
            };
            let pages = Arc::new(Pages(pages));
            way.serve(&mut self.stored_tasks, listener, move |_| Arc::clone(&pages));
        }
    }

    fn way(&self, place: Place, drain: &Drain) -> Way {
        Way { place, drain: drain.clone(), patience: self.patience }
    }

    /// What listens where, for people.
    pub(super) fn describe(&self) -> String {
        let parts: Vec<String> = self.places.iter().map(|place| format!("{} {}", place.name, place.bound)).collect();
        parts.join(", ")
    }

    /// All sockets, for another process to listen on.
    pub(super) fn sockets(&self) -> io::Result<Vec<Socket>> {
        let socket = |place: &BoundPlace| {
            let socket = place.socket.try_clone()?;
            Ok(Socket { name: place.name.to_owned(), address: place.configured, socket })
        };
        self.places.iter().map(socket).collect()
    }

    /// Gives up what another process could be handed: who connects when nothing is served any more is refused.
    pub(super) fn forget_sockets(&mut self) {
        self.places.clear();
    }

    /// Waits until all connections of HTTP have ended; returns how many had to be ended. May be given up and begun again.
    pub(super) async fn join_http(&mut self) -> usize {
        join(&mut self.http_tasks).await
    }

    /// The same for all others.
    pub(super) async fn join_stored(&mut self) -> usize {
        join(&mut self.stored_tasks).await
    }

    /// Ends the threads of HTTP.
    pub(super) async fn stop(self) {
        let Self { shards, gateway, .. } = self;
        gateway.stop().await;
        drop(gateway);
        if let Some(shards) = Arc::into_inner(shards)
            && tokio::task::spawn_blocking(|| shards.stop()).await.is_err()
        {
            tracing::error!("the HTTP threads could not be joined");
        }
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

/// How many files, sockets among them, the process may have open.
fn files_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

async fn join(tasks: &mut JoinSet<usize>) -> usize {
    let mut ended = 0;
    while let Some(listener) = tasks.join_next().await {
        ended += listener.unwrap_or_default();
    }
    ended
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

/// How the connections of a listener run, and end.
struct Way {
    place: Place,
    drain: Drain,
    patience: Duration,
}

impl Way {
    /// Serves HTTP by a service that is made for each connection.
    fn serve<S: HttpService>(
        self,
        tasks: &mut JoinSet<usize>,
        listener: Listener,
        service: impl Fn(&Peer) -> Arc<S> + Clone + Send + 'static,
    ) {
        let Self { place, drain, patience } = self;
        let seen = drain.clone();
        let serve = move |io, peer| {
            let service = service(&peer);
            serve_connection(io, peer, service, ServerSettings::default(), seen.clone())
        };
        tasks.spawn(listener.run(CONNECTIONS_MAX, place, drain, patience, serve));
    }

    /// Serves connections that are not looked into.
    fn carry(self, tasks: &mut JoinSet<usize>, listener: Listener, service: &Arc<StreamService>, tls: StreamTls) {
        let Self { place, drain, patience } = self;
        let (seen, service) = (drain.clone(), Arc::clone(service));
        let serve = move |io, peer| {
            let (drain, service, tls) = (seen.clone(), Arc::clone(&service), tls.clone());
            async move { service.serve(io, peer, tls, drain).await }
        };
        tasks.spawn(listener.run(CONNECTIONS_MAX, place, drain, patience, serve));
    }

    /// Serves a protocol of the broker.
    fn drive(
        self,
        tasks: &mut JoinSet<usize>,
        listener: Listener,
        protocol: &Protocol,
        broker: &Arc<Broker>,
        clock: Clock,
    ) {
        let Self { place, drain, patience } = self;
        let (seen, broker, name) = (drain.clone(), Arc::clone(broker), protocol.name);
        let connect = Arc::clone(&protocol.connect);
        let settings = DriverSettings { drain_patience: patience };
        let serve = move |io: Accepted, peer: Peer| {
            let meta = ConnectionMeta {
                peer: format!("{} -> {}", peer.address, peer.local),
                loopback: is_loopback(&peer),
                protocol: name,
            };
            let connection = connect(NameSource::new(entropy()), clock.now());
            drive(io, connection, Arc::clone(&broker), meta, clock, seen.clone(), settings)
        };
        tasks.spawn(listener.run(CONNECTIONS_MAX, place, drain, patience, serve));
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
