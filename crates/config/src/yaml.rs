//! YAML (and JSON, which is a subset) into the positioned tree. The one place that knows the YAML parser.
//!
//! Bounded: text size, depth, and nodes including what aliases repeat. Duplicate keys are errors that name the first.
//! Anchors, aliases and `<<` work; tags other than `!!str` and more than one document are refused by name.
//! A syntax error ends the parse, because nothing after it can be trusted; every other mistake is collected.

use std::borrow::Cow;
use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Tag};

use crate::problem::{Problem, Problems};
use crate::source::{SourceId, Span};
use crate::tree::{Entry, Node, Scalar, Value};

/// Bytes of one text.
pub(crate) const TEXT_SIZE_MAX: usize = 64 << 20;
/// Values in one text, counting what aliases repeat: a file of 60,000 routes has about 1.5 million.
const NODES_MAX: usize = 4_000_000;
/// Lists and maps inside each other.
const DEPTH_MAX: usize = 64;
/// Above this many keys, duplicates are looked for with a hash table.
const LINEAR_KEYS_MAX: usize = 16;

/// Parses one text. `None` when nothing useful could be read; the reason is in `problems`.
pub(crate) fn parse(source: SourceId, text: &str, problems: &mut Problems) -> Option<Node> {
    if text.len() > TEXT_SIZE_MAX {
        problems.whole(source, format!("this is {} bytes long, the limit is {TEXT_SIZE_MAX}", text.len()));
        return None;
    }
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEPTH_MAX;
    options.block_nesting_limit = DEPTH_MAX;
    options.simple_key_max_lookahead = 64 * 1024;
    let mut builder = Builder::new(source, text, problems);
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => {
                builder.syntax_error(&error);
                return None;
            }
        };
        match step {
            Ok(true) => {}
            Ok(false) => break,
            Err(problem) => {
                builder.problems.push(problem);
                return None;
            }
        }
    }
    Some(builder.root.unwrap_or(Node { at: Span::whole(source), value: Value::Null }))
}

/// A collection that is not closed yet.
struct Open {
    at: Span,
    anchor: usize,
    /// What it holds so far.
    size: Size,
    kind: OpenKind,
}

/// How large a finished node is.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    /// Levels of collections, 0 for a scalar. Bounded like the depth of the text: aliases of aliases would otherwise
    /// build a tree too deep to walk.
    height: usize,
}

const SCALAR_SIZE: Size = Size { nodes: 1, height: 0 };

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, key: Option<(Box<str>, Span)>, index: HashMap<Box<str>, usize>, merges: Vec<Node> },
}

struct Builder<'t, 'p> {
    source: SourceId,
    text: &'t str,
    problems: &'p mut Problems,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    /// Finished nodes by anchor.
    anchors: HashMap<usize, (Node, Size)>,
    documents: usize,
}

impl<'t, 'p> Builder<'t, 'p> {
    fn new(source: SourceId, text: &'t str, problems: &'p mut Problems) -> Self {
        Builder {
            source,
            text,
            problems,
            open: Vec::new(),
            root: None,
            nodes: 0,
            anchors: HashMap::new(),
            documents: 0,
        }
    }

    /// Takes one event. `false` ends the parse.
    fn event(&mut self, event: Event<'_>, span: granit_parser::Span) -> Result<bool, Problem> {
        let at = self.span(span);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let problem = Problem::new(at, "a second YAML document starts here")
                        .expected("one document in a configuration");
                    self.problems.push(problem.help("remove the `---` line, or move the rest to its own file"));
                    return Ok(false);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = self.scalar(text, style, tag, at);
                self.count(1, at)?;
                self.finish(Node { at, value }, anchor, SCALAR_SIZE)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_tag(tag, at);
                self.push(at, anchor, OpenKind::List(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_tag(tag, at);
                let kind = OpenKind::Map { entries: Vec::new(), key: None, index: HashMap::new(), merges: Vec::new() };
                self.push(at, anchor, kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at)?,
            Event::Alias(id) => self.alias(id, at)?,
            _ => {}
        }
        Ok(true)
    }

    fn span(&self, span: granit_parser::Span) -> Span {
        let offset =
            |marker: granit_parser::Marker| u32::try_from(marker.byte_offset().unwrap_or(0)).unwrap_or(u32::MAX);
        let (start, end) = (offset(span.start), offset(span.end));
        Span { source: self.source, start, end: end.max(start) }
    }

    fn count(&mut self, nodes: usize, at: Span) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(too_many_nodes(at));
        }
        Ok(())
    }

    fn push(&mut self, at: Span, anchor: usize, kind: OpenKind) -> Result<(), Problem> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Problem::new(at, format!("lists and maps are nested more than {DEPTH_MAX} deep")));
        }
        self.open.push(Open { at, anchor, size: Size { nodes: 1, height: 1 }, kind });
        self.count(1, at)
    }

    fn close(&mut self, end: Span) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let at = Span { end: end.end.max(open.at.end), ..open.at };
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Map { mut entries, merges, .. } => {
                for merge in merges {
                    self.merge(&mut entries, merge);
                }
                Value::Map(entries)
            }
        };
        self.finish(Node { at, value }, open.anchor, open.size)
    }

    /// `<<: *base`: the keys of the other map that this one does not have.
    fn merge(&mut self, entries: &mut Vec<Entry>, merge: Node) {
        match merge.value {
            Value::Map(others) => {
                for other in others {
                    if !entries.iter().any(|entry| entry.key == other.key) {
                        entries.push(other);
                    }
                }
            }
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                for item in items {
                    self.merge(entries, item);
                }
            }
            _ => self.problems.push(
                Problem::new(merge.at, "`<<` needs a map, or a list of maps").expected("an alias such as `<<: *base`"),
            ),
        }
    }

    fn alias(&mut self, id: usize, at: Span) -> Result<(), Problem> {
        let Some((node, size)) = self.anchors.get(&id) else {
            return Err(Problem::new(at, "this alias refers to a value that contains it"));
        };
        let size = *size;
        if self.open.len() + size.height > DEPTH_MAX {
            return Err(Problem::new(
                at,
                format!("with this alias, lists and maps are nested more than {DEPTH_MAX} deep"),
            ));
        }
        // Counted before it is copied: aliases of aliases grow exponentially.
        if self.nodes + size.nodes > NODES_MAX {
            return Err(too_many_nodes(at));
        }
        let node = node.clone();
        self.nodes += size.nodes;
        self.finish(node, 0, size)
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, tag: Option<Cow<'_, Tag>>, at: Span) -> Value {
        let mut quoted = style != ScalarStyle::Plain;
        match tag {
            Some(tag) if tag.is_yaml_core_schema_tag("str") => quoted = true,
            other => self.refuse_tag(other, at),
        }
        if !quoted && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
            return Value::Null;
        }
        Value::Scalar(Scalar { text: text.into(), quoted })
    }

    fn refuse_tag(&mut self, tag: Option<Cow<'_, Tag>>, at: Span) {
        if tag.is_some() {
            let problem = Problem::new(at, "YAML tags are not supported").expected("a value without `!` in front");
            self.problems.push(problem.help("quote the value if the `!` belongs to it"));
        }
    }

    /// A node is complete: it becomes the root, an item, a key or the value of a key.
    fn finish(&mut self, node: Node, anchor: usize, size: Size) -> Result<(), Problem> {
        if anchor != 0 {
            // The copy is counted too: it is memory.
            self.count(size.nodes, node.at)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.size.nodes += size.nodes;
        open.size.height = open.size.height.max(size.height + 1);
        match &mut open.kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Map { entries, key, index, merges } => match key.take() {
                None => *key = Some(key_of(node)?),
                Some((name, _)) if &*name == "<<" => merges.push(node),
                Some((name, key_at)) => insert(self.problems, entries, index, Entry { key: name, key_at, value: node }),
            },
        }
        Ok(())
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let offset = error.marker().byte_offset().unwrap_or(0).min(self.text.len());
        let start = u32::try_from(offset).unwrap_or(u32::MAX);
        let at = Span { source: self.source, start, end: start.saturating_add(1) };
        let mut problem = Problem::new(at, format!("this is not valid YAML: {}", error.info()));
        let line_start = self.text.as_bytes()[..offset].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let line = &self.text.as_bytes()[line_start..];
        let indent = line.iter().position(|&b| b != b' ' && b != b'\t').unwrap_or(line.len());
        if line[..indent].contains(&b'\t') {
            problem = problem.help("YAML is indented with spaces, and this line begins with a tab");
        }
        self.problems.push(problem);
    }
}

fn too_many_nodes(at: Span) -> Problem {
    Problem::new(at, format!("more than {NODES_MAX} values, counting what aliases repeat"))
}

/// Keys are texts.
fn key_of(node: Node) -> Result<(Box<str>, Span), Problem> {
    match node.value {
        Value::Scalar(scalar) => Ok((scalar.text, node.at)),
        Value::Null => Ok((Box::from(""), node.at)),
        _ => Err(Problem::new(node.at, "a key must be a word, not a list or a map").expected("`key: value`")),
    }
}

/// Adds an entry unless its key is there already, which is reported.
fn insert(problems: &mut Problems, entries: &mut Vec<Entry>, index: &mut HashMap<Box<str>, usize>, entry: Entry) {
    let first = if entries.len() < LINEAR_KEYS_MAX {
        entries.iter().find(|other| other.key == entry.key)
    } else {
        if index.is_empty() {
            index.extend(entries.iter().enumerate().map(|(i, entry)| (entry.key.clone(), i)));
        }
        index.get(&entry.key).map(|&i| &entries[i])
    };
    if let Some(first) = first {
        let problem = Problem::new(entry.key_at, format!("the key `{}` is given twice", entry.key));
        problems.push(problem.help("keep one of the two").related(first.key_at, "first given"));
        return;
    }
    if entries.len() >= LINEAR_KEYS_MAX {
        index.insert(entry.key.clone(), entries.len());
    }
    entries.push(entry);
}
