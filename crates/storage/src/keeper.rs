//! Housekeeping: the next file, files that nobody needs, messages that need not be in memory.
//!
//! Invariants: a file is given up only when nothing lives in it, and that is durable and proven (see
//! [`crate::log::LogState::proven`]: damage to what replaces it is never taken for a torn tail), and what its settles and
//! deletions are still needed for is durable elsewhere: they matter while an older file exists. The oldest file's are
//! not needed; those of any other are first said again, shortly, as the state of each queue they belong to.
//!
//! When files hold much more than what lives, what lives in the emptiest is moved to the end (see `choice`, `mover`).

use crate::allowance::Allowance;
use crate::canary::Canary;
use crate::core::{Core, Who};
use crate::disk::DiskError;
use crate::log::LogFile;
use crate::mover::Move;
use crate::payload::add_to_ranges;
use crate::record::Kind;
use crate::spill::Thinning;
use model::QueueId;
use std::sync::atomic::Ordering::{Relaxed, Release};

/// Bytes at the head of each queue that stay in memory, from the first to the last attempt to free some.
const KEPT_BYTES: [usize; 3] = [2 * 1024 * 1024, 64 * 1024, 0];

/// What is under way.
#[derive(Default)]
pub(crate) struct Keeper {
    /// Files that may go once the log is proven up to an LSN: their base and that.
    retiring: Vec<(u64, u64)>,
    pub(crate) moving: Option<Move>,
    pub(crate) allowance: Allowance,
    thinning: Option<Thinning>,
}

/// A file in which nothing lives.
#[derive(Clone, Copy)]
struct Dead {
    base: u64,
    number: u64,
    capacity: u64,
    /// That is so once the log is proven up to here.
    after: u64,
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
        left = left.max(self.move_step(&mut keeper));
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

    /// Gives up every file that nothing needs.
    fn give_up_files(&self, keeper: &mut Keeper) -> Result<Left, DiskError> {
        let durable = self.durable_lsn();
        loop {
            let (oldest, dead) = self.dead_files(durable);
            let proven = self.log.lock().proven(durable);
            let ready = dead.iter().find(|file| {
                let is_oldest = Some(file.base) == oldest && file.after <= proven;
                is_oldest || keeper.retiring.iter().any(|&(base, after)| base == file.base && after <= proven)
            });
            if let Some(&Dead { base, number, capacity, .. }) = ready {
                self.retire(number, capacity)?;
                keeper.retiring.retain(|&(b, _)| b != base);
                let mut log = self.log.lock();
                log.files.remove(&base);
                log.deleted_queues.retain(|_, file| *file != number);
                log.deleted_metas.retain(|_, file| *file != number);
                continue;
            }
            for &Dead { base, number, .. } in &dead {
                if !keeper.retiring.iter().any(|&(b, _)| b == base) {
                    // What replaces a value or a deletion in it need not be said again, but must be durable too.
                    let after = self.say_again(base, number).max(self.log.lock().next);
                    keeper.retiring.push((base, after));
                    self.signals.write.lazy();
                }
            }
            let last = keeper.retiring.iter().map(|&(_, after)| after).max();
            return Ok(if last.is_none_or(|after| self.prove(after)) { Left::Nothing } else { Left::Later });
        }
    }

    /// Whether the log is proven up to `after`; if it is durable and nothing else will prove it, a record that does is
    /// pushed.
    fn prove(&self, after: u64) -> bool {
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

    /// The base of the oldest file, and those in which nothing lives.
    fn dead_files(&self, durable: u64) -> (Option<u64>, Vec<Dead>) {
        let log = self.log.lock();
        // The newest file that is on the disk stays: it knows the generation and how far LSNs have been used.
        let newest = log.files.values().rfind(|f| f.handle.is_some()).map(|f| f.base);
        let early = self.options.plants(Canary::GiveUpEarly);
        let settled = |f: &LogFile| f.dead_at <= durable || early;
        let is_dead = |f: &&LogFile| Some(f.base) < newest && f.live == 0 && settled(f) && f.end <= durable;
        let dead = log.files.values().filter(is_dead);
        let after = |f: &LogFile| if early { 0 } else { f.dead_at.max(f.end) };
        let dead =
            dead.map(|f| Dead { base: f.base, number: f.number, capacity: f.capacity, after: after(f) }).collect();
        (log.files.keys().next().copied(), dead)
    }

    /// Logs again what a file's settles and deletions say; returns when that is durable.
    fn say_again(&self, base: u64, number: u64) -> u64 {
        let mut after = 0;
        let (queues, deleted, metas) = {
            let log = self.log.lock();
            let queues: Vec<QueueId> =
                log.files.get(&base).map(|f| f.settled.iter().copied().collect()).unwrap_or_default();
            let of_file = |file: &u64| *file == number;
            let deleted = log.deleted_queues.iter().filter(|(_, f)| of_file(f));
            let metas = log.deleted_metas.iter().filter(|(_, f)| of_file(f));
            (
                queues,
                deleted.map(|(id, _)| *id).collect::<Vec<_>>(),
                metas.map(|(key, _)| key.clone()).collect::<Vec<_>>(),
            )
        };
        for id in queues {
            if self.options.plants(Canary::ForgetSettles) {
                break;
            }
            after = after.max(self.say_live(id));
        }
        for id in deleted {
            if self.options.plants(Canary::ForgetDeletions) {
                break;
            }
            let mut record = self.record();
            record.varint(id.0);
            let mut log = self.log.lock();
            let (_, end) = log.push(Kind::DeleteQueue, record, self.durable_lsn());
            after = after.max(end);
            let number = log.current().number;
            log.deleted_queues.insert(id, number);
        }
        for key in metas {
            // The key may come back meanwhile; its value must stay behind the deletion.
            let held = self.metas.lock();
            let mut record = self.record();
            record.buf.extend_from_slice(&key);
            let mut log = self.log.lock();
            if !held.contains_key(&key) {
                let (_, end) = log.push(Kind::DeleteMeta, record, self.durable_lsn());
                after = after.max(end);
                let number = log.current().number;
                log.deleted_metas.insert(key, number);
            }
        }
        after
    }

    /// Logs which entries of a queue live; returns when that is durable.
    fn say_live(&self, id: QueueId) -> u64 {
        let queue = self.queue(id);
        let queue = queue.as_ref().map(|cell| cell.lock());
        let Some(queue) = queue.filter(|queue| !queue.deleted) else {
            // Its deletion is in the log already.
            return 0;
        };
        let mut ranges = Vec::new();
        for seq in queue.live_seqs() {
            add_to_ranges(&mut ranges, seq);
        }
        let mut record = self.record();
        record.varint(id.0);
        record.varint(queue.next_seq);
        record.varint(queue.delivered);
        record.ranges(&ranges);
        let mut log = self.log.lock();
        let (_, end) = log.push(Kind::Live, record, self.durable_lsn());
        log.current().settled.insert(id);
        end.max(self.say_all_attempts(&mut log, &queue))
    }

    /// Frees memory if there is little left: first of messages that can be read again, then by spilling.
    fn free_memory(&self) {
        let max = self.options.resident_bytes_max;
        if self.resident.load(Relaxed) < max / 8 * 7 {
            self.clean_spill();
            return;
        }
        let durable = self.durable_lsn();
        for keep in KEPT_BYTES {
            let cells: Vec<_> = self.queues.read().values().cloned().collect();
            for cell in &cells {
                let freed = cell.lock().evict(keep, durable);
                self.resident.fetch_sub(freed, Relaxed);
                self.spill_tail(cell, keep);
                if self.resident.load(Relaxed) < max / 4 * 3 {
                    self.clean_spill();
                    return;
                }
            }
        }
        self.clean_spill();
    }
}
