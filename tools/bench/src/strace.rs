//! Counts a server's system calls from outside, with strace: nothing the server says about itself is believed.
//!
//! Counted are those of all its processes and threads. What goes through io_uring would not be seen.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Context, Error, Result};
use crate::peers::find_program;
use crate::proc;

/// Which system calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Those that sync a file to the disk.
    Syncs,
    /// All.
    All,
}

impl Calls {
    /// As strace's `-e trace=` wants them.
    const fn filter(self) -> &'static str {
        match self {
            Self::Syncs => "trace=fdatasync,fsync,sync_file_range",
            Self::All => "trace=all",
        }
    }
}

/// strace, attached.
pub(crate) struct Tracer {
    child: Child,
    summary: PathBuf,
    /// Kept open, so that strace can go on writing.
    _messages: BufReader<ChildStderr>,
}

/// Whether strace is installed.
pub(crate) fn is_installed() -> bool {
    find_program("strace").is_some()
}

impl Tracer {
    /// Attaches to `root` and its descendants; returns once all are traced.
    pub(crate) fn attach(root: u32, calls: Calls, dir: &Path) -> Result<Self> {
        let summary = dir.join("strace.txt");
        let pids = proc::pids(root)?;
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-e", calls.filter(), "-o"]).arg(&summary);
        for pid in &pids {
            command.arg("-p").arg(pid.to_string());
        }
        let mut child = command.stderr(Stdio::piped()).spawn().context("start strace")?;
        let stderr = child.stderr.take().ok_or_else(|| Error::new("strace has no stderr"))?;
        let mut messages = BufReader::new(stderr);
        let mut said = String::new();
        for _ in 0..pids.len() {
            let from = said.len();
            if messages.read_line(&mut said)? == 0 || !said[from..].contains(" attached") {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::new(format!("strace cannot attach: {}", said.trim())));
            }
        }
        Ok(Self { child, summary, _messages: messages })
    }

    /// Detaches and returns how many calls there were.
    pub(crate) fn finish(mut self) -> Result<u64> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT).context("stop strace")?;
        }
        self.child.wait()?;
        count(&fs::read_to_string(&self.summary).context("read strace's summary")?)
    }
}

/// Sums the `calls` column; rows are `% time, seconds, usecs/call, calls, [errors,] syscall`.
fn count(summary: &str) -> Result<u64> {
    let mut sum = 0;
    for line in summary.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let is_row = fields.first().is_some_and(|share| share.parse::<f64>().is_ok());
        if is_row && fields.last() != Some(&"total") {
            let calls = fields.get(3).and_then(|calls| calls.parse::<u64>().ok());
            sum += calls.ok_or_else(|| Error::new(format!("strace's summary has changed: {line}")))?;
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_column_is_summed() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
             ------ ----------- ----------- --------- --------- ----------------\n \
             97.50    0.001560          15       100           fdatasync\n  \
             2.50    0.000040          20         2         1 fsync\n\
             ------ ----------- ----------- --------- --------- ----------------\n\
             100.00    0.001600          15       102         1 total\n";
        assert_eq!(count(summary).unwrap(), 102);
        assert_eq!(count("").unwrap(), 0);
        assert!(count("1 2 3 fsync").is_err());
    }
}
