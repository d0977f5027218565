//! Checks that what one publisher sent arrives completely, once, and in order.
//!
//! Delivery of the expected number is one comparison. A number from the future opens a gap; a number from the past
//! either fills a gap (it was reordered) or was delivered before (duplicated). Gaps still open at the end were lost.

use std::fmt;
use std::ops::Range;

/// Gaps kept apart at most; a server that loses this badly has failed anyway, further ones are joined.
const GAPS_MAX: usize = 10_000;

/// Follows the sequence numbers of one publisher's messages as they are delivered.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    next: u64,
    gaps: Vec<Range<u64>>,
    duplicated: u64,
    reordered: u64,
    redelivered: u64,
}

/// What the checker found at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Messages that were published.
    pub(crate) published: u64,
    /// Published and never delivered.
    pub(crate) lost: u64,
    /// Delivered more than once, without having been requeued.
    pub(crate) duplicated: u64,
    /// Delivered after a later one.
    pub(crate) reordered: u64,
    /// Marked redelivered, though nothing was requeued.
    pub(crate) redelivered: u64,
    /// Delivered with a number that was never published.
    pub(crate) invented: u64,
}

impl Checker {
    /// Notes one delivery.
    #[inline]
    pub(crate) fn delivered(&mut self, sequence: u64, redelivered: bool) {
        self.redelivered += u64::from(redelivered);
        if sequence == self.next {
            self.next += 1;
        } else {
            self.out_of_turn(sequence);
        }
    }

    #[cold]
    fn out_of_turn(&mut self, sequence: u64) {
        if sequence > self.next {
            self.open_gap(self.next..sequence);
            self.next = sequence.saturating_add(1);
            return;
        }
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&sequence)) else {
            self.duplicated += 1;
            return;
        };
        self.reordered += 1;
        let gap = self.gaps.swap_remove(at);
        for rest in [gap.start..sequence, sequence + 1..gap.end] {
            if !rest.is_empty() {
                self.open_gap(rest);
            }
        }
    }

    fn open_gap(&mut self, gap: Range<u64>) {
        let full = self.gaps.len() >= GAPS_MAX;
        match self.gaps.last_mut() {
            Some(last) if full => last.end = last.end.max(gap.end),
            _ => self.gaps.push(gap),
        }
    }

    /// The result, given that numbers `0..published` were published.
    pub(crate) fn verdict(&self, published: u64) -> Verdict {
        let open: u64 = self.gaps.iter().map(|gap| gap.end.min(published).saturating_sub(gap.start)).sum();
        Verdict {
            published,
            lost: open + published.saturating_sub(self.next),
            duplicated: self.duplicated,
            reordered: self.reordered,
            redelivered: self.redelivered,
            invented: self.next.saturating_sub(published),
        }
    }
}

impl Verdict {
    /// Whether everything arrived once and in order.
    pub(crate) fn is_clean(&self) -> bool {
        *self == Self { published: self.published, ..Self::default() }
    }

    /// This and another one together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            published: self.published + other.published,
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
            redelivered: self.redelivered + other.redelivered,
            invented: self.invented + other.invented,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, lost, duplicated, reordered, redelivered, invented } = self;
        write!(
            f,
            "{published} published, {lost} lost, {duplicated} duplicated, {reordered} reordered, \
             {redelivered} redelivered, {invented} invented"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(published: u64, sequences: impl IntoIterator<Item = u64>) -> Verdict {
        let mut checker = Checker::default();
        sequences.into_iter().for_each(|sequence| checker.delivered(sequence, false));
        checker.verdict(published)
    }

    #[test]
    fn complete_and_in_order_is_clean() {
        assert!(verdict(1000, 0..1000).is_clean());
        assert!(verdict(0, []).is_clean());
    }

    #[test]
    fn a_lost_message_is_detected_in_the_middle_and_at_the_end() {
        assert_eq!(verdict(5, [0, 1, 3, 4]), Verdict { published: 5, lost: 1, ..Verdict::default() });
        assert_eq!(verdict(5, [0, 1, 2]), Verdict { published: 5, lost: 2, ..Verdict::default() });
    }

    #[test]
    fn a_duplicated_message_is_detected() {
        assert_eq!(verdict(3, [0, 1, 1, 2]), Verdict { published: 3, duplicated: 1, ..Verdict::default() });
        assert_eq!(verdict(3, [0, 1, 2, 0]), Verdict { published: 3, duplicated: 1, ..Verdict::default() });
    }

    #[test]
    fn a_reordered_message_is_detected_and_not_called_lost() {
        assert_eq!(verdict(4, [0, 2, 1, 3]), Verdict { published: 4, reordered: 1, ..Verdict::default() });
        assert_eq!(verdict(5, [4, 2, 0, 1, 3]), Verdict { published: 5, reordered: 4, ..Verdict::default() });
        assert_eq!(
            verdict(4, [0, 3, 1, 1]),
            Verdict { published: 4, lost: 1, reordered: 1, duplicated: 1, ..Verdict::default() }
        );
    }

    #[test]
    fn invented_and_redelivered_messages_are_detected() {
        assert_eq!(verdict(2, [0, 1, 2]), Verdict { published: 2, invented: 1, ..Verdict::default() });
        let mut checker = Checker::default();
        checker.delivered(0, true);
        assert!(!checker.verdict(1).is_clean());
    }
}
