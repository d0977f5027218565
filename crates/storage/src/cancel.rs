//! Taking back entries that wait for their time, by their key.
//!
//! Invariants: an entry is taken back or handed out, never both: each happens under the queue's lock.

use crate::core::Core;
use engine::{EngineError, EntryKey, Ticket};
use model::QueueId;

impl Core {
    /// See [`engine::Engine::cancel`].
    pub(crate) fn cancel(&self, id: QueueId, key: EntryKey) -> Result<(usize, Ticket), EngineError> {
        self.check_open()?;
        let Some(cell) = self.queue(id) else {
            return Ok((0, Ticket::NONE));
        };
        let mut queue = cell.lock();
        let mut taken = queue.take_key(key);
        for entry in &taken {
            self.drop_message(&mut queue, entry);
        }
        self.log_settled(&mut queue, &mut taken);
        self.charge(&mut queue);
        drop(queue);
        self.tell_pressure();
        if !taken.iter().any(|entry| entry.is_durable()) {
            return Ok((taken.len(), Ticket::NONE));
        }
        let mut log = self.log.lock();
        let end = log.next;
        log.wanted = log.wanted.max(end);
        drop(log);
        self.signals.write.work();
        Ok((taken.len(), Ticket(end)))
    }
}
