//! Counters of requests by client and window, in memory.
//!
//! Sharded, each shard under a short lock. Bounded: a full shard first drops the counters whose windows are over.

use super::window::Period;
use foldhash::{fast, quality};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Mutex;

const N_SHARDS: usize = 64;
/// Clients counted in a shard; 64 shards hold a million clients in about 130 MB.
const CLIENTS_PER_SHARD_MAX: usize = 16_384;

/// The counters of every configuration.
#[derive(Debug)]
pub(super) struct Counters {
    /// By hashes already.
    shards: [Mutex<HashMap<u64, Windows, fast::RandomState>>; N_SHARDS],
    random: quality::RandomState,
}

/// The windows of one client: when each ends and how many requests it saw.
#[derive(Debug, Default)]
struct Windows([Window; 6]);

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    end_s: u64,
    used: u64,
}

/// What is left after a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Usage {
    /// Requests left in each window that has a limit.
    pub(super) remaining: [u64; 6],
    /// A limit was reached, so the request was not counted.
    pub(super) exceeded: bool,
}

impl Default for Counters {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), random: quality::RandomState::default() }
    }
}

impl Counters {
    /// A hash that differs between processes.
    pub(super) fn hash(&self, value: impl Hash) -> u64 {
        self.random.hash_one(value)
    }

    /// Counts a request if no limit is reached.
    pub(super) fn take(&self, key: u64, limits: &[Option<u64>; 6], now_s: u64) -> Usage {
        #[expect(clippy::cast_possible_truncation, reason = "only the low bits choose the shard")]
        let shard = &self.shards[key as usize % N_SHARDS];
        // A poisoned lock still guards counters that are each correct.
        let mut shard = shard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if shard.len() >= CLIENTS_PER_SHARD_MAX && !shard.contains_key(&key) {
            shard.retain(|_, windows| windows.0.iter().any(|window| window.end_s > now_s));
            if shard.len() >= CLIENTS_PER_SHARD_MAX {
                return Windows::default().take(limits, now_s);
            }
        }
        shard.entry(key).or_default().take(limits, now_s)
    }
}

impl Windows {
    fn take(&mut self, limits: &[Option<u64>; 6], now_s: u64) -> Usage {
        for (at, limit) in limits.iter().enumerate() {
            if limit.is_some() && self.0[at].end_s <= now_s {
                self.0[at] = Window { end_s: Period::ALL[at].end_s(now_s), used: 0 };
            }
        }
        let left = |windows: &Self, at: usize| {
            let limit: Option<u64> = limits[at];
            limit.map(|limit| limit.saturating_sub(windows.0[at].used))
        };
        let exceeded = (0..limits.len()).any(|at| left(self, at) == Some(0));
        if !exceeded {
            for (at, limit) in limits.iter().enumerate() {
                self.0[at].used += u64::from(limit.is_some());
            }
        }
        Usage { remaining: std::array::from_fn(|at| left(self, at).unwrap_or(0)), exceeded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_A_MINUTE: [Option<u64>; 6] = [None, Some(2), None, None, None, None];

    #[test]
    fn a_full_shard_drops_what_is_over_and_else_lets_through() {
        let counters = Counters::default();
        let key = |n: usize| (n * N_SHARDS) as u64;
        for n in 0..CLIENTS_PER_SHARD_MAX {
            counters.take(key(n), &TWO_A_MINUTE, 0);
        }
        let late = key(CLIENTS_PER_SHARD_MAX);
        for _ in 0..3 {
            assert!(!counters.take(late, &TWO_A_MINUTE, 59).exceeded);
        }
        assert_eq!(counters.shards[0].lock().unwrap().len(), CLIENTS_PER_SHARD_MAX);
        let after = (0..3).map(|_| counters.take(late, &TWO_A_MINUTE, 60).exceeded).collect::<Vec<_>>();
        assert_eq!(after, [false, false, true]);
        assert_eq!(counters.shards[0].lock().unwrap().len(), 1);
    }
}
