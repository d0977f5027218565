//! Where a setting was written: files and environment variables, byte ranges in them, and the line and column
//! a person sees. A `Span` is 12 bytes and is kept for every key and value, so lines are found only for errors.
//!
//! Invariant: a `Span` holds byte offsets of character boundaries of its source's text (offsets that are not are
//! moved down to one, so a wrong span can show the wrong place but never panic).

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// Index of a source in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceId(pub(crate) u32);

/// A byte range of one source. Ordered as a person reads: source by source, from top to bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Span {
    pub(crate) source: SourceId,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The empty span at the start of a source: "the file as a whole".
    pub(crate) fn whole(source: SourceId) -> Self {
        Span { source, start: 0, end: 0 }
    }
}

/// What a text came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file, shown as the user named it. `directory` is what relative paths in it are relative to.
    File { shown: String, directory: PathBuf },
    /// An environment variable.
    Variable { name: String, directory: PathBuf },
    /// Built-in defaults: no text to show.
    Defaults { directory: PathBuf },
}

/// One text and its origin.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) origin: Origin,
    pub(crate) text: String,
    /// Where lines begin; made for the first position that is asked for.
    line_starts: OnceCell<Vec<usize>>,
}

impl Source {
    /// The line from 0 that holds an offset, and where it begins.
    fn line_of(&self, offset: usize) -> (usize, usize) {
        let starts = self.line_starts.get_or_init(|| {
            let after = |(at, _): (usize, &str)| at + 1;
            std::iter::once(0).chain(self.text.match_indices('\n').map(after)).collect()
        });
        let line = starts.partition_point(|&start| start <= offset).saturating_sub(1);
        (line, starts.get(line).copied().unwrap_or(0))
    }
}

/// A place as people count: lines and columns from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineColumn {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// All texts that one load read.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    all: Vec<Source>,
}

impl Sources {
    /// Adds a text.
    pub(crate) fn add(&mut self, origin: Origin, text: String) -> SourceId {
        let id = SourceId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(Source { origin, text, line_starts: OnceCell::new() });
        id
    }

    pub(crate) fn get(&self, id: SourceId) -> &Source {
        &self.all[id.0 as usize]
    }

    /// Whether the text is the value of an environment variable, where lists are separated by commas.
    pub(crate) fn is_variable(&self, id: SourceId) -> bool {
        matches!(self.get(id).origin, Origin::Variable { .. })
    }

    /// What a relative path written in this source is relative to.
    pub(crate) fn directory(&self, id: SourceId) -> &Path {
        match &self.get(id).origin {
            Origin::File { directory, .. } | Origin::Variable { directory, .. } | Origin::Defaults { directory } => {
                directory
            }
        }
    }

    /// Line and column of the start of a span.
    pub(crate) fn position(&self, span: Span) -> LineColumn {
        let source = self.get(span.source);
        let start = floor_boundary(&source.text, span.start as usize);
        let (line, line_start) = source.line_of(start);
        LineColumn { line: line + 1, column: source.text[line_start..start].chars().count() + 1 }
    }

    /// The line a span starts on, without its end, and the byte offset at which it begins.
    pub(crate) fn line(&self, span: Span) -> (&str, usize) {
        let source = self.get(span.source);
        let (_, from) = source.line_of(floor_boundary(&source.text, span.start as usize));
        let to = source.text[from..].find('\n').map_or(source.text.len(), |at| from + at);
        (source.text[from..to].trim_end_matches('\r'), from)
    }
}

/// The largest character boundary of `text` that is not above `offset`.
pub(crate) fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
