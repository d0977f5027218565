//! One compiled route: its priority and its match.
//!
//! Invariants: the prefixes of an entry have one length, or all its paths are regular expressions; a route with more
//! is split into several entries that compete each with its own priority (Kong's `traditional_compatible` router).

use super::Ask;
use super::pattern::{HeaderPattern, HostPattern, PatternError};
use crate::entity::{Id, Route, RouteProtocols, Scheme};
use http::{HeaderName, Method};
use regex::Regex;
use std::cmp::Reverse;

/// Kong's 64-bit priority as an ordered value: fields from the most significant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Priority {
    /// Number of match fields that are not empty.
    n_categories: u8,
    /// There are hosts, and none has a wildcard.
    plain_hosts_only: bool,
    /// Number of header names, at most 255.
    n_headers: u8,
    /// The paths are regular expressions.
    regex: bool,
    /// `regex_priority`, for regular expressions only.
    regex_priority: i64,
    /// Bytes of the prefix.
    prefix_len: usize,
}

/// The paths of an entry.
#[derive(Debug)]
pub(super) enum Paths {
    /// Any path.
    Any,
    /// Prefixes of one length.
    Prefixes(Vec<Box<str>>),
    /// Anchored regular expressions, with what each literally starts with.
    Regexes(Vec<(Regex, Box<str>)>),
}

/// A route, or a part of one, ready to match.
#[derive(Debug)]
pub(super) struct Entry {
    /// Place of the route in the list the router was built from.
    pub(super) route_idx: usize,
    id: Id,
    pub(super) priority: Priority,
    protocols: RouteProtocols,
    methods: Vec<Method>,
    pub(super) hosts: Vec<HostPattern>,
    headers: Vec<(HeaderName, Vec<HeaderPattern>)>,
    snis: Vec<Box<str>>,
    pub(super) paths: Paths,
}

impl Entry {
    /// The entries of a route, with every mistake in its patterns.
    pub(super) fn compile(route_idx: usize, route: &Route) -> Result<Vec<Self>, Vec<PatternError>> {
        let mut errors = Vec::new();
        let groups = group_paths(&route.paths, &mut errors);
        let hosts = collect(route.hosts.iter().map(|host| HostPattern::parse(host)), &mut errors);
        let methods = collect(route.methods.iter().map(|method| parse_method(method)), &mut errors);
        let names = collect(route.headers.iter().map(|(name, _)| parse_header_name(name)), &mut errors);
        for value in route.headers.iter().flat_map(|(_, values)| values) {
            collect(std::iter::once(HeaderPattern::parse(value)), &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let headers = |name: HeaderName, values: &[String]| {
            (name, values.iter().filter_map(|value| HeaderPattern::parse(value).ok()).collect())
        };
        let n_groups = groups.len();
        let entries = groups.into_iter().enumerate().map(|(n, paths)| Self {
            route_idx,
            id: if n_groups == 1 { route.id.0 } else { part_id(route.id.0, n + 1) },
            priority: priority(route, &hosts, &paths),
            protocols: route.protocols,
            methods: methods.clone(),
            hosts: hosts.clone(),
            headers: names.iter().zip(&route.headers).map(|(n, (_, v))| headers(n.clone(), v)).collect(),
            snis: route.snis.iter().map(|sni| sni.to_ascii_lowercase().into()).collect(),
            paths,
        });
        Ok(entries.collect())
    }

    /// The order in which entries are asked: higher priority first, then the larger id.
    pub(super) fn order(&self) -> impl Ord + use<> {
        Reverse((self.priority, self.id))
    }

    /// If the request matches: the length of the part of the path that did, if paths were asked for.
    pub(super) fn matches(&self, ask: &Ask<'_>) -> Option<Option<usize>> {
        if self.protocols == RouteProtocols::Http && ask.scheme == Scheme::Https {
            return None;
        }
        if !self.methods.is_empty() && !self.methods.contains(ask.method) {
            return None;
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| host.matches(ask.host, ask.port)) {
            return None;
        }
        let sni_matters = !self.snis.is_empty() && ask.scheme == Scheme::Https;
        if sni_matters && !self.snis.iter().any(|sni| Some(&**sni) == ask.sni) {
            return None;
        }
        let path = self.match_path(ask.path)?;
        self.match_headers(ask).then_some(path)
    }

    fn match_path(&self, path: &str) -> Option<Option<usize>> {
        match &self.paths {
            Paths::Any => Some(None),
            Paths::Prefixes(prefixes) => {
                prefixes.iter().find(|prefix| path.starts_with(&***prefix)).map(|prefix| Some(prefix.len()))
            }
            Paths::Regexes(regexes) => {
                regexes.iter().find_map(|(regex, _)| regex.find(path)).map(|found| Some(found.end()))
            }
        }
    }

    fn match_headers(&self, ask: &Ask<'_>) -> bool {
        self.headers.iter().all(|(name, patterns)| {
            let mut values = ask.headers.get_all(name).iter();
            values.any(|value| patterns.iter().any(|pattern| pattern.matches(value.as_bytes())))
        })
    }
}

fn priority(route: &Route, hosts: &[HostPattern], paths: &Paths) -> Priority {
    let present = [
        !route.methods.is_empty(),
        !hosts.is_empty(),
        !route.headers.is_empty(),
        !route.snis.is_empty(),
        !matches!(paths, Paths::Any),
    ];
    let regex = matches!(paths, Paths::Regexes(_));
    Priority {
        n_categories: present.iter().map(|present| u8::from(*present)).sum(),
        plain_hosts_only: !hosts.is_empty() && hosts.iter().all(HostPattern::is_plain),
        n_headers: u8::try_from(route.headers.len()).unwrap_or(u8::MAX),
        regex,
        regex_priority: if regex { route.regex_priority } else { 0 },
        prefix_len: match paths {
            Paths::Prefixes(prefixes) => prefixes.first().map_or(0, |prefix| prefix.len()),
            Paths::Any | Paths::Regexes(_) => 0,
        },
    }
}

/// The paths in groups that share a priority: one of regular expressions, and one for each length of prefix.
fn group_paths(paths: &[String], errors: &mut Vec<PatternError>) -> Vec<Paths> {
    if paths.is_empty() {
        return vec![Paths::Any];
    }
    let (mut regexes, mut groups) = (Vec::new(), Vec::<Vec<Box<str>>>::new());
    for path in paths {
        match path.strip_prefix('~') {
            Some(pattern) => match super::pattern::path_regex(pattern) {
                Ok(regex) => regexes.push((regex, super::pattern::literal_prefix(pattern).into())),
                Err(error) => errors.push(error),
            },
            None => match groups.iter_mut().find(|group| group[0].len() == path.len()) {
                Some(group) => group.push(path.as_str().into()),
                None => groups.push(vec![path.as_str().into()]),
            },
        }
    }
    let mut all: Vec<Paths> = groups.into_iter().map(Paths::Prefixes).collect();
    if !regexes.is_empty() {
        all.push(Paths::Regexes(regexes));
    }
    all
}

/// The id of a part of a split route: a UUIDv5 in the namespace of the route's own id.
fn part_id(id: Id, n: usize) -> Id {
    let namespace = uuid::Uuid::from_bytes(id.to_bytes());
    Id::from_bytes(*uuid::Uuid::new_v5(&namespace, format!("#{n}").as_bytes()).as_bytes())
}

fn parse_method(text: &str) -> Result<Method, PatternError> {
    Method::from_bytes(text.as_bytes()).map_err(|_| PatternError::new(text, "not an HTTP method"))
}

fn parse_header_name(text: &str) -> Result<HeaderName, PatternError> {
    text.parse().map_err(|_| PatternError::new(text, "not a header name"))
}

fn collect<T>(results: impl Iterator<Item = Result<T, PatternError>>, errors: &mut Vec<PatternError>) -> Vec<T> {
    results.filter_map(|result| result.map_err(|error| errors.push(error)).ok()).collect()
}
