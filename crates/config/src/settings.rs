//! The resolved configuration: plain data with every default filled in and every reference resolved.
//!
//! Nothing here can be wrong by itself: a `Settings` only comes out of `load` (or `Default`).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bridge::subscription::SubscriptionSettings;
use entities::Store;
use gateway::entity::{Backend, Entities};
use gateway::real_ip::RealIp;
use model::Secret;
use model::definitions::{Definitions, PasswordDef, PermissionDef, UserDef, VhostDef};
use model::limits::{DISK_FREE_LIMIT_BYTES, MESSAGE_BYTES_MAX};
use model::quotas::QuotaDef;

/// Everything the program is told.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where it listens.
    pub listen: Listen,
    /// Where it keeps its data.
    pub storage: Storage,
    /// What it may use and how long it waits.
    pub limits: Limits,
    /// How names become addresses.
    pub dns: Dns,
    /// Who may use the Admin API.
    pub admin: Admin,
    /// What the broker has.
    pub broker: Broker,
    /// What the gateway serves.
    pub entities: Entities,
    /// Whose word it takes for where a request comes from.
    pub real_ip: RealIp,
    /// Whether clients that say `Kong-Debug` are told which route and service took them.
    pub allow_debug_header: bool,
    /// Whether clients of HTTP/1.1 get 103 Early Hints, and whatever else upstreams say before their answer.
    pub early_hints: bool,
    /// The same as records, for the Admin API.
    pub store: Store,
    /// Queues that are pushed to HTTP services; names are unique.
    pub subscriptions: Vec<SubscriptionSettings>,
    /// What it tells about itself.
    pub telemetry: Telemetry,
}

impl Settings {
    /// Vhost and name of every queue that a service or a subscription names, dead letter queues too; each once.
    ///
    /// They are to be declared durable if they are absent, before the definitions' bindings, which may lead to them.
    #[must_use]
    pub fn named_queues(&self) -> Vec<(&str, &str)> {
        let of_services = self.entities.services.iter().filter_map(|service| match &service.backend {
            Backend::Queue(queue) => Some((queue.vhost.as_str(), queue.queue.as_str())),
            Backend::Http(_) | Backend::Stream(_) => None,
        });
        let of_subscriptions = self.subscriptions.iter().flat_map(|subscription| {
            let names = std::iter::once(&subscription.queue).chain(&subscription.dead_letter);
            names.map(|name| (subscription.vhost.as_str(), name.as_str()))
        });
        let mut seen = HashSet::new();
        of_services.chain(of_subscriptions).filter(|queue| seen.insert(*queue)).collect()
    }
}

/// The listeners by what they speak. Addresses do not collide (port 0 never does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// HTTP for API traffic; `https` where `tls` is given. Default `127.0.0.1:8000`.
    pub http: Vec<Listener>,
    /// AMQP 0-9-1; `amqps` where `tls` is given. Default `127.0.0.1:5672`.
    pub amqp: Vec<Listener>,
    /// The Admin API and metrics. Default `127.0.0.1:8001`.
    pub admin: Vec<Listener>,
    /// The management API and the page for people. Default `127.0.0.1:15672`.
    pub management: Vec<Listener>,
    /// Connections and datagrams for routes of `tcp`, `tls`, `tls_passthrough` and `udp`. Default none.
    pub stream: Vec<StreamListener>,
}

/// One address to listen on for what is carried without a look at what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamListener {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What comes.
    pub carries: StreamTransport,
}

/// What comes to a listener for connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamTransport {
    /// TCP connections.
    Tcp {
        /// Each begins with a PROXY header. Default no.
        proxy_protocol: bool,
    },
    /// TLS over TCP, which ends here or passes through, as its route says.
    Tls {
        /// The certificate for what ends here; without files nothing does.
        files: Option<TlsFiles>,
        /// Each begins with a PROXY header. Default no.
        proxy_protocol: bool,
    },
    /// Datagrams.
    Udp,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Speak TLS.
    pub tls: Option<TlsFiles>,
    /// Every connection begins with a PROXY header (version 1 or 2) that says where it comes from. Default no.
    pub proxy_protocol: bool,
}

/// Files in PEM; they existed when the configuration was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// With it clients must show a certificate that this signed.
    pub client_ca: Option<PathBuf>,
}

/// Who may use an admin or management listener. Whoever serves one must enforce it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone on this machine; the listener is on loopback, and `Host` and `Origin` must be checked.
    Loopback,
    /// TLS clients with a certificate that `client_ca` signed.
    ClientCertificate,
    /// Users of the broker with the tag `administrator`, by basic authentication. `guest` is not one of them here. On
    /// a listener of the Admin API a token of [`Admin`] will do.
    Administrators,
}

impl Listener {
    fn loopback(port: u16) -> Self {
        Listener { address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port), tls: None, proxy_protocol: false }
    }

    /// The rule for admin and management listeners: off loopback nobody gets in without credentials.
    #[must_use]
    pub fn access(&self) -> Access {
        match &self.tls {
            _ if self.address.ip().is_loopback() => Access::Loopback,
            Some(TlsFiles { client_ca: Some(_), .. }) => Access::ClientCertificate,
            _ => Access::Administrators,
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Listen {
            http: vec![Listener::loopback(8000)],
            amqp: vec![Listener::loopback(5672)],
            admin: vec![Listener::loopback(8001)],
            management: vec![Listener::loopback(15672)],
            stream: Vec::new(),
        }
    }
}

/// Who may use the Admin API, beside the broker's administrators.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Admin {
    /// With any, every listener of the Admin API asks for one, on loopback too. Names and tokens are unique.
    pub tokens: Vec<AdminToken>,
}

/// A token of the Admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminToken {
    /// What it is called in logs.
    pub name: String,
    /// What is sent; 16 to 1,024 printable ASCII characters.
    pub token: Secret,
    /// What it opens.
    pub role: AdminRole,
}

/// What a token of the Admin API opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminRole {
    /// Looking.
    Read,
    /// Changing, too.
    Write,
}

/// Where data is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The data directory; created if absent. Default `./sluicegate-data`.
    pub path: PathBuf,
}

impl Default for Storage {
    fn default() -> Self {
        Storage { path: PathBuf::from("sluicegate-data") }
    }
}

/// What the program may use and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of messages kept in memory; what is above lives on disk. Default 64 MiB, at least 1 MiB.
    pub memory_max: usize,
    /// Bytes of the data directory's disk that must be free for publishers to be read; 0 is no limit. RabbitMQ's
    /// `disk_free_limit`, with its default of 50 MB.
    pub disk_free_limit: usize,
    /// Bytes of one message body. Default 128 MiB, largest 512 MiB, as RabbitMQ's `max_message_size`. Large bodies are not
    /// held in memory, whatever this is.
    pub message_size_max: usize,
    /// Time for work in flight to finish after SIGTERM. Default 10 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_max: 64 << 20,
            disk_free_limit: DISK_FREE_LIMIT_BYTES,
            message_size_max: MESSAGE_BYTES_MAX,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// How names become addresses; Kong's `dns_*`. What is not given, `/etc/resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Servers to ask (`dns_resolver`). Default none: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// What to ask for (`dns_order`). Default `LAST, SRV, A, AAAA, CNAME`; Kong's has no `AAAA`.
    pub order: Vec<DnsRecord>,
    /// Time of one server for one try.
    pub timeout: Option<Duration>,
    /// How long answers are used, whatever their TTL is (`dns_valid_ttl`).
    pub valid_ttl: Option<Duration>,
    /// How long old answers are used while servers fail (`dns_stale_ttl`). Default 1 h.
    pub stale_ttl: Duration,
    /// How long a name without addresses is not asked for (`dns_not_found_ttl`). Default 30 s.
    pub not_found_ttl: Duration,
    /// The same when servers failed (`dns_error_ttl`). Default 1 s.
    pub error_ttl: Duration,
    /// Names that need no server (`dns_hostsfile`). Default `/etc/hosts`.
    pub hosts_file: PathBuf,
}

/// The words of [`Dns::order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DnsRecord {
    Last,
    Srv,
    A,
    Aaaa,
    Cname,
}

impl Default for Dns {
    fn default() -> Self {
        use DnsRecord::{A, Aaaa, Cname, Last, Srv};
        Dns {
            servers: Vec::new(),
            order: vec![Last, Srv, A, Aaaa, Cname],
            timeout: None,
            valid_ttl: None,
            stale_ttl: Duration::from_secs(3_600),
            not_found_ttl: Duration::from_secs(30),
            error_ttl: Duration::from_secs(1),
            hosts_file: PathBuf::from("/etc/hosts"),
        }
    }
}

/// What the broker has.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    /// Always has the vhost `/`; has `guest` when the configuration names no user.
    pub definitions: Definitions,
    /// Messages a second that publishers and consumers may not exceed. Default none.
    pub quotas: Vec<QuotaDef>,
}

impl Default for Broker {
    fn default() -> Self {
        Broker { definitions: with_built_ins(Definitions::default()), quotas: Vec::new() }
    }
}

/// The vhost that always exists.
pub(crate) const DEFAULT_VHOST: &str = "/";
/// The user of a broker that was given none; works on loopback only.
pub(crate) const DEFAULT_USER: &str = "guest";

/// Adds what every broker has: the vhost `/`, and guest/guest where no user is named.
pub(crate) fn with_built_ins(mut definitions: Definitions) -> Definitions {
    if !definitions.vhosts.iter().any(|vhost| vhost.name == DEFAULT_VHOST) {
        definitions.vhosts.insert(0, VhostDef { name: DEFAULT_VHOST.to_owned() });
    }
    if definitions.users.is_empty() {
        let password = PasswordDef::Plain(Secret::new(DEFAULT_USER.to_owned()));
        definitions.users.push(UserDef {
            name: DEFAULT_USER.to_owned(),
            password,
            tags: vec!["administrator".to_owned()],
        });
        let given = |vhost: &&VhostDef| !definitions.permissions.iter().any(|given| given.vhost == vhost.name);
        let without: Vec<&VhostDef> = definitions.vhosts.iter().filter(given).collect();
        for vhost in without {
            let all = || String::from(".*");
            definitions.permissions.push(PermissionDef {
                user: DEFAULT_USER.to_owned(),
                vhost: vhost.name.clone(),
                configure: all(),
                write: all(),
                read: all(),
            });
        }
    }
    definitions
}

/// What the program tells about itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Telemetry {
    /// Its logs.
    pub log: Log,
    /// Where a line for each request goes. Default nowhere.
    pub access_log: Option<AccessLogTo>,
    /// Whether failures of the gateway say why in `Proxy-Status` (RFC 9209). Default no.
    pub proxy_status: bool,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTo {
    /// To standard output.
    Stdout,
    /// To the end of a file.
    File(PathBuf),
}

/// Logs on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe that is written. Default `info`.
    pub level: LogLevel,
    /// How a line looks. Default `text`.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { level: LogLevel::Info, format: LogFormat::Text }
    }
}

/// Severities of logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    /// The word, as `tracing` spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}
