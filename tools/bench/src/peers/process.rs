//! A server process that does not outlive this tool.
//!
//! `setpriv --pdeathsig` (util-linux) has the kernel end it should this tool be killed; otherwise dropping it does. The
//! signal is SIGTERM, because nginx's workers would outlive a master that is killed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::callgrind::Callgrind;
use crate::error::{Context, Error, Result};

/// How long a server may take to end after SIGTERM before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether something has happened.
const POLL: Duration = Duration::from_micros(500);
/// Lines of the log shown when a server fails.
const LOG_TAIL_LINES: usize = 15;

/// A running server.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    started: Instant,
}

/// The command that runs `program` under the kernel's guard.
pub(crate) fn guarded(program: impl AsRef<OsStr>) -> Command {
    counted(program, None)
}

/// The same, under callgrind if there is one.
pub(crate) fn counted(program: impl AsRef<OsStr>, under: Option<&Callgrind>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    if let Some(callgrind) = under {
        command.args(callgrind.words());
    }
    command.arg(program);
    command
}

/// The command that runs `program`, which ends by itself, and ends it with all it started if that takes longer (coreutils).
pub(crate) fn bounded(program: impl AsRef<OsStr>, patience: Duration) -> Command {
    let mut command = guarded("timeout");
    command.arg("--kill-after=5").arg(patience.as_secs().to_string()).arg(program);
    command
}

impl Process {
    /// Starts `command` with its output going to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log).context(format_args!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        let child = command.spawn().context(format_args!("start {name}"))?;
        Ok(Self { name, child, log: log.to_owned(), started })
    }

    /// Its process id, and that of the root of its tree.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Polls `is_ready` until it is true and returns the time since the start.
    pub(crate) fn wait_ready(&mut self, patience: Duration, is_ready: impl Fn() -> bool) -> Result<Duration> {
        while !is_ready() {
            if let Some(status) = self.child.try_wait()? {
                return Err(Error::new(format!("{} ended with {status}:\n{}", self.name, self.log_tail())));
            }
            if self.started.elapsed() > patience {
                let tail = self.log_tail();
                return Err(Error::new(format!("{} is not ready after {patience:?}:\n{tail}", self.name)));
            }
            thread::sleep(POLL);
        }
        Ok(self.started.elapsed())
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Sends a signal; a process that is gone already does not mind.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Ends it as a crash would: it gets no chance to do anything.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context(format_args!("kill {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for its end.
    fn wait_end(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(POLL);
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        if !self.wait_end(STOP_PATIENCE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
