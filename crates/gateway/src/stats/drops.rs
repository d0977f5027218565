//! Datagrams that were dropped, by what there was no room for. They belong to no route: most have no session.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// It would have begun a session, and there are as many as may be.
    Sessions,
    /// The same, and its address has as many as are left for others.
    Share,
    /// Too many wait for their session, or for all sessions.
    Queue,
    /// It is too long, for us or for the way it has to go.
    Size,
    /// A socket takes no more at the moment.
    Socket,
}

impl Dropped {
    /// Every reason with its word in counters.
    pub const WORDS: [(Self, &str); 5] = [
        (Self::Sessions, "sessions"),
        (Self::Share, "share"),
        (Self::Queue, "queue"),
        (Self::Size, "size"),
        (Self::Socket, "socket"),
    ];
}

/// What was dropped so far.
#[derive(Debug, Default)]
pub struct DatagramDrops([AtomicU64; Dropped::WORDS.len()]);

impl DatagramDrops {
    /// One was dropped.
    pub fn count(&self, why: Dropped) {
        self.0[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many were dropped, by word.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Dropped::WORDS.iter().map(|(why, word)| (*word, self.0[*why as usize].load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_under_its_word() {
        let drops = DatagramDrops::default();
        for (n, (why, _)) in Dropped::WORDS.into_iter().enumerate() {
            (0..=n).for_each(|_| drops.count(why));
        }
        let counted: Vec<_> = drops.counts().collect();
        assert_eq!(counted, [("sessions", 1), ("share", 2), ("queue", 3), ("size", 4), ("socket", 5)]);
    }
}
