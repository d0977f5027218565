//! How the durable topology is kept in the engine's metadata.
//!
//! A key is, within [`MetaSpace::Topology`], a letter (`v`host, e`x`change, `q`ueue, `b`inding) and names, each behind its length as u16; a value is
//! the version of the format and what the key does not say. Numbers are little-endian. Definite and bounded: a value
//! that does not read exactly to its end is an error, never a guess.

use bytes::Bytes;
use engine::MetaSpace;
use model::limits::TABLE_DEPTH_MAX;
use model::{Table, Value};
use sha2::{Digest, Sha256};

/// Version of the values.
const VERSION: u8 = 1;

/// A key in the making.
#[derive(Debug)]
pub(crate) struct Key(Vec<u8>);

impl Key {
    fn of(letter: u8, names: &[&str]) -> Self {
        let mut key = MetaSpace::Topology.key(&[letter]);
        for name in names {
            put_text(&mut key, name);
        }
        Self(key)
    }

    pub(crate) fn vhost(vhost: &str) -> Self {
        Self::of(b'v', &[vhost])
    }

    pub(crate) fn exchange(vhost: &str, exchange: &str) -> Self {
        Self::of(b'x', &[vhost, exchange])
    }

    pub(crate) fn queue(vhost: &str, queue: &str) -> Self {
        Self::of(b'q', &[vhost, queue])
    }

    /// The arguments are part of a binding's identity; a digest keeps the key short.
    pub(crate) fn binding(vhost: &str, record: &BindingRecord) -> Self {
        let mut key = Self::of(b'b', &[vhost, &record.source, &record.destination, &record.key]);
        let mut arguments = vec![u8::from(record.to_queue)];
        put_table(&mut arguments, &record.arguments);
        key.0.extend_from_slice(&Sha256::digest(&arguments)[..16]);
        key
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What is kept of an exchange.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ExchangeRecord {
    pub(crate) kind: String,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    /// The engine's queue where its messages wait, if it delays them.
    pub(crate) store: Option<u64>,
    pub(crate) arguments: Table,
}

/// What is kept of a queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueueRecord {
    pub(crate) id: u64,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Table,
}

/// What is kept of a binding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BindingRecord {
    pub(crate) source: String,
    pub(crate) to_queue: bool,
    pub(crate) destination: String,
    pub(crate) key: String,
    pub(crate) arguments: Table,
}

/// One record as it was read, with its vhost and name.
#[derive(Debug, PartialEq)]
pub(crate) enum Record {
    Vhost(String),
    Exchange(String, String, ExchangeRecord),
    Queue(String, String, QueueRecord),
    Binding(String, BindingRecord),
}

impl ExchangeRecord {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.push(u8::from(self.auto_delete) | u8::from(self.internal) << 1 | u8::from(self.store.is_some()) << 2);
        if let Some(store) = self.store {
            out.extend_from_slice(&store.to_le_bytes());
        }
        put_text(&mut out, &self.kind);
        put_table(&mut out, &self.arguments);
        out
    }
}

impl QueueRecord {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.id.to_le_bytes());
        out.push(u8::from(self.auto_delete));
        put_table(&mut out, &self.arguments);
        out
    }
}

impl BindingRecord {
    pub(crate) fn value(&self) -> Vec<u8> {
        let mut out = vec![VERSION, u8::from(self.to_queue)];
        put_table(&mut out, &self.arguments);
        out
    }
}

/// The value of a vhost's record.
pub(crate) fn vhost_value() -> [u8; 1] {
    [VERSION]
}

impl Record {
    /// Reads a record by its name within the topology; `None` if it is damaged or of another version.
    pub(crate) fn read(name: &[u8], value: &[u8]) -> Option<Self> {
        let (letter, mut names) = name.split_first()?;
        let (version, mut rest) = value.split_first()?;
        if *version != VERSION {
            return None;
        }
        let value = &mut rest;
        let names = &mut names;
        let vhost = text(names)?;
        let record = match letter {
            b'v' => Self::Vhost(vhost),
            b'x' => {
                let name = text(names)?;
                let flags = byte(value)?;
                let store = if flags & 4 != 0 { Some(u64::from_le_bytes(array(value)?)) } else { None };
                let record = ExchangeRecord {
                    store,
                    kind: text(value)?,
                    auto_delete: flags & 1 != 0,
                    internal: flags & 2 != 0,
                    arguments: table(value, 0)?,
                };
                Self::Exchange(vhost, name, record)
            }
            b'q' => {
                let name = text(names)?;
                let record = QueueRecord {
                    id: u64::from_le_bytes(array(value)?),
                    auto_delete: byte(value)? != 0,
                    arguments: table(value, 0)?,
                };
                Self::Queue(vhost, name, record)
            }
            b'b' => {
                let record = BindingRecord {
                    source: text(names)?,
                    destination: text(names)?,
                    key: text(names)?,
                    to_queue: byte(value)? != 0,
                    arguments: table(value, 0)?,
                };
                *names = names.get(16..)?;
                Self::Binding(vhost, record)
            }
            _ => return None,
        };
        (names.is_empty() && value.is_empty()).then_some(record)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("names are short strings");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("arguments came in one frame");
    out.extend_from_slice(&len.to_le_bytes());
}

/// Writes a table: the number of fields, then names and values.
pub(crate) fn put_table(out: &mut Vec<u8>, table: &Table) {
    put_len(out, table.0.len());
    for (name, value) in table.iter() {
        put_text(out, name);
        put_value(out, value);
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |letter: u8, bytes: &[u8]| {
        out.push(letter);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Void => put(b'V', &[]),
        Value::Bool(b) => put(b't', &[u8::from(*b)]),
        Value::I8(n) => put(b'b', &n.to_le_bytes()),
        Value::U8(n) => put(b'B', &n.to_le_bytes()),
        Value::I16(n) => put(b's', &n.to_le_bytes()),
        Value::U16(n) => put(b'u', &n.to_le_bytes()),
        Value::I32(n) => put(b'I', &n.to_le_bytes()),
        Value::U32(n) => put(b'i', &n.to_le_bytes()),
        Value::I64(n) => put(b'l', &n.to_le_bytes()),
        Value::F32(x) => put(b'f', &x.to_le_bytes()),
        Value::F64(x) => put(b'd', &x.to_le_bytes()),
        Value::Timestamp(n) => put(b'T', &n.to_le_bytes()),
        Value::Decimal { scale, value } => {
            put(b'D', &[*scale]);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Text(bytes) | Value::Bytes(bytes) => {
            let is_text = matches!(value, Value::Text(_));
            put(if is_text { b'S' } else { b'x' }, &[]);
            put_len(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        Value::Table(table) => {
            put(b'F', &[]);
            put_table(out, table);
        }
        Value::Array(values) => {
            put(b'A', &[]);
            put_len(out, values.len());
            for value in values {
                put_value(out, value);
            }
        }
    }
}

fn slice<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(taken)
}

fn array<const N: usize>(from: &mut &[u8]) -> Option<[u8; N]> {
    slice(from, N)?.try_into().ok()
}

fn byte(from: &mut &[u8]) -> Option<u8> {
    array::<1>(from).map(|[b]| b)
}

fn len(from: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(array(from)?)).ok()
}

fn text(from: &mut &[u8]) -> Option<String> {
    let len = u16::from_le_bytes(array(from)?);
    let bytes = slice(from, usize::from(len))?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// Reads a table. Memory is taken as fields are read, so a false count costs nothing.
fn table(from: &mut &[u8], depth: usize) -> Option<Table> {
    if depth > TABLE_DEPTH_MAX {
        return None;
    }
    let fields = len(from)?;
    let mut table = Table::new();
    for _ in 0..fields {
        let name = text(from)?;
        table.0.push((name, value(from, depth)?));
    }
    Some(table)
}

fn value(from: &mut &[u8], depth: usize) -> Option<Value> {
    Some(match byte(from)? {
        b'V' => Value::Void,
        b't' => Value::Bool(byte(from)? != 0),
        b'b' => Value::I8(i8::from_le_bytes(array(from)?)),
        b'B' => Value::U8(byte(from)?),
        b's' => Value::I16(i16::from_le_bytes(array(from)?)),
        b'u' => Value::U16(u16::from_le_bytes(array(from)?)),
        b'I' => Value::I32(i32::from_le_bytes(array(from)?)),
        b'i' => Value::U32(u32::from_le_bytes(array(from)?)),
        b'l' => Value::I64(i64::from_le_bytes(array(from)?)),
        b'f' => Value::F32(f32::from_le_bytes(array(from)?)),
        b'd' => Value::F64(f64::from_le_bytes(array(from)?)),
        b'T' => Value::Timestamp(u64::from_le_bytes(array(from)?)),
        b'D' => Value::Decimal { scale: byte(from)?, value: u32::from_le_bytes(array(from)?) },
        letter @ (b'S' | b'x') => {
            let len = len(from)?;
            let bytes = Bytes::copy_from_slice(slice(from, len)?);
            if letter == b'S' { Value::Text(bytes) } else { Value::Bytes(bytes) }
        }
        b'F' => Value::Table(table(from, depth + 1)?),
        b'A' if depth < TABLE_DEPTH_MAX => {
            let count = len(from)?;
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(value(from, depth + 1)?);
            }
            Value::Array(values)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> Table {
        let inner = Table(vec![("n".into(), Value::I64(-1))]);
        Table(vec![
            ("a".into(), Value::text("x")),
            ("b".into(), Value::Array(vec![Value::Void, Value::U32(7)])),
            ("c".into(), Value::Table(inner)),
            ("d".into(), Value::Decimal { scale: 2, value: 314 }),
        ])
    }

    #[test]
    fn records_read_back_and_reject_damage() {
        let queue = QueueRecord { id: 7, auto_delete: true, arguments: arguments() };
        let key = Key::queue("/", "q");
        let value = queue.value();
        assert_eq!(Record::read(&key.bytes()[1..], &value), Some(Record::Queue("/".into(), "q".into(), queue)));
        for cut in 0..value.len() {
            assert_eq!(Record::read(&key.bytes()[1..], &value[..cut]), None);
        }
        let mut newer = value.clone();
        newer[0] = 2;
        assert_eq!(Record::read(&key.bytes()[1..], &newer), None);

        for store in [None, Some(1 << 40)] {
            let exchange = ExchangeRecord {
                kind: "x-delayed-message".into(),
                auto_delete: false,
                internal: true,
                store,
                arguments: arguments(),
            };
            let key = Key::exchange("/", "x");
            let value = exchange.value();
            let read = |value: &[u8]| Record::read(&key.bytes()[1..], value);
            assert_eq!(read(&value), Some(Record::Exchange("/".into(), "x".into(), exchange)));
            assert_eq!(read(&value[..value.len() - 1]), None);
        }

        let binding = BindingRecord {
            source: "amq.topic".into(),
            to_queue: true,
            destination: "q".into(),
            key: "#".into(),
            arguments: arguments(),
        };
        let key = Key::binding("/", &binding);
        assert_eq!(Record::read(&key.bytes()[1..], &binding.value()), Some(Record::Binding("/".into(), binding)));
    }
}
