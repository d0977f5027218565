//! Field tables and arrays (§4.2.5.5, with the types RabbitMQ reads).
//!
//! Invariants: nothing is nested deeper than `TABLE_DEPTH_MAX`, so recursion is bounded; nothing is allocated from a
//! length that was not checked against the bytes that are there. Names that are not UTF-8 are read with replacement
//! characters; the bytes of a message that passes through are untouched.

use super::reader::{Malformed, Reader};
use bytes::Bytes;
use model::limits::{NAME_BYTES_MAX, TABLE_DEPTH_MAX};
use model::{Table, Value};

/// Reads the content of a table, without its length.
pub(crate) fn decode(content: &[u8]) -> Result<Table, Malformed> {
    decode_at(content, TABLE_DEPTH_MAX)
}

/// `levels` counts the tables and arrays that may still be opened, this one included.
fn decode_at(content: &[u8], levels: usize) -> Result<Table, Malformed> {
    let levels = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
    let mut reader = Reader::new(content);
    let mut fields = Vec::new();
    while !reader.is_empty() {
        let name = String::from_utf8_lossy(reader.short()?).into_owned();
        fields.push((name, value(&mut reader, levels)?));
    }
    Ok(Table(fields))
}

fn array(content: &[u8], levels: usize) -> Result<Vec<Value>, Malformed> {
    let levels = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
    let mut reader = Reader::new(content);
    let mut values = Vec::new();
    while !reader.is_empty() {
        values.push(value(&mut reader, levels)?);
    }
    Ok(values)
}

fn value(reader: &mut Reader<'_>, levels: usize) -> Result<Value, Malformed> {
    Ok(match reader.u8()? {
        b'V' => Value::Void,
        b't' => Value::Bool(reader.u8()? != 0),
        b'b' => Value::I8(reader.u8()?.cast_signed()),
        b'B' => Value::U8(reader.u8()?),
        b's' => Value::I16(reader.u16()?.cast_signed()),
        b'u' => Value::U16(reader.u16()?),
        b'I' => Value::I32(reader.u32()?.cast_signed()),
        b'i' => Value::U32(reader.u32()?),
        b'l' | b'L' => Value::I64(reader.u64()?.cast_signed()),
        b'f' => Value::F32(f32::from_bits(reader.u32()?)),
        b'd' => Value::F64(f64::from_bits(reader.u64()?)),
        b'D' => Value::Decimal { scale: reader.u8()?, value: reader.u32()? },
        b'S' => Value::Text(Bytes::copy_from_slice(reader.long()?)),
        b'x' => Value::Bytes(Bytes::copy_from_slice(reader.long()?)),
        b'T' => Value::Timestamp(reader.u64()?),
        b'F' => Value::Table(decode_at(reader.long()?, levels)?),
        b'A' => Value::Array(array(reader.long()?, levels)?),
        letter => return Err(Malformed::UnknownFieldType(letter)),
    })
}

/// The name of a field type as RabbitMQ prints it.
pub(crate) fn type_name(letter: u8) -> &'static str {
    let empty = [letter, 0, 0, 0, 0, 0, 0, 0, 0];
    let value = value(&mut Reader::new(&empty), TABLE_DEPTH_MAX);
    value.map_or("unknown", |value| value.type_name())
}

/// A field of a table that was only looked over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawField<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) letter: u8,
    /// The value behind the letter; of strings, tables and arrays without their length.
    pub(crate) content: &'a [u8],
    /// Where the field starts in the content of its table, and its length.
    pub(crate) at: (usize, usize),
}

/// Checks the content of a table without building it and shows its outermost fields to `see`.
pub(crate) fn check<'a>(content: &'a [u8], mut see: impl FnMut(RawField<'a>)) -> Result<(), Malformed> {
    let mut reader = Reader::new(content);
    while !reader.is_empty() {
        let start = content.len() - reader.remaining();
        let name = reader.short()?;
        let (letter, value) = skip(&mut reader, TABLE_DEPTH_MAX - 1)?;
        let end = content.len() - reader.remaining();
        see(RawField { name, letter, content: value, at: (start, end - start) });
    }
    Ok(())
}

/// The values of a checked array that are text.
pub(crate) fn texts(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut reader = Reader::new(content);
    std::iter::from_fn(move || {
        while !reader.is_empty() {
            let (letter, value) = skip(&mut reader, TABLE_DEPTH_MAX).ok()?;
            if letter == b'S' {
                return Some(value);
            }
        }
        None
    })
}

/// Steps over one value; `levels` as for [`decode_at`].
fn skip<'a>(reader: &mut Reader<'a>, levels: usize) -> Result<(u8, &'a [u8]), Malformed> {
    let letter = reader.u8()?;
    let content = match letter {
        b'V' => &[],
        b't' | b'b' | b'B' => reader.take(1)?,
        b's' | b'u' => reader.take(2)?,
        b'I' | b'i' | b'f' => reader.take(4)?,
        b'l' | b'L' | b'd' | b'T' => reader.take(8)?,
        b'D' => reader.take(5)?,
        b'S' | b'x' => reader.long()?,
        b'F' | b'A' => {
            let content = reader.long()?;
            let levels = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
            let mut inner = Reader::new(content);
            while !inner.is_empty() {
                if letter == b'F' {
                    inner.short()?;
                }
                skip(&mut inner, levels)?;
            }
            content
        }
        letter => return Err(Malformed::UnknownFieldType(letter)),
    };
    Ok((letter, content))
}

/// Writes a table with its length.
pub(crate) fn encode(table: &Table, out: &mut Vec<u8>) {
    with_length(out, |out| {
        for (name, value) in table.iter() {
            encode_short(name, out);
            encode_value(value, out);
        }
    });
}

/// Writes a short string; what is longer than 255 bytes is cut at a character.
pub(crate) fn encode_short(text: &str, out: &mut Vec<u8>) {
    let cut = &text[..text.floor_char_boundary(NAME_BYTES_MAX)];
    out.push(u8::try_from(cut.len()).expect("cut to 255 bytes"));
    out.extend_from_slice(cut.as_bytes());
}

fn encode_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Void => out.push(b'V'),
        Value::Bool(b) => out.extend_from_slice(&[b't', u8::from(*b)]),
        Value::I8(n) => out.extend_from_slice(&[b'b', n.cast_unsigned()]),
        Value::U8(n) => out.extend_from_slice(&[b'B', *n]),
        Value::I16(n) => tagged(b's', &n.to_be_bytes(), out),
        Value::U16(n) => tagged(b'u', &n.to_be_bytes(), out),
        Value::I32(n) => tagged(b'I', &n.to_be_bytes(), out),
        Value::U32(n) => tagged(b'i', &n.to_be_bytes(), out),
        Value::I64(n) => tagged(b'l', &n.to_be_bytes(), out),
        Value::F32(x) => tagged(b'f', &x.to_bits().to_be_bytes(), out),
        Value::F64(x) => tagged(b'd', &x.to_bits().to_be_bytes(), out),
        Value::Decimal { scale, value } => {
            out.extend_from_slice(&[b'D', *scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::Text(bytes) => {
            out.push(b'S');
            with_length(out, |out| out.extend_from_slice(bytes));
        }
        Value::Bytes(bytes) => {
            out.push(b'x');
            with_length(out, |out| out.extend_from_slice(bytes));
        }
        Value::Timestamp(n) => tagged(b'T', &n.to_be_bytes(), out),
        Value::Table(table) => {
            out.push(b'F');
            encode(table, out);
        }
        Value::Array(values) => {
            out.push(b'A');
            with_length(out, |out| {
                for value in values {
                    encode_value(value, out);
                }
            });
        }
    }
}

fn tagged(letter: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(letter);
    out.extend_from_slice(bytes);
}

/// Writes what `write` writes, and before it its length in 32 bits.
pub(crate) fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = u32::try_from(out.len() - start - 4).expect("values are far shorter than 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}
