//! Where else requests go than to their route's service: copies for another service (`mirror`, of a route or a service), and
//! shares of other services (`split`, of a route). Both are beyond Kong, and off until named.

use super::{HashInput, ServiceId};

/// A part of all requests, in steps of a ten-thousandth of a percent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Share(u32);

/// `mirror`: a copy of requests for another service, whose answers nobody sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// The other service.
    pub service: ServiceId,
    /// How many of the requests. Default all.
    pub share: Share,
}

/// `split`: other services that share a route's requests; the rest goes to the route's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// Each with its share; together at most all.
    pub services: Vec<(ServiceId, Share)>,
    /// What keeps a client with a service: nothing, consumer, address, a header or a cookie. Default nothing.
    pub hash_on: HashInput,
}

impl Share {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(1_000_000);

    /// So many percent, which may have a fraction; from 0 to 100.
    #[must_use]
    pub fn percent(percent: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped, and saturates")]
        Self((percent.clamp(0.0, 100.0) * 10_000.0).round() as u32)
    }

    /// Both together, even if that is more than all.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Whether it holds the request with this number, if the numbers of requests are spread evenly. What a share holds a
    /// larger one holds too.
    #[must_use]
    pub const fn holds(self, number: u64) -> bool {
        (number as u128 * Self::ALL.0 as u128) >> 64 < self.0 as u128
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_holds_its_part_of_all_numbers() {
        assert!(!Share::percent(0.0).holds(0) && Share::percent(100.0).holds(u64::MAX));
        let step = u64::MAX / 10_000;
        let held = |share: Share| (0..10_000).filter(|n| share.holds(n * step + step / 2)).count();
        for (percent, expected) in [(0.5, 50), (10.0, 1_000), (99.99, 9_999)] {
            assert_eq!(held(Share::percent(percent)), expected, "{percent}");
        }
        assert_eq!(Share::percent(-1.0), Share::NONE);
        assert_eq!(Share::percent(60.0).and(Share::percent(40.0)), Share::ALL);
    }
}
