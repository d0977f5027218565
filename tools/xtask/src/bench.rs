//! `./dev bench`, `./dev soak` and `./dev reloads`: release builds of the server and of the load generator, and pictures of what they saw.

use crate::process::{Failure, Step, root};
use crate::{python, test};

/// Commands of the load generator that watch a server for long, and what draws what they saw.
#[derive(Clone, Copy)]
pub(crate) enum Watch {
    Soak,
    Reloads,
}

impl Watch {
    const fn name(self) -> &'static str {
        match self {
            Self::Soak => "soak",
            Self::Reloads => "reloads",
        }
    }
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    // Who names a binary has one.
    if !args.iter().any(|arg| arg.starts_with("--sluicegate")) {
        test::build_release()?;
    }
    load_generator()?.args(args.iter().map(String::as_str)).run()
}

/// What found growth is drawn too: that is the one to look at.
pub(crate) fn watch(what: Watch, args: &[String]) -> Result<(), Failure> {
    let python = python::BENCH.interpreter()?;
    test::build_release()?;
    let tool = load_generator()?;
    let name = what.name();
    let samples = format!("target/{name}.json");
    // Those of another time are not to be drawn.
    if root().join(&samples).exists() {
        std::fs::remove_file(root().join(&samples)).map_err(|error| Failure::new(format!("{samples}: {error}")))?;
    }
    let watched = tool.args([name, "--json", &samples]).args(args.iter().map(String::as_str)).run();
    if root().join(&samples).exists() {
        let (script, picture) = (format!("tools/bench/plot_{name}.py"), format!("target/{name}.png"));
        Step::new(&python).args([script.as_str(), &samples, &picture]).run()?;
    }
    watched
}

/// The load generator, built.
pub(crate) fn load_generator() -> Result<Step, Failure> {
    Step::new("cargo").args(["build", "--quiet", "--release", "--package", "bench"]).run()?;
    Ok(Step::new("target/release/bench"))
}
