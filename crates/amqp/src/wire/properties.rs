//! The content header of class basic (§4.2.6.1): flags and property list.
//!
//! A published header is [`scan`]ned once: that checks every length and depth and finds the few things the broker
//! needs. From then on it travels as bytes. [`decode`] and [`encode`] are for those who must look inside.

use super::reader::{Malformed, Reader};
use super::table;
use model::Properties;

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const KIND: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
/// Bit 1 is no property of basic, bit 0 says that more flags follow.
const NOT_BASIC: u16 = 0b11;

/// `CC` or `BCC`: more routing keys, if it is an array.
pub(crate) type MoreKeys<'a> = Option<table::RawField<'a>>;

/// What the broker needs of a header.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan<'a> {
    pub(crate) persistent: bool,
    pub(crate) priority: u8,
    pub(crate) expiration: Option<&'a [u8]>,
    pub(crate) user_id: Option<&'a [u8]>,
    /// The content of the headers table; `None` if there is none or it is empty.
    pub(crate) headers: Option<&'a [u8]>,
    pub(crate) cc: MoreKeys<'a>,
    pub(crate) bcc: MoreKeys<'a>,
}

/// Checks flags and list, and finds what the broker needs.
pub(crate) fn scan(header: &[u8]) -> Result<Scan<'_>, Malformed> {
    let mut reader = Reader::new(header);
    let flags = basic_flags(&mut reader)?;
    let mut scan = Scan::default();
    if flags & (CONTENT_TYPE | CONTENT_ENCODING) != 0 {
        skip_shorts(&mut reader, flags & (CONTENT_TYPE | CONTENT_ENCODING))?;
    }
    if flags & HEADERS != 0 {
        scan_headers(reader.long()?, &mut scan)?;
    }
    if flags & DELIVERY_MODE != 0 {
        scan.persistent = reader.u8()? == 2;
    }
    if flags & PRIORITY != 0 {
        scan.priority = reader.u8()?;
    }
    if flags & (CORRELATION_ID | REPLY_TO) != 0 {
        skip_shorts(&mut reader, flags & (CORRELATION_ID | REPLY_TO))?;
    }
    if flags & EXPIRATION != 0 {
        scan.expiration = Some(reader.short()?);
    }
    if flags & MESSAGE_ID != 0 {
        reader.short()?;
    }
    if flags & TIMESTAMP != 0 {
        reader.u64()?;
    }
    if flags & KIND != 0 {
        reader.short()?;
    }
    if flags & USER_ID != 0 {
        scan.user_id = Some(reader.short()?);
    }
    if flags & (APP_ID | CLUSTER_ID) != 0 {
        skip_shorts(&mut reader, flags & (APP_ID | CLUSTER_ID))?;
    }
    reader.finish()?;
    Ok(scan)
}

fn basic_flags(reader: &mut Reader<'_>) -> Result<u16, Malformed> {
    let flags = reader.u16()?;
    if flags & NOT_BASIC == 0 { Ok(flags) } else { Err(Malformed::UnknownProperty) }
}

/// Steps over as many short strings as there are bits in `flags`.
fn skip_shorts(reader: &mut Reader<'_>, flags: u16) -> Result<(), Malformed> {
    for _ in 0..flags.count_ones() {
        reader.short()?;
    }
    Ok(())
}

fn scan_headers<'a>(content: &'a [u8], scan: &mut Scan<'a>) -> Result<(), Malformed> {
    if !content.is_empty() {
        scan.headers = Some(content);
    }
    table::check(content, |field| match field.name {
        b"CC" => scan.cc = Some(field),
        b"BCC" => scan.bcc = Some(field),
        _ => {}
    })
}

/// A copy of a scanned header without one field of its headers table; that field as [`Scan`] found it.
pub(crate) fn without_field(header: &[u8], headers: &[u8], field: table::RawField<'_>) -> Vec<u8> {
    let (at, len) = field.at;
    let table_len = u32::try_from(headers.len() - len).expect("shorter than what came in a frame");
    // The table starts behind the flags and the short strings before it.
    let mut reader = Reader::new(header);
    let before =
        basic_flags(&mut reader).and_then(|flags| skip_shorts(&mut reader, flags & (CONTENT_TYPE | CONTENT_ENCODING)));
    debug_assert!(before.is_ok(), "the header was scanned");
    let start = header.len() - reader.remaining() + 4;
    let mut copy = Vec::with_capacity(header.len() - len);
    copy.extend_from_slice(&header[..start - 4]);
    copy.extend_from_slice(&table_len.to_be_bytes());
    copy.extend_from_slice(&header[start..start + at]);
    copy.extend_from_slice(&header[start + at + len..]);
    copy
}

/// Reads a whole header. Text that is not UTF-8 gets replacement characters.
pub(crate) fn decode(header: &[u8]) -> Result<Properties, Malformed> {
    let mut reader = Reader::new(header);
    let flags = basic_flags(&mut reader)?;
    let r = &mut reader;
    let has = |flag: u16| flags & flag != 0;
    let properties = Properties {
        content_type: has(CONTENT_TYPE).then(|| text(r)).transpose()?,
        content_encoding: has(CONTENT_ENCODING).then(|| text(r)).transpose()?,
        headers: has(HEADERS).then(|| r.table()).transpose()?,
        delivery_mode: has(DELIVERY_MODE).then(|| r.u8()).transpose()?,
        priority: has(PRIORITY).then(|| r.u8()).transpose()?,
        correlation_id: has(CORRELATION_ID).then(|| text(r)).transpose()?,
        reply_to: has(REPLY_TO).then(|| text(r)).transpose()?,
        expiration: has(EXPIRATION).then(|| text(r)).transpose()?,
        message_id: has(MESSAGE_ID).then(|| text(r)).transpose()?,
        timestamp: has(TIMESTAMP).then(|| r.u64()).transpose()?,
        kind: has(KIND).then(|| text(r)).transpose()?,
        user_id: has(USER_ID).then(|| text(r)).transpose()?,
        app_id: has(APP_ID).then(|| text(r)).transpose()?,
        cluster_id: has(CLUSTER_ID).then(|| text(r)).transpose()?,
    };
    reader.finish()?;
    Ok(properties)
}

fn text(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    Ok(String::from_utf8_lossy(reader.short()?).into_owned())
}

/// Writes flags and list. Text longer than a short string is cut at a character.
pub(crate) fn encode(properties: &Properties, out: &mut Vec<u8>) {
    let p = properties;
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    let mut flags = 0;
    let short = |flag: u16, text: &Option<String>, flags: &mut u16, out: &mut Vec<u8>| {
        if let Some(text) = text {
            *flags |= flag;
            table::encode_short(text, out);
        }
    };
    short(CONTENT_TYPE, &p.content_type, &mut flags, out);
    short(CONTENT_ENCODING, &p.content_encoding, &mut flags, out);
    if let Some(headers) = &p.headers {
        flags |= HEADERS;
        table::encode(headers, out);
    }
    if let Some(mode) = p.delivery_mode {
        flags |= DELIVERY_MODE;
        out.push(mode);
    }
    if let Some(priority) = p.priority {
        flags |= PRIORITY;
        out.push(priority);
    }
    short(CORRELATION_ID, &p.correlation_id, &mut flags, out);
    short(REPLY_TO, &p.reply_to, &mut flags, out);
    short(EXPIRATION, &p.expiration, &mut flags, out);
    short(MESSAGE_ID, &p.message_id, &mut flags, out);
    if let Some(timestamp) = p.timestamp {
        flags |= TIMESTAMP;
        out.extend_from_slice(&timestamp.to_be_bytes());
    }
    short(KIND, &p.kind, &mut flags, out);
    short(USER_ID, &p.user_id, &mut flags, out);
    short(APP_ID, &p.app_id, &mut flags, out);
    short(CLUSTER_ID, &p.cluster_id, &mut flags, out);
    out[at..at + 2].copy_from_slice(&flags.to_be_bytes());
}
