//! Applying the records of the log, in order, to queues and metadata that are being recovered.
//!
//! Invariants: records are applied in the order of their LSN. A reference is pushed before its settle, and a moved
//! copy of it is pushed before its settle too, so applying in order leaves exactly what is unsettled; of two copies
//! of a reference the later one counts. Entries go where they will stay, into the lanes of their queues, which are
//! paged and spilled as those of a running engine are: recovery needs no more memory than that.

use crate::attempts::read_attempts;
use crate::bodies::BodyRefs;
use crate::core::{Cell, QueueCell};
use crate::deliver::{read_delivered, read_live};
use crate::disk::{Disk, DiskError};
use crate::log::LogState;
use crate::metas::Metas;
use crate::page::{Content, ENTRY_BYTES, PAGE_ENTRIES, Page, Spot};
use crate::paging::{Paged, page_entries};
use crate::payload::{Placed, read_batch, read_meta, read_queue, read_ranges, read_short_batch};
use crate::queue::{Entry, NO_SLOT, NO_TTL, PageOut, Queue};
use crate::record::{Kind, Reader};
use crate::spill::{Spill, read_content, read_page, write_pages};
use crate::sync::Mutex;
use crate::usage::{Arrivals, QUEUE_BYTES, charge};
use engine::{Durability, Order, QueueMap, QueueSpec, Schedule};
use foldhash::fast::FixedState;
use model::{QueueId, Wall};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Seqs of one life of the process; the bits above count the lives.
pub(crate) const SEQ_BITS: u32 = 44;
/// A lane is paged when it has so many entries that are not. More than are usually under way, so that what was
/// settled soon is never packed.
const LOOSE_ENTRIES: usize = 8 * PAGE_ENTRIES;
/// Bytes of pages spilled at once.
const SPILL_BYTES: usize = 1024 * 1024;
/// A queue of which only references are known yet keeps every priority and the message's own time to live.
const UNKNOWN: QueueSpec = QueueSpec {
    durable: true,
    durability: Durability::Sync,
    priority_max: u8::MAX,
    ttl_ms: None,
    order: Order::Arrival,
};

/// A queue that is being recovered.
struct Found {
    queue: Queue,
    /// Its creation has been read.
    known: bool,
    /// Of the references that have one.
    schedules: BTreeMap<u64, Schedule>,
    /// How often entries were handed out, where the log says so.
    attempts: BTreeMap<u64, u16>,
    seq_end: u64,
}

/// What a file holds that must be known later.
struct FileNotes {
    base: u64,
    arrivals: Arrivals,
}

/// See the module.
pub(crate) struct Replay<'a> {
    disk: &'a dyn Disk,
    memory_max: usize,
    /// Bytes of entries that came since the memory of the queues was last counted.
    uncounted: usize,
    pages: Mutex<Spill>,
    /// The first error of the spill.
    failed: Option<DiskError>,
    queues: HashMap<QueueId, Found, FixedState>,
    deleted: HashSet<QueueId, FixedState>,
    metas: Metas,
    /// Of every reference to a large body that was read.
    bodies: BodyRefs,
    files: Vec<FileNotes>,
    placed: Vec<Placed>,
}

/// What was recovered.
pub(crate) struct Recovered {
    pub(crate) queues: QueueMap<QueueCell>,
    pub(crate) metas: Metas,
    pub(crate) pages: Spill,
    /// The bodies of living entries.
    pub(crate) bodies: BodyRefs,
}

impl<'a> Replay<'a> {
    /// Nothing yet; the index may take `memory_max` bytes.
    pub(crate) fn new(disk: &'a dyn Disk, pages: Spill, memory_max: usize) -> Self {
        Self {
            disk,
            memory_max,
            uncounted: 0,
            pages: Mutex::new(pages),
            failed: None,
            queues: HashMap::default(),
            deleted: HashSet::default(),
            metas: Metas::default(),
            bodies: BodyRefs::default(),
            files: Vec::new(),
            placed: Vec::new(),
        }
    }

    /// The records that follow are those of this file.
    pub(crate) fn start_file(&mut self, base: u64) {
        self.files.push(FileNotes { base, arrivals: Arrivals::default() });
    }

    /// What the disk did wrong meanwhile.
    pub(crate) fn take_error(&mut self) -> Option<DiskError> {
        self.failed.take()
    }

    /// Applies a record; false if its content is not what its kind says.
    pub(crate) fn record(&mut self, kind: Kind, lsn: u64, payload: &[u8]) -> bool {
        match kind {
            Kind::Batch => self.batch(lsn, payload, false),
            Kind::Refs => self.batch(lsn, payload, true),
            Kind::Settle => self.settle(payload),
            Kind::Live => self.live(payload),
            Kind::Delivered => self.delivered(payload),
            Kind::Attempts => self.attempts(payload),
            Kind::CreateQueue => read_queue(payload).map(|(id, spec)| self.create(id, spec, lsn)),
            Kind::DeleteQueue => Reader::new(payload).varint().map(|id| {
                self.forget(QueueId(id));
                self.deleted.insert(QueueId(id));
            }),
            Kind::PutMeta => read_meta(payload).map(|(key, value)| self.put_meta(lsn, key, value)),
            Kind::DeleteMeta => {
                self.delete_meta(payload);
                Some(())
            }
            Kind::Seal | Kind::GoesOn | Kind::Link | Kind::Oldest | Kind::Gap => Some(()),
        }
        .is_some()
    }

    fn put_meta(&mut self, lsn: u64, key: &[u8], value: &[u8]) {
        self.metas.insert(key, value, lsn);
        self.count(&Arrivals::one(key.len() + value.len()));
    }

    fn delete_meta(&mut self, key: &[u8]) {
        self.metas.remove(key);
    }

    fn count(&mut self, arrivals: &Arrivals) {
        if let Some(file) = self.files.last_mut() {
            file.arrivals += *arrivals;
        }
    }

    fn create(&mut self, id: QueueId, spec: QueueSpec, lsn: u64) {
        self.count(&Arrivals::one(QUEUE_BYTES));
        let found = found(&mut self.queues, id);
        found.queue.create_lsn = lsn;
        if found.known {
            return;
        }
        found.known = true;
        // One in order of due time is put into that order in the end.
        debug_assert_eq!(found.queue.spec(), UNKNOWN);
        found.queue.set_spec(spec);
        if found.queue.lanes_mut().is_empty() {
            return;
        }
        // Its creation was moved behind references that are older: those go where they belong now.
        let lanes: Vec<_> = found.queue.lanes_mut().iter_mut().map(|lane| (lane.priority, lane.take_all())).collect();
        found.queue.drain_ready();
        for (priority, (entries, pages)) in lanes {
            entries.into_iter().for_each(|entry| self.insert(id, entry, None));
            for page in pages {
                let mut all = Vec::new();
                let read =
                    page_entries(&page, priority, &mut |spot| read_page(&self.pages, spot), &mut |e| all.push(e));
                self.note(read);
                self.free_page(&page);
                all.into_iter().for_each(|entry| self.insert(id, entry, None));
            }
        }
    }

    fn forget(&mut self, id: QueueId) {
        let Some(mut found) = self.queues.remove(&id) else {
            return;
        };
        let (_, pages, _) = found.queue.drain_ready();
        pages.iter().for_each(|page| self.free_page(page));
    }

    fn free_page(&self, page: &Page) {
        if let Content::Spilled(spot) = page.content {
            self.pages.lock().free(spot.at, spot.len as usize);
        }
    }

    fn note(&mut self, result: Result<(), DiskError>) {
        if let Err(error) = result {
            self.failed.get_or_insert(error);
        }
    }

    fn batch(&mut self, record: u64, payload: &[u8], short: bool) -> Option<()> {
        let mut placed = std::mem::take(&mut self.placed);
        let mut settled = Vec::new();
        let mut arrivals = Arrivals::default();
        let mut counted = None;
        let mut changes = Vec::new();
        let each = |wall: Wall, index: usize, message: &Placed, id: QueueId, seq: u64| {
            if counted.replace(index) != Some(index) {
                arrivals.message(message.size, id);
            }
            arrivals.reference(message.size);
            let own = message.ttl_ms.map(|ttl| u32::try_from(ttl).unwrap_or(NO_TTL - 1));
            let entry = Entry {
                seq,
                lsn: record + message.offset as u64,
                wall: wall.0,
                mono: 0,
                size: u32::try_from(message.size).unwrap_or(u32::MAX),
                body: u32::try_from(message.body).unwrap_or(u32::MAX),
                ttl_ms: own.unwrap_or(NO_TTL),
                slot: NO_SLOT,
                attempts: 0,
                lane: message.priority,
                redelivered: false,
                large: message.large.is_some(),
            };
            if let Some(large) = message.large {
                self.bodies.insert((id, seq), (large.id, large.len));
            }
            self.insert(id, entry, message.schedule);
        };
        let metas = |key: &[u8], value: Option<&[u8]>| changes.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        let acks = |id, first, last| settled.push((id, first, last));
        let read = if short {
            read_short_batch(payload, &mut placed, each, acks, metas)
        } else {
            read_batch(payload, &mut placed, each, acks, metas)
        };
        self.placed = placed;
        read?;
        self.count(&arrivals);
        for (key, value) in changes {
            match value {
                Some(value) => self.put_meta(record, &key, &value),
                None => self.delete_meta(&key),
            }
        }
        for (id, first, last) in settled {
            self.drop_range(id, first, last);
        }
        Some(())
    }

    /// Adds an entry or replaces it. Its lane is still the message's priority, and its time to live the message's.
    fn insert(&mut self, id: QueueId, mut entry: Entry, schedule: Option<Schedule>) {
        if self.deleted.contains(&id) {
            return;
        }
        let found = found(&mut self.queues, id);
        found.seq_end = found.seq_end.max(entry.seq.saturating_add(1));
        if let Some(schedule) = schedule {
            found.schedules.insert(entry.seq, schedule);
        }
        let own = (entry.ttl_ms != NO_TTL).then_some(u64::from(entry.ttl_ms));
        entry.ttl_ms = found.queue.ttl_of(own);
        entry.lane = found.queue.lane_of(entry.lane);
        while let Err((first, spot)) = found.queue.lane_mut(entry.lane).insert(entry) {
            if let Err(error) = load(&self.pages, &mut found.queue, first, spot) {
                self.failed.get_or_insert(error);
                return;
            }
        }
        let lane = found.queue.lane_mut(entry.lane);
        if lane.loose() > LOOSE_ENTRIES {
            while lane.loose() > LOOSE_ENTRIES / 2 && matches!(lane.page_out(0, u64::MAX), Paged::Packed(_)) {}
        }
        self.uncounted += ENTRY_BYTES;
        if self.uncounted > self.memory_max / 8 {
            let read = self.shrink();
            self.note(read);
        }
    }

    /// Counts the memory of all queues again, and pages and spills if it is too much.
    fn shrink(&mut self) -> Result<(), DiskError> {
        self.uncounted = 0;
        let count = |queues: &mut HashMap<QueueId, Found, FixedState>| -> usize {
            queues.values_mut().map(|found| found.queue.index_bytes()).sum()
        };
        if count(&mut self.queues) < self.memory_max / 2 {
            return Ok(());
        }
        for found in self.queues.values_mut() {
            found.queue.close_pages();
            while matches!(found.queue.page_out(0, u64::MAX), PageOut::Freed(_)) {}
        }
        if count(&mut self.queues) < self.memory_max / 2 {
            return Ok(());
        }
        for lane in self.queues.values_mut().flat_map(|found| found.queue.lanes_mut()) {
            loop {
                let pages = lane.spillable(SPILL_BYTES);
                if pages.is_empty() {
                    break;
                }
                let spots = match write_pages(&self.pages, self.disk, &pages) {
                    Ok(spots) => spots,
                    // A full disk is no reason to refuse to start.
                    Err(DiskError::Full) => return Ok(()),
                    Err(error) => return Err(error),
                };
                for ((first, content), spot) in pages.iter().zip(spots) {
                    lane.spilled(*first, content, spot);
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = Reader::new(payload);
        let id = QueueId(reader.varint()?);
        read_ranges(&mut reader, |first, last| self.drop_range(id, first, last))
    }

    fn drop_range(&mut self, id: QueueId, first: u64, last: u64) {
        let Some(found) = self.queues.get_mut(&id) else {
            return;
        };
        found.seq_end = found.seq_end.max(last.saturating_add(1));
        forget_range(&mut found.schedules, first, last);
        forget_range(&mut found.attempts, first, last);
        let mut gone = Vec::new();
        for at in 0..found.queue.lanes_mut().len() {
            while let Err((page, spot)) = found.queue.lanes_mut()[at].drop_range(first, last, &mut gone) {
                if let Err(error) = load(&self.pages, &mut found.queue, page, spot) {
                    self.failed.get_or_insert(error);
                    return;
                }
            }
        }
        gone.iter().for_each(|page| self.free_page(page));
    }

    /// A queue's state: below a seq, only some ranges live.
    fn live(&mut self, payload: &[u8]) -> Option<()> {
        let mut gone = Vec::new();
        let (id, delivered) = read_live(payload, |first, last| gone.push((first, last)))?;
        for (first, last) in gone {
            self.drop_range(id, first, last);
        }
        if let Some(found) = self.queues.get_mut(&id) {
            found.queue.delivered = found.queue.delivered.max(delivered);
        }
        Some(())
    }

    fn delivered(&mut self, payload: &[u8]) -> Option<()> {
        let queues = &mut self.queues;
        read_delivered(payload, |id, seq| {
            if let Some(found) = queues.get_mut(&id) {
                found.queue.delivered = found.queue.delivered.max(seq);
                found.seq_end = found.seq_end.max(seq.saturating_add(1));
            }
        })
    }

    fn attempts(&mut self, payload: &[u8]) -> Option<()> {
        let queues = &mut self.queues;
        read_attempts(payload, |id, seq, attempts| {
            if let Some(found) = queues.get_mut(&id) {
                found.attempts.insert(seq, attempts);
            }
        })
    }

    /// Turns what was found into queues, whose new seqs are `seqs_from` or higher, and tells the log what lives where.
    pub(crate) fn finish(self, log: &mut LogState, seqs_from: u64) -> Result<Recovered, DiskError> {
        let mut bodies = BodyRefs::default();
        for notes in self.files {
            if let Some(file) = log.files.get_mut(&notes.base) {
                file.arrivals = notes.arrivals;
            }
        }
        let mut counts = Counts::new(log);
        for meta in self.metas.iter() {
            counts.define(meta.lsn(), meta.size());
        }
        let mut queues = QueueMap::default();
        for (id, found) in self.queues {
            let mut queue = found.queue;
            // References without a queue: its creation was lost with the deletion that made them pointless.
            if !found.known {
                continue;
            }
            counts.define(queue.create_lsn, QUEUE_BYTES);
            queue.next_seq = found.seq_end.max(seqs_from);
            queue.redelivered_to = queue.delivered;
            queue.close_pages();
            let (mut ready, mut bytes) = (0, 0);
            // What settled an entry may have gone with all there was of it but its count.
            let mut counted = Vec::new();
            for lane in queue.lanes_mut() {
                lane.each(&mut |spot| read_page(&self.pages, spot), &mut |entry| {
                    ready += 1;
                    bytes += u64::from(entry.body);
                    counted.extend(found.attempts.get(&entry.seq).map(|attempts| (entry.seq, *attempts)));
                    if entry.large
                        && let Some(body) = self.bodies.get(&(id, entry.seq))
                    {
                        bodies.insert((id, entry.seq), *body);
                    }
                    counts.add(entry.lsn, entry.size as usize);
                })?;
            }
            // A repair of damage may have made the queue again, and knows no more of it than its entries tell.
            if !found.schedules.is_empty() {
                queue.spec.order = Order::Due;
            }
            if queue.spec.order == Order::Due {
                let (mut entries, pages, _) = queue.drain_ready();
                for page in &pages {
                    page_entries(page, 0, &mut |spot| read_page(&self.pages, spot), &mut |entry| entries.push(entry))?;
                }
                queue.order_recovered(entries, |seq| found.schedules.get(&seq).copied());
            }
            counted.into_iter().for_each(|(seq, attempts)| queue.contents.retries.make().recovered(seq, attempts));
            queue.count_recovered(ready, bytes);
            queue.charged = queue.index_bytes();
            queues.insert(id, Cell::new(queue));
        }
        Ok(Recovered { queues, metas: self.metas, pages: self.pages.into_inner(), bodies })
    }

    /// Removes what was spilled: the directory stays as it was.
    pub(crate) fn abandon(&self) {
        self.pages.lock().remove_all(self.disk);
    }
}

/// The queue with this id, made if nothing is known of it.
fn found(queues: &mut HashMap<QueueId, Found, FixedState>, id: QueueId) -> &mut Found {
    queues.entry(id).or_insert_with(|| Found {
        queue: Queue::new(id, UNKNOWN, 0, 0),
        known: false,
        schedules: BTreeMap::new(),
        attempts: BTreeMap::new(),
        seq_end: 0,
    })
}

fn forget_range<T>(known: &mut BTreeMap<u64, T>, first: u64, last: u64) {
    let seqs: Vec<u64> = known.range(first..=last).map(|(&seq, _)| seq).collect();
    for seq in seqs {
        known.remove(&seq);
    }
}

/// Reads a page of a queue back into memory.
fn load(pages: &Mutex<Spill>, queue: &mut Queue, first: u64, spot: Spot) -> Result<(), DiskError> {
    let bytes = read_content(pages, first, spot)?;
    queue.install(first, spot, &bytes);
    pages.lock().free(spot.at, spot.len as usize);
    Ok(())
}

/// Counts what lives in each file. Neighbours lie in one file mostly, which is then not searched for again.
struct Counts<'a> {
    log: &'a mut LogState,
    file: std::ops::Range<u64>,
    count: u64,
    definitions: u64,
    charged: u64,
}

impl<'a> Counts<'a> {
    fn new(log: &'a mut LogState) -> Self {
        Self { log, file: 0..0, count: 0, definitions: 0, charged: 0 }
    }

    /// Something of this size was found to live at `lsn`.
    fn add(&mut self, lsn: u64, size: usize) {
        if !self.file.contains(&lsn) {
            self.flush();
            self.file = self.log.file_of(lsn).map_or(0..0, |file| file.base..file.end);
        }
        self.count += 1;
        self.charged += charge(size);
    }

    /// The same of a queue or a value.
    fn define(&mut self, lsn: u64, size: usize) {
        self.add(lsn, size);
        self.definitions += 1;
    }

    fn flush(&mut self) {
        if let Some(file) = self.log.file_of(self.file.start) {
            file.lives(self.count, self.charged);
            file.definitions += self.definitions;
        }
        (self.count, self.definitions, self.charged) = (0, 0, 0);
    }
}

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
