//! What a route of the classic fields matches: methods, hosts, paths, headers, server names.
//!
//! Fields are joined by and, the values of a field by or. Invariants: the prefixes of one matcher have one length, or all
//! its paths are regular expressions; a route with more is split into several that compete each with its own priority
//! (Kong's `traditional_compatible` router). Protocols are not looked at: a plain request to an `https` only route is
//! answered with a redirect, and a route for `http` takes both, as in Kong.

use super::Ask;
use super::pattern::{HeaderPattern, HostPattern, NamePattern, PatternError, literal_prefix, path_regex};
use super::rank::{Parts, Priority};
use crate::entity::{Id, Route, Scheme};
use http::{HeaderName, Method};
use regex::Regex;

/// The paths of a matcher.
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
pub(super) struct Classic {
    methods: Vec<Method>,
    pub(super) hosts: Vec<HostPattern>,
    headers: Vec<(HeaderName, Vec<HeaderPattern>)>,
    snis: Vec<NamePattern>,
    pub(super) paths: Paths,
}

impl Classic {
    /// The parts of a route with the priority and id of each, or every mistake in its patterns.
    pub(super) fn compile(route: &Route) -> Result<Vec<(Priority, Id, Self)>, Vec<PatternError>> {
        let mut errors = Vec::new();
        let groups = group_paths(&route.paths, &mut errors);
        let hosts = collect(route.hosts.iter().map(|host| HostPattern::parse(host)), &mut errors);
        let methods = collect(route.methods.iter().map(|method| parse_method(method)), &mut errors);
        let headers: Vec<_> = route.headers.iter().map(|header| parse_header(header, &mut errors)).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let headers: Vec<_> = headers.into_iter().flatten().collect();
        let n_groups = groups.len();
        let parts = groups.into_iter().enumerate().map(|(n, paths)| {
            let id = if n_groups == 1 { route.id.0 } else { part_id(route.id.0, n + 1) };
            let part = Self {
                methods: methods.clone(),
                hosts: hosts.clone(),
                headers: headers.clone(),
                snis: route.snis.iter().map(|sni| NamePattern::sni(sni)).collect(),
                paths,
            };
            (priority(route, &part), id, part)
        });
        Ok(parts.collect())
    }

    /// If the request matches: the length of the part of the path that did, if paths were asked for.
    pub(super) fn matches(&self, ask: &Ask<'_>) -> Option<Option<usize>> {
        if !self.methods.is_empty() && !self.methods.contains(ask.method) {
            return None;
        }
        if !self.hosts.is_empty() && !self.hosts.iter().any(|host| host.matches(ask.host, ask.destination.port())) {
            return None;
        }
        let sni_matters = !self.snis.is_empty() && ask.scheme == Scheme::Https;
        if sni_matters && !ask.sni.is_some_and(|sni| self.snis.iter().any(|pattern| pattern.matches(sni))) {
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

fn priority(route: &Route, part: &Classic) -> Priority {
    let present = [
        !route.methods.is_empty(),
        !part.hosts.is_empty(),
        !route.headers.is_empty(),
        !route.snis.is_empty(),
        !matches!(part.paths, Paths::Any),
    ];
    Priority::classic(&Parts {
        n_categories: present.iter().filter(|present| **present).count(),
        plain_hosts_only: !part.hosts.is_empty() && part.hosts.iter().all(HostPattern::is_plain),
        n_headers: route.headers.len(),
        regex_priority: matches!(part.paths, Paths::Regexes(_)).then_some(route.regex_priority),
        prefix_len: match &part.paths {
            Paths::Prefixes(prefixes) => prefixes.first().map_or(0, |prefix| prefix.len()),
            Paths::Any | Paths::Regexes(_) => 0,
        },
    })
}

/// The paths in groups that share a priority: one of regular expressions, and one for each length of prefix, in the order
/// in which each first appears.
fn group_paths(paths: &[String], errors: &mut Vec<PatternError>) -> Vec<Paths> {
    if paths.is_empty() {
        return vec![Paths::Any];
    }
    let mut groups = Vec::<Paths>::new();
    for path in paths {
        let Some(pattern) = path.strip_prefix('~') else {
            let prefix: Box<str> = path.as_str().into();
            let same_len = |group: &&mut Paths| matches!(group, Paths::Prefixes(all) if all[0].len() == path.len());
            match groups.iter_mut().find(same_len) {
                Some(Paths::Prefixes(group)) => group.push(prefix),
                _ => groups.push(Paths::Prefixes(vec![prefix])),
            }
            continue;
        };
        match path_regex(pattern).map(|regex| (regex, literal_prefix(pattern).into())) {
            Ok(regex) => match groups.iter_mut().find(|group| matches!(group, Paths::Regexes(_))) {
                Some(Paths::Regexes(group)) => group.push(regex),
                _ => groups.push(Paths::Regexes(vec![regex])),
            },
            Err(error) => errors.push(error),
        }
    }
    groups
}

/// The id of a part of a split route, as Kong makes it: a UUIDv5 of the route's id and the number of the part.
fn part_id(id: Id, n: usize) -> Id {
    /// The namespace of Kong's ids of parts.
    const PARTS: uuid::Uuid = uuid::Uuid::from_u128(0x7f14_5bf9_0dce_4f91_98eb_debb_ce4b_9f6b);
    Id::from_bytes(*uuid::Uuid::new_v5(&PARTS, format!("{id}#{n}").as_bytes()).as_bytes())
}

fn parse_method(text: &str) -> Result<Method, PatternError> {
    Method::from_bytes(text.as_bytes()).map_err(|_| PatternError::new(text, "not an HTTP method"))
}

/// A header's name and patterns; none if the name is no name.
fn parse_header(
    (name, values): &(String, Vec<String>),
    errors: &mut Vec<PatternError>,
) -> Option<(HeaderName, Vec<HeaderPattern>)> {
    let patterns = collect(values.iter().map(|value| HeaderPattern::parse(value)), errors);
    match name.parse() {
        Ok(name) => Some((name, patterns)),
        Err(_) => {
            errors.push(PatternError::new(name, "not a header name"));
            None
        }
    }
}

fn collect<T>(results: impl Iterator<Item = Result<T, PatternError>>, errors: &mut Vec<PatternError>) -> Vec<T> {
    results.filter_map(|result| result.map_err(|error| errors.push(error)).ok()).collect()
}
