//! Looking at many queues before they are worked on: with ten thousand of them hardly anything of one is in the cache, and a
//! processor waits for one line after the other if each is asked for only when it is needed. Asked for in a loop that does
//! nothing else, several come at once.
//!
//! Invariants: nothing here changes anything, and whoever calls it does the same without it.

use crate::core::{Core, QueueCell};
use crate::queue::Queue;
use crate::sync::MutexGuard;
use model::QueueId;
use smallvec::SmallVec;
use std::hint::black_box;

/// Queues worth looking at together.
pub(crate) const TOGETHER: usize = 32;

/// Asks for what the locks of these queues guard.
pub(crate) fn look_at_cells<'a>(cells: impl Iterator<Item = &'a QueueCell>) {
    let seen: usize = cells.map(|cell| cell.look()).sum();
    black_box(seen);
}

impl Core {
    /// See [`engine::Engine::look_ahead`].
    pub(crate) fn look_ahead(&self, ids: &mut dyn Iterator<Item = QueueId>) {
        let cells: SmallVec<[QueueCell; TOGETHER]> = {
            let queues = self.queues.read();
            let found: SmallVec<[&QueueCell; TOGETHER]> = ids.filter_map(|id| queues.get(id)).collect();
            look_at_cells(found.iter().copied());
            found.into_iter().cloned().collect()
        };
        // Whoever holds one has it in its cache.
        let queues: SmallVec<[MutexGuard<'_, Queue>; TOGETHER]> =
            cells.iter().filter_map(|cell| cell.try_lock()).collect();
        look_into(queues.iter().map(|queue| &**queue));
    }
}

/// Asks for what is in these queues.
pub(crate) fn look_into<'a>(queues: impl Iterator<Item = &'a Queue>) {
    let seen: u64 = queues.map(|queue| queue.contents.look()).fold(0, u64::wrapping_add);
    black_box(seen);
}
