//! Rules over several fields of an entity. Each adds what Kong adds: a message about the entity, one about a field, or
//! both. A field's own problem gives way to a rule's about it.

use plugin::{Problem, ProblemKind, Segment};
use serde_json::{Map, Value};

/// An entity with its defaults, under check.
pub(crate) struct Rules<'r> {
    record: &'r Map<String, Value>,
    problems: &'r mut Vec<Problem>,
    /// Kong says so when a rule fails on a change.
    updating: bool,
    now: i64,
}

impl<'r> Rules<'r> {
    pub(crate) fn new(
        record: &'r Map<String, Value>,
        problems: &'r mut Vec<Problem>,
        updating: bool,
        now: i64,
    ) -> Self {
        Self { record, problems, updating, now }
    }

    /// Seconds since 1970.
    pub(crate) const fn now(&self) -> i64 {
        self.now
    }

    /// The value of a field; `null` is none.
    pub(crate) fn value(&self, field: &str) -> Option<&'r Value> {
        self.record.get(field).filter(|value| !value.is_null())
    }

    /// The text in a field.
    pub(crate) fn text(&self, field: &str) -> Option<&'r str> {
        self.value(field).and_then(Value::as_str)
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, field: &str) -> impl Iterator<Item = &'r str> + use<'r> {
        self.value(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whether a field has a value that says something: not an empty text, list or map.
    pub(crate) fn is_set(&self, field: &str) -> bool {
        match self.value(field) {
            None => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(map)) => !map.is_empty(),
            Some(_) => true,
        }
    }

    /// Whether something about the field is wrong already.
    pub(crate) fn has_problem(&self, field: &str) -> bool {
        self.problems.iter().any(|problem| is_of(problem, field))
    }

    /// Something about the entity as a whole.
    pub(crate) fn entity(&mut self, message: impl Into<String>) {
        self.problems.push(Problem { path: Vec::new(), kind: ProblemKind::Rule(message.into()) });
    }

    /// Something about a field.
    pub(crate) fn field(&mut self, field: &str, message: impl Into<String>) {
        self.put(field, ProblemKind::Value { message: message.into(), expected: None });
    }

    /// Something about a field, with what may stand there.
    pub(crate) fn field_with_example(&mut self, field: &str, message: String, expected: &'static str) {
        self.put(field, ProblemKind::Value { message, expected: Some(expected) });
    }

    fn put(&mut self, field: &str, kind: ProblemKind) {
        self.problems.retain(|problem| !is_of(problem, field));
        self.problems.push(Problem { path: vec![Segment::Field(field.to_owned())], kind });
    }

    /// Something about a field that makes everything else that was found moot.
    pub(crate) fn only(&mut self, field: &str, message: String) {
        self.problems.clear();
        self.field(field, message);
    }

    fn failed_given(&mut self, field: &str) {
        self.entity(format!("failed conditional validation given value of field '{field}'"));
    }

    /// Given the value of `field`, `other` must have none.
    pub(crate) fn null_given(&mut self, field: &str, other: &str) {
        if self.value(other).is_some() {
            self.field(other, "value must be null");
            self.failed_given(field);
        }
    }

    /// Given the value of `field`, `other` must have one.
    pub(crate) fn required_given(&mut self, field: &str, other: &str) {
        if self.value(other).is_none() {
            self.put(other, ProblemKind::Missing);
            self.failed_given(field);
        }
    }

    /// Given the value of `field`, `other` must be one of these words, or have none.
    pub(crate) fn one_of_given(&mut self, field: &str, other: &str, words: &'static [&'static str]) {
        let Some(value) = self.value(other) else { return };
        if !words.iter().any(|word| value == word) {
            if value.is_string() {
                self.put(other, ProblemKind::UnknownWord { known: words, ours: &[] });
            } else {
                self.field(other, "expected a string");
            }
            self.failed_given(field);
        }
    }

    /// At least one of the fields must say something.
    pub(crate) fn at_least_one_of(&mut self, fields: &[&str]) {
        if !fields.iter().any(|field| self.is_set(field)) {
            let when = if self.updating { "when updating, " } else { "" };
            let message = format!("{when}at least one of these fields must be non-empty: {}", quoted(fields));
            self.entity(message);
        }
    }

    /// The fields must differ where they say something.
    pub(crate) fn distinct(&mut self, fields: &[&str]) {
        let set: Vec<&Value> = fields.iter().filter(|field| self.is_set(field)).filter_map(|f| self.value(f)).collect();
        if set.iter().enumerate().any(|(at, value)| set[..at].contains(value)) {
            self.entity(format!("values of these fields must be distinct: {}", quoted(fields)));
        }
    }
}

fn is_of(problem: &Problem, field: &str) -> bool {
    matches!(problem.path.first(), Some(Segment::Field(name)) if name == field)
}

fn quoted(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("'{field}'")).collect::<Vec<_>>().join(", ")
}
