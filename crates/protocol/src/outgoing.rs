//! What is to be written to a socket: small things copied into one buffer, large payloads beside it by reference.
//!
//! Invariants: the order of bytes is the order of calls. The buffer holds at most about twice what is still to be
//! written, which the driver bounds by not taking deliveries while much is outgoing; its memory is kept for reuse until
//! the driver gives it back.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Payloads at least this long go by reference; shorter ones are cheaper to copy.
const SHARED_BYTES_MIN: usize = 4 * 1024;
/// Written bytes that are not worth moving the rest for.
const RECLAIMED_MIN: usize = 16 * 1024;

/// Bytes on their way to a socket.
#[derive(Debug, Default)]
pub struct Outgoing {
    buffer: Vec<u8>,
    /// Bytes of `buffer` already written.
    written: usize,
    /// Payloads that go between bytes of `buffer`, each with its place there. The first may be partly written.
    shared: VecDeque<(usize, Bytes)>,
    shared_len: usize,
}

impl Outgoing {
    /// Nothing to write.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer to append small things to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Appends `payload`, a part of `owner`, by copy or by reference.
    pub fn put_payload(&mut self, payload: &[u8], owner: impl FnOnce() -> Bytes) {
        if payload.len() < SHARED_BYTES_MIN {
            self.buffer.extend_from_slice(payload);
        } else {
            self.shared_len += payload.len();
            self.shared.push_back((self.buffer.len(), owner()));
        }
    }

    /// Appends a payload that is its owner.
    pub fn put_bytes(&mut self, payload: Bytes) {
        if payload.len() < SHARED_BYTES_MIN {
            self.buffer.extend_from_slice(&payload);
        } else {
            self.shared_len += payload.len();
            self.shared.push_back((self.buffer.len(), payload));
        }
    }

    /// Appends all of another, of which nothing is written yet.
    pub fn append(&mut self, other: Self) {
        debug_assert_eq!(other.written, 0);
        let mut from = 0;
        for (at, payload) in other.shared {
            self.buffer.extend_from_slice(&other.buffer[from..at]);
            from = at;
            self.put_bytes(payload);
        }
        self.buffer.extend_from_slice(&other.buffer[from..]);
    }

    /// Bytes not yet written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.written + self.shared_len
    }

    /// Bytes of memory it keeps, payloads aside.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives its memory back, if nothing is outgoing.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether all is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `slices` with what to write next and returns how many it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut from = self.written;
        for (at, payload) in &self.shared {
            if *at > from && filled < slices.len() {
                slices[filled] = IoSlice::new(&self.buffer[from..*at]);
                filled += 1;
            }
            if filled == slices.len() {
                return filled;
            }
            slices[filled] = IoSlice::new(payload);
            filled += 1;
            from = *at;
        }
        if from < self.buffer.len() && filled < slices.len() {
            slices[filled] = IoSlice::new(&self.buffer[from..]);
            filled += 1;
        }
        filled
    }

    /// Notes that `n` bytes of what [`Outgoing::slices`] gave were written.
    pub fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let until = self.shared.front().map_or(self.buffer.len(), |(at, _)| *at);
            let plain = (until - self.written).min(n);
            self.written += plain;
            n -= plain;
            if n == 0 {
                break;
            }
            let Some((_, payload)) = self.shared.front_mut() else {
                unreachable!("more was written than was outgoing");
            };
            let part = payload.len().min(n);
            bytes::Buf::advance(payload, part);
            self.shared_len -= part;
            n -= part;
            if payload.is_empty() {
                self.shared.pop_front();
            }
        }
        self.reclaim();
    }

    /// Frees what lies in front in the buffer once it is no less than what must be moved for that. A peer that is never
    /// caught up with leaves the buffer never empty.
    fn reclaim(&mut self) {
        if self.is_empty() {
            self.buffer.clear();
        } else if self.written >= RECLAIMED_MIN.max(self.buffer.len() / 2) {
            self.buffer.drain(..self.written);
            self.shared.iter_mut().for_each(|(at, _)| *at -= self.written);
        } else {
            return;
        }
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(out: &mut Outgoing, step: usize) -> Vec<u8> {
        let mut written = Vec::new();
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let n = out.slices(&mut slices);
            let flat: Vec<u8> = slices[..n].iter().flat_map(|s| s.iter().copied()).take(step).collect();
            assert!(!flat.is_empty());
            written.extend_from_slice(&flat);
            out.advance(flat.len());
        }
        written
    }

    #[test]
    fn a_socket_that_is_never_caught_up_does_not_grow_the_buffer() {
        for payload in [1024, SHARED_BYTES_MIN] {
            let mut out = Outgoing::new();
            let payload = Bytes::from(vec![7; payload]);
            let mut peak = 0;
            for _ in 0..10_000 {
                // More is put in whenever there is room, so it is never empty.
                while out.len() < 64 * 1024 {
                    out.buffer().extend_from_slice(&[1; 50]);
                    out.put_payload(&payload, || payload.clone());
                }
                out.advance(10_000);
                peak = peak.max(out.buffer.len());
            }
            assert!(peak <= 3 * 64 * 1024, "{peak} bytes are kept for at most 65 KiB");
        }
    }

    #[test]
    fn memory_is_given_back_when_nothing_is_outgoing() {
        let mut out = Outgoing::new();
        out.buffer().extend_from_slice(&[1; 10_000]);
        out.advance(9_999);
        out.release();
        assert_eq!(out.len(), 1);
        out.advance(1);
        assert!(out.capacity() >= 10_000, "it is kept for the next");
        out.release();
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn order_is_kept_whatever_the_socket_takes() {
        for step in [1, 2, 4095, 4096, 5000, usize::MAX] {
            let mut out = Outgoing::new();
            let mut expected = Vec::new();
            // So many that room is made again on the way.
            for i in 0..=255 {
                let small = [i; 10];
                let large = Bytes::from(vec![!i; 4096]);
                out.buffer().extend_from_slice(&small);
                out.put_payload(&large, || large.clone());
                out.put_payload(&large[..100], || unreachable!("small payloads are copied"));
                expected.extend_from_slice(&small);
                expected.extend_from_slice(&large);
                expected.extend_from_slice(&large[..100]);
            }
            out.put_payload(&[1; 4096], || Bytes::from(vec![1; 4096]));
            expected.extend_from_slice(&[1; 4096]);
            let mut behind = Outgoing::new();
            behind.buffer().extend_from_slice(b"behind");
            behind.put_bytes(Bytes::from(vec![2; 5000]));
            behind.put_bytes(Bytes::from_static(b"and"));
            expected.extend_from_slice(&[b"behind", &[2; 5000][..], b"and"].concat());
            out.append(behind);
            assert_eq!(out.len(), expected.len());
            assert!(all(&mut out, step) == expected);
        }
    }
}
