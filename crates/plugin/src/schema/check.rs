//! A value against its fields: completed with defaults, and every problem found.

use super::problem::{Problem, ProblemKind, Segment};
use super::{Field, Kind, Syntax, syntax};
use crate::id::Id;
use model::limits::{ENTITY_ITEMS_MAX, ENTITY_PROBLEMS_MAX};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// What `null` means for a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nulls {
    /// The same as leaving it out, and a field without a value is not in the result: what a plugin is given.
    NotGiven,
    /// The same as leaving it out, and the result has every field: a plugin's configuration as it is shown.
    Shown,
    /// No value, even if the field has a default, and the result has every field: as Kong stores and shows entities.
    Kept,
}

/// Completes a record with defaults and checks every field. The record is only meaningful if there are no problems.
#[must_use]
pub fn complete(
    fields: &'static [Field],
    given: &Map<String, Value>,
    nulls: Nulls,
) -> (Map<String, Value>, Vec<Problem>) {
    let mut check = Check { path: Vec::new(), problems: Vec::new(), nulls };
    let record = check.record(fields, given);
    (record, check.problems)
}

/// A step of the way to a value; most are fields, whose names need no copy until there is a problem.
enum Step {
    Field(&'static str),
    Other(Segment),
}

/// A check under way: where it is and what it found.
struct Check {
    path: Vec<Step>,
    problems: Vec<Problem>,
    nulls: Nulls,
}

impl Check {
    fn problem(&mut self, kind: ProblemKind) {
        if self.problems.len() < ENTITY_PROBLEMS_MAX {
            self.problems.push(Problem { path: self.here(), kind });
        }
    }

    /// Whether so many items can be looked at one by one.
    fn has_room_for(&mut self, n_items: usize) -> bool {
        let fits = n_items <= ENTITY_ITEMS_MAX;
        if !fits {
            self.message(format!("length must be at most {ENTITY_ITEMS_MAX}"));
        }
        fits
    }

    fn here(&self) -> Vec<Segment> {
        let segment = |step: &Step| match step {
            Step::Field(name) => Segment::Field((*name).to_owned()),
            Step::Other(segment) => segment.clone(),
        };
        self.path.iter().map(segment).collect()
    }

    fn message(&mut self, message: impl Into<String>) {
        self.problem(ProblemKind::Value { message: message.into(), expected: None });
    }

    /// Does something one step further down.
    fn within<T>(&mut self, step: Step, act: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let result = act(self);
        self.path.pop();
        result
    }

    fn record(&mut self, fields: &'static [Field], given: &Map<String, Value>) -> Map<String, Value> {
        for name in given.keys() {
            if !fields.iter().any(|field| field.name == name) {
                let known = fields.iter().map(|field| field.name).collect();
                self.within(Step::Other(Segment::Field(name.clone())), |check| {
                    check.problem(ProblemKind::UnknownField { known })
                });
            }
        }
        let mut record = Map::new();
        for field in fields {
            let value = self.within(Step::Field(field.name), |check| check.field(field, given.get(field.name)));
            if value.is_some() || (self.nulls != Nulls::NotGiven && !field.transient && !field.ours) {
                record.insert(field.name.to_owned(), value.unwrap_or(Value::Null));
            }
        }
        record
    }

    /// The value of a field, given or by default; `None` is no value.
    fn field(&mut self, field: &'static Field, given: Option<&Value>) -> Option<Value> {
        match given {
            Some(Value::Null) if self.nulls == Nulls::Kept => {
                if field.required {
                    self.problem(ProblemKind::Missing);
                }
                None
            }
            None | Some(Value::Null) => match (field.default.value(), field.kind.fields()) {
                (Some(value), _) => Some(value),
                (None, Some(fields)) if !field.nullable && !field.required => {
                    let record = self.record(fields, &Map::new());
                    (self.nulls != Nulls::NotGiven || !record.is_empty()).then_some(Value::Object(record))
                }
                _ => {
                    if field.required {
                        self.problem(ProblemKind::Missing);
                    }
                    None
                }
            },
            Some(Value::String(text)) if field.referenceable && is_vault_reference(text) => given.cloned(),
            Some(value) => Some(self.value(&field.kind, value)),
        }
    }

    /// Checks one value; what comes back is only used when no problem was found.
    fn value(&mut self, kind: &'static Kind, value: &Value) -> Value {
        match kind {
            Kind::List { of, len_min } => self.list(of, *len_min, value, false),
            Kind::Set { of, len_min } => self.list(of, *len_min, value, true),
            Kind::Map { keys, values } => self.map(keys, values, value),
            Kind::Record(fields) => self.inner(value, |check, map| check.record(fields, map)),
            Kind::RuledRecord(schema) => self.inner(value, |check, map| {
                let record = check.record(schema.fields, map);
                for mut problem in (schema.check)(&record) {
                    problem.path.splice(0..0, check.here());
                    check.problems.push(problem);
                }
                record
            }),
            Kind::Specialised => self.inner(value, |_, map| map.clone()),
            Kind::Foreign(_) => self.foreign(value),
            _ => match scalar(kind, value) {
                Ok(value) => value,
                Err(problem) => {
                    self.problem(problem);
                    value.clone()
                }
            },
        }
    }

    fn inner(
        &mut self,
        value: &Value,
        read: impl FnOnce(&mut Self, &Map<String, Value>) -> Map<String, Value>,
    ) -> Value {
        match value {
            Value::Object(map) => Value::Object(read(self, map)),
            Value::Array(items) if items.is_empty() => Value::Object(read(self, &Map::new())),
            _ => {
                self.message("expected a record");
                value.clone()
            }
        }
    }

    fn list(&mut self, of: &'static Kind, len_min: usize, value: &Value, distinct: bool) -> Value {
        let items = match value {
            Value::Array(items) => items.as_slice(),
            Value::Object(map) if map.is_empty() => &[],
            _ => {
                self.message(if distinct { "expected a set" } else { "expected an array" });
                return value.clone();
            }
        };
        if !self.has_room_for(items.len()) {
            return Value::Array(Vec::new());
        }
        let before = self.problems.len();
        // What a set has already, as text.
        let mut seen: HashSet<String> = HashSet::new();
        let mut list: Vec<Value> = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let item = self.within(Step::Other(Segment::Index(at)), |check| match item {
                Value::Null => {
                    check.problem(ProblemKind::Missing);
                    Value::Null
                }
                item => check.value(of, item),
            });
            if !distinct || seen.insert(item.to_string()) {
                list.push(item);
            }
        }
        if self.problems.len() == before && list.len() < len_min {
            self.message(format!("length must be at least {len_min}"));
        }
        Value::Array(list)
    }

    fn map(&mut self, keys: &'static Kind, values: &'static Kind, value: &Value) -> Value {
        let given = match value {
            Value::Object(map) => map,
            Value::Array(items) if items.is_empty() => return Value::Object(Map::new()),
            _ => {
                self.message("expected a map");
                return value.clone();
            }
        };
        let mut map = Map::new();
        if !self.has_room_for(given.len()) {
            return Value::Object(map);
        }
        for (key, value) in given {
            let value = self.within(Step::Other(Segment::Key(key.clone())), |check| {
                if let Err(problem) = scalar(keys, &Value::from(key.as_str())) {
                    check.problem(problem);
                }
                match value {
                    Value::Null => {
                        check.problem(ProblemKind::Missing);
                        Value::Null
                    }
                    value => check.value(values, value),
                }
            });
            map.insert(key.clone(), value);
        }
        Value::Object(map)
    }

    /// A reference by id; everything else in it is ignored, as in Kong.
    fn foreign(&mut self, value: &Value) -> Value {
        let id = value.get("id");
        let problem = match id {
            Some(Value::String(text)) => match text.parse::<Id>() {
                Ok(id) => return serde_json::json!({ "id": id.to_string() }),
                Err(_) => "expected a valid UUID",
            },
            Some(Value::Null) => "required field missing",
            Some(_) => "expected a string",
            None => "missing primary key",
        };
        self.within(Step::Field("id"), |check| check.message(problem));
        value.clone()
    }
}

/// Whether a text stands for a secret that is kept elsewhere.
#[must_use]
fn is_vault_reference(text: &str) -> bool {
    text.starts_with("{vault://") && text.ends_with('}')
}

fn scalar(kind: &'static Kind, value: &Value) -> Result<Value, ProblemKind> {
    let unlike = |message: &str| Err(ProblemKind::Value { message: message.to_owned(), expected: None });
    match kind {
        Kind::Bool if value.is_boolean() => Ok(value.clone()),
        Kind::Bool => unlike("expected a boolean"),
        Kind::Integer | Kind::Int { .. } | Kind::IntOneOf(_) | Kind::Timestamp => integer(kind, value),
        Kind::Number | Kind::NumberAbove(_) | Kind::NumberIn { .. } | Kind::TimestampMs => number(kind, value),
        _ => match value {
            Value::String(text) => self::text(kind, text),
            _ => unlike("expected a string"),
        },
    }
}

fn integer(kind: &'static Kind, value: &Value) -> Result<Value, ProblemKind> {
    let problem = |message: String| Err(ProblemKind::Value { message, expected: None });
    let Some(number) = whole(value) else { return problem("expected an integer".to_owned()) };
    match kind {
        Kind::Int { min, max } if !(*min..=*max).contains(&number) => {
            problem(format!("value should be between {min} and {max}"))
        }
        Kind::IntOneOf(allowed) if !allowed.contains(&number) => {
            let words: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            problem(format!("expected one of: {}", words.join(", ")))
        }
        Kind::Timestamp if number <= 0 => problem("expected a valid timestamp".to_owned()),
        _ => Ok(Value::from(number)),
    }
}

/// A whole number, also if it is written with a fraction of nothing.
fn whole(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    #[expect(clippy::cast_possible_truncation, reason = "saturates, which is out of any range that is asked for")]
    Some(number as i64)
}

fn number(kind: &'static Kind, value: &Value) -> Result<Value, ProblemKind> {
    let problem = |message: String| Err(ProblemKind::Value { message, expected: None });
    let Some(number) = value.as_f64() else { return problem("expected a number".to_owned()) };
    match kind {
        Kind::NumberAbove(above) if number <= *above => problem(format!("value must be greater than {above}")),
        Kind::NumberIn { min, max } if number < *min || number > *max => {
            problem(format!("value should be between {min} and {max}"))
        }
        Kind::TimestampMs if number <= 0.0 => problem("expected a valid timestamp".to_owned()),
        _ => Ok(value.clone()),
    }
}

/// Checks a text by itself against what a field may hold.
///
/// # Errors
/// What is wrong with it.
pub fn check_text(kind: &'static Kind, text: &str) -> Result<(), ProblemKind> {
    scalar(kind, &Value::from(text)).map(drop)
}

fn text(kind: &'static Kind, text: &str) -> Result<Value, ProblemKind> {
    let like = |rule: &Syntax| {
        let problem = |message| ProblemKind::Value { message, expected: Some(rule.expected) };
        if text.is_empty() {
            return Err(problem("length must be at least 1".to_owned()));
        }
        (rule.check)(text).map_err(problem)
    };
    match kind {
        Kind::OneOf(words) => word(text, words, &[])?,
        Kind::OneOfOrOurs { words, ours } => word(text, words, ours)?,
        Kind::Choice { allowed, refused } => {
            if let Some((word, reason)) = refused.iter().find(|(word, _)| *word == text) {
                return Err(ProblemKind::Other(format!("`{word}` is not available: {reason}")));
            }
            word(text, allowed, &[])?;
        }
        Kind::Uuid => match text.parse::<Id>() {
            Ok(id) => return Ok(Value::from(id.to_string())),
            Err(_) => {
                let expected = Some("such as 4e3ad2e4-0bc4-4638-8e34-c84a417ba39b, or leave it out");
                return Err(ProblemKind::Value { message: "expected a valid UUID".to_owned(), expected });
            }
        },
        Kind::HeaderName => like(&syntax::HEADER_NAME)?,
        Kind::Like(rule) => like(rule)?,
        Kind::Text => like(&syntax::ANYTHING)?,
        _ => {}
    }
    Ok(Value::from(text))
}

fn word(text: &str, known: &'static [&'static str], ours: &'static [&'static str]) -> Result<(), ProblemKind> {
    if known.contains(&text) || ours.contains(&text) {
        return Ok(());
    }
    Err(ProblemKind::UnknownWord { known, ours })
}

#[cfg(test)]
mod tests {
    use super::*;

    static FIELDS: &[Field] = &[Field::optional("set", Kind::Set { of: &Kind::Text, len_min: 0 }, "a set")];

    fn problems(n_items: usize) -> Vec<String> {
        let items: Vec<Value> = (0..n_items).map(|n| Value::from(n.to_string())).collect();
        let given = Map::from_iter([("set".to_owned(), Value::from(items))]);
        complete(FIELDS, &given, Nulls::Kept).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_list_has_a_longest_length_and_problems_an_end() {
        assert_eq!(problems(ENTITY_ITEMS_MAX), Vec::<String>::new());
        assert_eq!(problems(ENTITY_ITEMS_MAX + 1), ["set: length must be at most 10000"]);
        let given = Map::from_iter([("set".to_owned(), Value::from(vec![1; ENTITY_ITEMS_MAX]))]);
        assert_eq!(complete(FIELDS, &given, Nulls::Kept).1.len(), ENTITY_PROBLEMS_MAX);
    }
}
