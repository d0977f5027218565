//! Queues, metadata and figures.
//!
//! Invariants: a queue's creation has its place in the log before anything can refer to it, and a value's place is
//! taken under the lock of the metadata, so the last record of a key is its value.

use crate::canary::Canary;
use crate::core::{Cell, Core};
use crate::log::{Form, LogState};
use crate::payload::{Record, put_meta, put_queue};
use crate::queue::Queue;
use crate::record::Kind;
use crate::replay::SEQ_BITS;
use crate::usage::QUEUE_BYTES;
use engine::{DiskBytes, EngineError, EngineMetrics, QueueSpec, QueueStats, Ticket};
use model::QueueId;
use std::sync::atomic::Ordering::Relaxed;

impl Core {
    /// Pushes a record that somebody will wait for, and does what must be done before the log goes on; returns its
    /// LSN and ticket.
    fn push_wanted(&self, kind: Kind, record: Record, then: impl FnOnce(&mut LogState, u64)) -> (u64, Ticket) {
        let mut log = self.log.lock();
        let (lsn, end) = log.push(kind, record, self.durable_lsn());
        log.wanted = log.wanted.max(end);
        then(&mut log, lsn);
        drop(log);
        self.signals.write.work();
        (lsn, Ticket(end))
    }

    pub(crate) fn create_queue(&self, spec: QueueSpec) -> Result<(QueueId, Ticket), EngineError> {
        self.check_small()?;
        let id = QueueId(self.next_queue.fetch_add(1, Relaxed));
        let (mut lsn, mut ticket) = (0, Ticket::NONE);
        if spec.durable {
            let mut record = self.record();
            put_queue(&mut record, id, spec);
            (lsn, ticket) = self.push_wanted(Kind::CreateQueue, record, |log, lsn| {
                log.add_definition(lsn, QUEUE_BYTES);
            });
        }
        let queue = Queue::new(id, spec, self.generation << SEQ_BITS, lsn);
        self.queues.write().insert(id, Cell::new(queue));
        Ok((id, ticket))
    }

    pub(crate) fn delete_queue(&self, id: QueueId) -> Result<Ticket, EngineError> {
        self.check_open()?;
        let Some(cell) = self.queue(id) else {
            return Ok(Ticket::NONE);
        };
        let mut queue = cell.lock();
        if queue.deleted {
            return Ok(Ticket::NONE);
        }
        queue.deleted = true;
        let (mut entries, pages, _) = queue.drain_ready();
        queue.contents.unsettled.take_where(|_| true, |entry| entries.push(entry));
        for entry in &entries {
            self.drop_message(&mut queue, entry);
        }
        queue.shrink();
        self.charge(&mut queue);
        if !queue.spec.durable {
            self.release_bodies_of(id, |_| false);
            drop(queue);
            self.queues.write().remove(id);
            self.count_out(pages);
            return Ok(Ticket::NONE);
        }
        let mut record = self.record();
        record.varint(id.0);
        let (_, ticket) = self.push_wanted(Kind::DeleteQueue, record, |log, _| {
            log.drop_definition(queue.create_lsn, QUEUE_BYTES);
            for entry in entries.iter().filter(|e| e.is_durable()) {
                log.drop_live(entry.lsn, entry.size as usize);
            }
        });
        self.release_bodies_of(id, |_| false);
        // Only now: who finds the queue gone may rely on its deletion being in the log.
        drop(queue);
        self.queues.write().remove(id);
        self.count_out(pages);
        self.signals.keep.work();
        Ok(ticket)
    }

    pub(crate) fn put_meta(&self, key: &[u8], value: &[u8]) -> Result<Ticket, EngineError> {
        self.check_small()?;
        let mut metas = self.metas.lock();
        let before = metas.get(key).map(|meta| (meta.size(), meta.lsn()));
        let mut record = self.record();
        match metas.get(key) {
            Some(old) if self.options.plants(Canary::LoseValue) => put_meta(&mut record, key, old.value()),
            _ => put_meta(&mut record, key, value),
        }
        let (lsn, ticket) = self.push_wanted(Kind::PutMeta, record, |log, lsn| {
            log.add_definition(lsn, key.len() + value.len());
            if let Some((size, lsn)) = before {
                log.drop_definition(lsn, size);
            }
        });
        metas.insert(key, value, lsn);
        Ok(ticket)
    }

    pub(crate) fn delete_meta(&self, key: &[u8]) -> Result<Ticket, EngineError> {
        self.check_open()?;
        let mut metas = self.metas.lock();
        let Some(removed) = metas.remove(key) else {
            return Ok(Ticket::NONE);
        };
        let mut record = self.record();
        record.buf.extend_from_slice(key);
        let (_, ticket) = self.push_wanted(Kind::DeleteMeta, record, |log, _| {
            log.drop_definition(removed.lsn(), removed.size());
        });
        Ok(ticket)
    }

    pub(crate) fn stats(&self, id: QueueId) -> QueueStats {
        let mut stats = self.queue(id).map_or_else(QueueStats::default, |cell| cell.lock().stats());
        if self.options.plants(Canary::StaleCounts) {
            stats.ready += stats.unsettled;
        }
        stats
    }

    pub(crate) fn metrics(&self) -> EngineMetrics {
        let log = self.log.lock();
        let files = log.files.values().filter(|f| f.form != Form::Alone).count() as u64;
        let file_bytes = log.files.values().map(|f| f.capacity).sum();
        let live_bytes = log.files.values().map(crate::log::LogFile::live_bytes).sum();
        let written = log.written;
        drop(log);
        let (spill_files, spill_file_bytes, spill_live_bytes) = self.spill.lock().used();
        let counters = &self.counters;
        let (body_files, body_file_bytes) = self.bodies.used();
        let body_bytes = counters.body_bytes.load(Relaxed);
        EngineMetrics {
            syncs: self.counters.syncs.count(),
            sync_us: self.counters.syncs.sum_us(),
            sync_buckets: self.counters.syncs.buckets(),
            acked: self.counters.acks.count(),
            ack_latency_us: self.counters.acks.sum_us(),
            ack_latency_buckets: self.counters.acks.buckets(),
            written_bytes: counters.written_bytes.load(Relaxed),
            message_bytes: written.message_bytes + body_bytes,
            disk_bytes: DiskBytes {
                first: written.first + body_bytes,
                moved: written.moved + counters.respilled_bytes.load(Relaxed),
                bookkeeping: written.bookkeeping,
                spilled: counters.spilled_bytes.load(Relaxed),
            },
            files,
            file_bytes,
            live_bytes,
            files_created: counters.files.created.load(Relaxed),
            files_reused: counters.files.reused.load(Relaxed),
            files_removed: counters.files.removed.load(Relaxed),
            spill_files,
            spill_file_bytes,
            spill_live_bytes,
            body_files,
            body_file_bytes,
            resident_bytes: self.resident.load(Relaxed) as u64,
            resident_bytes_max: self.options.resident_bytes_max as u64,
            cold_reads: self.counters.cold_reads.load(Relaxed),
            damaged: self.counters.damaged.load(Relaxed),
            disk_free: self.disk.free_bytes().unwrap_or(0),
            disk_free_limit: self.options.disk_free_limit,
        }
    }

    /// Whether the engine still works; pressure does not matter.
    pub(crate) fn check_open(&self) -> Result<(), EngineError> {
        let log = self.log.lock();
        if let Some(why) = &log.failed {
            return Err(EngineError::Failed(why.clone()));
        }
        if log.closed {
            return Err(EngineError::Failed("it is closed".to_owned()));
        }
        Ok(())
    }

    /// Writes and syncs everything, and takes nothing more.
    pub(crate) fn close(&self) -> Result<(), EngineError> {
        self.log_delivered();
        self.log.lock().closed = true;
        loop {
            let full = self.sync_step(true);
            let log = self.log.lock();
            if let Some(why) = &log.failed {
                return Err(EngineError::Failed(why.clone()));
            }
            if log.next <= self.durable_lsn() {
                return Ok(());
            }
            if full {
                let why = "the disk is full: not everything could be written".to_owned();
                return Err(EngineError::Failed(why));
            }
        }
    }
}
