//! Housekeeping: the next file, files that nobody needs, messages that need not be in memory.
//!
//! Invariants: a file is given up only when nothing lives in it, and that is durable and proven (see
//! [`crate::log::LogState::proven`]: damage to what made it so is never taken for a torn tail). Its settles and deletions
//! matter while an older file needs them: the oldest file's are not needed, those of any other stay as its digest, which is
//! bare if no older file can need any of them (see `bare`).
//!
//! When files hold much more than what lives, what lives in the emptiest is moved to the end (see `choice`, `mover`).

use crate::allowance::Allowance;
use crate::canary::Canary;
use crate::core::{Core, QueueCell, Who};
use crate::digest::digest_name;
use crate::disk::DiskError;
use crate::log::{Form, LogFile};
use crate::mover::Move;
use crate::page::{Page, Spot};
use crate::paging::page_entries;
use crate::queue::PageOut;
use crate::spill::{Thinning, read_page};
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Bytes at the head of each queue that stay in memory, from the first to the last attempt to free some.
const KEPT_BYTES: [usize; 3] = [2 * 1024 * 1024, 64 * 1024, 0];

/// Pages of deleted queues looked at in a round, slots of messages in a step, bytes of pages spilled in a step.
const DISCARDED_A_ROUND: usize = 256;
const SLOTS_A_STEP: usize = 1024;
const SPILL_BYTES: usize = 1024 * 1024;

/// Files that are kept in full although nothing lives in them, because they may soon be the oldest.
const DEAD_FILES_MAX: usize = 1;

/// What is under way.
#[derive(Default)]
pub(crate) struct Keeper {
    pub(crate) moving: Option<Move>,
    pub(crate) allowance: Allowance,
    thinning: Option<Thinning>,
    /// The file that the log calls the oldest, and where it does.
    oldest: (u64, u64),
    /// When the last digest was made.
    pub(crate) digested_us: u64,
}

/// A file in which nothing lives.
struct Dead {
    base: u64,
    number: u64,
    capacity: u64,
    /// That is so once the log is proven up to here.
    after: u64,
    form: Form,
    is_oldest: bool,
}

/// What is left to do after a round.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Left {
    Nothing,
    /// Something that waits for the disk.
    Later,
    Now,
}

impl Core {
    /// One round of housekeeping.
    pub(crate) fn keep_step(&self) -> Left {
        let mut keeper = self.keeper.lock();
        if self.check_open().is_err() {
            return Left::Nothing;
        }
        let prepared = self.prepare_next();
        self.note_disk(Who::Keeper, &prepared);
        let mut left = if prepared.is_ok() { Left::Nothing } else { Left::Later };
        let published = self.log.lock().written.first + self.counters.spilled_bytes.load(Relaxed);
        keeper.allowance.refill(self.disk.micros(), published, &self.options);
        match self.give_up_files(&mut keeper) {
            Ok(now) => left = left.max(now),
            Err(error) => self.note_disk(Who::Keeper, &Err(error)),
        }
        match self.digest_step(&mut keeper) {
            Ok(true) => left = left.max(Left::Later),
            Ok(false) => {}
            Err(error) => self.note_disk(Who::Keeper, &Err(error)),
        }
        for step in [self.move_step(&mut keeper), self.count_discarded(), self.give_up_bodies()] {
            match step {
                Ok(now) => left = left.max(now),
                Err(error) => self.note_disk(Who::Keeper, &Err(error)),
            }
        }
        self.free_memory();
        left = left.max(self.thin_step(&mut keeper));
        self.look_at_space();
        self.tell_pressure();
        // Who was told to stop waits to be told to go on, and nothing else may happen that would look again.
        if self.is_pressed() { left.max(Left::Later) } else { left }
    }

    /// Goes on emptying a file of the spill.
    fn thin_step(&self, keeper: &mut Keeper) -> Left {
        if !keeper.allowance.allows(true) {
            return if keeper.thinning.is_some() { Left::Later } else { Left::Nothing };
        }
        match self.thin_spill(&mut keeper.thinning) {
            Ok(0) => Left::Nothing,
            Ok(read) => {
                keeper.allowance.spend(read, true);
                Left::Now
            }
            // They stay where they are; if the disk is broken, the writer will notice.
            Err(_) => Left::Later,
        }
    }

    /// Gives up every file that nothing needs; one that only its settles may be needed of is replaced by its digest.
    fn give_up_files(&self, keeper: &mut Keeper) -> Result<Left, DiskError> {
        let durable = self.durable_lsn();
        while let Some(dead) = self.next_dead(durable) {
            let mut after = dead.after;
            if dead.is_oldest {
                after = after.max(self.tell_oldest(keeper, durable));
            }
            if !self.prove(after) {
                return Ok(Left::Later);
            }
            let mut bytes = 0;
            if !dead.is_oldest {
                let between = keeper.moving.as_ref().is_some_and(Move::is_between);
                let written = match self.bare_digest(dead.base, between) {
                    Some(bare) => Some(self.put_digest(bare)?),
                    None => self.write_digest(dead.base, true)?,
                };
                let Some(written) = written else { continue };
                bytes = written;
            }
            if dead.form != Form::Alone {
                self.retire(dead.number, dead.capacity)?;
                if let Some(file) = self.log.lock().files.get_mut(&dead.base) {
                    file.form = Form::Alone;
                    file.handle = None;
                    file.capacity = bytes;
                }
            }
            if dead.is_oldest {
                if dead.form != Form::Log {
                    // If a crash brings it back, the next start removes it: its file is gone for good.
                    self.disk.remove(&digest_name(dead.number))?;
                }
                self.log.lock().files.remove(&dead.base);
            }
        }
        Ok(Left::Nothing)
    }

    /// Has the log say which file will be the oldest once the dead ones in front of it are given up; returns where it does.
    fn tell_oldest(&self, keeper: &mut Keeper, durable: u64) -> u64 {
        if self.options.plants(Canary::GiveUpUntold) {
            return 0;
        }
        let mut log = self.log.lock();
        let newest = log.files.values().rfind(|f| f.handle.is_some()).map(|f| f.base);
        let stays = |f: &&LogFile| Some(f.base) >= newest || f.live > 0 || f.dead_at > durable || f.end > durable;
        let number = log.files.values().find(stays).map_or(0, |f| f.number);
        if number > keeper.oldest.0 {
            keeper.oldest = (number, log.tell_oldest(self.record(), number, durable));
        }
        keeper.oldest.1
    }

    /// Whether the log is proven up to `after`; if it is durable and nothing else will prove it, a record that does is
    /// pushed.
    pub(crate) fn prove(&self, after: u64) -> bool {
        let durable = self.durable_lsn();
        let mut log = self.log.lock();
        if log.proven(durable) >= after {
            return true;
        }
        if durable >= log.next {
            log.prove(self.record(), durable);
        }
        drop(log);
        self.signals.write.lazy();
        false
    }

    /// The same at once: the keeper is told when it is.
    pub(crate) fn wait_proven(&self, after: u64) -> bool {
        if self.prove(after) {
            return true;
        }
        let mut log = self.log.lock();
        let last = log.next;
        log.wanted = log.wanted.max(last);
        drop(log);
        self.keeper_waits.store(last, Release);
        if self.durable_lsn() >= last {
            self.signals.keep.work();
        }
        self.signals.write.work();
        false
    }

    /// The next file in which nothing lives, and that is durable: the oldest, or one that is still there in full while
    /// newer ones are dead too, for it may soon be the oldest.
    fn next_dead(&self, durable: u64) -> Option<Dead> {
        let log = self.log.lock();
        // The newest file that is on the disk stays: it knows the generation and how far LSNs have been used.
        let newest = log.files.values().rfind(|f| f.handle.is_some()).map(|f| f.base);
        let early = self.options.plants(Canary::GiveUpEarly);
        let settled = |f: &LogFile| f.dead_at <= durable || early;
        let is_dead = |f: &&LogFile| Some(f.base) < newest && f.live == 0 && settled(f) && f.end <= durable;
        let after = |f: &LogFile| if early { 0 } else { f.dead_at.max(f.end) };
        let dead = |f: &LogFile, is_oldest| Dead {
            base: f.base,
            number: f.number,
            capacity: f.capacity,
            after: after(f),
            form: f.form,
            is_oldest,
        };
        if let Some(oldest) = log.files.values().next().filter(is_dead) {
            return Some(dead(oldest, true));
        }
        let full = || log.files.values().filter(is_dead).filter(|f| f.form != Form::Alone && !f.damaged);
        let one = full().next()?;
        (full().count() > DEAD_FILES_MAX).then(|| dead(one, false))
    }

    /// Sees to it that what was in these pages no longer counts as living in the log.
    pub(crate) fn count_out(&self, pages: VecDeque<Page>) {
        if !pages.is_empty() {
            let bytes: usize = pages.iter().map(Page::memory).sum();
            self.resident.fetch_add(bytes, Relaxed);
            self.discarded.lock().extend(pages);
            self.signals.keep.work();
        }
    }

    /// Goes through some of the pages that were discarded.
    fn count_discarded(&self) -> Result<Left, DiskError> {
        for _ in 0..DISCARDED_A_ROUND {
            let Some(page) = self.discarded.lock().pop_front() else {
                return Ok(Left::Nothing);
            };
            let (mut logged, mut spilled) = (Vec::new(), Vec::new());
            let mut load = |spot: Spot| {
                spilled.push(spot);
                read_page(&self.pages, spot)
            };
            let mut gone = Vec::new();
            page_entries(&page, 0, &mut load, &mut |entry| {
                if entry.is_durable() { &mut logged } else { &mut gone }.push((entry.lsn, entry.size as usize));
            })?;
            let mut log = self.log.lock();
            log.drop_all_live(logged.into_iter());
            drop(log);
            for (lsn, size) in gone {
                self.spill.lock().free(lsn, size);
            }
            for spot in spilled {
                self.pages.lock().free(spot.at, spot.len as usize);
            }
            self.resident.fetch_sub(page.memory(), Relaxed);
        }
        Ok(Left::Now)
    }

    /// Frees memory if there is little left: messages that lie on the disk are forgotten and their entries packed,
    /// transient ones are spilled, and so are pages. First what lies far behind the heads of the queues.
    fn free_memory(&self) {
        let is_low = || self.resident.load(Relaxed) >= self.options.resident_bytes_max / 4 * 3;
        if self.resident.load(Relaxed) < self.options.resident_bytes_max / 8 * 7 {
            self.clean_spill();
            return;
        }
        let durable = self.durable_lsn();
        'enough: for keep in KEPT_BYTES {
            let cells: Vec<_> = self.queues.read().values().cloned().collect();
            for cell in &cells {
                self.free_queue(cell, keep, durable, &is_low);
                if !is_low() {
                    break 'enough;
                }
            }
        }
        self.clean_spill();
    }

    /// Frees memory of one queue, but for `keep` bytes at its head, while there is little.
    fn free_queue(&self, cell: &QueueCell, keep: usize, durable: u64, is_low: &dyn Fn() -> bool) {
        loop {
            let mut queue = cell.lock();
            match queue.page_out(keep, durable) {
                PageOut::Freed(bytes) => {
                    self.resident.fetch_sub(bytes, Relaxed);
                    self.charge(&mut queue);
                }
                PageOut::Spill(leaving) => {
                    drop(queue);
                    if !self.spill_messages(cell, &leaving) {
                        break;
                    }
                }
                PageOut::Nothing => {
                    queue.shrink();
                    self.charge(&mut queue);
                    break;
                }
            }
            if !is_low() {
                return;
            }
        }
        loop {
            let mut queue = cell.lock();
            let (freed, all) = queue.forget_held(SLOTS_A_STEP, durable);
            self.resident.fetch_sub(freed, Relaxed);
            self.charge(&mut queue);
            if all {
                break;
            }
        }
        while is_low() && self.spill_pages(cell, SPILL_BYTES) {}
    }
}
