//! Memory that will soon be looked at, asked for ahead of time.
//!
//! A broker with thousands of busy queues finds each of them in no cache: a look costs as much as hundreds of
//! instructions, and one after the other they cost more than all the work. Asked for together they come together.
//!
//! Invariants: a hint and nothing else. No value is read, so nothing that is asked for needs a lock. Asking too early or
//! for too much costs time, never more. The only `unsafe` of the workspace lies here.

/// Octets that come together.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Asks for the first `octets` of what is there, and for what shares a line of memory with them. On other processors than
/// x86-64 nothing happens.
#[inline]
pub fn ask_for<T>(place: &T, octets: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(place).cast::<i8>();
        // The line it begins in.
        let before = first as usize % LINE;
        let start = first.wrapping_sub(before);
        let mut at = 0;
        while at < before + octets.min(size_of::<T>()) {
            #[expect(unsafe_code, reason = "there is no other way to say it")]
            // SAFETY: the instruction reads nothing that the program could see and faults at no address at all.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at));
            }
            at += LINE;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (place, octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_can_be_asked_for_and_stays_as_it_is() {
        let (nothing, one, many) = ((), 7u8, vec![3u64; 1000]);
        for octets in [0, 1, 64, 1_000_000, usize::MAX] {
            ask_for(&nothing, octets);
            ask_for(&one, octets);
            ask_for(many.first_chunk::<1000>().expect("there are so many"), octets);
            // Dangling, as a reference to nothing may be.
            ask_for(&[0u64; 0], octets);
        }
        assert!(one == 7 && many.iter().all(|n| *n == 3));
    }
}
