//! Who has a session of a listener, and who may have one more.
//!
//! Invariants: never more than the limit. One address holds at most as many as are left for all others, so the first gets
//! half of all, and one who comes later always finds room unless many addresses took it; addresses can be forged, and then
//! the limit alone holds. An address of IPv6 is the network of its first 64 bits, which one host has for itself. No clock:
//! a session says itself when it ends.

use super::socket::Flow;
use gateway::stats::Dropped;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};

/// One session of a listener, over all its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SessionId(u64);

/// The sessions of a listener; `Q` is where their datagrams go.
#[derive(Debug)]
pub(super) struct SessionTable<Q> {
    sessions: HashMap<Flow, (SessionId, Q), foldhash::fast::RandomState>,
    held: HashMap<IpAddr, usize, foldhash::fast::RandomState>,
    sessions_max: usize,
    opened: u64,
}

impl<Q> SessionTable<Q> {
    pub(super) fn new(sessions_max: usize) -> Self {
        Self { sessions: HashMap::default(), held: HashMap::default(), sessions_max, opened: 0 }
    }

    /// Where the datagrams of a session go.
    pub(super) fn get(&self, flow: &Flow) -> Option<&Q> {
        self.sessions.get(flow).map(|(_, queue)| queue)
    }

    /// Begins a session, in the place of the one that there is.
    ///
    /// # Errors
    /// There is no room for it.
    pub(super) fn open(&mut self, flow: Flow, queue: Q) -> Result<SessionId, Dropped> {
        if let Some((old, _)) = self.sessions.get(&flow) {
            self.close(&flow, *old);
        }
        let left = self.sessions_max.saturating_sub(self.sessions.len());
        if left == 0 {
            return Err(Dropped::Sessions);
        }
        let holder = holder(flow.source.ip());
        if self.held.get(&holder).is_some_and(|held| *held >= left) {
            return Err(Dropped::Share);
        }
        *self.held.entry(holder).or_default() += 1;
        self.opened += 1;
        let id = SessionId(self.opened);
        self.sessions.insert(flow, (id, queue));
        Ok(id)
    }

    /// Ends a session, unless another one has its flow by now.
    pub(super) fn close(&mut self, flow: &Flow, id: SessionId) {
        if self.sessions.get(flow).is_none_or(|(current, _)| *current != id) {
            return;
        }
        self.sessions.remove(flow);
        if let Entry::Occupied(mut held) = self.held.entry(holder(flow.source.ip())) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// Whom a session is counted for.
fn holder(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::limits::UDP_LISTENER_SESSIONS_MAX;
    use std::net::{Ipv4Addr, SocketAddr};

    fn flow(ip: &str, port: u16) -> Flow {
        let destination = SocketAddr::from(([10, 0, 0, 1], 53));
        Flow { source: SocketAddr::new(ip.parse().unwrap(), port), destination }
    }

    /// How many sessions an address gets, from ports of its own.
    fn taken(table: &mut SessionTable<()>, ip: &str) -> (usize, Dropped) {
        let mut n = 0;
        loop {
            match table.open(flow(ip, u16::try_from(n).unwrap()), ()) {
                Ok(_) => n += 1,
                Err(why) => return (n, why),
            }
        }
    }

    #[test]
    fn a_flow_is_both_addresses() {
        let mut table = SessionTable::new(8);
        let one = flow("192.0.2.1", 1);
        let other = Flow { destination: SocketAddr::from(([10, 0, 0, 2], 53)), ..one };
        table.open(one, "one").unwrap();
        assert_eq!((table.get(&one), table.get(&other)), (Some(&"one"), None));
        table.open(other, "other").unwrap();
        assert_eq!((table.get(&one), table.get(&other)), (Some(&"one"), Some(&"other")));
    }

    #[test]
    fn one_address_has_no_more_than_it_leaves() {
        let mut table = SessionTable::new(UDP_LISTENER_SESSIONS_MAX);
        assert_eq!(taken(&mut table, "192.0.2.1"), (UDP_LISTENER_SESSIONS_MAX / 2, Dropped::Share));
        assert_eq!(taken(&mut table, "192.0.2.2"), (UDP_LISTENER_SESSIONS_MAX / 4, Dropped::Share));
        assert!(table.open(flow("192.0.2.3", 1), ()).is_ok());
    }

    #[test]
    fn many_addresses_have_no_more_than_the_limit() {
        let mut table = SessionTable::new(UDP_LISTENER_SESSIONS_MAX);
        let source = |n: usize| flow(&Ipv4Addr::from_bits(u32::try_from(n).unwrap()).to_string(), 1);
        let opened = (0..UDP_LISTENER_SESSIONS_MAX).filter(|n| table.open(source(*n), ()).is_ok()).count();
        assert_eq!(opened, UDP_LISTENER_SESSIONS_MAX);
        assert_eq!(table.open(flow("192.0.2.1", 1), ()), Err(Dropped::Sessions));
        let id = table.sessions[&source(0)].0;
        table.close(&source(0), id);
        assert!(table.open(flow("192.0.2.1", 1), ()).is_ok(), "whoever ends makes room");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_of_ipv4_is_that() {
        let mut table = SessionTable::new(8);
        assert_eq!(taken(&mut table, "2001:db8::1"), (4, Dropped::Share));
        assert_eq!(table.open(flow("2001:db8::2", 1), ()), Err(Dropped::Share));
        assert!(table.open(flow("2001:db8:0:1::2", 1), ()).is_ok());
        let mut table = SessionTable::new(8);
        assert_eq!(taken(&mut table, "192.0.2.1").0, 4);
        assert_eq!(table.open(flow("::ffff:192.0.2.1", 1), ()), Err(Dropped::Share));
    }

    #[test]
    fn the_end_of_a_session_is_not_that_of_the_next_one() {
        let mut table = SessionTable::new(8);
        let flow = flow("192.0.2.1", 1);
        let first = table.open(flow, 1).unwrap();
        let second = table.open(flow, 2).unwrap();
        table.close(&flow, first);
        assert_eq!(table.get(&flow), Some(&2));
        table.close(&flow, second);
        table.close(&flow, second);
        assert_eq!((table.get(&flow), table.held.len()), (None, 0));
    }
}
