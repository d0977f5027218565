//! Names that must not collide: server-named queues, consumer tags, ids.
//!
//! Pure crates draw no random numbers, so the shell seeds a source once with entropy and hands it in. The names
//! are unique, not secret: nothing is guarded by their being unknown.

/// Makes names from a seed and a counter.
#[derive(Debug, Clone)]
pub struct NameSource {
    seed: u64,
    counter: u64,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl NameSource {
    /// A source of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next name: `prefix` and 22 characters of 128 bits.
    pub fn next(&mut self, prefix: &str) -> String {
        let high = self.next_u64();
        let low = self.next_u64();
        let mut bits = (u128::from(high) << 64) | u128::from(low);
        let mut name = String::with_capacity(prefix.len() + 22);
        name.push_str(prefix);
        for _ in 0..22 {
            name.push(char::from(ALPHABET[(bits & 63) as usize]));
            bits >>= 6;
        }
        name
    }

    /// The next number (SplitMix64: every step of the counter maps to another number).
    pub fn next_u64(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        let mut z = self.seed.wrapping_add(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_carry_their_prefix() {
        let mut source = NameSource::new(7);
        let (a, b) = (source.next("amq.gen-"), source.next("amq.gen-"));
        assert_ne!(a, b);
        assert!(a.starts_with("amq.gen-") && a.len() == 30);
        assert_ne!(a, NameSource::new(8).next("amq.gen-"));
    }
}
