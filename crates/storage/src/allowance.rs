//! How much the keeper may read and copy: a rate, and a share of what is published.
//!
//! Invariants: emptying files keeps up whatever is published. Files are emptied only while they hold twice what lives,
//! and the emptiest go first, so at most half of what is read is copied and each byte read frees half a byte or more;
//! two bytes read for each published therefore free as much as is published, and the rate on top makes up for what is
//! behind. And it never starves publishers: what it writes is at most what they write and half the rate.
//!
//! Putting together what is drained together frees nothing, so only the rate is for that, never a publisher's share.

use crate::Options;

/// Bytes that may be read for each that is published.
const READ_PER_PUBLISHED: u64 = 2;
/// What may be saved up of that, in files.
const SAVED_FILES: u64 = 4;

/// See the module. Reading may overdraw it by one round.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    by_time: i64,
    by_publishing: i64,
    at_us: u64,
    published: u64,
}

impl Allowance {
    /// Adds what has come up to now, with so many bytes published since the start.
    pub(crate) fn refill(&mut self, now_us: u64, published: u64, options: &Options) {
        let rate = options.move_bytes_per_s;
        let elapsed_us = now_us.saturating_sub(self.at_us).min(1_000_000);
        let by_time = (rate / 1_000 * elapsed_us / 1_000).max(u64::from(elapsed_us > 0));
        let by_publishing = published.saturating_sub(self.published).saturating_mul(READ_PER_PUBLISHED);
        self.by_time = add(self.by_time, by_time, rate);
        self.by_publishing = add(self.by_publishing, by_publishing, SAVED_FILES * options.file_bytes);
        self.at_us = now_us;
        self.published = published;
    }

    /// Whether anything may be read; `frees` says whether that gives space back.
    pub(crate) fn allows(&self, frees: bool) -> bool {
        self.by_time > 0 || (frees && self.by_publishing > 0)
    }

    /// Bytes were read.
    pub(crate) fn spend(&mut self, bytes: u64, frees: bool) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let published = if frees { bytes.min(self.by_publishing.max(0)) } else { 0 };
        self.by_publishing -= published;
        self.by_time = self.by_time.saturating_sub(bytes - published);
    }
}

fn add(to: i64, bytes: u64, max: u64) -> i64 {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    to.saturating_add(signed(bytes)).min(signed(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: fn() -> Options =
        || Options { file_bytes: 1_000, move_bytes_per_s: 1_000_000, ..Options::default() };

    #[test]
    fn time_alone_gives_the_rate_and_saves_up_a_second() {
        let mut allowance = Allowance::default();
        allowance.refill(5_000_000, 0, &OPTIONS());
        assert_eq!(allowance.by_time, 1_000_000);
        allowance.spend(1_200_000, true);
        assert!(!allowance.allows(true), "overdrawn");
        allowance.refill(5_200_000, 0, &OPTIONS());
        assert!(!allowance.allows(true));
        allowance.refill(5_201_000, 0, &OPTIONS());
        assert!(allowance.allows(true) && allowance.allows(false));
    }

    #[test]
    fn publishing_pays_for_what_frees_space_and_for_nothing_else() {
        let mut allowance = Allowance::default();
        allowance.refill(0, 1_500, &OPTIONS());
        assert!(allowance.allows(true) && !allowance.allows(false));
        allowance.spend(3_000, true);
        assert!(!allowance.allows(true));
        allowance.refill(0, 1_000_000, &OPTIONS());
        assert_eq!(allowance.by_publishing, 4_000, "not more than four files");
    }
}
