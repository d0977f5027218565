//! Settling entries of any queues at once: what a connection acknowledges between two reads is one record.
//!
//! Invariants: an entry leaves its queue under the queue's lock, and the log hears of it after that; whoever looks in
//! between finds it gone from both what is ready and what is handed out, as after the record. The record is a batch
//! without messages.

use crate::append::{Acked, encode_acks};
use crate::core::{Core, NEAR, QueueCell};
use crate::deliver::{LAZY_BYTES_MAX, ack_us};
use crate::metrics::Tally;
use crate::queue::Queue;
use crate::record::Kind;
use model::{HolderId, Now, QueueId, Seq};
use std::sync::atomic::Ordering::Relaxed;

/// What was taken out of the queues.
struct Taken {
    /// In order of queue and seq.
    acked: Vec<Acked>,
    /// Bytes of memory.
    freed: usize,
    tally: Tally,
}

impl Core {
    /// See [`engine::Engine::acknowledge`].
    pub(crate) fn acknowledge(&self, acks: &mut Vec<(QueueId, Seq)>, now: Now) {
        acks.sort();
        let mut taken = Taken { acked: Vec::with_capacity(acks.len()), freed: 0, tally: Tally::default() };
        for some in self.cells_of_acks(acks).chunks(NEAR) {
            Self::contents_near(some.iter().map(|(cell, _)| cell));
            for (cell, of_queue) in some {
                let mut queue = cell.lock();
                self.take_out(&mut queue, of_queue, now, &mut taken);
                // Taking out needs no memory.
                self.charge_unless(true, &mut queue);
            }
        }
        acks.clear();
        self.resident.fetch_sub(taken.freed, Relaxed);
        self.counters.acks.add_all(&taken.tally);
        self.log_acknowledged(&taken.acked, now);
        self.release_bodies(taken.acked.iter().map(|ack| (ack.queue, &ack.entry)));
        self.tell_pressure();
    }

    /// The queues that exist, each with what is acknowledged of it.
    fn cells_of_acks<'a>(&self, acks: &'a [(QueueId, Seq)]) -> Vec<(QueueCell, &'a [(QueueId, Seq)])> {
        let queues = self.queues.read();
        let groups = || acks.chunk_by(|a, b| a.0 == b.0);
        let found: Vec<Option<&QueueCell>> = Self::find_near(&queues, groups().map(|acks| acks[0].0)).collect();
        found.into_iter().zip(groups()).filter_map(|(cell, of_queue)| Some((cell?.clone(), of_queue))).collect()
    }

    /// Takes acknowledged entries out of their queue.
    fn take_out(&self, queue: &mut Queue, acks: &[(QueueId, Seq)], now: Now, taken: &mut Taken) {
        for (id, seq) in acks {
            if let Some((entry, by)) = queue.contents.unsettled.remove(seq.0) {
                queue.totals.acked += u64::from(by != HolderId::BROKER);
                taken.freed += self.take_message(queue, &entry);
                if let Some(us) = ack_us(queue, &entry, now) {
                    taken.tally.add(us);
                }
                taken.acked.push(Acked { queue: *id, durability: queue.spec.durability, entry });
            }
        }
    }

    /// Logs that entries, in order of queue and seq, are gone for good.
    fn log_acknowledged(&self, acked: &[Acked], now: Now) {
        if !acked.iter().any(|ack| ack.entry.is_durable()) {
            return;
        }
        let mut record = self.record();
        record.varint(now.wall.0);
        record.varint(0);
        encode_acks(&mut record, acked);
        let mut log = self.log.lock();
        log.push(Kind::Batch, record, self.durable_lsn());
        let durable = acked.iter().filter(|ack| ack.entry.is_durable());
        let emptied = log.drop_all_live(durable.map(|ack| (ack.entry.lsn, ack.entry.size as usize)));
        let many = log.pending_bytes > LAZY_BYTES_MAX;
        drop(log);
        self.signal_settled(emptied, many);
    }
}
