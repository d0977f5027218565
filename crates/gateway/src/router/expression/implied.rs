//! What must be true of host and path if an expression holds, for the index.
//!
//! Only a necessary condition: the index may ask an expression in vain, but must never leave one out that would hold.
//! Of conditions joined by `&&` the narrower one is taken, of those joined by `||` all; what stands in `!( )` says nothing.

use super::field::TextField;
use super::parser::Node;
use super::predicate::{Predicate, TextPredicate, TextTest};
use crate::router::pattern::{HostName, literal_prefix};

/// More alternatives than these are not worth keeping apart.
const ALTERNATIVES_MAX: usize = 256;

/// Where a request must be for an expression to hold. None says nothing.
#[derive(Debug, Default)]
pub(in crate::router) struct Implied {
    /// The host is one of these.
    pub(in crate::router) hosts: Option<Vec<HostName>>,
    /// The path starts with one of these.
    pub(in crate::router) paths: Option<Vec<Box<str>>>,
}

impl Implied {
    pub(super) fn by(node: &Node) -> Self {
        match node {
            Node::All(nodes) => nodes.iter().map(Self::by).fold(Self::default(), Self::and),
            Node::Any(nodes) => nodes.iter().map(Self::by).reduce(Self::or).unwrap_or_default(),
            Node::Not(_) | Node::Test(Predicate::Number { .. } | Predicate::Address { .. }) => Self::default(),
            Node::Test(Predicate::Text(predicate)) => Self::by_text(predicate),
        }
    }

    fn by_text(predicate: &TextPredicate) -> Self {
        match &predicate.field {
            TextField::Host => Self { hosts: host(&predicate.test).map(|name| vec![name]), paths: None },
            _ if predicate.lower => Self::default(),
            TextField::Path => Self { hosts: None, paths: path(&predicate.test).map(|path| vec![path]) },
            TextField::Segments { first: 0, .. } => {
                let start = match &predicate.test {
                    TextTest::Equal(text) | TextTest::Prefix(text) => Some(vec![format!("/{text}").into()]),
                    _ => None,
                };
                Self { hosts: None, paths: start }
            }
            _ => Self::default(),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            hosts: narrower(self.hosts, other.hosts, |names| {
                names.iter().all(|name| matches!(name, HostName::Exact(_)))
            }),
            paths: narrower(self.paths, other.paths, |_| false),
        }
    }

    fn or(self, other: Self) -> Self {
        Self { hosts: joined(self.hosts, other.hosts), paths: joined(self.paths, other.paths) }
    }
}

/// The one that leaves fewer requests, as far as one can tell: longer texts leave fewer.
fn narrower<T: Length>(a: Option<Vec<T>>, b: Option<Vec<T>>, best: impl Fn(&[T]) -> bool) -> Option<Vec<T>> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let rank = |all: &[T]| (best(all), all.iter().map(Length::length).min());
            Some(if rank(&a) >= rank(&b) { a } else { b })
        }
        (a, b) => a.or(b),
    }
}

fn joined<T>(a: Option<Vec<T>>, b: Option<Vec<T>>) -> Option<Vec<T>> {
    let (mut a, b) = a.zip(b)?;
    a.extend(b);
    (a.len() <= ALTERNATIVES_MAX).then_some(a)
}

trait Length {
    fn length(&self) -> usize;
}

impl Length for HostName {
    fn length(&self) -> usize {
        let (Self::Exact(text) | Self::EndsWith(text) | Self::StartsWith(text)) = self;
        text.len()
    }
}

impl Length for Box<str> {
    fn length(&self) -> usize {
        self.len()
    }
}

/// The index knows whole labels, so a part of a label is left off.
fn host(test: &TextTest) -> Option<HostName> {
    match test {
        TextTest::Equal(name) => Some(HostName::Exact(name.clone())),
        TextTest::Suffix(suffix) => suffix.find('.').map(|dot| HostName::EndsWith(suffix[dot..].into())),
        TextTest::Prefix(prefix) => prefix.rfind('.').map(|dot| HostName::StartsWith(prefix[..=dot].into())),
        TextTest::NotEqual(_) | TextTest::Contains(_) | TextTest::Regex(_) => None,
    }
}

fn path(test: &TextTest) -> Option<Box<str>> {
    match test {
        TextTest::Equal(path) | TextTest::Prefix(path) => Some(path.clone()),
        TextTest::Regex(regex) => regex.as_str().strip_prefix('^').map(|pattern| literal_prefix(pattern).into()),
        TextTest::NotEqual(_) | TextTest::Suffix(_) | TextTest::Contains(_) => None,
    }
}
