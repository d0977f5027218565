//! How often entries were handed out, where that must outlive the process.
//!
//! The log knows of an entry's first time from the highest seq that was handed out ([`Kind::Delivered`]), and of every
//! further one from [`Kind::Attempts`]; both are written lazily, at most every so often. So what was in flight at a crash
//! counts as handed out, and a queue in which nothing fails writes nothing for it.
//!
//! Invariants: the log holds the count of every entry in `counts` or will be told of it (`dirty`); a file that says it is
//! given up only for its digest, which says it too while an older file holds such an entry. In a queue with priorities the
//! highest seq says nothing of the others, so there each time is told.

use crate::canary::Canary;
use crate::core::Core;
use crate::log::LogState;
use crate::payload::Record;
use crate::queue::{Entry, Queue};
use crate::record::{Kind, Reader};
use crate::seldom::Room;
use model::QueueId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(crate) struct Retries {
    /// By seq, how often each was handed out. Only entries the log must know of.
    counts: BTreeMap<u64, u16>,
    /// Seqs whose count the log has not been told.
    dirty: Vec<u64>,
}

impl Retries {
    /// What the log has said of an entry.
    pub(crate) fn recovered(&mut self, seq: u64, attempts: u16) {
        self.counts.insert(seq, attempts);
    }

    pub(crate) fn forget(&mut self, seq: u64) {
        self.counts.remove(&seq);
    }

    /// Forgets all but these.
    pub(crate) fn keep(&mut self, seqs: &[u64]) {
        self.counts.retain(|seq, _| seqs.binary_search(seq).is_ok());
    }
}

impl Room for Retries {
    fn len(&self) -> usize {
        self.counts.len() + self.dirty.len()
    }

    /// What is told again and again keeps no room.
    fn room(&self) -> usize {
        self.len()
    }
}

/// Whether entries are handed out in order of seq, the first time.
fn goes_by_seq(queue: &Queue) -> bool {
    queue.spec.priority_max == 0 && !queue.is_by_due() && queue.limits().fair.is_none()
}

/// Notes that an entry is handed out; `attempts` includes this time. Returns whether the log must be told, and was not to be
/// already.
pub(crate) fn note(queue: &mut Queue, entry: &Entry) -> bool {
    let first_by_seq = entry.attempts <= 1 && goes_by_seq(queue);
    if queue.limits().counts_attempts && entry.is_durable() && !first_by_seq {
        let retries = queue.contents.retries.make();
        retries.counts.insert(entry.seq, entry.attempts);
        retries.dirty.push(entry.seq);
        return retries.dirty.len() == 1;
    }
    false
}

/// How often an entry that was not handed out since had been handed out before the start.
pub(crate) fn attempts_at_start(queue: &Queue, seq: u64) -> u16 {
    let told = queue.contents.retries.get().and_then(|retries| retries.counts.get(&seq).copied());
    let by_seq = seq <= queue.redelivered_to && goes_by_seq(queue);
    told.unwrap_or(0).max(u16::from(by_seq))
}

impl Core {
    /// Tells the log of the counts that have changed. The caller holds the queue's lock.
    pub(crate) fn log_attempts(&self, queue: &mut Queue) {
        let dirty = queue.contents.retries.change(|retries| std::mem::take(&mut retries.dirty));
        let mut dirty = dirty.unwrap_or_default();
        dirty.sort_unstable();
        dirty.dedup();
        if self.options.plants(Canary::ForgetAttempts) {
            return;
        }
        self.say_attempts(&mut self.log.lock(), queue, dirty.into_iter());
    }

    /// Says the counts of these entries, which come in order, as far as they have one; returns when that is durable.
    pub(crate) fn say_attempts(&self, log: &mut LogState, queue: &Queue, seqs: impl Iterator<Item = u64>) -> u64 {
        let Some(Retries { counts, .. }) = queue.contents.retries.get() else {
            return 0;
        };
        let known: Vec<(u64, u16)> = seqs.filter_map(|seq| counts.get(&seq).map(|n| (seq, *n))).collect();
        if known.is_empty() {
            return 0;
        }
        let mut record = self.record();
        put_attempts(&mut record, queue.id, &known);
        let (_, end) = log.push(Kind::Attempts, record, self.durable_lsn());
        end
    }
}

fn put_attempts(record: &mut Record, queue: QueueId, counts: &[(u64, u16)]) {
    record.varint(queue.0);
    record.varint(counts.len() as u64);
    let mut last = 0;
    for &(seq, attempts) in counts {
        record.varint(seq - last);
        record.varint(u64::from(attempts));
        last = seq;
    }
}

/// Reads such a record: calls `each` with a seq and its count; returns the queue.
pub(crate) fn read_attempts(payload: &[u8], mut each: impl FnMut(QueueId, u64, u16)) -> Option<()> {
    let mut reader = Reader::new(payload);
    let queue = QueueId(reader.varint()?);
    let mut seq = 0u64;
    for _ in 0..reader.count()? {
        seq = seq.checked_add(reader.varint()?)?;
        let attempts = u16::try_from(reader.varint()?).ok()?;
        each(queue, seq, attempts);
    }
    reader.is_at_end().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::HEADER_BYTES;

    #[test]
    fn counts_come_back_and_bad_bytes_do_not() {
        let mut record = Record::default();
        record.start();
        let counts = [(3, 2), (4, 65_535), (1 << 50, 7)];
        put_attempts(&mut record, QueueId(9), &counts);
        let payload = &record.buf[HEADER_BYTES..];
        let mut read = Vec::new();
        assert!(read_attempts(payload, |id, seq, n| read.push((id, seq, n))).is_some());
        assert_eq!(read, counts.map(|(seq, n)| (QueueId(9), seq, n)));
        for cut in 0..payload.len() {
            assert!(read_attempts(&payload[..cut], |_, _, _| {}).is_none(), "cut at {cut}");
        }
    }
}
