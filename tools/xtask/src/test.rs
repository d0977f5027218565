//! `./dev test` and `./dev check`: the same steps on every machine, CI's included.

use crate::process::{Failure, Step, complain, root};
use crate::python;

/// Builds the binary the real clients run against.
pub(crate) fn build_release() -> Result<(), Failure> {
    Step::new("cargo").args(["build", "--release", "--locked", "--package", "sluicegate"]).run()
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    match args.first().map(String::as_str) {
        None => {
            check()?;
            rust()?;
            clients(&[])
        }
        Some("rust") => rust(),
        Some("clients") => clients(&args[1..]),
        Some(other) => Err(Failure::new(format!("unknown part `{other}`: rust or clients"))),
    }
}

/// Format, lints, dependencies.
pub(crate) fn check() -> Result<(), Failure> {
    Step::new("cargo").args(["fmt", "--all", "--check"]).run()?;
    Step::new("cargo")
        .args(["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"])
        .run()?;
    if Step::new("cargo").args(["deny", "--version"]).succeeds() {
        Step::new("cargo").args(["deny", "check", "bans", "licenses", "sources"]).run()?;
        if !Step::new("cargo").args(["deny", "check", "advisories"]).succeeds() {
            complain("cargo deny check advisories did not pass, or the advisories could not be fetched: run it to see");
        }
    } else {
        complain("cargo-deny is not installed, so licences and advisories were not checked (cargo install cargo-deny)");
    }
    Ok(())
}

fn rust() -> Result<(), Failure> {
    Step::new("cargo").args(["test", "--locked", "--workspace"]).run()
}

fn clients(pytest_args: &[String]) -> Result<(), Failure> {
    build_release()?;
    let python = python::interpreter()?;
    let binary = root().join("target/release/sluicegate");
    Step::new(&python)
        .args(["-m", "pytest", "tools/conformance"])
        .args(pytest_args.iter().map(String::as_str))
        .env("SLUICEGATE_BIN", &binary.to_string_lossy())
        .run()
}
