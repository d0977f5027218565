//! How safe a durable queue keeps its persistent messages.
//!
//! A batch that goes to queues of several kinds is one record all the same: whole or not there, and its ticket waits for
//! the strictest of them.

use std::fmt;

/// When a persistent message in a durable queue is safe. Whatever it is, the queue itself survives a restart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum Durability {
    /// Synced before it is confirmed or handed out: no crash takes back what anybody saw.
    #[default]
    Sync = 0,
    /// Handed out and confirmed at once, written at once and synced within [`Durability::INTERVAL_MS`]: a crash of the
    /// machine may take what is younger.
    Interval = 1,
    /// Handed out and confirmed at once and written at once; synced when something else is. A crash of the process takes
    /// little, one of the machine what its system had not written back.
    None = 2,
    /// Only in memory: a restart takes it.
    Memory = 3,
}

impl Durability {
    /// Milliseconds within which what [`Durability::Interval`] takes in is synced.
    pub const INTERVAL_MS: u64 = 200;

    const ALL: [Self; 4] = [Self::Sync, Self::Interval, Self::None, Self::Memory];

    /// Its word, as users write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Interval => "interval",
            Self::None => "none",
            Self::Memory => "memory",
        }
    }

    /// The durability with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|durability| durability.word() == word)
    }

    /// The durability with that number, as it is kept on disk.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|durability| *durability as u8 == code)
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_come_back() {
        for durability in Durability::ALL {
            assert_eq!(Durability::from_word(durability.word()), Some(durability));
            assert_eq!(Durability::from_code(durability as u8), Some(durability));
        }
        assert_eq!(Durability::from_word("Sync"), None);
        assert_eq!(Durability::from_code(4), None);
    }
}
