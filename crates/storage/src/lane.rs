//! The ready entries of one priority, in order of seq.
//!
//! ```text
//! returned   whatever came back, by seq
//! front      what is handed out next
//! pages      behind it: entries whose messages lie on the disk, packed; some of them spilled
//! back       behind those: what came last
//! ```
//!
//! Invariants: front, pages and back are in order of seq and have none in common with `returned`; the next entry is the
//! lower of their first ones. There may be a back without pages, while nothing of it can be packed. What comes back
//! goes to `returned`, so putting an entry back costs the same wherever its place is.
//!
//! Not here: messages, counts of the queue, when to page (see `paging`).

use crate::entry::{Entry, expires_at};
use crate::page::{Content, ENTRY_BYTES, PAGE_BYTES, PAGE_ENTRIES, Page, Spot};
use crate::seldom::Seldom;
use crate::short::ShortDeque;
use model::Wall;
use std::collections::{BTreeMap, VecDeque};

/// Memory of an entry that came back.
const RETURNED_BYTES: usize = 80;
/// Room for entries that an empty lane keeps.
const SPARE_ENTRIES: usize = 256;

/// See the module.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) priority: u8,
    pub(crate) returned: Seldom<BTreeMap<u64, Entry>>,
    pub(crate) front: ShortDeque<Entry>,
    pub(crate) cold: Option<Box<Cold>>,
}

/// What lies between the front and the end of a long lane.
#[derive(Default)]
pub(crate) struct Cold {
    pub(crate) pages: VecDeque<Page>,
    pub(crate) back: VecDeque<Entry>,
    /// Memory of the pages, but for what is in the open ones.
    pub(crate) page_bytes: usize,
    /// The first seqs of pages that were opened, and of those that were packed and may be spilled; some may be gone.
    pub(crate) opened: Vec<u64>,
    pub(crate) packed: VecDeque<u64>,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    Nothing,
    Entry(Entry),
    /// An entry of a page that is not in memory.
    Away,
}

/// Where an entry is.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Entry(&'a mut Entry),
    /// In the page with this first seq, if at all, which is not in memory.
    Away(u64, Spot),
    Nowhere,
}

impl Lane {
    pub(crate) fn new(priority: u8) -> Self {
        Self { priority, ..Self::default() }
    }

    /// Memory it takes.
    pub(crate) fn memory(&self) -> usize {
        let cold = self.cold.as_ref().map_or(0, |cold| {
            let entries = cold.back.capacity() + cold.opened.len() * PAGE_ENTRIES;
            size_of::<Cold>() + cold.page_bytes + entries * ENTRY_BYTES + cold.packed.capacity() * 8
        });
        cold + self.front.capacity() * ENTRY_BYTES + self.returned.len() * RETURNED_BYTES
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.front.is_empty() && self.returned.is_empty() && self.cold.is_none()
    }

    /// Adds an entry whose seq is the highest so far.
    pub(crate) fn push(&mut self, entry: Entry) {
        match &mut self.cold {
            None => self.front.push_back(entry),
            Some(cold) => cold.back.push_back(entry),
        }
    }

    /// Puts an entry back to its place.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.returned.make().insert(entry.seq, entry);
    }

    fn first_returned(&self) -> Option<&Entry> {
        self.returned.get()?.values().next()
    }

    /// The next entry.
    pub(crate) fn next(&mut self) -> Next {
        if self.front.is_empty() && self.cold.is_some() {
            self.thaw();
        }
        let returned = self.first_returned();
        match (returned, self.front.front()) {
            (None, None) if self.cold.is_some() => Next::Away,
            (None, None) => Next::Nothing,
            (None, Some(entry)) => Next::Entry(*entry),
            (Some(back), Some(entry)) if entry.seq < back.seq => Next::Entry(*entry),
            (Some(back), None) if self.first_behind().is_some_and(|first| first < back.seq) => Next::Away,
            (Some(back), _) => Next::Entry(*back),
        }
    }

    /// Takes it, if it is in memory.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let Next::Entry(Entry { seq, .. }) = self.next() else {
            return None;
        };
        if let Some(Some(entry)) = self.returned.change(|returned| returned.remove(&seq)) {
            return Some(entry);
        }
        let entry = self.front.pop_front();
        if self.front.is_empty() && self.front.capacity() > SPARE_ENTRIES {
            self.front = ShortDeque::default();
        }
        entry
    }

    /// The seq of the next entry, or a lower bound of it if it is not in memory.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        let front = self.front.front().map(|entry| entry.seq).or_else(|| self.first_behind());
        self.first_returned().map(|entry| entry.seq).into_iter().chain(front).min()
    }

    /// The first seq behind the front, or a bound of it.
    pub(crate) fn first_behind(&self) -> Option<u64> {
        let cold = self.cold.as_ref()?;
        let back = || cold.back.front().map(|entry| entry.seq);
        cold.pages.front().map(|page| page.first).or_else(back)
    }

    /// Unpacks the first page behind the front; if there are no pages, an empty front takes the back's place. False if
    /// neither can be done.
    pub(crate) fn thaw(&mut self) -> bool {
        let Some(cold) = &mut self.cold else {
            return false;
        };
        match cold.pages.front() {
            None if self.front.is_empty() => self.front = std::mem::take(&mut cold.back).into(),
            None => return false,
            Some(page) if page.is_spilled() => return false,
            Some(page) => {
                let (first, front) = (page.first, &mut self.front);
                page.each(self.priority, |entry| front.push_back(entry));
                cold.remove(0);
                if cold.packed.front() == Some(&first) {
                    cold.packed.pop_front();
                }
            }
        }
        if cold.pages.is_empty() && cold.back.is_empty() {
            self.cold = None;
        }
        true
    }

    /// The entries that are handed out before anything that is not unpacked, in order.
    pub(crate) fn ahead(&self) -> impl Iterator<Item = &Entry> {
        let end = self.first_behind().unwrap_or(u64::MAX);
        let returned = self.returned.get().into_iter().flat_map(move |returned| returned.range(..end));
        let mut returned = returned.map(|(_, entry)| entry).peekable();
        let mut front = self.front.iter().peekable();
        std::iter::from_fn(move || match (returned.peek(), front.peek()) {
            (Some(back), Some(next)) if next.seq < back.seq => front.next(),
            (Some(_), _) => returned.next(),
            (None, _) => front.next(),
        })
    }

    /// When the oldest of its entries, as far as they are in memory, was enqueued.
    pub(crate) fn oldest(&self) -> Option<Wall> {
        let page = self.cold.as_ref().and_then(|cold| cold.pages.front()).map(|page| page.wall);
        let front = self.front.front().map(|entry| entry.wall).or(page);
        let returned = self.first_returned().map(|entry| entry.wall);
        front.into_iter().chain(returned).min().map(Wall)
    }

    /// When the next entry expires in a queue of this time to live.
    pub(crate) fn next_expires_at(&mut self, queue_ttl_ms: Option<u64>) -> Option<Wall> {
        if let Next::Entry(entry) = self.next() {
            return entry.expires_at(queue_ttl_ms);
        }
        let page = self.cold.as_ref()?.pages.front()?;
        expires_at(page.wall, page.ttl_ms, queue_ttl_ms)
    }

    /// The entry with this seq, if it is neither packed nor opened.
    pub(crate) fn find_loose(&mut self, seq: u64) -> Option<&mut Entry> {
        if self.front.back().is_some_and(|last| seq <= last.seq) && self.front.find_by_key(seq, |e| e.seq).is_some() {
            return self.front.find_by_key(seq, |e| e.seq);
        }
        if let Some(cold) = &mut self.cold
            && let Ok(at) = cold.back.binary_search_by_key(&seq, |e| e.seq)
        {
            return cold.back.get_mut(at);
        }
        self.returned.get_mut()?.get_mut(&seq)
    }

    /// The entry with this seq, wherever it is; its page stays open until [`Lane::close`].
    pub(crate) fn find(&mut self, seq: u64) -> Found<'_> {
        if self.find_loose(seq).is_some() {
            return self.find_loose(seq).map_or(Found::Nowhere, Found::Entry);
        }
        let priority = self.priority;
        let Some(cold) = &mut self.cold else {
            return Found::Nowhere;
        };
        let Some(at) = cold.page_of(seq) else {
            return Found::Nowhere;
        };
        if let Content::Spilled(spot) = cold.pages[at].content {
            return Found::Away(cold.pages[at].first, spot);
        }
        let entries = cold.entries_mut(at, priority);
        match entries.binary_search_by_key(&seq, |e| e.seq) {
            Ok(at) => Found::Entry(&mut entries[at]),
            Err(_) => Found::Nowhere,
        }
    }

    /// Takes everything out: the entries that are in memory, and the pages.
    pub(crate) fn take_all(&mut self) -> (Vec<Entry>, VecDeque<Page>) {
        let mut entries: Vec<Entry> = self.returned.take().into_values().collect();
        entries.extend(self.front.take());
        let cold = self.cold.take().unwrap_or_default();
        entries.extend(cold.back);
        (entries, cold.pages)
    }
}

impl Cold {
    /// The page that a seq would be in.
    pub(crate) fn page_of(&self, seq: u64) -> Option<usize> {
        let at = self.pages.partition_point(|page| page.first <= seq).checked_sub(1)?;
        (seq <= self.pages[at].last).then_some(at)
    }

    /// The page with this first seq.
    pub(crate) fn page_from(&mut self, first: u64) -> Option<&mut Page> {
        let at = self.pages.binary_search_by_key(&first, |page| page.first).ok()?;
        self.pages.get_mut(at)
    }

    /// The entries of a page that is in memory, to change them.
    pub(crate) fn entries_mut(&mut self, at: usize, lane: u8) -> &mut Vec<Entry> {
        let page = &mut self.pages[at];
        if !matches!(page.content, Content::Open(_)) {
            self.opened.push(page.first);
            self.page_bytes -= page.memory();
            page.entries_mut(lane);
            self.page_bytes += page.memory();
        }
        page.entries_mut(lane).expect("the caller looked whether it is in memory")
    }

    /// Adds a page.
    pub(crate) fn insert(&mut self, at: usize, page: Page) {
        self.page_bytes += page.memory();
        match page.content {
            Content::Open(_) => self.opened.push(page.first),
            Content::Packed(_) | Content::Spilled(_) => {}
        }
        let first = page.first;
        self.pages.insert(at, page);
        self.list(first);
    }

    /// Notes that a page may be spilled, if it is packed.
    pub(crate) fn list(&mut self, first: u64) {
        if let Some(page) = self.page_from(first)
            && matches!(page.content, Content::Packed(_))
            && !std::mem::replace(&mut page.listed, true)
        {
            self.packed.push_back(first);
        }
    }

    /// Takes a page out.
    pub(crate) fn remove(&mut self, at: usize) -> Option<Page> {
        let page = self.pages.remove(at)?;
        self.page_bytes -= page.memory();
        debug_assert!(self.page_bytes >= self.pages.len() * PAGE_BYTES);
        Some(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{NO_SLOT, NO_TTL};
    use crate::paging::Paged;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(seq: u64, lsn: u64) -> Entry {
        let (mono, ttl_ms) = (0, NO_TTL);
        Entry {
            seq,
            lsn,
            wall: seq,
            mono,
            size: 10,
            body: 8,
            ttl_ms,
            slot: NO_SLOT,
            attempts: 0,
            lane: 0,
            redelivered: false,
            large: false,
        }
    }

    /// A lane beside what it must be equal to, and the pages that were spilled.
    #[derive(Default)]
    struct Pair {
        lane: Lane,
        naive: BTreeMap<u64, u64>,
        held: BTreeMap<u64, Entry>,
        disk: BTreeMap<u64, Box<[u8]>>,
        seq: u64,
        place: u64,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Pop(u64),
        PutBack(usize, usize),
        /// What it keeps, and how many parts in 8 of the disk are durable.
        PageOut(usize, u64),
        Spill(usize),
        Load,
        Move(u64),
        Close,
        Insert(u64),
        DropRange(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u64..300).prop_map(Step::Push),
            3 => (1u64..200).prop_map(Step::Pop),
            3 => (any::<usize>(), 1usize..100).prop_map(|(from, count)| Step::PutBack(from, count)),
            4 => (prop_oneof![Just(0), Just(1000), Just(20_000)], 5u64..9).prop_map(|(keep, part)| Step::PageOut(keep, part)),
            2 => prop_oneof![Just(1), Just(100_000)].prop_map(Step::Spill),
            1 => Just(Step::Load),
            2 => any::<u64>().prop_map(Step::Move),
            1 => Just(Step::Close),
            2 => any::<u64>().prop_map(Step::Insert),
            2 => (any::<u64>(), 0u64..800).prop_map(|(first, count)| Step::DropRange(first, count)),
        ]
    }

    impl Pair {
        fn load(&mut self, first: u64, spot: Spot) {
            let bytes = self.disk[&spot.at].clone();
            assert!(self.lane.has_spilled(first, spot));
            assert!(self.lane.install(first, spot, &bytes));
        }

        fn load_some(&mut self) {
            for (first, spot) in self.lane.missing(usize::MAX) {
                self.load(first, spot);
            }
        }

        fn lsn(&mut self) -> u64 {
            self.place += 40;
            self.place
        }

        fn pop(&mut self) {
            if matches!(self.lane.next(), Next::Away) {
                let missing = self.lane.missing(1);
                self.load(missing[0].0, missing[0].1);
            }
            let (got, want) = (self.lane.pop(), self.naive.pop_first());
            assert_eq!(got.map(|e| (e.seq, e.lsn)), want);
            self.held.extend(got.map(|e| (e.seq, e)));
        }

        fn spill(&mut self, bytes: usize) {
            for (first, content) in self.lane.spillable(bytes) {
                let at = self.disk.len() as u64;
                let spot = Spot { at, len: content.len() as u32, crc: 0 };
                assert!(self.lane.spilled(first, &content, spot));
                self.disk.insert(at, content);
            }
        }

        fn relocate(&mut self, seq: u64) {
            let lsn = self.lsn();
            loop {
                match self.lane.find(seq) {
                    Found::Away(first, spot) => self.load(first, spot),
                    Found::Nowhere => return assert!(!self.naive.contains_key(&seq)),
                    Found::Entry(entry) => {
                        entry.lsn = lsn;
                        assert!(self.naive.insert(seq, lsn).is_some());
                        return;
                    }
                }
            }
        }

        fn apply(&mut self, step: &Step) {
            match *step {
                Step::Push(n) => {
                    for _ in 0..n {
                        self.seq += 1 + self.seq % 3;
                        let entry = entry(self.seq, self.lsn());
                        self.lane.push(entry);
                        self.naive.insert(entry.seq, entry.lsn);
                    }
                }
                Step::Pop(n) => (0..n).for_each(|_| self.pop()),
                Step::PutBack(from, count) => {
                    let from = from % self.held.len().max(1);
                    for seq in self.held.keys().copied().skip(from).take(count).collect::<Vec<_>>() {
                        let entry = self.held.remove(&seq).expect("just found");
                        self.lane.put_back(entry);
                        self.naive.insert(seq, entry.lsn);
                    }
                }
                Step::PageOut(keep, part) => {
                    let durable = if part == 8 { u64::MAX } else { self.place / 8 * part };
                    while let Paged::Packed(slots) = self.lane.page_out(keep, durable) {
                        assert!(slots.is_empty());
                    }
                }
                Step::Spill(bytes) => self.spill(bytes),
                Step::Load => self.load_some(),
                Step::Move(seq) => self.relocate(1 + seq % self.seq.max(1)),
                Step::Close => self.lane.close(),
                Step::Insert(seq) => self.insert(1 + seq % (self.seq + 10)),
                Step::DropRange(first, count) => self.drop_range(1 + first % self.seq.max(1), count),
            }
        }

        /// As recovery does, when nothing has come back.
        fn insert(&mut self, seq: u64) {
            if !self.lane.returned.is_empty() || self.held.contains_key(&seq) {
                return;
            }
            let entry = entry(seq, self.lsn());
            while let Err((first, spot)) = self.lane.insert(entry) {
                self.load(first, spot);
            }
            self.naive.insert(seq, entry.lsn);
            self.seq = self.seq.max(seq);
        }

        fn drop_range(&mut self, first: u64, count: u64) {
            if !self.lane.returned.is_empty() {
                return;
            }
            while let Err((page, spot)) = self.lane.drop_range(first, first + count, &mut Vec::new()) {
                self.load(page, spot);
            }
            self.naive.retain(|seq, _| !(first..=first + count).contains(seq));
        }

        fn check(&self) {
            let mut all = Vec::new();
            let mut load = |spot: Spot| Ok(self.disk[&spot.at].to_vec());
            self.lane.each(&mut load, &mut |e| all.push((e.seq, e.lsn))).expect("nothing fails here");
            all.sort_unstable();
            assert!(all.iter().copied().eq(self.naive.iter().map(|(seq, lsn)| (*seq, *lsn))));
            assert_eq!(self.lane.is_empty(), self.naive.is_empty());
            if let Some(cold) = &self.lane.cold {
                assert!(!cold.pages.is_empty() || !cold.back.is_empty());
                assert_eq!(cold.page_bytes, cold.pages.iter().map(Page::memory).sum::<usize>());
            }
        }
    }

    proptest! {
        #[test]
        fn a_lane_is_a_sorted_map(steps in proptest::collection::vec(step(), 1..60)) {
            let mut pair = Pair::default();
            for step in &steps {
                pair.apply(step);
                pair.check();
            }
            while !pair.naive.is_empty() {
                pair.pop();
            }
            prop_assert!(pair.lane.is_empty());
        }
    }

    #[test]
    fn what_comes_back_goes_to_its_place() {
        let mut lane = Lane::default();
        (1..=6).for_each(|seq| lane.push(entry(seq, 8)));
        let mut held: Vec<Entry> = (0..4).filter_map(|_| lane.pop()).collect();
        lane.push(entry(7, 8));
        lane.put_back(held.remove(2));
        lane.put_back(held.remove(0));
        assert_eq!(lane.ahead().map(|e| e.seq).collect::<Vec<_>>(), [1, 3, 5, 6, 7]);
        assert_eq!(std::iter::from_fn(|| lane.pop()).map(|e| e.seq).collect::<Vec<_>>(), [1, 3, 5, 6, 7]);
    }

    #[test]
    fn ten_million_entries_take_the_memory_of_their_page_heads() {
        let mut lane = Lane::default();
        let mut place = 4096;
        for seq in 1..=10_000_000u64 {
            place += 60;
            lane.push(entry(seq, place));
            if seq.is_multiple_of(4096) {
                while let Paged::Packed(_) = lane.page_out(20_000, u64::MAX) {}
                let pages = lane.spillable(usize::MAX);
                for (first, content) in pages {
                    lane.spilled(first, &content, Spot { at: 0, len: 0, crc: 0 });
                }
            }
        }
        assert!(lane.memory() < 2_500_000, "{} bytes", lane.memory());
    }
}
