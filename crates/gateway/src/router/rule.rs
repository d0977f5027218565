//! Compiled routes, kept from one router to the next as long as nothing they are made of changes.

use super::Ask;
use super::classic::{Classic, Paths};
use super::expression::{Expression, Fields, Request, Subject};
use super::pattern::{HostName, PatternError};
use super::rank::Priority;
use crate::entity::{Id, Route, RouteProtocols, Scheme};
use regex::Regex;
use std::sync::Arc;

/// A route, or a part of one: its place in the order, what it matches, and where the index files it.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) priority: Priority,
    pub(super) id: Id,
    matcher: Matcher,
    /// Hosts the request must have one of; empty if any.
    pub(super) hosts: Vec<HostName>,
    /// What the path must start with one of; empty if any.
    pub(super) paths: Vec<Box<str>>,
}

#[derive(Debug)]
enum Matcher {
    Classic(Classic),
    /// With the one scheme it is for, if it is not for both or answers the other with a redirect.
    Expression(Expression, Option<Scheme>),
}

/// A route's rules with what they were made of.
#[derive(Debug)]
pub(super) struct Compiled {
    source: Source,
    pub(super) rules: Vec<Arc<Rule>>,
}

/// All that a route's rules depend on, beside its id.
#[derive(PartialEq, Eq, Debug)]
struct Source {
    protocols: RouteProtocols,
    methods: Vec<String>,
    hosts: Vec<String>,
    paths: Vec<String>,
    headers: Vec<(String, Vec<String>)>,
    snis: Vec<String>,
    regex_priority: i64,
    expression: Option<String>,
    priority: u64,
}

impl Compiled {
    pub(super) fn new(route: &Route) -> Result<Self, Vec<PatternError>> {
        let rules = match &route.expression {
            None => Classic::compile(route)?.into_iter().map(Rule::classic).map(Arc::new).collect(),
            Some(text) => {
                let expression = Expression::parse(text, Fields::Http)
                    .map_err(|error| vec![PatternError::new(text, error.to_string())])?;
                vec![Arc::new(Rule::expression(route, expression))]
            }
        };
        Ok(Self { source: Source::of(route), rules })
    }

    /// Whether compiling this route would give the same.
    pub(super) fn is_of(&self, route: &Route) -> bool {
        let Source { protocols, methods, hosts, paths, headers, snis, regex_priority, expression, priority } =
            &self.source;
        *protocols == route.protocols
            && *methods == route.methods
            && *hosts == route.hosts
            && *paths == route.paths
            && *headers == route.headers
            && *snis == route.snis
            && *regex_priority == route.regex_priority
            && *expression == route.expression
            && *priority == route.priority
    }
}

impl Source {
    fn of(route: &Route) -> Self {
        Self {
            protocols: route.protocols,
            methods: route.methods.clone(),
            hosts: route.hosts.clone(),
            paths: route.paths.clone(),
            headers: route.headers.clone(),
            snis: route.snis.clone(),
            regex_priority: route.regex_priority,
            expression: route.expression.clone(),
            priority: route.priority,
        }
    }
}

impl Rule {
    fn classic((priority, id, classic): (Priority, Id, Classic)) -> Self {
        let hosts = classic.hosts.iter().map(|host| host.name.clone()).collect();
        let paths = match &classic.paths {
            Paths::Any => Vec::new(),
            Paths::Prefixes(prefixes) => prefixes.clone(),
            Paths::Regexes(regexes) => regexes.iter().map(|(_, prefix)| prefix.clone()).collect(),
        };
        Self { priority, id, matcher: Matcher::Classic(classic), hosts, paths }
    }

    fn expression(route: &Route, expression: Expression) -> Self {
        let implied = expression.implied();
        // A route for `https` only takes plain requests too, to redirect them.
        let scheme = (route.protocols == RouteProtocols::Http).then_some(Scheme::Http);
        Self {
            priority: Priority::expression(route.priority),
            id: route.id.0,
            matcher: Matcher::Expression(expression, scheme),
            hosts: implied.hosts.unwrap_or_default(),
            paths: implied.paths.unwrap_or_default(),
        }
    }

    /// If the request matches: the bytes of the path that did, if the path was compared.
    pub(super) fn matches(&self, ask: &Ask<'_>) -> Option<Option<usize>> {
        match &self.matcher {
            Matcher::Classic(classic) => classic.matches(ask),
            Matcher::Expression(_, Some(scheme)) if *scheme != ask.scheme => None,
            Matcher::Expression(expression, _) => expression.matches(&subject(ask)),
        }
    }

    /// Calls `visit` with the regular expressions for the path, in order, until it says that one of a choice was found.
    pub(super) fn path_regexes<'r>(&'r self, visit: &mut impl FnMut(&'r Regex) -> bool) {
        match &self.matcher {
            Matcher::Expression(expression, _) => expression.path_regexes(visit),
            Matcher::Classic(Classic { paths: Paths::Regexes(regexes), .. }) => {
                regexes.iter().any(|(regex, _)| visit(regex));
            }
            Matcher::Classic(_) => {}
        }
    }
}

/// A request as expressions see it.
fn subject<'a>(ask: &Ask<'a>) -> Subject<'a> {
    Subject {
        protocol: match ask.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        },
        sni: ask.sni,
        source: ask.source,
        destination: ask.destination,
        http: Some(Request {
            method: ask.method,
            host: ask.host,
            path: ask.path,
            query: ask.query,
            headers: ask.headers,
        }),
    }
}
