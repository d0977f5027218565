//! Who waits for a ticket to become durable. One entry a batch, never one a message.

use crate::api::Wake;
use crate::mailbox::Mailbox;
use crate::publish::Touched;
use engine::Ticket;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Who is told when a ticket is durable.
pub(crate) enum Waiter {
    /// Dispatch these queues: they have newly durable entries.
    Queues(Vec<Touched>),
    /// Wake the connection: it has confirms or a reply.
    Mailbox(Arc<Mailbox>),
    /// Wake someone within the process.
    Wake(Arc<dyn Wake>),
}

/// Orders by ticket alone.
struct Entry(Ticket, Waiter);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// Those who wait, the lowest ticket first.
#[derive(Default)]
pub(crate) struct Waiters {
    heap: BinaryHeap<Reverse<Entry>>,
}

impl Waiters {
    pub(crate) fn push(&mut self, ticket: Ticket, waiter: Waiter) {
        self.heap.push(Reverse(Entry(ticket, waiter)));
    }

    /// Takes out those whose tickets are durable.
    pub(crate) fn pop(&mut self, durable: Ticket, into: &mut Vec<Waiter>) {
        while self.heap.peek().is_some_and(|Reverse(first)| first.0 <= durable) {
            into.extend(self.heap.pop().map(|Reverse(entry)| entry.1));
        }
    }
}
