//! `./dev proof`: what takes too long for every change and is run before a release or the close of an issue.

use crate::process::{Failure, Step, root};
use crate::{fuzz, models, python, test};

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    match args.first().map(String::as_str) {
        None => {
            sim("100000")?;
            kill9("50")?;
            models::check(true, |_| {})?;
            fuzz_all(600)
        }
        Some("sim") => sim(args.get(1).map_or("100000", String::as_str)),
        Some("kill9") => kill9(args.get(1).map_or("50", String::as_str)),
        Some("models") => models::check(true, |_| {}),
        Some("fuzz") => fuzz_all(600),
        Some(other) => {
            Err(Failure::new(format!("unknown proof `{other}`: sim [SEEDS], kill9 [ROUNDS], models or fuzz")))
        }
    }
}

fn sim(seeds: &str) -> Result<(), Failure> {
    Step::new("cargo").args(["run", "--release", "--locked", "--package", "sim", "--", "--seeds", seeds]).run()
}

fn kill9(rounds: &str) -> Result<(), Failure> {
    test::build_release()?;
    let python = python::CONFORMANCE.interpreter()?;
    let binary = root().join("target/release/sluicegate");
    Step::new(&python)
        .args(["tools/conformance/crash/kill9.py", "--rounds", rounds, "--bin"])
        .args([binary.to_string_lossy().as_ref()])
        .run()
}

fn fuzz_all(seconds: u32) -> Result<(), Failure> {
    for target in fuzz::targets()? {
        fuzz::fuzz(&target, seconds)?;
    }
    Ok(())
}
