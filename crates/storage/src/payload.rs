//! What is inside records: messages, references, settles, queues, metadata.
//!
//! Invariants: a message is encoded once, with a checksum of its own, and knows no queue; references to it follow
//! in the same record. Decoding trusts nothing: every function is `None` on bytes that do not fit.

use crate::bodies::Bodies;
use crate::due::key_of;
use crate::record::{HEADER_BYTES, Reader, put_varint, zigzag};
use bytes::Bytes;
use engine::{Durability, MetaChange, Order, QueueSpec, Schedule};
use model::{Envelope, Message, Origin, QueueId, Wall};
use std::sync::Arc;

/// Messages at least this large are written from where they lie instead of being copied.
const SHARED_BYTES_MIN: usize = 4096;
/// An upper bound of what surrounds the bytes of an encoded message.
pub(crate) const MESSAGE_HEAD_MAX: usize = 4 + 2 + 10 + 1 + 10 + 10 + 8 + 10 + 10 + 1 + 1 + 5 + 5;

const PERSISTENT: u8 = 1;
const HAS_HEADERS: u8 = 2;
const PRIORITY: u8 = 4;
const TTL: u8 = 8;
const SCHEDULE: u8 = 128;

/// In place of the header's encoding: another byte follows, with the encoding in its lower half.
const MORE: u8 = 7;
/// In that byte: the body lies in a file of its own.
const MORE_LARGE: u8 = 16;
/// The same in a short batch.
const SHORT_LARGE: u8 = 16;

/// A record being built: its own bytes with room for the header in front, and large messages in between.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) buf: Vec<u8>,
    /// Position in `buf` before which each lies.
    pub(crate) shared: Vec<(usize, Bytes)>,
    shared_len: usize,
    crc: u32,
    crc_pos: usize,
}

impl Record {
    pub(crate) fn start(&mut self) {
        self.buf.clear();
        self.buf.resize(HEADER_BYTES, 0);
        self.shared.clear();
        self.shared_len = 0;
        self.crc = 0;
        self.crc_pos = HEADER_BYTES;
    }

    /// Bytes of the record so far, header included, padding not.
    pub(crate) fn len(&self) -> usize {
        self.buf.len() + self.shared_len
    }

    pub(crate) fn varint(&mut self, value: u64) {
        put_varint(&mut self.buf, value);
    }

    /// Adds a message; returns how far behind the start of the record it lies.
    pub(crate) fn message(&mut self, message: &Message, schedule: Option<Schedule>, wall: Wall) -> usize {
        let offset = self.len();
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; 4]);
        message_head(&mut self.buf, message, schedule, wall);
        let bytes = message.bytes();
        let crc = crc32c::crc32c(&self.buf[start + 4..]);
        let crc = crc32c::crc32c_append(crc, bytes);
        self.buf[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        if bytes.len() < SHARED_BYTES_MIN {
            self.buf.extend_from_slice(bytes);
        } else {
            self.crc = crc32c::crc32c_append(self.crc, &self.buf[self.crc_pos..]);
            self.crc = crc32c::crc32c_append(self.crc, bytes);
            self.crc_pos = self.buf.len();
            self.shared.push((self.buf.len(), bytes.clone()));
            self.shared_len += bytes.len();
        }
        offset
    }

    /// Adds ranges of seqs, both ends included, in ascending order.
    pub(crate) fn ranges(&mut self, ranges: &[(u64, u64)]) {
        put_ranges(&mut self.buf, ranges);
    }

    /// A settle of nothing: the record says only how far the log was durable when it was made.
    pub(crate) fn nothing(&mut self) {
        self.varint(0);
        self.ranges(&[]);
    }

    /// Bytes of the payload and its checksum, when nothing more will be added.
    pub(crate) fn finish(&mut self) -> (usize, u32) {
        let crc = crc32c::crc32c_append(self.crc, &self.buf[self.crc_pos..]);
        (self.len() - HEADER_BYTES, crc)
    }
}

fn message_head(out: &mut Vec<u8>, message: &Message, schedule: Option<Schedule>, wall: Wall) {
    let e = message.envelope;
    let large = message.large_body();
    let mut flags = if large.is_some() { MORE } else { e.origin as u8 } << 4;
    flags |= if e.persistent { PERSISTENT } else { 0 };
    flags |= if e.has_headers { HAS_HEADERS } else { 0 };
    flags |= if e.priority > 0 { PRIORITY } else { 0 };
    flags |= if e.ttl_ms.is_some() { TTL } else { 0 };
    flags |= if schedule.is_some() { SCHEDULE } else { 0 };
    out.push(flags);
    if large.is_some() {
        out.push(e.origin as u8 | MORE_LARGE);
    }
    put_varint(out, zigzag(e.received_at.0.wrapping_sub(wall.0) as i64));
    if e.priority > 0 {
        out.push(e.priority);
    }
    if let Some(ttl) = e.ttl_ms {
        put_varint(out, ttl);
    }
    if let Some(schedule) = schedule {
        put_schedule(out, schedule);
    }
    if let Some(body) = large {
        put_varint(out, body.id());
        put_varint(out, body.len());
    }
    let (exchange, key, header) = message.lengths();
    out.push(exchange);
    out.push(key);
    put_varint(out, u64::from(header));
    put_varint(out, message.bytes().len() as u64);
}

/// The id and the length of a large body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Large {
    pub(crate) id: u64,
    pub(crate) len: u64,
}

/// An encoded message, not yet checked against its checksum.
pub(crate) struct MessageView<'a> {
    envelope: Envelope,
    schedule: Option<Schedule>,
    large: Option<Large>,
    lengths: (u8, u8, u32),
    bytes: &'a [u8],
    crc: u32,
    covered: &'a [u8],
}

impl<'a> MessageView<'a> {
    /// Reads one message that was enqueued at `wall`.
    pub(crate) fn read(reader: &mut Reader<'a>, wall: Wall, all: &'a [u8]) -> Option<Self> {
        let crc = reader.u32()?;
        let start = reader.pos();
        let flags = reader.byte()?;
        let (origin, more) = match (flags & !SCHEDULE) >> 4 {
            MORE => (0, reader.byte()?),
            origin => (origin, 0),
        };
        let received = reader.signed()?;
        let priority = if flags & PRIORITY != 0 { reader.byte()? } else { 0 };
        let ttl_ms = if flags & TTL != 0 { Some(reader.varint()?) } else { None };
        let schedule = if flags & SCHEDULE != 0 { Some(read_schedule(reader)?) } else { None };
        let large = match more & !15 {
            0 => None,
            MORE_LARGE => Some(Large { id: reader.varint()?, len: reader.varint()? }),
            _ => return None,
        };
        let exchange = reader.byte()?;
        let key = reader.byte()?;
        let header = u32::try_from(reader.varint()?).ok()?;
        let len = reader.count()?;
        let bytes = reader.take(len)?;
        Some(Self {
            envelope: Envelope {
                origin: Origin::from_code(origin | more & 15)?,
                persistent: flags & PERSISTENT != 0,
                priority,
                ttl_ms,
                received_at: Wall(wall.0.wrapping_add(received as u64)),
                has_headers: flags & HAS_HEADERS != 0,
                producer: 0,
            },
            schedule,
            large,
            lengths: (exchange, key, header),
            bytes,
            crc,
            covered: all.get(start..reader.pos())?,
        })
    }

    /// Whether the bytes are those that were written.
    pub(crate) fn is_intact(&self) -> bool {
        crc32c::crc32c(self.covered) == self.crc
    }

    pub(crate) fn envelope(&self) -> Envelope {
        self.envelope
    }

    pub(crate) fn schedule(&self) -> Option<Schedule> {
        self.schedule
    }

    /// Bytes of the message.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of its body, wherever it is.
    fn body(&self) -> usize {
        if let Some(large) = self.large {
            return usize::try_from(large.len).unwrap_or(usize::MAX);
        }
        let (exchange, key, header) = self.lengths;
        let head = usize::from(exchange) + usize::from(key) + header as usize;
        self.bytes.len().saturating_sub(head)
    }

    /// The message, in a buffer of its own; `None` also if its body is a large one that is gone.
    pub(crate) fn to_message(&self, bodies: &Arc<Bodies>) -> Option<Message> {
        let (exchange, key, header) = self.lengths;
        let bytes = Bytes::copy_from_slice(self.bytes);
        let message = Message::from_parts(self.envelope, exchange, key, header, bytes)?;
        match self.large {
            None => Some(message),
            Some(large) => Some(message.with_large_body(bodies.get(large.id)?)),
        }
    }
}

fn put_schedule(out: &mut Vec<u8>, schedule: Schedule) {
    put_varint(out, schedule.at.0);
    out.extend_from_slice(&schedule.key.map_or(0, |key| key.0.get()).to_le_bytes());
}

fn read_schedule(reader: &mut Reader<'_>) -> Option<Schedule> {
    let at = Wall(reader.varint()?);
    let key = reader.take(8)?.try_into().map(u64::from_le_bytes).ok()?;
    Some(Schedule { at, key: key_of(key) })
}

/// Where a message of a batch lies and what its queues must know of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// Bytes behind the start of the record.
    pub(crate) offset: usize,
    pub(crate) size: usize,
    /// Bytes of its body.
    pub(crate) body: usize,
    /// Bytes it takes there.
    pub(crate) encoded: usize,
    pub(crate) priority: u8,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) large: Option<Large>,
}

/// Reads a batch: fills `placed`, then calls `each` for every reference (with the index of its message), `acks` for
/// every range of acknowledged seqs and `metas` for every change of the metadata. Returns when it was enqueued.
pub(crate) fn read_batch<'a>(
    payload: &'a [u8],
    placed: &mut Vec<Placed>,
    mut each: impl FnMut(Wall, usize, &Placed, QueueId, u64),
    mut acks: impl FnMut(QueueId, u64, u64),
    mut metas: impl FnMut(&'a [u8], Option<&'a [u8]>),
) -> Option<Wall> {
    placed.clear();
    let mut reader = Reader::new(payload);
    let wall = Wall(reader.varint()?);
    let count = reader.count()?;
    for _ in 0..count {
        let offset = HEADER_BYTES + reader.pos();
        let view = MessageView::read(&mut reader, wall, payload)?;
        placed.push(Placed {
            offset,
            size: view.size(),
            body: view.body(),
            encoded: HEADER_BYTES + reader.pos() - offset,
            priority: view.envelope().priority,
            ttl_ms: view.envelope().ttl_ms,
            schedule: view.schedule(),
            large: view.large,
        });
    }
    read_refs(&mut reader, wall, placed, &mut each, &mut acks, &mut metas)?;
    Some(wall)
}

/// Reads what follows the messages of a batch.
fn read_refs<'a>(
    reader: &mut Reader<'a>,
    wall: Wall,
    placed: &[Placed],
    each: &mut impl FnMut(Wall, usize, &Placed, QueueId, u64),
    acks: &mut impl FnMut(QueueId, u64, u64),
    metas: &mut impl FnMut(&'a [u8], Option<&'a [u8]>),
) -> Option<()> {
    for (index, message) in placed.iter().enumerate() {
        for _ in 0..reader.count()? {
            let queue = QueueId(reader.varint()?);
            each(wall, index, message, queue, reader.varint()?);
        }
    }
    for _ in 0..reader.count()? {
        let queue = QueueId(reader.varint()?);
        read_ranges(reader, |first, end| acks(queue, first, end))?;
    }
    if reader.is_at_end() {
        return Some(());
    }
    for _ in 0..reader.count()? {
        let n = reader.count()?;
        let key = reader.take(n)?;
        match usize::try_from(reader.varint()?).ok()?.checked_sub(1) {
            Some(n) => metas(key, Some(reader.take(n)?)),
            None => metas(key, None),
        }
    }
    reader.is_at_end().then_some(())
}

/// Writes a batch without its messages, for a digest.
pub(crate) fn shorten_batch(payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader::new(payload);
    let wall = Wall(reader.varint()?);
    let count = reader.count()?;
    put_varint(out, wall.0);
    put_varint(out, (HEADER_BYTES + reader.pos()) as u64);
    put_varint(out, count as u64);
    for _ in 0..count {
        let start = reader.pos();
        let view = MessageView::read(&mut reader, wall, payload)?;
        let envelope = view.envelope();
        let mut flags = if envelope.priority > 0 { PRIORITY } else { 0 };
        flags |= if envelope.ttl_ms.is_some() { TTL } else { 0 };
        flags |= if view.schedule().is_some() { SCHEDULE } else { 0 };
        flags |= if view.large.is_some() { SHORT_LARGE } else { 0 };
        out.push(flags);
        put_varint(out, view.size() as u64);
        put_varint(out, view.body() as u64);
        put_varint(out, (reader.pos() - start - view.size()) as u64);
        if envelope.priority > 0 {
            out.push(envelope.priority);
        }
        if let Some(ttl) = envelope.ttl_ms {
            put_varint(out, ttl);
        }
        if let Some(schedule) = view.schedule() {
            put_schedule(out, schedule);
        }
        if let Some(large) = view.large {
            put_varint(out, large.id);
        }
    }
    out.extend_from_slice(&payload[reader.pos()..]);
    Some(())
}

/// Reads what [`shorten_batch`] wrote, as [`read_batch`] reads the batch.
pub(crate) fn read_short_batch<'a>(
    payload: &'a [u8],
    placed: &mut Vec<Placed>,
    mut each: impl FnMut(Wall, usize, &Placed, QueueId, u64),
    mut acks: impl FnMut(QueueId, u64, u64),
    mut metas: impl FnMut(&'a [u8], Option<&'a [u8]>),
) -> Option<Wall> {
    placed.clear();
    let mut reader = Reader::new(payload);
    let wall = Wall(reader.varint()?);
    let mut offset = usize::try_from(reader.varint()?).ok()?;
    for _ in 0..reader.count()? {
        let flags = reader.byte()?;
        let size = usize::try_from(reader.varint()?).ok()?;
        let body = usize::try_from(reader.varint()?).ok()?;
        let encoded = size.checked_add(usize::try_from(reader.varint()?).ok()?)?;
        let priority = if flags & PRIORITY != 0 { reader.byte()? } else { 0 };
        let ttl_ms = if flags & TTL != 0 { Some(reader.varint()?) } else { None };
        let schedule = if flags & SCHEDULE != 0 { Some(read_schedule(&mut reader)?) } else { None };
        let large =
            if flags & SHORT_LARGE != 0 { Some(Large { id: reader.varint()?, len: body as u64 }) } else { None };
        placed.push(Placed { offset, size, body, encoded, priority, ttl_ms, schedule, large });
        offset = offset.checked_add(encoded)?;
    }
    read_refs(&mut reader, wall, placed, &mut each, &mut acks, &mut metas)?;
    Some(wall)
}

/// Reads ranges of seqs.
pub(crate) fn read_ranges(reader: &mut Reader<'_>, mut each: impl FnMut(u64, u64)) -> Option<()> {
    let mut last = 0u64;
    for _ in 0..reader.count()? {
        let first = last.checked_add(reader.varint()?)?;
        last = first.checked_add(reader.varint()?)?;
        each(first, last);
    }
    Some(())
}

/// Says that a queue is in order of due time; nothing is said of the others.
const BY_DUE: u8 = 1;
/// The durability of a queue lies in the bits above.
const DURABILITY_SHIFT: u8 = 1;

/// Writes what a queue was made with.
pub(crate) fn put_queue(record: &mut Record, id: QueueId, spec: QueueSpec) {
    record.varint(id.0);
    record.buf.push(spec.priority_max);
    record.varint(spec.ttl_ms.map_or(0, |ttl| ttl.saturating_add(1)));
    let order = if spec.order == Order::Due { BY_DUE } else { 0 };
    let traits = order | (spec.durability as u8) << DURABILITY_SHIFT;
    if traits != 0 {
        record.buf.push(traits);
    }
}

/// Reads it back.
pub(crate) fn read_queue(payload: &[u8]) -> Option<(QueueId, QueueSpec)> {
    let mut reader = Reader::new(payload);
    let id = QueueId(reader.varint()?);
    let priority_max = reader.byte()?;
    let ttl_ms = reader.varint()?.checked_sub(1);
    let traits = if reader.is_at_end() { 0 } else { reader.byte()? };
    let order = if traits & BY_DUE != 0 { Order::Due } else { Order::Arrival };
    let durability = Durability::from_code(traits >> DURABILITY_SHIFT)?;
    let spec = QueueSpec { durable: true, durability, priority_max, ttl_ms, order };
    reader.is_at_end().then_some((id, spec))
}

/// Writes a key and its value.
pub(crate) fn put_meta(record: &mut Record, key: &[u8], value: &[u8]) {
    record.varint(key.len() as u64);
    record.buf.extend_from_slice(key);
    record.buf.extend_from_slice(value);
}

/// Writes what a batch changes in the metadata; nothing if it changes nothing.
pub(crate) fn put_meta_changes(record: &mut Record, changes: &[MetaChange]) {
    if changes.is_empty() {
        return;
    }
    record.varint(changes.len() as u64);
    for MetaChange { key, value } in changes {
        record.varint(key.len() as u64);
        record.buf.extend_from_slice(key);
        record.varint(value.as_ref().map_or(0, |value| value.len() as u64 + 1));
        record.buf.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

/// Reads them back.
pub(crate) fn read_meta(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut reader = Reader::new(payload);
    let n = reader.count()?;
    let key = reader.take(n)?;
    Some((key, &payload[reader.pos()..]))
}

/// Writes ranges of seqs, both ends included, in ascending order.
pub(crate) fn put_ranges(out: &mut Vec<u8>, ranges: &[(u64, u64)]) {
    put_varint(out, ranges.len() as u64);
    let mut last = 0;
    for &(first, end) in ranges {
        put_varint(out, first - last);
        put_varint(out, end - first);
        last = end;
    }
}

/// Brings ranges into ascending order and joins those that touch.
pub(crate) fn merge_ranges(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let touch = next.0 <= before.1.saturating_add(1);
        if touch {
            before.1 = before.1.max(next.1);
        }
        touch
    });
}

/// Adds a seq to ranges, which stay in order if the seqs come in order.
pub(crate) fn add_to_ranges(ranges: &mut Vec<(u64, u64)>, seq: u64) {
    match ranges.last_mut() {
        Some((_, end)) if *end + 1 == seq => *end = seq,
        _ => ranges.push((seq, seq)),
    }
}
