//! Reading the fields of a record that fits its kind. A field without a value is read as its default.

use super::Refusal;
use entities::{Entity, Kind};
use plugin::Id;
use serde_json::{Map, Value};

/// A record to be read.
pub(super) struct Record {
    pub(super) kind: Kind,
    pub(super) id: Id,
    fields: Map<String, Value>,
}

impl Record {
    pub(super) fn of(entity: &Entity) -> Self {
        Self { kind: entity.kind(), id: entity.id(), fields: entity.record() }
    }

    /// The fields, to be changed and [put back](Self::put_fields).
    pub(super) fn take_fields(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.fields)
    }

    pub(super) fn put_fields(&mut self, fields: Map<String, Value>) {
        self.fields = fields;
    }

    pub(super) fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    pub(super) fn value(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.value(field)?.as_str()
    }

    pub(super) fn string(&self, field: &str) -> Option<String> {
        self.text(field).map(str::to_owned)
    }

    pub(super) fn strings(&self, field: &str) -> Vec<String> {
        texts(self.value(field))
    }

    pub(super) fn flag(&self, field: &str, default: bool) -> bool {
        self.value(field).and_then(Value::as_bool).unwrap_or(default)
    }

    pub(super) fn number<N: TryFrom<i64>>(&self, field: &str, default: N) -> N {
        self.value(field).and_then(Value::as_i64).and_then(|number| N::try_from(number).ok()).unwrap_or(default)
    }

    /// Whether it names services by their names, which may come to mean others or nobody.
    pub(super) fn names_others(&self) -> bool {
        let fallback = self.value("resilience").and_then(|resilience| resilience.get("fallback"));
        self.value("mirror").is_some() || self.value("split").is_some() || fallback.is_some_and(|name| !name.is_null())
    }

    /// The id that a reference leads to.
    pub(super) fn reference(&self, field: &str) -> Option<Id> {
        self.value(field)?.get("id")?.as_str()?.parse().ok()
    }

    /// Refuses a field, or an element of its list.
    pub(super) fn refuse(
        &self,
        refusals: &mut Vec<Refusal>,
        field: &'static str,
        index: Option<usize>,
        reason: impl Into<String>,
    ) {
        let reason = reason.into();
        refusals.push(Refusal { kind: self.kind, id: self.id, field: Some(field), index, reason });
    }
}

/// The texts of a list.
pub(super) fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
