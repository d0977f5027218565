//! How much of its weight a new address has: a straight line from a little to all of it.

use crate::entity::SlowStart;
use model::Mono;

/// The share of its weight, in 1/65536, that an address has which began to take requests at `since`, or always did.
pub(super) fn share(settings: SlowStart, since: Option<Mono>, now: Mono) -> u32 {
    const WHOLE: u64 = 65_536;
    let Some(since) = since else { return 65_536 };
    let window_us = u64::from(settings.window_ms) * 1_000;
    let age_us = now.0.saturating_sub(since.0);
    if age_us >= window_us {
        return 65_536;
    }
    let least = WHOLE * u64::from(settings.min_weight_percent.clamp(1, 100)) / 100;
    let grown = WHOLE * (age_us / 1_000) / u64::from(settings.window_ms.max(1));
    u32::try_from(grown.max(least)).unwrap_or(65_536)
}

/// Whether an address with this share takes the request this random number stands for.
pub(super) const fn accepts(share: u32, random: u64) -> bool {
    (random >> 48) < share as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_from_the_least_to_the_whole() {
        let settings = SlowStart { window_ms: 1_000, min_weight_percent: 10 };
        let percent = |ms: u64| share(settings, Some(Mono(5_000_000)), Mono(5_000_000 + ms * 1_000)) * 100 / 65_536;
        assert_eq!([0, 50, 100, 499, 900, 1_000, 9_000].map(percent), [9, 9, 9, 49, 89, 100, 100]);
        assert!(accepts(65_536, u64::MAX) && !accepts(6_553, u64::MAX) && accepts(6_553, 0));
    }
}
