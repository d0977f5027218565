//! Expressions: Kong's language for what a route matches.
//!
//! ```text
//! http.path ^= "/orders" && (http.method == "GET" || any(lower(http.headers.x_tenant)) == "acme") && !(net.src.ip in 10.0.0.0/8)
//! ```
//!
//! An expression that exists is checked: its fields exist and its operators fit their types. It is evaluated from left to
//! right, as far as needed, and allocates only to decode a query argument that is encoded, and to put a value in lower
//! case that is not ASCII or is matched by a regular expression. Hosts and server names are compared without regard to
//! case, which Kong does not do. Nesting is bounded, so that evaluation needs no more than a bounded stack.

mod error;
mod field;
mod implied;
mod parser;
mod predicate;
mod scanner;
mod subject;

pub use error::ExpressionError;
pub use field::Fields;
pub(super) use implied::Implied;
pub(super) use subject::{Request, Subject};

use field::TextField;
use parser::Node;
use predicate::{Predicate, TextPredicate, TextTest};
use regex::Regex;

/// A checked expression.
#[derive(Debug)]
pub(super) struct Expression {
    root: Node,
}

impl Expression {
    /// Reads and checks an expression.
    pub(super) fn parse(text: &str, fields: Fields) -> Result<Self, ExpressionError> {
        parser::parse(text, fields).map(|root| Self { root })
    }

    /// If it holds: the bytes of the path that its last comparison of the path took.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> Option<Option<usize>> {
        let mut taken = None;
        holds(&self.root, subject, &mut taken).then_some(taken)
    }

    /// What must be true for it to hold.
    pub(super) fn implied(&self) -> Implied {
        Implied::by(&self.root)
    }

    /// Calls `visit` with the regular expressions for the path, in order, until it says that one of a choice was found.
    pub(super) fn path_regexes<'r>(&'r self, visit: &mut impl FnMut(&'r Regex) -> bool) {
        path_regexes(&self.root, visit);
    }
}

fn holds(node: &Node, subject: &Subject<'_>, taken: &mut Option<usize>) -> bool {
    match node {
        Node::All(nodes) => nodes.iter().all(|node| holds(node, subject, taken)),
        Node::Any(nodes) => nodes.iter().any(|node| holds(node, subject, taken)),
        Node::Not(node) => !holds(node, subject, taken),
        Node::Test(predicate) => predicate.holds(subject, taken),
    }
}

/// Whether `visit` found one below this node.
fn path_regexes<'r>(node: &'r Node, visit: &mut impl FnMut(&'r Regex) -> bool) -> bool {
    match node {
        // All of them are visited.
        Node::All(nodes) => nodes.iter().filter(|node| path_regexes(node, visit)).count() > 0,
        Node::Any(nodes) => nodes.iter().any(|node| path_regexes(node, visit)),
        Node::Test(Predicate::Text(TextPredicate { field: TextField::Path, test: TextTest::Regex(regex), .. })) => {
            visit(regex)
        }
        Node::Not(_) | Node::Test(_) => false,
    }
}

/// Checks a route's expression.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check_expression(text: &str, fields: Fields) -> Result<(), ExpressionError> {
    Expression::parse(text, fields).map(drop)
}

#[cfg(test)]
mod tests;
