//! `./dev test` and `./dev check`: the same steps on every machine, CI's included.

use crate::process::{Failure, Step, complain, root, say};
use crate::{models, python};

/// Builds the binary the real clients run against.
pub(crate) fn build_release() -> Result<(), Failure> {
    Step::new("cargo").args(["build", "--release", "--locked", "--package", "sluicegate"]).run()
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let ran = match args.first().map(String::as_str) {
        None => {
            check()?;
            let (rust, clients) = (rust()?, clients(&[])?);
            say(&format!("\nRust tests: {rust}. Tests with real clients: {clients}. In all:"));
            rust + clients
        }
        Some("rust") => rust()?,
        Some("clients") => clients(&args[1..])?,
        Some(other) => return Err(Failure::new(format!("unknown part `{other}`: rust or clients"))),
    };
    say(&format!("{ran} passed, 0 failed"));
    Ok(())
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

/// The number before `word`, as test runners close: `ok. 12 passed; 0 failed`, `12 passed in 3.45s`.
fn count(line: &str, word: &str) -> Option<u64> {
    let before = line.split(word).next().filter(|before| before.len() < line.len())?;
    before.trim_end().rsplit(' ').next()?.parse().ok()
}

fn rust() -> Result<u64, Failure> {
    let mut passed = 0;
    let mut add = |line: &str| {
        if line.starts_with("test result:") {
            passed += count(line, "passed").unwrap_or_default();
        }
    };
    Step::new("cargo").args(["test", "--locked", "--workspace"]).run_and_read(&mut add)?;
    models::check(false, &mut add)?;
    Ok(passed)
}

fn clients(pytest_args: &[String]) -> Result<u64, Failure> {
    build_release()?;
    let python = python::CONFORMANCE.interpreter()?;
    let binary = root().join("target/release/sluicegate");
    let mut passed = 0;
    Step::new(&python)
        .args(["-m", "pytest", "tools/conformance"])
        .args(pytest_args.iter().map(String::as_str))
        .env("SLUICEGATE_BIN", &binary.to_string_lossy())
        .run_and_read(|line| passed = count(line, "passed").unwrap_or(passed))?;
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        assert_eq!(count("test result: ok. 12 passed; 0 failed; 0 ignored", "passed"), Some(12));
        assert_eq!(count("===== 807 passed, 2 warnings in 301.02s (0:05:01) =====", "passed"), Some(807));
        assert_eq!(count("everything passed", "passed"), None);
        assert_eq!(count("nothing", "passed"), None);
    }
}
