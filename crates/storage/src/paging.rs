//! Turning the far part of a lane into pages, and pages back into entries.
//!
//! Invariants: only entries whose message lies on the disk are packed, so forgetting messages and packing the index
//! are one act. Every call touches a page or two, whatever the length of the lane; only [`Lane::each`] and
//! [`Lane::close`] go through all pages.
//!
//! Not here: IO. A page that was spilled is read by the caller and given back.

use crate::disk::DiskError;
use crate::entry::{Entry, NO_SLOT, SPILLED};
use crate::lane::{Cold, Found, Lane};
use crate::page::{self, Content, ENTRY_BYTES, PAGE_BYTES, PAGE_ENTRIES, Page, Spot};
use crate::queue::SLOT_BYTES;
use crate::short::ShortDeque;
use std::collections::{BTreeMap, VecDeque};

/// Fewer entries are not worth a page, unless nothing may stay.
const PAGE_ENTRIES_MIN: usize = 64;
/// Pages behind the front that are not spilled.
const PAGES_KEPT: usize = 2;

/// What became of an attempt to page something out.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Paged {
    /// Nothing can be.
    Nothing,
    /// A page was made; these slots are free.
    Packed(Vec<u32>),
    /// These transient entries must be spilled first: their seqs, in order.
    Spill(Vec<u64>),
}

impl Lane {
    /// Packs a page of entries that lie behind the first `keep` bytes and whose messages lie on the disk, which is
    /// durable up to `durable`.
    pub(crate) fn page_out(&mut self, keep: usize, durable: u64) -> Paged {
        match self.page_out_fresh(keep, durable) {
            Paged::Nothing if self.fold() => self.page_out_fresh(keep, durable),
            paged => paged,
        }
    }

    /// Joins what came back to the front it belongs to, as far as it lies before what is behind the front; false if
    /// there is nothing to join.
    fn fold(&mut self) -> bool {
        let behind = match self.first_behind() {
            Some(first) => self.returned.get_mut().map(|returned| returned.split_off(&first)),
            None => None,
        };
        let returned = self.returned.take();
        if let Some(behind) = behind.filter(|behind| !behind.is_empty()) {
            *self.returned.make() = behind;
        }
        let some = !returned.is_empty();
        let mut fresh = std::mem::take(&mut self.front).into_iter().peekable();
        for (seq, entry) in returned {
            while let Some(next) = fresh.next_if(|next| next.seq < seq) {
                self.front.push_back(next);
            }
            self.front.push_back(entry);
        }
        self.front.extend(fresh);
        some
    }

    fn page_out_fresh(&mut self, keep: usize, durable: u64) -> Paged {
        let kept = kept_entries(&self.front, keep);
        let min = if keep == 0 { 1 } else { PAGE_ENTRIES_MIN };
        if self.cold.is_none() {
            if self.front.len() < kept + min {
                return Paged::Nothing;
            }
            let mut back = self.front.take();
            self.front.extend(back.drain(..kept));
            self.cold = Some(Box::new(Cold { back, ..Cold::default() }));
        }
        let Some(cold) = &mut self.cold else {
            return Paged::Nothing;
        };
        let packable = match window(cold.back.iter(), durable, min) {
            Ok(n) => n,
            Err(spill) => return Paged::Spill(spill),
        };
        if packable > 0 {
            let entries: Vec<Entry> = cold.back.drain(..packable).collect();
            slim(&mut cold.back);
            let slots = slots_of(&entries);
            cold.pack_behind(entries, self.priority);
            return Paged::Packed(slots);
        }
        // What the front holds beyond what may stay, from its end.
        let beyond = self.front.len().saturating_sub(kept).min(PAGE_ENTRIES);
        let from = self.front.len() - beyond;
        match window(self.front.iter().skip(from), durable, min) {
            Err(spill) => Paged::Spill(spill),
            Ok(n) if n == beyond && n > 0 => {
                let front = self.front.long();
                let entries: Vec<Entry> = front.drain(from..).collect();
                slim(front);
                let slots = slots_of(&entries);
                let mut page = Page::open(entries);
                page.pack();
                cold.insert(0, page);
                Paged::Packed(slots)
            }
            Ok(_) => Paged::Nothing,
        }
    }

    /// The oldest pages that may be spilled, up to `bytes` of them: their first seq and content.
    pub(crate) fn spillable(&mut self, bytes: usize) -> Vec<(u64, Box<[u8]>)> {
        let mut taken = Vec::new();
        let mut total = 0;
        let Some(cold) = &mut self.cold else {
            return taken;
        };
        let kept: Vec<u64> = cold.pages.iter().take(PAGES_KEPT).map(|page| page.first).collect();
        let mut near = Vec::new();
        while total < bytes
            && let Some(first) = cold.packed.pop_front()
        {
            if kept.contains(&first) {
                near.push(first);
                continue;
            }
            // What is not listed here is listed twice, and was taken already.
            let Some(page) = cold.page_from(first).filter(|page| page.listed) else {
                continue;
            };
            page.listed = false;
            if let Content::Packed(content) = &page.content {
                total += content.len();
                taken.push((first, content.clone()));
            }
        }
        for first in near.into_iter().rev() {
            cold.packed.push_front(first);
        }
        taken
    }

    /// A page that was spillable lies at `spot` now, unless it has changed meanwhile; returns whether it has not.
    pub(crate) fn spilled(&mut self, first: u64, content: &[u8], spot: Spot) -> bool {
        let Some(cold) = &mut self.cold else {
            return false;
        };
        let Some(page) = cold.page_from(first) else {
            return false;
        };
        let same = matches!(&page.content, Content::Packed(bytes) if **bytes == *content);
        if same {
            page.content = Content::Spilled(spot);
            cold.page_bytes -= content.len();
        }
        same
    }

    /// A page that was not to be spilled after all.
    pub(crate) fn keep_packed(&mut self, first: u64) {
        if let Some(cold) = &mut self.cold {
            cold.list(first);
        }
    }

    /// The pages among the first `pages` that must be read before the entries in them can be handed out.
    pub(crate) fn missing(&self, pages: usize) -> Vec<(u64, Spot)> {
        let near = self.cold.iter().flat_map(|cold| cold.pages.iter().take(pages));
        let spot = |page: &Page| match page.content {
            Content::Spilled(spot) => Some((page.first, spot)),
            Content::Packed(_) | Content::Open(_) => None,
        };
        near.filter_map(spot).collect()
    }

    /// Whether a page lies there in the spill.
    pub(crate) fn has_spilled(&self, first: u64, spot: Spot) -> bool {
        let cold = self.cold.as_ref();
        let page = cold.and_then(|cold| cold.page_of(first).map(|at| &cold.pages[at]));
        page.is_some_and(|page| page.first == first && matches!(page.content, Content::Spilled(at) if at == spot))
    }

    /// Puts back what was read of a page; false if it no longer lies there.
    pub(crate) fn install(&mut self, first: u64, spot: Spot, content: &[u8]) -> bool {
        let Some(cold) = &mut self.cold else {
            return false;
        };
        match cold.page_from(first) {
            Some(page) if matches!(page.content, Content::Spilled(at) if at == spot) => {
                page.content = Content::Packed(content.into());
                cold.page_bytes += content.len();
                cold.list(first);
                true
            }
            _ => false,
        }
    }

    /// Unpacks pages until the front has this many entries, as far as they are in memory.
    pub(crate) fn thaw_to(&mut self, entries: usize) {
        while self.front.len() < entries && self.cold.as_ref().is_some_and(|cold| !cold.pages.is_empty()) && self.thaw()
        {
        }
    }

    /// Packs what was opened.
    pub(crate) fn close(&mut self) {
        let Some(cold) = &mut self.cold else { return };
        for first in std::mem::take(&mut cold.opened) {
            let Some(page) = cold.page_from(first) else {
                continue;
            };
            if matches!(page.content, Content::Open(_)) {
                page.pack();
                let content = page.memory() - PAGE_BYTES;
                cold.page_bytes += content;
                cold.list(first);
            }
        }
    }

    /// Adds an entry whose seq may be any, or replaces the one with that seq; `false` if its page must be read first.
    /// Nothing has come back yet: for recovery.
    pub(crate) fn insert(&mut self, entry: Entry) -> Result<(), (u64, Spot)> {
        if self.last().is_none_or(|last| last < entry.seq) {
            self.push(entry);
            return Ok(());
        }
        match self.find(entry.seq) {
            Found::Entry(there) => *there = entry,
            Found::Away(first, spot) => return Err((first, spot)),
            Found::Nowhere => self.insert_between(entry),
        }
        Ok(())
    }

    /// Entries that are in no page, but for those that came back.
    pub(crate) fn loose(&self) -> usize {
        self.front.len() + self.cold.as_ref().map_or(0, |cold| cold.back.len())
    }

    /// The highest seq, or a bound of it.
    fn last(&self) -> Option<u64> {
        let Some(cold) = &self.cold else {
            return self.front.back().map(|entry| entry.seq);
        };
        let page = || cold.pages.back().map(|page| page.last);
        cold.back.back().map(|entry| entry.seq).or_else(page)
    }

    fn insert_between(&mut self, entry: Entry) {
        let cold = self.cold.get_or_insert_default();
        // What is not paged becomes pages, so that everything is in one order.
        if !self.front.is_empty() {
            let entries: Vec<Entry> = self.front.take().into();
            for (at, chunk) in entries.chunks(PAGE_ENTRIES).enumerate() {
                cold.insert(at, Page::open(chunk.to_vec()));
            }
        }
        if cold.back.front().is_some_and(|first| first.seq < entry.seq) {
            let entries: Vec<Entry> = std::mem::take(&mut cold.back).into();
            for chunk in entries.chunks(PAGE_ENTRIES) {
                cold.insert(cold.pages.len(), Page::open(chunk.to_vec()));
            }
        }
        let at = cold.pages.partition_point(|page| page.first <= entry.seq);
        if let Some(before) = at.checked_sub(1)
            && (cold.pages[before].last >= entry.seq || (cold.pages[before].count as usize) < PAGE_ENTRIES)
            && !cold.pages[before].is_spilled()
        {
            let entries = cold.entries_mut(before, self.priority);
            let place = entries.partition_point(|e| e.seq < entry.seq);
            entries.insert(place, entry);
            let half = (entries.len() >= 2 * PAGE_ENTRIES).then(|| entries.split_off(PAGE_ENTRIES));
            let page = &mut cold.pages[before];
            page.count += 1;
            page.last = page.last.max(entry.seq);
            if let Some(half) = half {
                page.count = PAGE_ENTRIES as u32;
                let last = page.last;
                let mut half = Page::open(half);
                page.last = half.first - 1;
                half.last = last;
                cold.insert(at, half);
            }
            return;
        }
        cold.insert(at, Page::open(vec![entry]));
    }

    /// Drops the entries with these seqs, both ends included, whole pages into `gone`; `Err` if a page must be read
    /// first. For recovery, as [`Lane::insert`].
    pub(crate) fn drop_range(&mut self, first: u64, last: u64, gone: &mut Vec<Page>) -> Result<(), (u64, Spot)> {
        drop_from(self.front.long(), first, last);
        let priority = self.priority;
        let Some(cold) = &mut self.cold else {
            return Ok(());
        };
        drop_from(&mut cold.back, first, last);
        let mut at = cold.pages.partition_point(|page| page.last < first);
        while let Some(page) = cold.pages.get(at).filter(|page| page.first <= last) {
            if page.first >= first && page.last <= last {
                gone.extend(cold.remove(at));
                continue;
            }
            if let Content::Spilled(spot) = page.content {
                return Err((page.first, spot));
            }
            let entries = cold.entries_mut(at, priority);
            let from = entries.partition_point(|e| e.seq < first);
            let to = entries.partition_point(|e| e.seq <= last);
            entries.drain(from..to);
            let left = entries.len();
            cold.pages[at].count = left as u32;
            if left == 0 {
                cold.remove(at);
            } else {
                at += 1;
            }
        }
        if cold.pages.is_empty() {
            // Then what is behind them is next.
            let back = std::mem::take(&mut cold.back);
            self.cold = None;
            self.front.extend(back);
        }
        Ok(())
    }

    /// Calls `each` for every entry; those of spilled pages are read through `load`.
    pub(crate) fn each(
        &self,
        load: &mut dyn FnMut(Spot) -> Result<Vec<u8>, DiskError>,
        each: &mut dyn FnMut(Entry),
    ) -> Result<(), DiskError> {
        let returned = self.returned.get().into_iter().flat_map(BTreeMap::values);
        returned.chain(self.front.iter()).for_each(|entry| each(*entry));
        let Some(cold) = &self.cold else { return Ok(()) };
        for page in &cold.pages {
            page_entries(page, self.priority, load, each)?;
        }
        cold.back.iter().for_each(|entry| each(*entry));
        Ok(())
    }
}

/// Calls `each` for every entry of a page, which is read through `load` if it is spilled.
pub(crate) fn page_entries(
    page: &Page,
    lane: u8,
    load: &mut dyn FnMut(Spot) -> Result<Vec<u8>, DiskError>,
    each: &mut dyn FnMut(Entry),
) -> Result<(), DiskError> {
    if let Content::Spilled(spot) = page.content {
        let bytes = load(spot)?;
        page::unpack(&bytes, page.first, lane, each).ok_or_else(page::damaged)?;
    } else {
        page.each(lane, each);
    }
    Ok(())
}

impl Cold {
    /// Makes a page of entries that come behind all others; a small last page is made larger instead.
    fn pack_behind(&mut self, mut entries: Vec<Entry>, lane: u8) {
        if let Some(last) = self.pages.back()
            && last.count as usize + entries.len() <= PAGE_ENTRIES
            && matches!(last.content, Content::Packed(_))
        {
            let mut all = Vec::with_capacity(last.count as usize + entries.len());
            last.each(lane, |entry| all.push(entry));
            all.append(&mut entries);
            entries = all;
            self.remove(self.pages.len() - 1);
            if self.packed.back() == Some(&entries[0].seq) {
                self.packed.pop_back();
            }
        }
        let mut page = Page::open(entries);
        page.pack();
        self.insert(self.pages.len(), page);
    }
}

/// Gives back room that will not be needed again.
fn slim(entries: &mut VecDeque<Entry>) {
    if entries.capacity() > 2 * entries.len() + PAGE_ENTRIES_MIN {
        entries.shrink_to_fit();
    }
}

/// How many entries at the head take `keep` bytes.
fn kept_entries(front: &ShortDeque<Entry>, keep: usize) -> usize {
    let mut bytes = 0;
    let within = |entry: &&Entry| {
        bytes += entry.size as usize + SLOT_BYTES + ENTRY_BYTES;
        bytes <= keep
    };
    front.iter().take_while(within).count()
}

/// How many of the next entries, up to a page, can be packed; `Err` with those that must be spilled before.
fn window<'a>(entries: impl Iterator<Item = &'a Entry>, durable: u64, min: usize) -> Result<usize, Vec<u64>> {
    let mut count = 0;
    let mut spill = Vec::new();
    for entry in entries.take(PAGE_ENTRIES) {
        if entry.is_durable() && entry.lsn >= durable {
            break;
        }
        count += 1;
        if entry.lsn == 0 {
            spill.push(entry.seq);
        }
    }
    if count < min {
        return Ok(0);
    }
    if spill.is_empty() { Ok(count) } else { Err(spill) }
}

fn slots_of(entries: &[Entry]) -> Vec<u32> {
    debug_assert!(entries.iter().all(|e| e.is_durable() || e.lsn & SPILLED != 0));
    entries.iter().filter(|e| e.slot != NO_SLOT).map(|e| e.slot).collect()
}

/// Drops the entries with these seqs.
fn drop_from(entries: &mut VecDeque<Entry>, first: u64, last: u64) {
    while entries.front().is_some_and(|e| first <= e.seq && e.seq <= last) {
        entries.pop_front();
    }
    if entries.front().is_some_and(|e| e.seq <= last) && entries.back().is_some_and(|e| first <= e.seq) {
        let from = entries.partition_point(|e| e.seq < first);
        let to = entries.partition_point(|e| e.seq <= last);
        entries.drain(from..to);
    }
}
