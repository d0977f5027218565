//! Who may have one more session of UDP.
//!
//! Invariants: never more than the limit, over all listeners. One address holds at most as many as are left for all others, so
//! the first gets half of all, and one who comes later always finds room unless many addresses took it; addresses can be
//! forged, and then the limit alone holds. An address of IPv6 is the network of its first 64 bits, which one host has for
//! itself. No clock: a place is given back when it is dropped.

use gateway::stats::Dropped;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// The places of all listeners.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug)]
struct Taken {
    left: usize,
    by: HashMap<IpAddr, usize, foldhash::fast::RandomState>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    holder: IpAddr,
}

impl Places {
    pub(super) fn new(places_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Taken { left: places_max, by: HashMap::default() })))
    }

    /// Takes a place for a client's address.
    ///
    /// # Errors
    /// There is none, or none for this address.
    pub(super) fn take(&self, client: IpAddr) -> Result<Place, Dropped> {
        let holder = holder(client);
        let mut taken = self.0.lock();
        let left = taken.left.checked_sub(1).ok_or(Dropped::Sessions)?;
        if taken.by.get(&holder).is_some_and(|held| *held >= taken.left) {
            return Err(Dropped::Share);
        }
        taken.left = left;
        *taken.by.entry(holder).or_default() += 1;
        Ok(Place { places: self.clone(), holder })
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.0.lock().left
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        taken.left += 1;
        if let Entry::Occupied(mut held) = taken.by.entry(self.holder) {
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
    use model::limits::UDP_SESSIONS_MAX;
    use std::net::Ipv4Addr;

    fn take(places: &Places, ip: &str) -> Result<Place, Dropped> {
        places.take(ip.parse().unwrap())
    }

    /// All the places that an address gets, and why it gets no more.
    fn all(places: &Places, ip: &str) -> (Vec<Place>, Dropped) {
        let mut taken = Vec::new();
        loop {
            match take(places, ip) {
                Ok(place) => taken.push(place),
                Err(why) => return (taken, why),
            }
        }
    }

    #[test]
    fn one_address_has_no_more_than_it_leaves() {
        let places = Places::new(UDP_SESSIONS_MAX);
        let (first, why) = all(&places, "192.0.2.1");
        assert_eq!((first.len(), why), (UDP_SESSIONS_MAX / 2, Dropped::Share));
        let (second, why) = all(&places, "192.0.2.2");
        assert_eq!((second.len(), why), (UDP_SESSIONS_MAX / 4, Dropped::Share));
        assert!(take(&places, "192.0.2.3").is_ok());
    }

    #[test]
    fn many_addresses_have_no_more_than_the_limit() {
        let places = Places::new(UDP_SESSIONS_MAX);
        let ip = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap()));
        let mut taken: Vec<_> = (0..UDP_SESSIONS_MAX).map(|n| places.take(ip(n)).unwrap()).collect();
        assert_eq!(take(&places, "192.0.2.1").err(), Some(Dropped::Sessions));
        taken.pop();
        assert!(take(&places, "192.0.2.1").is_ok(), "whoever ends makes room");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_of_ipv4_is_that() {
        let places = Places::new(8);
        let (taken, why) = all(&places, "2001:db8::1");
        assert_eq!((taken.len(), why), (4, Dropped::Share));
        assert_eq!(take(&places, "2001:db8::2").err(), Some(Dropped::Share));
        assert!(take(&places, "2001:db8:0:1::2").is_ok());
        let places = Places::new(8);
        let (taken, _) = all(&places, "192.0.2.1");
        assert_eq!(taken.len(), 4);
        assert_eq!(take(&places, "::ffff:192.0.2.1").err(), Some(Dropped::Share));
    }

    #[test]
    fn all_that_was_taken_is_given_back() {
        let places = Places::new(8);
        drop((all(&places, "192.0.2.1"), all(&places, "192.0.2.2")));
        assert_eq!((places.left(), places.0.lock().by.len()), (8, 0));
    }
}
