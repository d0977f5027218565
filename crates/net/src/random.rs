//! Random numbers that only have to differ: jitter and seeds. Secrets are not made of these.

/// A number. Without entropy from the system numbers only differ from each other.
#[must_use]
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        static FALLBACK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        FALLBACK.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    })
}
