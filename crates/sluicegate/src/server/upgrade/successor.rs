//! The process that takes over from this one, as this one sees it.
//!
//! Invariants: until it is free, it ends with whoever holds it; so what does not become ready leaves nothing behind.

use super::channel::{Channel, Inheritance, Step, is_end};
use crate::commands::Failure;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long it may take to read its configuration and bind what is new.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to end, once it has closed the stream, and how often it is looked at meanwhile.
const LAST_WORDS_TIME: Duration = Duration::from_secs(2);
const LOOK_PERIOD: Duration = Duration::from_millis(10);

/// The program that is running, whatever lies at its path now.
const SELF: &str = "/proc/self/exe";

/// How this process was started, and so how the next one is.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Where it was called, and where the next one is looked for.
    path: PathBuf,
    /// The file that is started, if that is another one.
    executable: Option<&'static str>,
    arguments: Vec<OsString>,
}

impl Program {
    /// The program by the path it was called by, so that a symbolic link is followed anew; one that was looked up by its
    /// name is the file that was found.
    pub(crate) fn called(name: Option<OsString>, arguments: Vec<OsString>) -> io::Result<Self> {
        let path = match name.map(PathBuf::from).filter(|path| path.components().count() > 1) {
            Some(path) => std::env::current_dir()?.join(path),
            None => std::env::current_exe()?,
        };
        Ok(Self { path, executable: None, arguments })
    }

    /// The program that is running, which still takes itself to be called by its path: the next one is started from there.
    pub(super) fn of_this_process(&self) -> Self {
        Self { executable: Some(SELF), ..self.clone() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.executable.map_or(self.path.as_path(), Path::new));
        command.arg0(&self.path).args(&self.arguments);
        command
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Successor {
    process: Process,
    channel: Channel,
}

/// A process that is killed when it is let go of, unless it is free.
#[derive(Debug)]
struct Process {
    child: Child,
    free: bool,
}

impl Process {
    /// Lets it say why it ends, and says how it ended.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + LAST_WORDS_TIME;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return self.end();
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }

    /// Kills it, unless it has ended, and says how it ended.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.free {
            // What cannot be killed has ended.
            let _ = self.end();
        }
    }
}

impl Successor {
    /// Starts it, and returns when it serves HTTP beside this process.
    ///
    /// # Errors
    /// It cannot be started, ends, or is not ready in time; then it is gone.
    pub(super) async fn start(program: Program, inheritance: Inheritance) -> Result<Self, Failure> {
        let shown = program.path.display().to_string();
        let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{shown}: {error}"));
        let started = tokio::task::spawn_blocking(move || spawn(&program, &inheritance)).await;
        let (mut process, stream) = started.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let mut channel = Channel::new(stream).map_err(|error| failed(&error))?;
        match channel.hear(Step::Ready, START_TIMEOUT).await {
            Ok(()) => Ok(Self { process, channel }),
            Err(error) if is_end(&error) => {
                let status = process.ended().await.map_err(|error| failed(&error))?;
                Err(failed(&format!("it ended before it was ready: {status}")))
            }
            Err(error) => Err(failed(&format!("it was not ready: {error}"))),
        }
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Tells it that the data directory is closed, and waits until it has opened it. From then on it lives for itself.
    ///
    /// # Errors
    /// It has ended, or does not say anything for so long.
    pub(super) async fn take_over(mut self, timeout: Duration) -> io::Result<()> {
        self.channel.tell(Step::Yours).await?;
        let opened = self.channel.hear(Step::Open, timeout).await;
        self.process.free = opened.is_ok();
        opened
    }
}

/// Blocks while the process starts and reads.
fn spawn(program: &Program, inheritance: &Inheritance) -> io::Result<(Process, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let child = program.command().stdin(OwnedFd::from(theirs)).spawn()?;
    let process = Process { child, free: false };
    match inheritance.send(&ours) {
        // If it has ended, whoever listens to it hears that too.
        Err(error) if !is_end(&error) => Err(error),
        _ => Ok((process, ours)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn start(path: &str, arguments: &[&str]) -> String {
        let arguments = arguments.iter().map(OsString::from).collect();
        let started = Program { path: path.into(), executable: None, arguments };
        let started = Successor::start(started, Inheritance::default()).await;
        started.expect_err("that is no server").to_string()
    }

    #[tokio::test]
    async fn what_does_not_become_ready_is_told_and_gone() {
        assert_eq!(start("/bin/sh", &["-c", "exit 3"]).await, "/bin/sh: it ended before it was ready: exit status: 3");
        let said = start("/bin/sh", &["-c", "echo x >&0; exec sleep 100"]).await;
        assert_eq!(said, "/bin/sh: it was not ready: a step out of turn");
        let said = start("/nowhere/sluicegate", &[]).await;
        assert!(said.starts_with("/nowhere/sluicegate: No such file"), "{said}");
    }

    #[test]
    fn a_program_is_known_by_the_path_it_was_called_by() {
        let called = |name: &str| Program::called(Some(name.into()), Vec::new()).unwrap().path;
        assert_eq!(called("/opt/current/sluicegate"), Path::new("/opt/current/sluicegate"));
        assert_eq!(called("bin/sluicegate"), std::env::current_dir().unwrap().join("bin/sluicegate"));
        assert_eq!(called("sluicegate"), std::env::current_exe().unwrap());
    }
}
