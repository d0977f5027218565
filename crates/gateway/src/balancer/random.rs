//! Arithmetic on random numbers that were passed in.

/// A bijection that spreads neighbouring numbers (the finalizer of SplitMix64).
pub(crate) const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A number below `n`, as likely as any other; `n` is above 0.
pub(crate) const fn below(random: u64, n: usize) -> usize {
    #[allow(clippy::cast_possible_truncation)] // the high half of the product is below n
    {
        ((random as u128 * n as u128) >> 64) as usize
    }
}
