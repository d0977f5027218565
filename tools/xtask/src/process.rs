//! Starting other programs from the root of the repository, and talking to the person in front.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What went wrong, in words for the person who typed the command.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The root of the repository: two levels above this crate.
pub(crate) fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path.pop();
    path
}

/// One program to run to its end.
pub(crate) struct Step {
    command: Command,
    shown: String,
}

impl Step {
    pub(crate) fn new(program: &str) -> Self {
        let mut command = Command::new(program);
        command.current_dir(root());
        Self { command, shown: program.to_owned() }
    }

    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        for arg in args {
            self.command.arg(arg);
            self.shown.push(' ');
            self.shown.push_str(arg);
        }
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn current_dir(mut self, dir: &str) -> Self {
        self.command.current_dir(root().join(dir));
        self
    }

    /// Runs it with our terminal; a non-zero end is a failure.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        complain(&format!("$ {}", self.shown));
        match self.command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format!("`{}` ended with {status}", self.shown))),
            Err(error) => Err(Failure::new(format!("`{}` could not be started: {error}", self.shown))),
        }
    }

    /// Runs it, shows its standard output as it comes and hands each line to `each`.
    pub(crate) fn run_and_read(mut self, mut each: impl FnMut(&str)) -> Result<(), Failure> {
        complain(&format!("$ {}", self.shown));
        let cannot = |shown: &str, error| Failure::new(format!("`{shown}` could not be run: {error}"));
        let spawned = self.command.stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| cannot(&self.shown, error))?;
        for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
            let line = line.map_err(|error| cannot(&self.shown, error))?;
            say(&line);
            each(&line);
        }
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(format!("`{}` ended with {status}", self.shown))),
            Err(error) => Err(cannot(&self.shown, error)),
        }
    }

    /// Runs it silently and returns what it says.
    pub(crate) fn output(mut self) -> Result<String, Failure> {
        match self.command.stderr(Stdio::inherit()).output() {
            Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Ok(output) => Err(Failure::new(format!("`{}` ended with {}", self.shown, output.status))),
            Err(error) => Err(Failure::new(format!("`{}` could not be started: {error}", self.shown))),
        }
    }

    /// Starts it with our terminal and does not wait.
    pub(crate) fn spawn(mut self) -> Result<std::process::Child, Failure> {
        complain(&format!("$ {}", self.shown));
        self.command.spawn().map_err(|error| Failure::new(format!("`{}` could not be started: {error}", self.shown)))
    }

    /// Runs it silently and tells whether it ended well.
    pub(crate) fn succeeds(mut self) -> bool {
        self.command.output().is_ok_and(|output| output.status.success())
    }
}

/// Prints for people.
pub(crate) fn say(text: &str) {
    // A closed standard output is the reader's choice.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints progress and errors.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
