//! The models of the storage engine's hand-over (`crates/storage/src/handover.rs`), checked by loom.

use crate::process::{Failure, Step};

/// Tries every order of steps up to a number of interruptions, one more if `long`; hands each line said to `each`.
pub(crate) fn check(long: bool, each: impl FnMut(&str)) -> Result<(), Failure> {
    // A build of its own, because the flag goes to every crate. The model checker and ours are to be quick; what it brings
    // along to print traces need not be.
    let quick = ["generator", "loom", "smallvec"].map(|name| format!("profile.test.package.{name}.opt-level=1"));
    let mut step = Step::new("cargo")
        .args(["test", "--locked", "--package", "sluicegate-storage", "--features", "sim", "--lib"])
        .args(["--target-dir", "target/loom", "--config", "profile.test.package.'*'.opt-level=0"]);
    for setting in &quick {
        step = step.args(["--config", setting]);
    }
    step.args(["--", "handover::", "--show-output"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("RUST_BACKTRACE", "0")
        .env("MODELS", if long { "long" } else { "short" })
        .run_and_read(each)
}
