//! Errors as text, the way a good compiler shows them: place and message, the line with a caret, what was
//! expected, how to mend it. Secrets are masked. A line longer than a terminal is cut around the caret.

use std::fmt::Write as _;

use crate::problem::{ConfigError, Problem};
use crate::source::{Origin, Sources, Span, floor_boundary};

/// Characters of a source line that are shown; definitions exported by RabbitMQ are one line of megabytes.
const LINE_SHOWN_MAX: usize = 110;
/// Bytes of a line that are looked at to show it.
const LINE_BYTES_MAX: usize = 1024;

/// The offending line and what to underline in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snippet {
    /// The line, cut and masked. Empty: nothing to show.
    line: String,
    /// Characters before the caret.
    indent: usize,
    /// Carets.
    width: usize,
}

/// Turns a span into file, line, column and snippet.
pub(crate) fn resolve(problem: Problem, sources: &Sources, secrets: &[Span]) -> ConfigError {
    let (file, variable) = match &sources.get(problem.at.source).origin {
        Origin::File { shown, .. } => (Some(shown.clone()), None),
        Origin::Variable { name, .. } => (None, Some(name.clone())),
        Origin::Defaults { .. } => (Some("built-in defaults".to_owned()), None),
    };
    let position = sources.position(problem.at);
    let snippet = if file.is_some() { snippet(problem.at, sources, secrets) } else { Snippet::default() };
    ConfigError {
        file,
        variable,
        line: position.line,
        column: position.column,
        message: problem.message,
        expected: problem.expected,
        help: problem.help,
        note: problem.related.map(|(at, label)| format!("{label} at {}", place(at, sources))),
        snippet,
    }
}

/// `file:line:column`, or the name of the variable.
pub(crate) fn place(at: Span, sources: &Sources) -> String {
    match &sources.get(at.source).origin {
        Origin::File { shown, .. } => {
            let position = sources.position(at);
            format!("{shown}:{}:{}", position.line, position.column)
        }
        Origin::Variable { name, .. } => name.clone(),
        Origin::Defaults { .. } => "built-in defaults".to_owned(),
    }
}

fn snippet(at: Span, sources: &Sources, secrets: &[Span]) -> Snippet {
    let (line, line_start) = sources.line(at);
    // Only a window of the line is looked at, so a megabyte in one line stays cheap.
    let caret = floor_boundary(line, (at.start as usize).saturating_sub(line_start));
    let from = floor_boundary(line, caret.saturating_sub(LINE_BYTES_MAX));
    let to = floor_boundary(line, caret.saturating_add(LINE_BYTES_MAX));
    let end = (at.end as usize).saturating_sub(line_start);

    let mut shown = Snippet::default();
    let chars: Vec<(usize, char)> = line[from..to].char_indices().map(|(i, c)| (from + i, c)).collect();
    let caret_index = chars.iter().position(|&(i, _)| i >= caret).unwrap_or(chars.len());
    let first = if caret_index > LINE_SHOWN_MAX * 2 / 3 { caret_index - LINE_SHOWN_MAX / 3 } else { 0 };
    if first > 0 || from > 0 {
        shown.line.push('…');
        shown.indent += 1;
    }
    shown.indent += caret_index - first;
    let last = (first + LINE_SHOWN_MAX).min(chars.len());
    let window = line_start + from..line_start + to;
    let overlaps =
        |s: &&Span| s.source == at.source && (s.start as usize) < window.end && s.end as usize > window.start;
    let secrets: Vec<&Span> = secrets.iter().filter(overlaps).collect();
    for &(i, c) in &chars[first..last] {
        let offset = line_start + i;
        let hidden = secrets.iter().any(|s| (s.start as usize..s.end as usize).contains(&offset));
        shown.line.push(match c {
            _ if hidden => '*',
            '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        });
    }
    if last < chars.len() || to < line.len() {
        shown.line.push('…');
    }
    shown.width = chars[caret_index..last].iter().filter(|&&(i, _)| i < end).count().max(1);
    shown
}

/// The whole report.
pub(crate) fn render(errors: &[ConfigError], left_off: usize, color: bool) -> String {
    let mut out = String::new();
    for error in errors {
        render_one(&mut out, error, Paint { on: color });
        out.push('\n');
    }
    let count = errors.len() + left_off;
    let noun = if count == 1 { "error" } else { "errors" };
    if left_off > 0 {
        let _ = writeln!(out, "{count} {noun} in the configuration, the first {} shown", errors.len());
    } else {
        let _ = writeln!(out, "{count} {noun} in the configuration");
    }
    out
}

fn render_one(out: &mut String, error: &ConfigError, paint: Paint) {
    let place = match (&error.file, &error.variable) {
        (Some(file), _) if error.line == 0 => file.clone(),
        (Some(file), _) => format!("{file}:{}:{}", error.line, error.column),
        (None, Some(variable)) => format!("environment variable {variable}"),
        (None, None) => String::from("configuration"),
    };
    let _ = writeln!(out, "{}: {}", paint.bold(&place), paint.red(&error.message));
    let number = error.line.to_string();
    let gutter = " ".repeat(number.len());
    if !error.snippet.line.is_empty() {
        let _ = writeln!(out, "  {number} | {}", error.snippet.line);
        let carets = "^".repeat(error.snippet.width);
        let _ = writeln!(out, "  {gutter} | {}{}", " ".repeat(error.snippet.indent), paint.red(&carets));
    }
    for (label, text) in [("expected", &error.expected), ("help", &error.help), ("note", &error.note)] {
        if let Some(text) = text {
            let _ = writeln!(out, "  {gutter} = {}: {text}", paint.bold(label));
        }
    }
}

/// ANSI colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    on: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }
}
