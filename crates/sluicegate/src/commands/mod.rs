//! One file a command. Each prints for people, or with `--json` for machines.

mod check;
mod consume;
mod publish;
mod queues;
mod repair;
mod run;

use crate::cli::Command;
use std::fmt;
use std::io::Write;

/// A command failed; the text is for the person who typed it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<crate::amqp_client::ClientError> for Failure {
    fn from(error: crate::amqp_client::ClientError) -> Self {
        Self::new(error)
    }
}

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check { config, json } => check::run(&config, json),
        Command::Publish(args) => publish::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Queues(args) => queues::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Version { json } => {
            version(json);
            Ok(())
        }
    }
}

fn version(json: bool) {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        say(&serde_json::json!({ "name": "sluicegate", "version": version }).to_string());
    } else {
        say(&format!("sluicegate {version}"));
    }
}

/// Prints a result.
pub(crate) fn say(text: &str) {
    // A reader that closed its end wants no more.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints an error or progress.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
