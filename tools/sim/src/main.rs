//! `sim`: crashes the embedded engine on a simulated disk, seed by seed.
//!
//! `sim --seeds 2000 [--from N] [--ops 200] [--canary confirm-before-sync|ignore-checksum|drop-dir-sync]`.
//! Exits 1 with the seed if a promise was broken; that seed alone shows it again.

use std::io::{self, Write};
use std::process::ExitCode;
use storage::Canary;

struct Arguments {
    seeds: u64,
    from: u64,
    operations: u64,
    canary: Option<Canary>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { seeds: 2000, from: 0, operations: 200, canary: None };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().ok_or(format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} needs a number, not {value}"));
        match name.as_str() {
            "--seeds" => found.seeds = number()?,
            "--from" => found.from = number()?,
            "--ops" => found.operations = number()?,
            "--canary" => {
                found.canary = Some(match value.as_str() {
                    "confirm-before-sync" => Canary::ConfirmBeforeSync,
                    "ignore-checksum" => Canary::IgnoreChecksum,
                    "drop-dir-sync" => Canary::DropDirSync,
                    other => return Err(format!("no canary is called {other}")),
                });
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments).map_err(|e| e.to_string())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sim: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the seeds; false if one broke a promise.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut out = io::stdout();
    let (mut operations, mut crashes) = (0, 0);
    for n in 0..arguments.seeds {
        let seed = arguments.from + n;
        match sim::run_seed(seed, arguments.operations, arguments.canary) {
            Ok(outcome) => {
                operations += outcome.operations;
                crashes += outcome.crashes;
            }
            Err(found) => {
                writeln!(
                    out,
                    "seed {seed}, operation {}: {}\nagain with: sim --seeds 1 --from {seed} --ops {}",
                    found.operation, found.what, arguments.operations
                )?;
                return Ok(false);
            }
        }
        if (n + 1) % 500 == 0 {
            writeln!(out, "{} seeds done", n + 1)?;
        }
    }
    writeln!(out, "{} seeds, {operations} operations, {crashes} crashes, 0 violations", arguments.seeds)?;
    Ok(true)
}
