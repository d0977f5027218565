//! `./dev dist`: the binary to ship and to measure, optimised by what it does under load.
//!
//! The server is built twice. The first build counts which ways through the code the load of `./dev bench` takes; the
//! second one lays the code out for them (profile-guided optimisation). What is counted is not kept: every build counts
//! for itself, so the counts are always those of its code.

use crate::bench;
use crate::process::{Failure, Step, root, say};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Where all of it is, below the target directory.
const DIR: &str = "target/dist";
/// What it does under load: every kind of message and of request that is measured, without the cells that only have more of
/// them and those that end by kill -9, which leaves no counts.
const LOAD: [&str; 14] =
    ["a16", "a1k", "b", "c", "e", "f", "g", "gp", "proxy", "tls1", "tls2", "shake", "h2c", "paced"];

pub(crate) fn run() -> Result<(), Failure> {
    let dir = root().join(DIR);
    let (counts, profile) = (dir.join("counts"), dir.join("profile"));
    let (host, profdata) = toolchain()?;
    remove(&counts)?;
    let counting = build(&host, "counting", &format!("-Cprofile-generate={}", counts.display()))?;
    let (data, counting) = (dir.join("load"), counting.to_string_lossy().into_owned());
    bench::load_generator()?
        .args(["--quick", "--only", "ours", "--sluicegate", &counting, "--dir", &data.to_string_lossy()])
        .args(LOAD)
        .run()?;
    let merged = ["merge", "-o", &profile.to_string_lossy(), &counts.to_string_lossy()].map(str::to_owned);
    Step::new(&profdata.to_string_lossy()).args(merged.iter().map(String::as_str)).run()?;
    let built = build(&host, "optimised", &format!("-Cprofile-use={}", profile.display()))?;
    let binary = dir.join("sluicegate");
    fs::copy(&built, &binary).map_err(|error| Failure::new(format!("{}: {error}", binary.display())))?;
    say(&format!("{DIR}/sluicegate\nmeasure it: ./dev bench --sluicegate {DIR}/sluicegate"));
    Ok(())
}

/// Builds the server with flags that hold for it and its dependencies, and not for programs that run at build time.
fn build(host: &str, name: &str, flags: &str) -> Result<PathBuf, Failure> {
    let target = format!("{DIR}/{name}");
    Step::new("cargo")
        .args(["build", "--release", "--locked", "--package", "sluicegate", "--target", host, "--target-dir", &target])
        .env("RUSTFLAGS", flags)
        .run()?;
    Ok(root().join(target).join(host).join("release/sluicegate"))
}

/// The name of this machine's kind, and the compiler's tool for counts.
fn toolchain() -> Result<(String, PathBuf), Failure> {
    let version = Step::new("rustc").args(["-vV"]).output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::new("rustc -vV does not say for what it compiles"))?.to_owned();
    let sysroot = Step::new("rustc").args(["--print", "sysroot"]).output()?;
    let tool = Path::new(sysroot.trim()).join("lib/rustlib").join(&host).join("bin/llvm-profdata");
    if !tool.exists() {
        Step::new("rustup").args(["component", "add", "llvm-tools"]).run()?;
    }
    Ok((host, tool))
}

fn remove(dir: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::new(format!("{}: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}
