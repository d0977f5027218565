//! Counts the instructions a server runs in user mode, with valgrind's callgrind: a figure that other work on the machine does
//! not change.
//!
//! The server runs under callgrind from its start and counts only between `on` and `off`. It must stay the user it was started
//! as, who alone may tell it so. Not seen are the kernel's
//! instructions, and what of the processor valgrind does not know: cryptography takes slower ways there than it does
//! otherwise, so that cells with TLS are not counted.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::peers::find_program;
use crate::peers::process::bounded;
use crate::proc;

/// What the names of callgrind's files begin with; a process id and the number of the dump follow.
const PREFIX: &str = "callgrind.out.";
/// How long a process may take to do as it is told; one that runs does so at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where callgrind leaves its files.
#[derive(Debug, Clone)]
pub(crate) struct Callgrind(PathBuf);

/// Whether valgrind is installed.
pub(crate) fn is_installed() -> bool {
    find_program("valgrind").is_some() && find_program("callgrind_control").is_some()
}

impl Callgrind {
    /// Counts with files in `dir`, which is there and empty.
    pub(crate) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// The words that run a program under callgrind, which does not count yet.
    pub(crate) fn words(&self) -> [String; 5] {
        let file = self.0.join(format!("{PREFIX}%p"));
        [
            "valgrind".to_owned(),
            "--tool=callgrind".to_owned(),
            "--instr-atstart=no".to_owned(),
            "--trace-children=yes".to_owned(),
            format!("--callgrind-out-file={}", file.display()),
        ]
    }

    /// Runs `work` and returns its result with the instructions that `root` and its descendants ran meanwhile.
    pub(crate) fn count<T>(&self, root: u32, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
        let pids: Vec<String> = proc::pids(root)?.iter().map(u32::to_string).collect();
        self.remove_files()?;
        control("--instr=on", &pids)?;
        let done = work();
        control("--instr=off", &pids)?;
        control("--dump", &pids)?;
        let mut sum = 0;
        for file in self.files()? {
            sum += total(&fs::read_to_string(&file).context("read what callgrind wrote")?);
        }
        if sum == 0 {
            return Err(Error::new("callgrind counted nothing"));
        }
        Ok((done?, sum))
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            if path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(PREFIX)) {
                files.push(path);
            }
        }
        Ok(files)
    }

    fn remove_files(&self) -> Result<()> {
        self.files()?.iter().try_for_each(|file| Ok(fs::remove_file(file)?))
    }
}

fn control(what: &str, pids: &[String]) -> Result<()> {
    let mut command = bounded("callgrind_control", PATIENCE);
    let output = command.arg(what).args(pids).output().context("start callgrind_control")?;
    if !output.status.success() {
        let (status, said) = (output.status, String::from_utf8_lossy(&output.stderr));
        return Err(Error::new(format!("callgrind_control {what}: {status}: {said}")));
    }
    Ok(())
}

/// The sum of the costs of a file: the instructions of its line `totals`.
fn total(text: &str) -> u64 {
    let totals = text.lines().filter_map(|line| line.strip_prefix("totals: "));
    totals.filter_map(|costs| costs.split_ascii_whitespace().next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_summed_and_nothing_else() {
        let text = "events: Ir\nsummary: 7\nfn=(1) main\n12 5\ntotals: 120528989\n\ntotals: 11 3\n";
        assert_eq!((total(text), total("events: Ir\n")), (120_529_000, 0));
    }
}
