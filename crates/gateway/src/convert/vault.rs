//! References to vaults: `{vault://env/NAME}`, `{vault://my-prefix/NAME/key}` in the place of a value.
//!
//! They are resolved while a configuration becomes a snapshot, and only there: what is stored and shown is the reference.
//! Kong resolves late, and goes on with an empty value if it cannot; here the configuration is refused, for an empty secret is
//! seldom what was meant. A reference in a field that may not have one is refused too, where Kong takes it for the value.
//! The one kind of vault is `env`, the process's environment. Reference: Kong 3.10, `kong.vault`.

use super::{Record, Refusal, Sources};
use entities::{Kind, Store};
use model::Secret;
use percent_encoding::percent_decode_str;
use plugin::{Field, Kind as FieldKind, Segment, schema};
use serde_json::{Map, Value};
use std::collections::HashMap;

const BEGIN: &str = "{vault://";
/// The vault that needs no entity.
const ENV: &str = "env";
/// Kinds of vaults that Kong Enterprise has.
const ENTERPRISE: [&str; 5] = ["aws", "azure", "conjur", "gcp", "hcv"];

/// The vaults of a store, and what they read.
pub(super) struct Vaults<'s> {
    /// What the names of variables begin with, by the vault's own name in references.
    begins: HashMap<String, String>,
    sources: Sources<'s>,
}

/// A record's references: where in the record, and what they may be.
struct Walk<'w, 's> {
    vaults: &'w Vaults<'s>,
    record: &'w Record,
    field: &'static str,
    secrets: Vec<Secret>,
    refusals: &'w mut Vec<Refusal>,
}

/// The parts of a reference.
#[derive(PartialEq, Eq, Debug)]
struct Reference {
    vault: String,
    resource: String,
    key: Option<String>,
    /// Instead of the vault's own.
    begin: Option<String>,
    is_previous: bool,
}

/// Whether a stored text may contain a reference.
pub(super) fn may_refer(text: &str) -> bool {
    text.contains(BEGIN)
}

impl<'s> Vaults<'s> {
    pub(super) fn of(store: &Store, sources: Sources<'s>) -> Self {
        let vault = |record: Map<String, Value>| {
            let config = record.get("config").and_then(|config| config.get("prefix"));
            let begin = config.and_then(Value::as_str).unwrap_or_default().to_owned();
            Some((record.get("prefix")?.as_str()?.to_owned(), begin))
        };
        let begins = store.iter(Kind::Vaults).filter_map(|entity| vault(entity.record())).collect();
        Self { begins, sources }
    }

    /// Puts what references stand for in their places; returns that, in order.
    pub(super) fn resolve(&self, record: &mut Record, refusals: &mut Vec<Refusal>) -> Vec<Secret> {
        let mut fields = record.take_fields();
        let plugin = fields.get("name").and_then(Value::as_str).and_then(|name| self.sources.registry.find(name));
        let config = plugin.map(|(_, plugin)| plugin.schema().fields);
        let mut walk = Walk { vaults: self, record, field: "", secrets: Vec::new(), refusals };
        for field in record.kind.fields() {
            let Some(value) = fields.get_mut(field.name) else { continue };
            walk.field = field.name;
            let inner = match field.kind {
                FieldKind::Specialised => config,
                _ => field.kind.fields(),
            };
            walk.value(field.referenceable, inner, value, "");
        }
        let secrets = walk.secrets;
        if let Some((_, plugin)) = plugin.filter(|_| !secrets.is_empty() && record.kind == Kind::Plugins) {
            let config = fields.get("config").and_then(Value::as_object).map(schema::without_nulls).unwrap_or_default();
            // Who says what is wrong with a value says the value.
            for problem in plugin.schema().resolve(&Value::Object(config)).err().unwrap_or_default() {
                let name = |segment: &Segment| match segment {
                    Segment::Field(name) | Segment::Key(name) => name.clone(),
                    Segment::Index(at) => at.to_string(),
                };
                let at: Vec<String> = problem.path.iter().map(name).collect();
                record.refuse(refusals, "config", None, format!("{}: what the vault has does not fit", at.join(".")));
            }
        }
        record.put_fields(fields);
        secrets
    }

    /// What a reference stands for.
    fn get(&self, text: &str) -> Result<String, String> {
        let reference = Reference::parse(text)?;
        let Reference { vault, resource, key, begin, is_previous } = &reference;
        let begin = match (self.begins.get(vault), begin) {
            (None, _) if vault != ENV => {
                let is_known = ENTERPRISE.contains(&vault.as_str());
                let more = if is_known { "; vaults of that kind are Kong Enterprise's" } else { "" };
                return Err(format!("there is no vault `{vault}`{more}"));
            }
            (_, Some(begin)) => begin,
            (Some(begin), None) => begin,
            (None, None) => "",
        };
        let mut name = format!("{begin}{resource}").replace('-', "_").to_ascii_uppercase();
        if *is_previous {
            name.push_str("_PREVIOUS");
        }
        let Some(value) = (self.sources.variable)(&name) else {
            return Err(format!("the environment has no variable `{name}`"));
        };
        let Some(key) = key else { return Ok(value) };
        let Ok(Value::Object(mut json)) = serde_json::from_str(&value) else {
            return Err(format!("the variable `{name}` has no JSON object, so no `{key}` in it"));
        };
        match json.remove(key) {
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(format!("`{key}` in the variable `{name}` is no text")),
            None => Err(format!("the variable `{name}` has no `{key}` in it")),
        }
    }
}

impl Walk<'_, '_> {
    /// `inner` are the fields of a record, `path` is where in the field this is.
    fn value(&mut self, referenceable: bool, inner: Option<&'static [Field]>, value: &mut Value, path: &str) {
        match value {
            Value::String(text) if text.starts_with(BEGIN) && text.ends_with('}') => {
                let resolved = match referenceable {
                    true => self.vaults.get(text).map_err(|why| format!("cannot resolve {text}: {why}")),
                    false => Err("no reference to a vault can stand here".to_owned()),
                };
                match resolved {
                    Ok(resolved) => {
                        self.secrets.push(Secret::new(resolved.clone()));
                        *text = resolved;
                    }
                    Err(why) => {
                        let at = if path.is_empty() { String::new() } else { format!("{path}: ") };
                        self.record.refuse(self.refusals, self.field, None, at + &why);
                    }
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    let field = inner.into_iter().flatten().find(|field| field.name == name);
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let inner = field.and_then(|field| field.kind.fields());
                    self.value(field.is_some_and(|field| field.referenceable), inner, value, &path);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(false, None, item, path)),
            _ => {}
        }
    }
}

impl Reference {
    fn parse(text: &str) -> Result<Self, String> {
        let inside = text.strip_prefix(BEGIN).and_then(|text| text.strip_suffix('}')).ok_or("it is no reference")?;
        let (inside, version) = inside.split_once('#').unwrap_or((inside, "1"));
        let version: u32 = version.parse().map_err(|_| "its version is no number")?;
        let (inside, query) = inside.split_once('?').unwrap_or((inside, ""));
        let (vault, path) = inside.split_once('/').unwrap_or((inside, ""));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (resource, key) = match parts.as_slice() {
            [] => return Err("it names nothing in the vault".to_owned()),
            [resource] => (decoded(resource), None),
            all if path.ends_with('/') => (decoded(&all.join("/")), None),
            [all @ .., key] => (decoded(&all.join("/")), Some(decoded(key))),
        };
        let mut begin = None;
        for option in query.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("prefix", value)) => begin = Some(decoded(value)),
                _ => return Err(format!("it has an option other than `prefix`: `{option}`")),
            }
        }
        Ok(Self { vault: vault.to_owned(), resource, key, begin, is_previous: version == 2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_kong_reads_them() {
        let read = |text: &str| {
            let it = Reference::parse(text)?;
            Ok::<_, String>(
                [Some(it.vault), Some(it.resource), it.key, it.begin].map(Option::unwrap_or_default).join(" "),
            )
        };
        assert_eq!(read("{vault://env/my-secret}"), Ok("env my-secret  ".to_owned()));
        assert_eq!(read("{vault://my-env/a%2Fb/key?prefix=X_#1}"), Ok("my-env a/b key X_".to_owned()));
        assert_eq!(read("{vault://env/a/b/c}"), Ok("env a/b c ".to_owned()));
        assert_eq!(read("{vault://env/a/b/}"), Ok("env a/b  ".to_owned()));
        assert!(Reference::parse("{vault://env/a#2}").unwrap().is_previous);
        for bad in ["{vault://env}", "{vault://env/}", "{vault://env/a#x}", "{vault://env/a?ttl=1}", "{vault://}", "x"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
