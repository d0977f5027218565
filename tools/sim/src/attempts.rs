//! How often an entry was handed out, and what of that must outlive a crash.
//!
//! In order of arrival the highest seq that was handed out tells of the first time of every entry up to it. Where queues
//! count attempts, the log is told of each further time by itself, and in other orders of each time. It is told lazily: what
//! must be durable is what it was told before something that is.

use crate::model::Step;

/// See the module.
#[derive(Clone, Default, Debug)]
pub(crate) struct Attempts {
    /// So often, as far as this process knows.
    pub(crate) now: u32,
    /// What the log is to be told, and what it was, when.
    counted: u32,
    told: Vec<(Step, u32)>,
    /// It was handed out at all; since when the log knows.
    handed: bool,
    handed_told: Option<Step>,
}

impl Attempts {
    /// What a restart brought back, so it is durable.
    pub(crate) fn recovered(attempts: u32, by_seq: bool) -> Self {
        let by_name = attempts > u32::from(by_seq);
        Self {
            now: attempts,
            counted: if by_name { attempts } else { 0 },
            told: if by_name { vec![(0, attempts)] } else { Vec::new() },
            handed: attempts > 0,
            handed_told: (attempts > 0 && by_seq).then_some(0),
        }
    }

    /// Once more, in a queue that counts attempts or does not, in order of arrival or another.
    pub(crate) fn hand_out(&mut self, counts: bool, by_seq: bool) {
        self.now += 1;
        self.handed = true;
        if counts && (self.now > 1 || !by_seq) {
            self.counted = self.now;
        }
    }

    /// The log is told.
    pub(crate) fn tell(&mut self, step: Step) {
        if self.handed {
            self.handed_told.get_or_insert(step);
        }
        if self.told.last().map_or(0, |(_, n)| *n) < self.counted {
            self.told.push((step, self.counted));
        }
    }

    /// So often at least it must have been handed out after a crash, if what was told at some steps was durable.
    pub(crate) fn at_least(&self, by_seq: bool, is_durable: impl Fn(Step) -> bool) -> u32 {
        let told = self.told.iter().rev().find(|(step, _)| is_durable(*step)).map_or(0, |(_, n)| *n);
        told.max(u32::from(by_seq && self.handed_told.is_some_and(is_durable)))
    }
}
