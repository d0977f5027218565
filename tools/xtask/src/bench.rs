//! `./dev bench` and `./dev soak`: release builds of the server and of the load generator, and pictures of what they saw.

use crate::process::{Failure, Step, root};
use crate::{python, test};

const SAMPLES: &str = "target/soak.json";
const PICTURE: &str = "target/soak.png";

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    tool()?.args(args.iter().map(String::as_str)).run()
}

/// A soak that found growth is drawn too: that is the one to look at.
pub(crate) fn soak(args: &[String]) -> Result<(), Failure> {
    let python = python::BENCH.interpreter()?;
    let tool = tool()?;
    let samples = root().join(SAMPLES);
    // Those of another time are not to be drawn.
    if samples.exists() {
        std::fs::remove_file(&samples).map_err(|error| Failure::new(format!("{SAMPLES}: {error}")))?;
    }
    let soaked = tool.args(["soak", "--json", SAMPLES]).args(args.iter().map(String::as_str)).run();
    if samples.exists() {
        Step::new(&python).args(["tools/bench/plot_soak.py", SAMPLES, PICTURE]).run()?;
    }
    soaked
}

/// The load generator, built, and the server that it starts.
fn tool() -> Result<Step, Failure> {
    test::build_release()?;
    Step::new("cargo").args(["build", "--quiet", "--release", "--package", "bench"]).run()?;
    Ok(Step::new("target/release/bench"))
}
