//! Housekeeping: the next file, files that nobody needs, messages that need not be in memory.

use crate::core::{Core, Who};

/// What is under way.
#[derive(Default)]
pub(crate) struct Keeper {}

impl Core {
    /// One round of housekeeping.
    pub(crate) fn keep_step(&self) -> bool {
        let prepared = self.prepare_next();
        self.note_disk(Who::Keeper, &prepared);
        let full = prepared.is_err();
        let durable = self.durable_lsn();
        loop {
            let oldest = {
                let log = self.log.lock();
                let mut files = log.files.values();
                let Some(file) = files.next() else { break };
                if files.next().is_none() || file.live > 0 || file.dead_at > durable || file.end > durable {
                    break;
                }
                (file.number, file.base, file.capacity)
            };
            if let Err(error) = self.retire(oldest.0, oldest.2) {
                self.note_disk(Who::Keeper, &Err(error));
                return full;
            }
            let mut log = self.log.lock();
            log.files.remove(&oldest.1);
            log.deleted_queues.retain(|_, file| *file != oldest.0);
            log.deleted_metas.retain(|_, file| *file != oldest.0);
        }
        full
    }
}
