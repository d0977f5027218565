//! Typed values of headers and arguments, wide enough that an AMQP 0-9-1 field table survives a round trip.
//!
//! Invariants: a [`Table`] keeps the order it was given; names are at most 255 bytes (AMQP short strings) by
//! the codec that made them.

use bytes::Bytes;
use std::fmt;

/// One value. The variants are the field types RabbitMQ accepts (AMQP 0-9-1 §4.2.5.5 with its errata).
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `V`: no value.
    Void,
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` and `L`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value / 10^scale`.
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// The unscaled value.
        value: u32,
    },
    /// `S`: a long string; usually UTF-8, not always.
    Text(Bytes),
    /// `x`: bytes.
    Bytes(Bytes),
    /// `T`: seconds since the epoch.
    Timestamp(u64),
    /// `F`
    Table(Table),
    /// `A`
    Array(Vec<Value>),
}

/// An ordered list of named values.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Table(pub Vec<(String, Value)>);

impl Value {
    /// A text value.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The value as text, if it is text and UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The value as an integer, whatever integer type carries it.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    /// The name of the type as RabbitMQ prints it in `inequivalent arg` texts.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::Text(_) => "longstr",
            Self::Bytes(_) => "binary",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Array(_) => "array",
        }
    }

    /// Whether two values are the same argument: integers compare by value whatever their type.
    #[must_use]
    pub fn same_argument(&self, other: &Self) -> bool {
        match (self.as_integer(), other.as_integer()) {
            (Some(a), Some(b)) => a == b,
            _ => self == other,
        }
    }
}

/// The value as an error text prints it: text bare, numbers in decimal, the rest in brackets.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("undefined"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::F32(x) => write!(f, "{x}"),
            Self::F64(x) => write!(f, "{x}"),
            Self::Decimal { scale, value } => write!(f, "{value}e-{scale}"),
            Self::Text(bytes) | Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::Timestamp(n) => write!(f, "{n}"),
            Self::Table(table) => write!(f, "{{{} fields}}", table.0.len()),
            Self::Array(values) => write!(f, "[{} values]", values.len()),
            integer => write!(f, "{}", integer.as_integer().unwrap_or_default()),
        }
    }
}

impl Table {
    /// A table without fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Sets the value of that name, keeping its place if it was there.
    pub fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some(field) => field.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Takes out the first value of that name.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }
}
