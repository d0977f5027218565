//! The signals the server answers to.

use crate::commands::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// See the module.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_2: Signal,
    /// Only listened to: a limit of file sizes (`ulimit -f`) is then a full disk and not the end of the process.
    _file_size: Signal,
}

/// SIGXFSZ, which has no name in tokio.
const FILE_SIZE: i32 = 25;

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(format!("signals: {error}")));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            user_2: listen(SignalKind::user_defined2())?,
            _file_size: listen(SignalKind::from_raw(FILE_SIZE))?,
        })
    }

    /// Waits for the next.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user_2.recv() => Asked::Upgrade,
        }
    }

    /// Waits until the server is to stop; what else is asked for waits.
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Stop,
    Reload,
    Upgrade,
}
