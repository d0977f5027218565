//! Where a panic must not be survived.
//!
//! A panic in a connection's own code ends that connection. A panic in the broker or the engine may leave half a change
//! behind, so it ends the process, and recovery runs at the next start.

/// Held while the broker works; a panic meanwhile ends the process.
#[derive(Debug)]
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the broker panicked; stopping so that recovery runs");
            std::process::abort();
        }
    }
}
