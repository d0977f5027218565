//! Who has a session of a listener. Who may have one more is not asked here.

use super::socket::Flow;
use std::collections::HashMap;

/// One session of a listener, over all its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SessionId(u64);

/// The sessions of a listener; `Q` is where their datagrams go.
#[derive(Debug)]
pub(super) struct SessionTable<Q> {
    sessions: HashMap<Flow, (SessionId, Q), foldhash::fast::RandomState>,
    opened: u64,
}

impl<Q> SessionTable<Q> {
    pub(super) fn new() -> Self {
        Self { sessions: HashMap::default(), opened: 0 }
    }

    /// Where the datagrams of a session go.
    pub(super) fn get(&self, flow: &Flow) -> Option<&Q> {
        self.sessions.get(flow).map(|(_, queue)| queue)
    }

    /// Begins a session, in the place of the one that there is.
    pub(super) fn open(&mut self, flow: Flow, queue: Q) -> SessionId {
        self.opened += 1;
        let id = SessionId(self.opened);
        self.sessions.insert(flow, (id, queue));
        id
    }

    /// Ends a session, unless another one has its flow by now.
    pub(super) fn close(&mut self, flow: &Flow, id: SessionId) {
        if self.sessions.get(flow).is_some_and(|(current, _)| *current == id) {
            self.sessions.remove(flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow { source: ([192, 0, 2, 1], port).into(), destination: ([10, 0, 0, 1], 53).into() }
    }

    #[test]
    fn a_flow_is_both_addresses() {
        let mut table = SessionTable::new();
        let one = flow(1);
        let other = Flow { destination: ([10, 0, 0, 2], 53).into(), ..one };
        table.open(one, "one");
        assert_eq!((table.get(&one), table.get(&other)), (Some(&"one"), None));
        table.open(other, "other");
        assert_eq!((table.get(&one), table.get(&other)), (Some(&"one"), Some(&"other")));
    }

    #[test]
    fn the_end_of_a_session_is_not_that_of_the_next_one() {
        let mut table = SessionTable::new();
        let flow = flow(1);
        let first = table.open(flow, 1);
        let second = table.open(flow, 2);
        table.close(&flow, first);
        assert_eq!(table.get(&flow), Some(&2));
        table.close(&flow, second);
        table.close(&flow, second);
        assert_eq!((table.get(&flow), table.sessions.len()), (None, 0));
    }
}
