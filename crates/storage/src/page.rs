//! A run of entries of one lane that lie somewhere on the disk, packed: seven or eight bytes each instead of 56.
//!
//! Invariants: entries of a page have no message in memory. `first` is a lower and `last` an upper bound of their
//! seqs; the pages of a lane do not overlap and are in order. `first` never changes, so it names the page. What is
//! packed is only ever read by the process that packed it: it is no format, and a checksum guards what was spilled.
//!
//! ```text
//! page     mono varint, wall varint          a moment on both clocks; mono 0: none is known
//!          entries
//! entry    flags     1 byte                  1 redelivered, 2 time to live, 4 attempts, 8 in the spill, 16 large body
//!          seq       varint                  less the one before (at first: less `first`)
//!          place     signed varint           less the end of the one before that lies in the same place
//!          wall      signed varint           less the one before (at first: less the moment's)
//!          size      varint
//!          head      signed varint           size less the body's
//!          ttl_ms, attempts                  varints, if the flags say so
//! ```

use crate::disk::DiskError;
use crate::entry::{Entry, NO_SLOT, NO_TTL, SPILLED};
use crate::record::{Reader, put_varint, zigzag};

/// Entries of a full page.
pub(crate) const PAGE_ENTRIES: usize = 512;
/// Memory of an entry that is not packed.
pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();
/// Memory of a page besides what is in it.
pub(crate) const PAGE_BYTES: usize = size_of::<Page>();

const REDELIVERED: u8 = 1;
const TTL: u8 = 2;
const ATTEMPTS: u8 = 4;
const IN_SPILL: u8 = 8;
const LARGE: u8 = 16;

/// Where a page lies in the spill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

/// What is in a page.
#[derive(Debug)]
pub(crate) enum Content {
    Packed(Box<[u8]>),
    /// Unpacked where it is, because something in it changes.
    Open(Vec<Entry>),
    Spilled(Spot),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Of its first entry when it was packed.
    pub(crate) wall: u64,
    pub(crate) ttl_ms: u32,
    pub(crate) count: u32,
    /// It is in the list of those that may be spilled.
    pub(crate) listed: bool,
    pub(crate) content: Content,
}

impl Page {
    /// A page of these entries, which are in order and at least one.
    pub(crate) fn open(entries: Vec<Entry>) -> Self {
        let (first, last) = (entries[0], entries[entries.len() - 1]);
        Self {
            first: first.seq,
            last: last.seq,
            wall: first.wall,
            ttl_ms: first.ttl_ms,
            count: entries.len() as u32,
            listed: false,
            content: Content::Open(entries),
        }
    }

    /// Memory it takes, but for what is in it while it is open.
    pub(crate) fn memory(&self) -> usize {
        PAGE_BYTES
            + match &self.content {
                Content::Packed(bytes) => bytes.len(),
                Content::Open(_) | Content::Spilled(_) => 0,
            }
    }

    pub(crate) fn is_spilled(&self) -> bool {
        matches!(self.content, Content::Spilled(_))
    }

    /// Packs it if it is open.
    pub(crate) fn pack(&mut self) {
        if let Content::Open(entries) = &self.content {
            if let Some(first) = entries.first() {
                self.wall = first.wall;
                self.ttl_ms = first.ttl_ms;
            }
            self.content = Content::Packed(pack(self.first, entries));
        }
    }

    /// Its entries, to change them; `None` while it is spilled.
    pub(crate) fn entries_mut(&mut self, lane: u8) -> Option<&mut Vec<Entry>> {
        if let Content::Packed(bytes) = &self.content {
            let mut entries = Vec::with_capacity(self.count as usize);
            unpack(bytes, self.first, lane, |entry| entries.push(entry)).expect("packed by this process");
            self.content = Content::Open(entries);
        }
        match &mut self.content {
            Content::Open(entries) => Some(entries),
            Content::Packed(_) | Content::Spilled(_) => None,
        }
    }

    /// Calls `each` for its entries; false while it is spilled.
    pub(crate) fn each(&self, lane: u8, mut each: impl FnMut(Entry)) -> bool {
        match &self.content {
            Content::Packed(bytes) => unpack(bytes, self.first, lane, each).expect("packed by this process"),
            Content::Open(entries) => entries.iter().for_each(|entry| each(*entry)),
            Content::Spilled(_) => return false,
        }
        true
    }
}

/// What was read back is no page.
pub(crate) fn damaged() -> DiskError {
    DiskError::Io("a page of the index is damaged in the spill".to_owned())
}

fn pack(first: u64, entries: &[Entry]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(entries.len() * 8 + 20);
    let moment = entries.iter().find(|e| e.mono != 0).or(entries.first());
    let (mono, mut wall) = moment.map_or((0, 0), |e| (e.mono, e.wall));
    put_varint(&mut out, mono);
    put_varint(&mut out, wall);
    let mut seq = first;
    let mut ends = [0u64; 2];
    for entry in entries {
        let spilled = entry.lsn & SPILLED != 0;
        let mut flags = if entry.redelivered { REDELIVERED } else { 0 };
        flags |= if entry.ttl_ms == NO_TTL { 0 } else { TTL };
        flags |= if entry.attempts == 0 { 0 } else { ATTEMPTS };
        flags |= if spilled { IN_SPILL } else { 0 };
        flags |= if entry.large { LARGE } else { 0 };
        out.push(flags);
        put_varint(&mut out, entry.seq - seq);
        seq = entry.seq;
        let place = entry.lsn & !SPILLED;
        let end = &mut ends[usize::from(spilled)];
        put_varint(&mut out, zigzag(place.wrapping_sub(*end) as i64));
        *end = place.wrapping_add(u64::from(entry.size));
        put_varint(&mut out, zigzag(entry.wall.wrapping_sub(wall) as i64));
        wall = entry.wall;
        put_varint(&mut out, u64::from(entry.size));
        put_varint(&mut out, zigzag(i64::from(entry.size) - i64::from(entry.body)));
        if entry.ttl_ms != NO_TTL {
            put_varint(&mut out, u64::from(entry.ttl_ms));
        }
        if entry.attempts != 0 {
            put_varint(&mut out, u64::from(entry.attempts));
        }
    }
    out.into_boxed_slice()
}

/// Calls `each` for what is packed; `None` if it was not packed by [`pack`].
pub(crate) fn unpack(bytes: &[u8], first: u64, lane: u8, mut each: impl FnMut(Entry)) -> Option<()> {
    let mut reader = Reader::new(bytes);
    let (mono, moment) = (reader.varint()?, reader.varint()?);
    let (mut seq, mut wall) = (first, moment);
    let mut ends = [0u64; 2];
    while !reader.is_at_end() {
        let flags = reader.byte()?;
        let spilled = flags & IN_SPILL != 0;
        seq = seq.wrapping_add(reader.varint()?);
        let end = &mut ends[usize::from(spilled)];
        let place = end.wrapping_add(reader.signed()? as u64);
        wall = wall.wrapping_add(reader.signed()? as u64);
        let size = u32::try_from(reader.varint()?).ok()?;
        let body = u32::try_from(i64::from(size).checked_sub(reader.signed()?)?).ok()?;
        *end = place.wrapping_add(u64::from(size));
        // Exact to the millisecond, which is what the wall clock says.
        let since = (wall.wrapping_sub(moment) as i64).saturating_mul(1000);
        let ttl_ms = if flags & TTL != 0 { u32::try_from(reader.varint()?).ok()? } else { NO_TTL };
        let attempts = if flags & ATTEMPTS != 0 { u16::try_from(reader.varint()?).ok()? } else { 0 };
        each(Entry {
            seq,
            lsn: if spilled { place | SPILLED } else { place },
            wall,
            mono: if mono == 0 { 0 } else { mono.saturating_add_signed(since) },
            size,
            body,
            ttl_ms,
            slot: NO_SLOT,
            attempts,
            lane,
            redelivered: flags & REDELIVERED != 0,
            large: flags & LARGE != 0,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let entry = (
            (1u64..1 << 50, 1u64..1 << 62, any::<bool>(), 0u64..1 << 40),
            (
                (any::<u32>(), any::<u32>()),
                prop_oneof![Just(NO_TTL), any::<u32>()],
                any::<u16>(),
                any::<bool>(),
                any::<bool>(),
            ),
        );
        proptest::collection::vec(entry, 1..40).prop_map(|all| {
            let mut seq = 0;
            let mut out = Vec::new();
            for ((step, place, spilled, wall), ((size, body), ttl_ms, attempts, redelivered, large)) in all {
                seq += step;
                let lsn = if spilled { place | SPILLED } else { place };
                let entry = Entry {
                    seq,
                    lsn,
                    wall,
                    mono: 0,
                    size,
                    body,
                    ttl_ms,
                    slot: NO_SLOT,
                    attempts,
                    lane: 3,
                    redelivered,
                    large,
                };
                out.push(entry);
            }
            out
        })
    }

    proptest! {
        #[test]
        fn entries_come_back(entries in entries()) {
            let mut page = Page::open(entries.clone());
            page.pack();
            let mut back = Vec::new();
            prop_assert!(page.each(3, |entry| back.push(entry)));
            prop_assert_eq!(format!("{back:?}"), format!("{entries:?}"));
        }

        #[test]
        fn garbage_is_no_page(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut count = 0;
            let _ = unpack(&bytes, 7, 0, |_| count += 1);
            prop_assert!(count <= bytes.len());
        }
    }

    #[test]
    fn a_plain_backlog_takes_few_bytes_and_keeps_its_clock() {
        let at = |n: u64| Entry {
            seq: n,
            lsn: 4096 + n * 1060,
            wall: 1_700_000_000_000 + n,
            mono: 5_000_000 + n * 1000,
            size: 1030,
            body: 1024,
            ttl_ms: NO_TTL,
            slot: NO_SLOT,
            attempts: 0,
            lane: 0,
            redelivered: false,
            large: false,
        };
        let entries: Vec<Entry> = (1..=512).map(at).collect();
        let mut page = Page::open(entries.clone());
        page.pack();
        assert!(page.memory() < 512 * 8, "{} bytes", page.memory());
        let mut monos = Vec::new();
        page.each(0, |entry| monos.push(entry.mono));
        assert_eq!(monos, entries.iter().map(|e| e.mono).collect::<Vec<_>>());
    }
}
