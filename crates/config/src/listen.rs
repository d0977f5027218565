//! `listen`, `storage`, `limits` and `telemetry`: the program's own settings.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::limits::MESSAGE_BYTES_CEILING;

use crate::problem::Problem;
use crate::reader::{Check, MapReader, Place};
use crate::scalars;
use crate::settings::{
    Access, AccessLogTo, Limits, Listen, Listener, Log, LogFormat, LogLevel, Storage, StreamListener, StreamTransport,
    Telemetry, TlsFiles,
};
use crate::source::Span;
use crate::tree::{Node, Value};

/// The kinds of listener; the order is the order in which they are read.
pub(crate) const LISTENERS: [&str; 4] = ["http", "amqp", "admin", "management"];
/// Addresses of one kind of listener.
const LISTENERS_MAX: usize = 64;

/// A listener and where it was written.
pub(crate) struct Placed {
    kind: &'static str,
    at: Span,
    is_default: bool,
    /// Its port is one of UDP.
    is_udp: bool,
    listener: Listener,
}

/// Reads `listen`. The places are for the checks that need the rest of the configuration.
pub(crate) fn listen(check: &mut Check<'_>, node: &Node) -> (Listen, Vec<Placed>) {
    let mut listen = Listen::default();
    let mut placed = Vec::new();
    let Some(mut map) = check.map(node, "`listen`") else { return (listen, placed) };
    for kind in LISTENERS {
        let read = map.get(check, kind, |check, node, place| listeners(check, node, place, kind));
        let slot = match kind {
            "http" => &mut listen.http,
            "amqp" => &mut listen.amqp,
            "admin" => &mut listen.admin,
            _ => &mut listen.management,
        };
        if let Some(read) = read {
            *slot = read.iter().map(|placed| placed.listener.clone()).collect();
            placed.extend(read);
        } else {
            placed.extend(slot.iter().map(|listener| Placed {
                kind,
                at: node.at,
                is_default: true,
                is_udp: false,
                listener: listener.clone(),
            }));
        }
    }
    if let Some(read) = map.get(check, "stream", |check, node, place| items(check, node, place, stream)) {
        for (at, listener) in read {
            let shown = Listener { address: listener.address, tls: None, proxy_protocol: false };
            let is_udp = listener.carries == StreamTransport::Udp;
            placed.push(Placed { kind: "stream", at, is_default: false, is_udp, listener: shown });
            listen.stream.push(listener);
        }
    }
    map.not_yet(check, &["kafka", "mqtt", "stomp", "websocket", "tcp", "tls", "udp", "grpc", "status"]);
    map.finish(check);
    collisions(check, &placed);
    (listen, placed)
}

fn listeners(check: &mut Check<'_>, node: &Node, place: Place<'_>, kind: &'static str) -> Option<Vec<Placed>> {
    let read = items(check, node, place, |check, node, place| listener(check, node, place, kind))?;
    let placed = |(at, listener)| Placed { kind, at, is_default: false, is_udp: false, listener };
    Some(read.into_iter().map(placed).collect())
}

/// The addresses of one kind of listener, each with its place.
fn items<T>(
    check: &mut Check<'_>,
    node: &Node,
    place: Place<'_>,
    read: impl Fn(&mut Check<'_>, &Node, Place<'_>) -> Option<T>,
) -> Option<Vec<(Span, T)>> {
    let items = match &node.value {
        // One address needs no brackets.
        Value::Map(_) => std::slice::from_ref(node).into(),
        Value::Scalar(_) if !check.sources.is_variable(node.at.source) => std::slice::from_ref(node).into(),
        _ => check.list(node, place)?,
    };
    if items.len() > LISTENERS_MAX {
        check.report(Problem::new(node.at, format!("{place} has more than {LISTENERS_MAX} addresses")));
        return None;
    }
    let read = |item: &Node| read(check, item, place).map(|read| (item.at, read));
    Some(items.iter().filter_map(read).collect())
}

/// A listener for what is carried without a look at what is in it.
fn stream(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<StreamListener> {
    if !matches!(node.value, Value::Map(_)) {
        let carries = StreamTransport::Tcp { proxy_protocol: false };
        return Some(StreamListener { address: address(check, node, place)?, carries });
    }
    let mut map = check.map(node, "a listener of `listen.stream`")?;
    let address = map.required(check, "address", "127.0.0.1:9000", address);
    let proxy_protocol = map.get(check, "proxy_protocol", Check::bool).unwrap_or_default();
    let tls = node.get("tls").filter(|tls| !matches!(tls.value, Value::Null));
    // `{}`: TLS comes, and none of it ends here.
    let files = map.get(check, "tls", |check, node, place| match &node.value {
        Value::Map(entries) if entries.is_empty() => Some(None),
        _ => tls_files(check, node, place).map(Some),
    });
    let udp = map.get(check, "udp", Check::bool).unwrap_or_default();
    map.finish(check);
    for (key, given) in [("tls", tls.is_some()), ("proxy_protocol", proxy_protocol)] {
        if udp && given {
            check.report(Problem::new(node.at_key(key), format!("`{key}` is for connections, not for `udp`")));
        }
    }
    let carries = match tls {
        _ if udp => StreamTransport::Udp,
        None => StreamTransport::Tcp { proxy_protocol },
        Some(_) => StreamTransport::Tls { files: files?, proxy_protocol },
    };
    Some(StreamListener { address: address?, carries })
}

fn listener(check: &mut Check<'_>, node: &Node, place: Place<'_>, kind: &str) -> Option<Listener> {
    match &node.value {
        Value::Map(_) => {
            let what = format!("a listener of `listen.{kind}`");
            let mut map = check.map(node, &what)?;
            let address = map.required(check, "address", "127.0.0.1:8000", address);
            let tls = map.get(check, "tls", tls_files);
            let proxy_protocol = map.get(check, "proxy_protocol", Check::bool).unwrap_or_default();
            if proxy_protocol && !matches!(kind, "http" | "amqp") {
                let message =
                    format!("`proxy_protocol` is for `listen.http` and `listen.amqp`, not for `listen.{kind}`");
                check.report(Problem::new(node.at_key("proxy_protocol"), message));
            }
            let wants_tls = node.get("tls").is_some_and(|tls| !tls.is_empty());
            map.finish(check);
            if wants_tls && tls.is_none() {
                return None;
            }
            Some(Listener { address: address?, tls, proxy_protocol })
        }
        _ => Some(Listener { address: address(check, node, place)?, tls: None, proxy_protocol: false }),
    }
}

fn address(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<SocketAddr> {
    let Some(text) = node.text() else {
        check.wrong_type(node, place, "an address");
        return None;
    };
    match scalars::address(text) {
        Ok(address) => Some(address),
        Err(help) => {
            let problem = Problem::new(node.at, format!("{place}: `{text}` is not an address to listen on"));
            check.report(problem.expected(scalars::ADDRESS_EXPECTED).maybe_help(help));
            None
        }
    }
}

fn tls_files(check: &mut Check<'_>, node: &Node, _: Place<'_>) -> Option<TlsFiles> {
    let mut map = check.map(node, "`tls`")?;
    let cert = map.required(check, "cert", "server.pem", file);
    let key = map.required(check, "key", "server.key", file);
    let client_ca = map.get(check, "client_ca", file);
    let wants_client_ca = node.get("client_ca").is_some_and(|node| !node.is_empty());
    map.finish(check);
    if wants_client_ca && client_ca.is_none() {
        return None;
    }
    Some(TlsFiles { cert: cert?, key: key?, client_ca })
}

/// A path, relative to where it was written.
pub(crate) fn path(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<PathBuf> {
    let text = check.some_text(node, place)?;
    if text.contains('\0') {
        check.report(Problem::new(node.at, format!("{place} contains a NUL character")));
        return None;
    }
    // Collected from its components it has no `/./` in it.
    Some(check.sources.directory(node.at.source).join(text).components().collect())
}

/// A file that can be read now.
fn file(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<PathBuf> {
    let path = path(check, node, place)?;
    match File::open(&path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() => Some(path),
        Ok(_) => {
            check.report(Problem::new(node.at, format!("{place}: {} is not a file", path.display())));
            None
        }
        Err(error) => {
            check.report(Problem::new(
                node.at,
                format!("{place}: {} cannot be read: {}", path.display(), io_words(&error)),
            ));
            None
        }
    }
}

/// An IO error without the operating system's number.
pub(crate) fn io_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => String::from("there is no such file"),
        std::io::ErrorKind::PermissionDenied => String::from("permission denied"),
        _ => error.to_string(),
    }
}

/// Two listeners that want the same port.
fn collisions(check: &mut Check<'_>, all: &[Placed]) {
    for (index, one) in all.iter().enumerate() {
        let clash = all[..index]
            .iter()
            .find(|other| one.is_udp == other.is_udp && collide(one.listener.address, other.listener.address));
        let Some(other) = clash else { continue };
        // What was written is shown, not what is there by default.
        let (shown, other) = if one.is_default { (other, one) } else { (one, other) };
        let default = if other.is_default { " by default" } else { "" };
        let message = format!(
            "`listen.{}` cannot have {}, because `listen.{}` has {}{default}",
            shown.kind, shown.listener.address, other.kind, other.listener.address
        );
        let mut problem = Problem::new(shown.at, message).help("give each listener its own port");
        if !other.is_default {
            problem = problem.related(other.at, "that one is");
        }
        check.report(problem);
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let wildcard = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || (same_family && wildcard))
}

/// What somebody on another machine can sign in with.
pub(crate) struct Credentials {
    /// A user of the broker who is an administrator.
    pub(crate) administrator: bool,
    /// A token of the Admin API.
    pub(crate) token: bool,
}

/// Admin and management listeners off loopback need credentials.
pub(crate) fn require_credentials(check: &mut Check<'_>, placed: &[Placed], credentials: Credentials) {
    for one in placed.iter().filter(|one| matches!(one.kind, "admin" | "management")) {
        let token = credentials.token && one.kind == "admin";
        if one.listener.access() == Access::Administrators && !credentials.administrator && !token {
            let token = if one.kind == "admin" { "write a token into `admin.tokens`, " } else { "" };
            let message = format!(
                "`listen.{}` on {} can be reached from other machines, and nothing asks who calls",
                one.kind, one.listener.address
            );
            let problem = Problem::new(one.at, message)
                .expected("a loopback address, or credentials")
                .help(format!("{token}name a user (not guest) with the tag `administrator` in `broker.definitions.users`, or give the listener `tls` with `client_ca`"));
            check.report(problem);
        }
    }
}

/// Reads `storage`. The default is in the directory the program was started in, like any other default.
pub(crate) fn storage(check: &mut Check<'_>, node: &Node, cwd: &Path) -> Storage {
    let mut storage = Storage { path: cwd.join(Storage::default().path) };
    let Some(mut map) = check.map(node, "`storage`") else { return storage };
    if let Some(path) = map.get(check, "path", path) {
        storage.path = path;
    }
    map.not_yet(check, &["engine", "nats", "encryption", "durability"]);
    map.finish(check);
    storage
}

/// Reads `limits`.
pub(crate) fn limits(check: &mut Check<'_>, node: &Node) -> Limits {
    let mut limits = Limits::default();
    let Some(mut map) = check.map(node, "`limits`") else { return limits };
    let size = |check: &mut Check<'_>, map: &mut MapReader<'_, '_>, key, min, max, slot: &mut usize| {
        if let Some(bytes) = map.get(check, key, |check, node, place| size(check, node, place, min, max)) {
            *slot = bytes;
        }
    };
    size(check, &mut map, "memory_max", 1 << 20, 1 << 40, &mut limits.memory_max);
    size(check, &mut map, "disk_free_limit", 0, 1 << 50, &mut limits.disk_free_limit);
    size(check, &mut map, "message_size_max", 1, MESSAGE_BYTES_CEILING, &mut limits.message_size_max);
    let hour = Duration::from_secs(3_600);
    if let Some(timeout) =
        map.get(check, "drain_timeout", |check, node, place| duration(check, node, place, Duration::ZERO, hour))
    {
        limits.drain_timeout = timeout;
    }
    map.finish(check);
    limits
}

/// A size in a range of bytes.
fn size(check: &mut Check<'_>, node: &Node, place: Place<'_>, min: usize, max: usize) -> Option<usize> {
    let parsed = node.text().and_then(scalars::size).and_then(|bytes| usize::try_from(bytes).ok());
    match (node.text(), parsed) {
        (_, Some(bytes)) if (min..=max).contains(&bytes) => Some(bytes),
        (Some(text), Some(_)) => {
            check.report(
                Problem::new(node.at, format!("{place} is out of range: {text}"))
                    .expected(format!("from {min} to {max} bytes")),
            );
            None
        }
        (Some(text), None) => {
            check.report(
                Problem::new(node.at, format!("{place}: `{text}` is not a size")).expected(scalars::SIZE_EXPECTED),
            );
            None
        }
        (None, _) => {
            check.wrong_type(node, place, "a size");
            None
        }
    }
}

/// A duration in a range.
pub(crate) fn duration(
    check: &mut Check<'_>,
    node: &Node,
    place: Place<'_>,
    min: Duration,
    max: Duration,
) -> Option<Duration> {
    let Some(text) = node.text() else {
        check.wrong_type(node, place, "a duration");
        return None;
    };
    match scalars::duration(text) {
        Ok(value) if (min..=max).contains(&value) => Some(value),
        Ok(_) => {
            check.report(
                Problem::new(node.at, format!("{place} is out of range: {text}"))
                    .expected(format!("from {min:?} to {max:?}")),
            );
            None
        }
        Err(reason) => {
            let problem = Problem::new(node.at, format!("{place}: `{text}` is not a duration: {reason}"))
                .expected(scalars::DURATION_EXPECTED);
            let help = text.parse::<u64>().is_ok().then(|| format!("write {text}s or {text}ms"));
            check.report(problem.maybe_help(help));
            None
        }
    }
}

/// Reads `telemetry`.
pub(crate) fn telemetry(check: &mut Check<'_>, node: &Node) -> Telemetry {
    let mut telemetry = Telemetry::default();
    let Some(mut map) = check.map(node, "`telemetry`") else { return telemetry };
    map.get(check, "log", |check, node, _| {
        telemetry.log = log(check, node);
        Some(())
    });
    telemetry.access_log = map.get(check, "access_log", access_log).flatten();
    telemetry.proxy_status = map.get(check, "proxy_status", Check::bool).unwrap_or_default();
    map.not_yet(check, &["tracing", "traces", "otlp", "metrics"]);
    map.finish(check);
    telemetry
}

/// `off`, `stdout` or a file.
fn access_log(check: &mut Check<'_>, node: &Node, place: Place<'_>) -> Option<Option<AccessLogTo>> {
    match check.some_text(node, place)? {
        "off" => Some(None),
        "stdout" => Some(Some(AccessLogTo::Stdout)),
        path => Some(Some(AccessLogTo::File(path.into()))),
    }
}

fn log(check: &mut Check<'_>, node: &Node) -> Log {
    let mut log = Log::default();
    let Some(mut map) = check.map(node, "`telemetry.log`") else { return log };
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
        .map(|level| (level.as_str(), level));
    if let Some(level) = map.get(check, "level", |check, node, place| check.word(node, place, &levels)) {
        log.level = level;
    }
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    if let Some(format) = map.get(check, "format", |check, node, place| check.word(node, place, &formats)) {
        log.format = format;
    }
    map.finish(check);
    log
}
