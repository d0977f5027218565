//! One mistake in a configuration, and all of them together.
//!
//! A problem says what is wrong and where, what was expected there and how to mend it. Rendering is in `render`.

use std::fmt;

use crate::render;
use crate::source::{SourceId, Sources, Span};

/// A mistake, still pointing into the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Span,
    pub(crate) message: String,
    /// What may stand there.
    pub(crate) expected: Option<String>,
    /// How to mend it.
    pub(crate) help: Option<String>,
    /// Another place this is about, and what is there.
    pub(crate) related: Option<(Span, &'static str)>,
}

impl Problem {
    pub(crate) fn new(at: Span, message: impl Into<String>) -> Self {
        Problem { at, message: message.into(), expected: None, help: None, related: None }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        if help.is_some() {
            self.help = help;
        }
        self
    }

    pub(crate) fn related(mut self, at: Span, label: &'static str) -> Self {
        self.related = Some((at, label));
        self
    }
}

/// One mistake, resolved to what a person or a program needs to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as the user named it; absent for a mistake in an environment variable.
    pub file: Option<String>,
    /// The environment variable; absent for a mistake in a file.
    pub variable: Option<String>,
    /// From 1; 0 when the file could not be read at all.
    pub line: usize,
    /// From 1, in characters; 0 when the file could not be read at all.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What may stand there.
    pub expected: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
    /// Another place this is about, such as the first of two equal names.
    pub note: Option<String>,
    /// The line shown with its caret, several lines of text; empty when there is nothing to show.
    pub(crate) snippet: render::Snippet,
}

/// Every mistake of a configuration, in the order of the text. Never empty.
///
/// `Display` is for a terminal without colour; see [`Errors::render`] and [`Errors::to_json`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    errors: Vec<ConfigError>,
    /// How many more there were than [`MAX_PROBLEMS`].
    left_off: usize,
}

/// Mistakes kept; a file with more is shown the first of them and told how many are left.
pub(crate) const MAX_PROBLEMS: usize = 1_000;

impl Errors {
    /// A mistake that has no place in a text: a file that cannot be read.
    pub(crate) fn unreadable(shown: String, message: String, help: Option<String>) -> Self {
        Errors {
            errors: vec![ConfigError {
                file: Some(shown),
                variable: None,
                line: 0,
                column: 0,
                message,
                expected: None,
                help,
                note: None,
                snippet: render::Snippet::default(),
            }],
            left_off: 0,
        }
    }

    /// Sorts, removes repeats and resolves positions. `secrets` are never shown.
    pub(crate) fn resolve(mut problems: Vec<Problem>, sources: &Sources, secrets: &[Span]) -> Self {
        problems.sort_by(|a, b| (a.at, &a.message).cmp(&(b.at, &b.message)));
        problems.dedup_by(|a, b| a.at == b.at && a.message == b.message);
        let left_off = problems.len().saturating_sub(MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        let errors = problems.into_iter().map(|problem| render::resolve(problem, sources, secrets)).collect();
        Errors { errors, left_off }
    }

    /// The mistakes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.errors.len() + self.left_off
    }

    /// The text for a terminal, with ANSI colours if asked.
    pub fn render(&self, color: bool) -> String {
        render::render(&self.errors, self.left_off, color)
    }

    /// For machines: `{"errors": [{"file", "line", "column", "message", …}], "count": n}`.
    pub fn to_json(&self) -> serde_json::Value {
        let errors: Vec<serde_json::Value> = self.errors.iter().map(ConfigError::to_json).collect();
        serde_json::json!({ "errors": errors, "count": self.count() })
    }
}

impl ConfigError {
    fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.file, "variable": self.variable, "line": self.line, "column": self.column,
            "message": self.message, "expected": self.expected, "help": self.help, "note": self.note,
        })
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Errors {}

/// Something that works but is probably not meant, or is ignored on purpose. One line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `file:line:column` or the name of the variable.
    pub place: String,
    /// What was noticed.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Collects problems up to a bound, so a huge file full of mistakes stays cheap.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) all: Vec<Problem>,
}

impl Problems {
    /// Problems kept before sorting: enough that the first [`MAX_PROBLEMS`] of the text are among them in practice.
    const COLLECTED_MAX: usize = 50_000;

    pub(crate) fn push(&mut self, problem: Problem) {
        if self.all.len() < Self::COLLECTED_MAX {
            self.all.push(problem);
        }
    }

    /// A problem with a whole source.
    pub(crate) fn whole(&mut self, source: SourceId, message: impl Into<String>) {
        self.push(Problem::new(Span::whole(source), message));
    }
}
