//! The process that this one takes over from, as this one sees it.

use super::CLOSE_TIMEOUT;
use super::channel::{Channel, Inheritance, Step, is_end};
use crate::commands::Failure;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// What was handed over, and the stream to whoever did.
#[derive(Debug)]
pub(crate) struct Met {
    stream: UnixStream,
    pub(crate) inheritance: Inheritance,
}

impl Met {
    /// Reads what is handed over through standard input, which is then as good as closed. Blocks.
    ///
    /// # Errors
    /// Nobody hands anything over.
    pub(crate) fn on_standard_input() -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::new(format!("--take-over is for a process that a running sluicegate starts: {error}"))
        };
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
        let inheritance = Inheritance::receive(&stream).map_err(failed)?;
        let nothing = File::open("/dev/null").map_err(failed)?;
        rustix::stdio::dup2_stdin(nothing).map_err(|error| failed(error.into()))?;
        Ok(Self { stream, inheritance })
    }

    /// The process before, and what it hands over.
    ///
    /// # Errors
    /// The runtime takes no more streams.
    pub(crate) fn begin(self) -> Result<(Predecessor, Inheritance), Failure> {
        let channel = Channel::new(self.stream).map_err(Failure::new)?;
        Ok((Predecessor { channel }, self.inheritance))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Predecessor {
    channel: Channel,
}

impl Predecessor {
    /// Tells it that HTTP is served, and waits until the data directory is closed. If it ends instead, the directory is
    /// closed as well.
    ///
    /// # Errors
    /// It does not let go.
    pub(crate) async fn replace(&mut self) -> Result<(), Failure> {
        let heard = async {
            self.channel.tell(Step::Ready).await?;
            self.channel.hear(Step::Yours, CLOSE_TIMEOUT).await
        };
        match heard.await {
            Err(error) if is_end(&error) => Ok(()),
            heard => heard.map_err(|error| Failure::new(format!("the process before does not let go: {error}"))),
        }
    }

    /// Tells it that everything is served.
    pub(crate) async fn thank(mut self) {
        // It may have ended already.
        let _ = self.channel.tell(Step::Open).await;
    }
}
