//! What the resolver is told: by our configuration, by `/etc/resolv.conf` and by `/etc/hosts`.
//!
//! What our configuration leaves open, the system's files say; what they leave open is Kong's default.

use super::message::Kind;
use super::name::Name;
use model::limits::{DNS_SERVERS_MAX, DNS_SYSTEM_FILE_BYTES_MAX};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

const PORT: u16 = 53;
/// Kong's defaults for what `resolv.conf` leaves open.
const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: u32 = 5;
const NDOTS: usize = 1;
/// The most that `resolv.conf` may ask for, as the C library has it.
const TIMEOUT_MAX_S: u64 = 30;
const NDOTS_MAX: usize = 15;

/// One step of [`ResolverSettings::order`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// What answered last time.
    Last,
    /// Services: addresses with ports and weights.
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Canonical names. They are followed in any answer, so asking for them adds nothing; Kong's word is accepted.
    Cname,
}

/// How names are resolved. The defaults are Kong's, but that `AAAA` is asked for where there is no `A`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolverSettings {
    /// Servers to ask; those of `resolv.conf` if none.
    pub servers: Vec<SocketAddr>,
    /// What to ask for, in this order; the first that gives addresses counts.
    pub order: Vec<RecordKind>,
    /// How long one server has for one try; `resolv.conf` says it if this does not. Default 2 s.
    pub timeout: Option<Duration>,
    /// How long answers are used, whatever their TTL says.
    pub valid_ttl: Option<Duration>,
    /// How long an answer is used after its end while no server gives another. Default 1 h.
    pub stale_ttl: Duration,
    /// How long a name without addresses is not asked for again. Default 30 s.
    pub not_found_ttl: Duration,
    /// The same after servers failed or did not answer. Default 1 s.
    pub error_ttl: Duration,
    /// The file of names that need no server.
    pub hosts_file: PathBuf,
    /// The system's settings.
    pub resolv_conf: PathBuf,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        use RecordKind::{A, Aaaa, Cname, Last, Srv};
        Self {
            servers: Vec::new(),
            order: vec![Last, Srv, A, Aaaa, Cname],
            timeout: None,
            valid_ttl: None,
            stale_ttl: Duration::from_secs(3_600),
            not_found_ttl: Duration::from_secs(30),
            error_ttl: Duration::from_secs(1),
            hosts_file: PathBuf::from("/etc/hosts"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// The settings with all that the system's files say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Config {
    /// At least one.
    pub(super) servers: Vec<SocketAddr>,
    /// Begin with another server each time.
    pub(super) rotate: bool,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) search: Vec<Name>,
    /// Names with as many dots are tried as they are before they are searched for.
    pub(super) ndots: usize,
    pub(super) kinds: Vec<Kind>,
    /// Whether what answered last time is tried first.
    pub(super) last_first: bool,
    pub(super) hosts: HashMap<Name, Vec<IpAddr>>,
    pub(super) valid_ttl: Option<Duration>,
    pub(super) stale_ttl: Duration,
    pub(super) not_found_ttl: Duration,
    pub(super) error_ttl: Duration,
}

impl Config {
    /// Reads the system's files. One that is not there says nothing.
    pub(super) fn read(settings: &ResolverSettings) -> Self {
        let system = System::parse(&text_of(&settings.resolv_conf));
        let mut hosts = parse_hosts(&text_of(&settings.hosts_file));
        if let Some(name) = Name::parse("localhost") {
            // RFC 6761 §6.3: it is this machine, whatever servers say.
            hosts.entry(name).or_insert_with(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let mut servers = if settings.servers.is_empty() { system.servers } else { settings.servers.clone() };
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        }
        let kinds = settings.order.iter().filter_map(|step| match step {
            RecordKind::Srv => Some(Kind::Srv),
            RecordKind::A => Some(Kind::A),
            RecordKind::Aaaa => Some(Kind::Aaaa),
            RecordKind::Last | RecordKind::Cname => None,
        });
        Self {
            servers,
            rotate: system.rotate,
            timeout: settings.timeout.or(system.timeout).unwrap_or(TIMEOUT),
            attempts: system.attempts.unwrap_or(ATTEMPTS),
            search: system.search,
            ndots: system.ndots.unwrap_or(NDOTS),
            kinds: kinds.collect(),
            last_first: settings.order.first() == Some(&RecordKind::Last),
            hosts,
            valid_ttl: settings.valid_ttl,
            stale_ttl: settings.stale_ttl,
            not_found_ttl: settings.not_found_ttl,
            error_ttl: settings.error_ttl,
        }
    }
}

fn text_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(DNS_SYSTEM_FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "not read; names are resolved without it");
            String::new()
        }
    }
}

/// What `resolv.conf` says (resolv.conf(5)).
#[derive(Debug, Default, PartialEq, Eq)]
struct System {
    servers: Vec<SocketAddr>,
    search: Vec<Name>,
    ndots: Option<usize>,
    timeout: Option<Duration>,
    attempts: Option<u32>,
    rotate: bool,
}

impl System {
    fn parse(text: &str) -> Self {
        let mut system = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => system.servers.extend(words.next().and_then(server)),
                // The last of them counts.
                Some("search" | "domain") => system.search = words.filter_map(Name::parse).collect(),
                Some("options") => words.for_each(|option| system.option(option)),
                _ => {}
            }
        }
        system.servers.truncate(DNS_SERVERS_MAX);
        system
    }

    fn option(&mut self, option: &str) {
        let (key, value) = option.split_once(':').unwrap_or((option, ""));
        match (key, value.parse::<u64>()) {
            ("ndots", Ok(value)) => self.ndots = Some(usize::try_from(value).unwrap_or(NDOTS_MAX).min(NDOTS_MAX)),
            ("timeout", Ok(value)) => self.timeout = Some(Duration::from_secs(value.clamp(1, TIMEOUT_MAX_S))),
            ("attempts", Ok(value)) => {
                self.attempts = Some(u32::try_from(value).unwrap_or(ATTEMPTS).clamp(1, ATTEMPTS));
            }
            ("rotate", _) => self.rotate = true,
            _ => {}
        }
    }
}

/// A server: an address, with `%` and the number of an interface where it is local to a link.
fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, scope) = text.split_once('%')?;
    Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, scope.parse().ok()?).into())
}

/// Names of a hosts file, each with its IPv4 addresses before the others (hosts(5)).
fn parse_hosts(text: &str) -> HashMap<Name, Vec<IpAddr>> {
    let mut hosts: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words.filter_map(Name::parse) {
            let addresses = hosts.entry(name).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    for addresses in hosts.values_mut() {
        addresses.sort_by_key(IpAddr::is_ipv6);
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_the_c_library_reads_it() {
        let system = System::parse(
            "# by hand\nnameserver 10.0.0.2 ; first\nnameserver ::1\nnameserver fe80::1%3\nnameserver nonsense\n\
             domain old.example\nsearch ns.svc.cluster.local svc.cluster.local\n\
             options ndots:5 timeout:99 attempts:2 rotate edns0\n",
        );
        let servers: Vec<SocketAddr> =
            vec!["10.0.0.2:53".parse().unwrap(), "[::1]:53".parse().unwrap(), "[fe80::1%3]:53".parse().unwrap()];
        assert_eq!(system.servers, servers);
        let search: Vec<String> = system.search.iter().map(ToString::to_string).collect();
        assert_eq!(search, ["ns.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!((system.ndots, system.attempts, system.rotate), (Some(5), Some(2), true));
        assert_eq!(system.timeout, Some(Duration::from_secs(30)));
        let many = "nameserver 10.0.0.1\n".repeat(DNS_SERVERS_MAX + 1);
        assert_eq!(System::parse(&many).servers.len(), DNS_SERVERS_MAX);
    }

    #[test]
    fn what_nobody_says_is_kong_s_default() {
        let nowhere = PathBuf::from("/nonexistent");
        let settings =
            ResolverSettings { hosts_file: nowhere.clone(), resolv_conf: nowhere, ..ResolverSettings::default() };
        let config = Config::read(&settings);
        assert_eq!(config.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((config.timeout, config.attempts, config.ndots), (Duration::from_secs(2), 5, 1));
        assert_eq!(config.kinds, [Kind::Srv, Kind::A, Kind::Aaaa]);
        assert!(config.last_first && config.hosts.contains_key(&Name::parse("localhost").unwrap()));
    }

    #[test]
    fn a_hosts_file_gives_a_name_all_its_addresses() {
        let hosts =
            parse_hosts("::1 Web web.lan\n10.0.0.1\tweb # a comment\n10.0.0.1 web\nnonsense web\n#10.0.0.9 web\n");
        let of = |name: &str| hosts.get(&Name::parse(name).unwrap()).cloned().unwrap_or_default();
        assert_eq!(of("web"), [IpAddr::from([10, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()]);
        assert_eq!(of("web.lan"), [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert!(of("a").is_empty());
    }
}
