//! Names of fields as typed values, kept by each thread: making one from its text takes a look at each letter and memory of
//! its own, and the same few come with every message.
//!
//! Invariants: a bounded number of names is kept, each bounded in length; whoever sends other names only has them made anew.

use http::header::HeaderName;
use std::cell::RefCell;

/// Names that a thread keeps, one for each value of [`place`].
const KEPT: usize = 128;
/// Bytes of a name that is kept.
const KEPT_BYTES_MAX: usize = 64;

/// A name as it was written, and what it is.
type Kept = (Box<[u8]>, HeaderName);

thread_local! {
    static NAMES: RefCell<[Option<Kept>; KEPT]> = const { RefCell::new([const { None }; KEPT]) };
}

/// The name that is written so, in any case; `None` if it is no name.
pub(super) fn parsed(written: &[u8]) -> Option<HeaderName> {
    if written.len() > KEPT_BYTES_MAX {
        return HeaderName::from_bytes(written).ok();
    }
    NAMES.with_borrow_mut(|names| {
        let kept = &mut names[place(written)];
        match kept {
            Some((text, name)) if **text == *written => Some(name.clone()),
            _ => {
                let name = HeaderName::from_bytes(written).ok()?;
                *kept = Some((written.into(), name.clone()));
                Some(name)
            }
        }
    })
}

/// A hash of the first and last letters: names that begin alike mostly end otherwise.
fn place(written: &[u8]) -> usize {
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |letters: &[u8]| letters.iter().fold(0, |word, letter| word << 8 | u64::from(*letter));
    let (first, last) = match (written.first_chunk::<8>(), written.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (word(written), 0),
    };
    let mixed = (first ^ last.rotate_left(29) ^ written.len() as u64).wrapping_mul(MIX);
    (mixed >> 49) as usize % KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_same_however_often_it_is_asked_for() {
        let long = "x".repeat(KEPT_BYTES_MAX + 1);
        let edge = "y".repeat(KEPT_BYTES_MAX);
        for _ in 0..2 {
            for written in ["server", "Server", "x-a", "X-A", "x-b", &edge, &long] {
                assert_eq!(parsed(written.as_bytes()), HeaderName::from_bytes(written.as_bytes()).ok(), "{written}");
            }
            assert_eq!((parsed(b""), parsed(b"a b"), parsed(b"x:")), (None, None, None));
        }
    }

    #[test]
    fn names_that_share_a_place_are_not_taken_for_each_other() {
        for n in 0..10 * KEPT {
            let written = format!("x-{n}");
            assert_eq!(parsed(written.as_bytes()).as_ref().map(HeaderName::as_str), Some(&*written));
        }
    }
}
