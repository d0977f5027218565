//! `./dev`: the one developer command. What CI runs is what a developer runs.
//!
//! It only starts other programs and says what it starts; it decides nothing about the product.

mod bench;
mod dist;
mod fuzz;
mod models;
mod process;
mod proof;
mod python;
mod quickstart;
mod test;

use process::Failure;
use std::process::ExitCode;

const HELP: &str = "\
./dev COMMAND

  run              build the release binary, start the quickstart, print what to try
  test             everything: format, lints, unit and property tests, simulated crashes, real clients
  test rust        the Rust part only
  test clients     the real clients only (pytest arguments may follow)
  check            format, lints, dependencies (cargo deny, if it is installed)
  bench [ARGS]     beside RabbitMQ and nginx, one table (./dev bench --help)
  dist             build the binary to ship and to measure, optimised by what it does under the load of bench; takes
                   two builds with that load in between, and the packages that bench needs
  soak [ARGS]      half the load it can carry for half an hour, and whether memory and files stay flat; draws what it
                   saw into target/soak.png (--minutes N for another time)
  reloads [ARGS]   1,000 changes of the configuration under load (--times N for another number), and whether memory
                   stays flat and no request fails; drawn into target/reloads.png
  fuzz TARGET [S]  fuzz a decoder for S seconds (default 60); without TARGET: list them
  models           try every order of steps in the storage engine's hand-over, as `test rust` does at its end
  proof            the long proofs: 100,000 simulated crashes, fifty kill -9 rounds, ten minutes of fuzzing a decoder,
                   models with one more interruption
  help             this
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let result = match args.first().map(String::as_str) {
        Some("run") => quickstart::run(),
        Some("test") => test::run(rest),
        Some("check") => test::check(),
        Some("bench") => bench::run(rest),
        Some("dist") => dist::run(),
        Some("soak") => bench::watch(bench::Watch::Soak, rest),
        Some("reloads") => bench::watch(bench::Watch::Reloads, rest),
        Some("fuzz") => fuzz::run(rest),
        Some("models") => models::check(false, |_| {}),
        Some("proof") => proof::run(rest),
        None | Some("help" | "--help" | "-h") => {
            process::say(HELP);
            Ok(())
        }
        Some(other) => Err(Failure::new(format!("unknown command `{other}`\n\n{HELP}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            process::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}
