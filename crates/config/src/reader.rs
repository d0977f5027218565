//! Reading settings out of the tree: each read either gives a value of the right type or reports a problem and goes
//! on, so that one load reports every mistake.
//!
//! A [`MapReader`] remembers which keys were asked for; what is left over is an unknown key, compared with the asked.

use std::cell::Cell;

use crate::problem::{MAX_PROBLEMS, Problem, Problems, Warning};
use crate::render;
use crate::source::{Sources, Span};
use crate::suggest::{did_you_mean, nearest, one_of};
use crate::tree::{Entry, Node, Scalar, Value};

/// Keys listed as alternatives when the right one is known.
const KEYS_SHOWN_MAX: usize = 10;

/// Mistakes after which names are not compared with all others any more.
const SUGGESTIONS_MAX: usize = 100;

/// What all reading shares: the texts, and what was found wrong so far.
pub(crate) struct Check<'s> {
    pub(crate) sources: &'s Sources,
    pub(crate) problems: Problems,
    pub(crate) warnings: Vec<Warning>,
    /// Values that must not be shown.
    pub(crate) secrets: Vec<Span>,
}

/// What a value is for: `port` in `service `blog``.
#[derive(Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) key: &'p str,
    pub(crate) what: &'p str,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.what.is_empty() { write!(f, "`{}`", self.key) } else { write!(f, "`{}` in {}", self.key, self.what) }
    }
}

impl<'s> Check<'s> {
    pub(crate) fn new(sources: &'s Sources, problems: Problems) -> Self {
        Check { sources, problems, warnings: Vec::new(), secrets: Vec::new() }
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(crate) fn warn(&mut self, at: Span, message: impl Into<String>) {
        if self.warnings.len() < MAX_PROBLEMS {
            let place = render::place(at, self.sources);
            self.warnings.push(Warning { place, message: message.into() });
        }
    }

    /// "Did you mean" among names of the user's: there can be many, so only the first mistakes get one.
    pub(crate) fn did_you_mean<'k>(&self, wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
        (self.problems.all.len() < SUGGESTIONS_MAX).then(|| did_you_mean(wrong, known)).flatten()
    }

    /// Reports a value of the wrong type.
    pub(crate) fn wrong_type(&mut self, node: &Node, place: Place<'_>, expected: &str) {
        if self.refuse_vault(node, place) {
            return;
        }
        let at = match node.value {
            // A whole block underlined would be noise.
            Value::List(_) | Value::Map(_) => Span { end: node.at.start.saturating_add(1), ..node.at },
            _ => node.at,
        };
        let mut problem = Problem::new(at, format!("{place} must be {expected}, not {}", node.kind()));
        let number = |scalar: &&Scalar| scalar.quoted && scalar.text.parse::<f64>().is_ok();
        if let Some(scalar) = node.scalar().filter(number).filter(|_| expected.contains("number")) {
            problem = problem.help(format!("write it without quotes: {}", scalar.text));
        }
        self.report(problem);
    }

    /// Refuses a reference to a vault, which may stand in place of any value.
    fn refuse_vault(&mut self, node: &Node, place: Place<'_>) -> bool {
        let is_reference = node.text().is_some_and(|text| text.starts_with("{vault://"));
        if is_reference {
            let message = format!("{place}: vault references are not supported yet");
            let problem = Problem::new(node.at, message);
            self.report(problem.help("write the value itself, or give it in the environment"));
        }
        is_reference
    }

    /// A text. Numbers and truth values are not texts: in YAML `no`, `1.10` or `0x1f` mean surprising things.
    pub(crate) fn text<'n>(&mut self, node: &'n Node, place: Place<'_>) -> Option<&'n str> {
        let Value::Scalar(scalar) = &node.value else {
            self.wrong_type(node, place, "text");
            return None;
        };
        if self.refuse_vault(node, place) {
            return None;
        }
        if !scalar.quoted && !self.sources.is_variable(node.at.source) && scalar.kind() != "text" {
            let problem = Problem::new(node.at, format!("{place} must be text, not {}", scalar.kind()));
            self.report(problem.help(format!("quote it: \"{}\"", scalar.text)));
            return None;
        }
        Some(&scalar.text)
    }

    /// A text of at least one character.
    pub(crate) fn some_text<'n>(&mut self, node: &'n Node, place: Place<'_>) -> Option<&'n str> {
        let text = self.text(node, place)?;
        if text.is_empty() {
            self.report(Problem::new(node.at, format!("{place} is empty")).expected("at least one character"));
            return None;
        }
        Some(text)
    }

    /// A text that is never shown.
    pub(crate) fn secret<'n>(&mut self, node: &'n Node, place: Place<'_>) -> Option<&'n str> {
        self.secrets.push(node.at);
        self.some_text(node, place)
    }

    /// `true` or `false`.
    pub(crate) fn bool(&mut self, node: &Node, place: Place<'_>) -> Option<bool> {
        if let Value::Scalar(scalar) = &node.value {
            if let Some(value) = scalar.as_bool() {
                return Some(value);
            }
            let value = match scalar.text.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "true" | "1" => Some("true"),
                "no" | "off" | "n" | "false" | "0" => Some("false"),
                _ => None,
            };
            if let Some(value) = value {
                let problem = Problem::new(node.at, format!("{place} must be true or false, not `{}`", scalar.text));
                self.report(problem.help(format!("write {value}")));
                return None;
            }
        }
        self.wrong_type(node, place, "true or false");
        None
    }

    /// A whole number in a range.
    pub(crate) fn int(&mut self, node: &Node, place: Place<'_>, min: i64, max: i64) -> Option<i64> {
        let range = format!("a whole number from {min} to {max}");
        let Value::Scalar(scalar) = &node.value else {
            self.wrong_type(node, place, &range);
            return None;
        };
        let variable = self.sources.is_variable(node.at.source);
        match scalar.text.parse::<i64>() {
            Ok(value) if (!scalar.quoted || variable) && (min..=max).contains(&value) => Some(value),
            Ok(value) if !scalar.quoted || variable => {
                self.report(Problem::new(node.at, format!("{place} is out of range: {value}")).expected(range));
                None
            }
            _ => {
                self.wrong_type(node, place, &range);
                None
            }
        }
    }

    /// One of a set of words.
    pub(crate) fn word<T: Copy>(&mut self, node: &Node, place: Place<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, place)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let problem = Problem::new(node.at, format!("{place} cannot be `{text}`")).expected(one_of(&known));
        let help = nearest(text, known.iter().copied()).map(|word| format!("did you mean `{word}`?"));
        self.report(problem.maybe_help(help));
        None
    }

    /// The items of a list; in an environment variable, texts separated by commas.
    pub(crate) fn list<'n>(&mut self, node: &'n Node, place: Place<'_>) -> Option<std::borrow::Cow<'n, [Node]>> {
        match &node.value {
            Value::List(items) => Some(items.as_slice().into()),
            Value::Null => Some(Vec::new().into()),
            Value::Scalar(scalar) if self.sources.is_variable(node.at.source) => {
                Some(split_commas(node.at, scalar).into())
            }
            _ => {
                self.wrong_type(node, place, "a list");
                if let (Some(problem), Some(text)) = (self.problems.all.last_mut(), node.text()) {
                    problem.help = Some(format!("put it in brackets: [{text}]"));
                }
                None
            }
        }
    }

    /// A list whose every item is read by `item`; items that are wrong are reported and left out.
    pub(crate) fn list_of<T>(
        &mut self,
        node: &Node,
        place: Place<'_>,
        mut item: impl FnMut(&mut Self, &Node, Place<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.list(node, place)?;
        Some(items.iter().filter_map(|node| item(self, node, place)).collect())
    }

    /// Opens a map.
    pub(crate) fn map<'n, 'w>(&mut self, node: &'n Node, what: &'w str) -> Option<MapReader<'n, 'w>> {
        match &node.value {
            Value::Map(entries) => Some(MapReader::new(entries, node.at, what)),
            Value::Null => Some(MapReader::new(&[], node.at, what)),
            _ => {
                let at = match node.value {
                    Value::List(_) => Span { end: node.at.start.saturating_add(1), ..node.at },
                    _ => node.at,
                };
                self.report(Problem::new(at, format!("{what} must be a map of `key: value`, not {}", node.kind())));
                None
            }
        }
    }
}

/// The parts of a comma-separated value of an environment variable.
pub(crate) fn split_commas(at: Span, scalar: &Scalar) -> Vec<Node> {
    let part =
        |text: &str| Node { at, value: Value::Scalar(Scalar { text: text.trim().into(), quoted: scalar.quoted }) };
    scalar.text.split(',').filter(|text| !text.trim().is_empty()).map(part).collect()
}

/// A map being read.
pub(crate) struct MapReader<'n, 'w> {
    entries: &'n [Entry],
    at: Span,
    /// What the map is, for messages: "service `blog`".
    pub(crate) what: &'w str,
    used: Vec<Cell<bool>>,
    asked: Vec<&'static str>,
    secret_keys: Vec<&'static str>,
}

impl<'n, 'w> MapReader<'n, 'w> {
    fn new(entries: &'n [Entry], at: Span, what: &'w str) -> Self {
        let used = vec![Cell::new(false); entries.len()];
        MapReader { entries, at, what, used, asked: Vec::new(), secret_keys: Vec::new() }
    }

    /// Where the map begins: for what is missing in it.
    pub(crate) fn at(&self) -> Span {
        let first = self.entries.first().map_or(self.at, |entry| entry.key_at);
        if first.source == self.at.source { first } else { self.at }
    }

    /// The entry under a key. A key without a value counts as absent.
    pub(crate) fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let index = self.entries.iter().position(|entry| &*entry.key == key)?;
        self.used[index].set(true);
        let entry = &self.entries[index];
        (!matches!(entry.value.value, Value::Null)).then_some(entry)
    }

    /// Reads an optional setting.
    pub(crate) fn get<'s, T>(
        &mut self,
        check: &mut Check<'s>,
        key: &'static str,
        read: impl FnOnce(&mut Check<'s>, &'n Node, Place<'_>) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        read(check, &entry.value, Place { key, what: self.what })
    }

    /// Reads a secret setting; its near misses are not shown either.
    pub(crate) fn get_secret(&mut self, check: &mut Check<'_>, key: &'static str) -> Option<&'n str> {
        self.secret_keys.push(key);
        self.get(check, key, |check, node, place| check.secret(node, place))
    }

    /// Whether a key that nobody asked for so far is nearly this one.
    pub(crate) fn is_misspelt(&self, key: &str) -> bool {
        let near = |(entry, used): (&Entry, &Cell<bool>)| !used.get() && nearest(&entry.key, [key]).is_some();
        self.entries.iter().zip(&self.used).any(near)
    }

    /// Reports a setting that must be there and is not; unless it is there misspelt, which is reported as that.
    pub(crate) fn missing(&self, check: &mut Check<'_>, key: &'static str, example: &str) {
        if self.is_misspelt(key) {
            return;
        }
        let problem = Problem::new(self.at(), format!("{} needs `{key}`", self.what));
        check.report(problem.expected(format!("`{key}: {example}`")));
    }

    /// Reads a setting that must be there.
    pub(crate) fn required<'s, T>(
        &mut self,
        check: &mut Check<'s>,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&mut Check<'s>, &'n Node, Place<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.entry(key).is_none() {
            self.missing(check, key, example);
            return None;
        }
        self.get(check, key, read)
    }

    /// Refuses settings that are known but not built yet; saying nothing with them (empty) is accepted.
    pub(crate) fn not_yet(&mut self, check: &mut Check<'_>, keys: &[&'static str]) {
        for key in keys {
            let index = self.entries.iter().position(|entry| &*entry.key == *key);
            let Some(index) = index else { continue };
            self.used[index].set(true);
            let entry = &self.entries[index];
            if !entry.value.is_empty() {
                let message = if self.what.is_empty() {
                    format!("`{key}` is not supported yet")
                } else {
                    format!("`{key}` in {} is not supported yet", self.what)
                };
                check.report(Problem::new(entry.key_at, message));
            }
        }
    }

    /// Whether a key is left that nobody asked for so far: then what seems missing is probably misspelt.
    pub(crate) fn has_unknown(&self) -> bool {
        self.used.iter().any(|used| !used.get())
    }

    /// Accepts keys whose value has no meaning here.
    pub(crate) fn ignore(&mut self, keys: &[&'static str]) {
        for key in keys {
            if let Some(index) = self.entries.iter().position(|entry| &*entry.key == *key) {
                self.used[index].set(true);
            }
        }
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self, check: &mut Check<'_>) {
        for (entry, used) in self.entries.iter().zip(&self.used) {
            if used.get() {
                continue;
            }
            let near = nearest(&entry.key, self.asked.iter().copied());
            if near.is_some_and(|near| self.secret_keys.contains(&near)) {
                check.secrets.push(entry.value.at);
            }
            let message = if self.what.is_empty() {
                format!("unknown key `{}`", entry.key)
            } else {
                format!("unknown key `{}` in {}", entry.key, self.what)
            };
            let mut problem = Problem::new(entry.key_at, message);
            // A long list of all keys beside the right one would hide it.
            if near.is_none() || self.asked.len() <= KEYS_SHOWN_MAX {
                problem = problem.expected(one_of(&self.asked));
            }
            check.report(problem.maybe_help(near.map(|near| format!("did you mean `{near}`?"))));
        }
    }
}
