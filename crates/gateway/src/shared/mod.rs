//! Collections that are cheap to clone and to change after: what did not change is shared with what they were cloned from.
//!
//! A snapshot is made of the one before by cloning these and changing a few entries, so a change costs what it changes. They
//! know nothing of what is in them.

mod map;
mod slots;

pub(crate) use map::SharedMap;
pub(crate) use slots::Slots;
