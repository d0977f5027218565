//! Publisher confirms: which delivery tags are outstanding, and how long each took.
//!
//! Tags count from 1 (`basic.ack` from the server, RabbitMQ's confirm extension). Each must be confirmed exactly once;
//! `multiple` covers everything outstanding up to the tag.

use crate::histogram::Histogram;

/// Marks a tag that has been confirmed; no send time is 0.
const CONFIRMED: u64 = 0;

/// Follows the outstanding publishes of one channel.
pub(crate) struct Confirms {
    /// Send times in nanoseconds by tag, a ring of a power of two.
    sent: Vec<u64>,
    /// The lowest tag that is outstanding, or `next` if none is.
    low: u64,
    /// The tag of the next publish.
    next: u64,
}

/// The server confirmed something that was not outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnexpectedConfirm(pub(crate) u64);

impl Confirms {
    /// For at most `window` outstanding tags.
    pub(crate) fn new(window: u64) -> Self {
        Self { sent: vec![CONFIRMED; window.next_power_of_two() as usize], low: 1, next: 1 }
    }

    fn slot(&mut self, tag: u64) -> &mut u64 {
        let mask = self.sent.len() - 1;
        &mut self.sent[tag as usize & mask]
    }

    /// The span from the lowest outstanding tag to the next; never exceeds the window if the caller keeps to it.
    pub(crate) fn outstanding(&self) -> u64 {
        self.next - self.low
    }

    /// Notes `count` publishes at `now_nanos` (not 0) since the run began.
    pub(crate) fn published(&mut self, count: u64, now_nanos: u64) {
        for _ in 0..count {
            let tag = self.next;
            *self.slot(tag) = now_nanos.max(1);
            self.next += 1;
        }
        debug_assert!(self.outstanding() <= self.sent.len() as u64, "the caller keeps to the window");
    }

    /// Notes a confirm at `now_nanos`; records latencies if `latencies` is given. Returns how many it confirmed.
    pub(crate) fn confirmed(
        &mut self,
        tag: u64,
        multiple: bool,
        now_nanos: u64,
        mut latencies: Option<&mut Histogram>,
    ) -> Result<u64, UnexpectedConfirm> {
        if tag < self.low || tag >= self.next {
            return Err(UnexpectedConfirm(tag));
        }
        let first = if multiple { self.low } else { tag };
        let mut confirmed = 0;
        for each in first..=tag {
            let sent = std::mem::replace(self.slot(each), CONFIRMED);
            if sent != CONFIRMED {
                confirmed += 1;
                if let Some(latencies) = latencies.as_deref_mut() {
                    latencies.record(now_nanos.saturating_sub(sent));
                }
            }
        }
        if confirmed == 0 {
            return Err(UnexpectedConfirm(tag));
        }
        while self.low < self.next && *self.slot(self.low) == CONFIRMED {
            self.low += 1;
        }
        Ok(confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiple_and_single_confirms_in_any_order_count_once() {
        let mut confirms = Confirms::new(8);
        confirms.published(5, 100);
        assert_eq!(confirms.confirmed(3, false, 200, None), Ok(1));
        assert_eq!(confirms.outstanding(), 5, "the window moves with the lowest tag");
        assert_eq!(confirms.confirmed(4, true, 200, None), Ok(3));
        assert_eq!(confirms.outstanding(), 1);
        confirms.published(7, 300);
        assert_eq!(confirms.confirmed(12, true, 400, None), Ok(8));
        assert_eq!(confirms.outstanding(), 0);
    }

    #[test]
    fn a_confirm_for_nothing_is_refused() {
        let mut confirms = Confirms::new(4);
        assert_eq!(confirms.confirmed(1, false, 1, None), Err(UnexpectedConfirm(1)));
        confirms.published(2, 1);
        assert_eq!(confirms.confirmed(3, true, 1, None), Err(UnexpectedConfirm(3)));
        assert_eq!(confirms.confirmed(2, false, 1, None), Ok(1));
        assert_eq!(confirms.confirmed(2, false, 1, None), Err(UnexpectedConfirm(2)), "twice");
        assert_eq!(confirms.confirmed(0, true, 1, None), Err(UnexpectedConfirm(0)));
    }

    #[test]
    fn latency_is_from_publish_to_confirm() {
        let mut latencies = Histogram::new();
        let mut confirms = Confirms::new(4);
        confirms.published(1, 1_000);
        confirms.confirmed(1, false, 51_000, Some(&mut latencies)).unwrap();
        let micros = latencies.quantile(0.5).unwrap().as_micros();
        assert!((49..=51).contains(&micros), "{micros}");
    }
}
