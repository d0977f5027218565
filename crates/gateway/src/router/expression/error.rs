//! What is wrong with an expression, and where.

use std::fmt;

/// An expression that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExpressionError {
    /// Which character of the expression, from 1.
    pub character: usize,
    /// What is wrong there, and what was expected.
    pub what: String,
}

impl ExpressionError {
    /// A mistake at a byte of the text.
    pub(super) fn new(text: &str, at: usize, what: impl Into<String>) -> Self {
        let character = text.get(..at).map_or(1, |before| before.chars().count() + 1);
        Self { character, what: what.into() }
    }
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.character, self.what)
    }
}

impl std::error::Error for ExpressionError {}
