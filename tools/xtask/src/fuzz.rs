//! `./dev fuzz`: libFuzzer on a stable compiler, by passing the coverage flags to rustc ourselves.

use crate::process::{Failure, Step, root, say};

/// What makes the compiler report coverage to libFuzzer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1 -Cdebug-assertions";

/// The targets, by the names of their files.
pub(crate) fn targets() -> Result<Vec<String>, Failure> {
    let dir = root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

pub(crate) fn run(args: &[String]) -> Result<(), Failure> {
    let Some(target) = args.first() else {
        for name in targets()? {
            say(&name);
        }
        return Ok(());
    };
    let seconds = match args.get(1) {
        None => 60,
        Some(text) => text.parse().map_err(|_| Failure::new(format!("`{text}` is not a number of seconds")))?,
    };
    fuzz(target, seconds)
}

/// Fuzzes one target; a finding is a failure, and libFuzzer prints where it kept the input.
pub(crate) fn fuzz(target: &str, seconds: u32) -> Result<(), Failure> {
    let triple = "x86_64-unknown-linux-gnu";
    Step::new("cargo")
        .args(["build", "--release", "--target", triple, "--bin", target])
        .current_dir("fuzz")
        .env("RUSTFLAGS", FLAGS)
        .run()?;
    let corpus = format!("corpus/{target}");
    let artifacts = format!("artifacts/{target}");
    for dir in [&corpus, &artifacts] {
        let dir = root().join("fuzz").join(dir);
        std::fs::create_dir_all(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    }
    let binary = root().join(format!("fuzz/target/{triple}/release/{target}"));
    Step::new(&binary.to_string_lossy())
        .args([corpus.as_str(), &format!("-artifact_prefix={artifacts}/"), &format!("-max_total_time={seconds}")])
        .args(["-print_final_stats=1", "-rss_limit_mb=2048", "-timeout=10"])
        .current_dir("fuzz")
        .run()
}
