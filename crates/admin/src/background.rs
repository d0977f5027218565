//! Work that takes long and that nobody's request waits for: on a thread of its own, behind the threads that serve.
//!
//! A snapshot of ten thousand routes takes a processor for tens of milliseconds. Where all processors are busy, the system
//! would share them evenly between that and the requests; with a higher nice value it gives the requests what they need
//! first. A nice value cannot be lowered again without privileges, so the thread ends with its work.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// About a tenth of a processor that others want too; all of one that nobody wants.
const NICE: i32 = 10;

/// Runs `work` and returns its result, or what it panicked with.
///
/// # Errors
/// The panic, or that the system has no thread.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Box<dyn Any + Send>> {
    let (reply, done) = oneshot::channel();
    let run = move || {
        // Of the calling thread, on Linux. Without it the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        let _ = reply.send(catch_unwind(AssertUnwindSafe(work)));
    };
    std::thread::Builder::new().name("background".to_owned()).spawn(run).map_err(|error| Box::new(error) as Box<_>)?;
    done.await.unwrap_or_else(|gone| Err(Box::new(gone)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_work_is_done_behind_those_who_serve() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        assert_eq!(in_background(nice).await.unwrap(), NICE);
        assert_eq!(nice(), before, "only that thread");
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let panicked = in_background(|| -> u8 { panic!("a bug") }).await.unwrap_err();
        assert_eq!(*panicked.downcast::<&str>().unwrap(), "a bug");
    }
}
