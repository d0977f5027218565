//! `bench`: Sluicegate beside RabbitMQ, nginx and haproxy on this machine, in one run, as one table.
//!
//! Rounds are interleaved (each cell: ours, theirs, then the next cell), and what counts is the median, of ratios the median
//! of each round's, because the machine drifts more within minutes than the servers differ. See docs/BENCHMARKS.md.

mod callgrind;
mod cells;
mod changes;
mod client;
mod error;
mod figures;
mod h2load;
mod histogram;
mod peers;
mod proc;
mod reloads;
mod report;
mod soak;
mod strace;
mod trend;
mod wrk;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use rustix::fs::{FlockOperation, flock};

use cells::gateway;
use cells::stage::{Stage, counts, missing_packages};
use cells::{Cell, Plan, Side};
use error::{Context, Error, Result};
use report::Report;

/// Measure Sluicegate beside RabbitMQ, nginx and haproxy, interleaved, in one run
#[derive(Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Cells to measure [default: all]
    #[arg(value_name = "CELL")]
    cells: Vec<Cell>,
    /// Shorter runs: for a first look, not for quoting
    #[arg(long)]
    quick: bool,
    /// Measure one side only
    #[arg(long, value_name = "SIDE")]
    only: Option<Only>,
    /// Also write every round, the medians and the floors, or every sample, to FILE
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// The release binary of Sluicegate [default: release/sluicegate in the target directory]
    #[arg(long, value_name = "FILE", global = true)]
    sluicegate: Option<PathBuf>,
    /// Where servers keep their data, on the disk to be measured [default: bench in the target directory]
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
}

/// What is done instead of measuring cells.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Apply a mixed load at half the rate of cell b for a long time, and see whether memory and files stay flat
    Soak {
        /// How long; what grows does not show in less than three
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(3..=1440))]
        minutes: u64,
    },
    /// Write to the Admin API of a gateway with 10,000 routes 50 times a second, and see whether requests are slower for it
    Changes,
    /// Change the configuration of a gateway again and again under load, and see whether memory stays flat
    Reloads {
        /// How often
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(30..=100_000))]
        times: u64,
    },
}

/// One side.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Only {
    /// Sluicegate
    Ours,
    /// RabbitMQ, nginx and haproxy
    Peers,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything; false if a run failed. A missed floor is shown, not an error: machines differ.
fn run(args: &Args) -> Result<bool> {
    let started = Instant::now();
    let cells: Vec<Cell> =
        Cell::ALL.into_iter().filter(|cell| args.cells.is_empty() || args.cells.contains(cell)).collect();
    let sides: &[Side] = match args.only {
        Some(Only::Ours) => &[Side::Ours],
        Some(Only::Peers) => &[Side::Theirs],
        None => &[Side::Ours, Side::Theirs],
    };
    let plan = if args.quick { Plan::QUICK } else { Plan::FULL };
    let target = target_dir();
    let binary = args.sluicegate.clone().unwrap_or_else(|| target.join("release/sluicegate"));
    let dir = args.dir.clone().unwrap_or_else(|| target.join("bench"));
    if let Some(Command::Soak { minutes }) = args.command {
        check_installed(&[], &[Side::Ours], &binary)?;
        let _lock = lock(&dir)?;
        let soaked = soak::run(&binary, &dir, Duration::from_secs(minutes * 60), machine())?;
        write_json(args.json.as_deref(), &soaked.to_json())?;
        std::io::stdout().write_all(soaked.to_text().as_bytes())?;
        return Ok(soaked.is_flat());
    }
    if let Some(Command::Reloads { times }) = args.command {
        check_installed(&[Cell::Proxy], &[Side::Ours], &binary)?;
        let _lock = lock(&dir)?;
        let times = usize::try_from(times).unwrap_or(usize::MAX);
        let reloaded = reloads::run(&binary, &dir, times, machine())?;
        write_json(args.json.as_deref(), &reloaded.to_json())?;
        std::io::stdout().write_all(reloaded.to_text().as_bytes())?;
        return Ok(reloaded.is_flat());
    }
    if matches!(args.command, Some(Command::Changes)) {
        check_installed(&[Cell::Paced], &[Side::Ours], &binary)?;
        let _lock = lock(&dir)?;
        let changed = changes::run(&binary, &dir, machine())?;
        write_json(args.json.as_deref(), &changed.to_json())?;
        std::io::stdout().write_all(changed.to_text().as_bytes())?;
        return Ok(changed.is_unnoticed());
    }
    check_installed(&cells, sides, &binary)?;

    let _lock = lock(&dir)?;
    let stage = Stage::set_up(&dir, &binary, &cells, sides)?;
    let mut report = Report::default();
    report.notes.push(format!("{}; nginx with {} workers", machine(), peers::nginx::WORKERS));
    report.notes.push(peers::versions());
    if cfg!(debug_assertions) {
        report.notes.push("the load generator is an unoptimised build; use cargo run --release".to_owned());
    }
    measure_rounds(&stage, &cells, sides, &plan, &mut report);
    count_calls(&stage, &cells, sides, &plan, &mut report);
    drop(stage);
    count_instructions(&dir, &binary, &cells, sides, &mut report);

    let seconds = started.elapsed().as_secs();
    let kind = if args.quick { "quick run, not for quoting" } else { "full run" };
    let rounds: BTreeSet<usize> = cells.iter().map(|cell| plan.rounds_of(*cell)).collect();
    let rounds: Vec<String> = rounds.iter().map(usize::to_string).collect();
    let rounds = rounds.join(" or ");
    report
        .notes
        .push(format!("{kind}, {rounds} interleaved rounds, medians (of each round's ratio, too), {seconds} s"));
    if !report.failures.is_empty() {
        report.notes.push(format!("the servers' logs are under {}", dir.display()));
    }
    write_json(args.json.as_deref(), &report.to_json())?;
    std::io::stdout().write_all(report.to_text().as_bytes())?;
    Ok(report.failures.is_empty())
}

fn write_json(file: Option<&Path>, json: &serde_json::Value) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, format!("{json:#}\n")).context(format_args!("write {}", file.display()))
}

/// Each round visits every cell, and in it each side, so that drift of the machine meets all alike.
fn measure_rounds(stage: &Stage, cells: &[Cell], sides: &[Side], plan: &Plan, report: &mut Report) {
    let n_rounds = cells.iter().map(|cell| plan.rounds_of(*cell)).max().unwrap_or(0);
    for round in 1..=n_rounds {
        for (cell, side) in pairs(cells, sides).filter(|(cell, _)| round <= plan.rounds_of(*cell)) {
            let name = run_name(cell, side);
            eprintln!("round {round} of {}: {name}", plan.rounds_of(cell));
            match stage.measure(cell, side, plan) {
                Ok(figures) => report.add(cell, side, figures),
                Err(error) => report.fail(cell, side, format!("round {round}, {name}: {error}")),
            }
        }
    }
}

/// Apart from the rounds, because tracing slows the server down.
fn count_calls(stage: &Stage, cells: &[Cell], sides: &[Side], plan: &Plan, report: &mut Report) {
    if !strace::is_installed() && cells.iter().any(|cell| counts(*cell)) {
        report.notes.push("system calls are not counted: strace is missing (apt-get install strace)".to_owned());
        return;
    }
    for (cell, side) in pairs(cells, sides).filter(|(cell, _)| counts(*cell)) {
        let name = run_name(cell, side);
        eprintln!("counting system calls: {name}");
        match stage.count(cell, side, plan) {
            Ok(figures) => report.add(cell, side, figures),
            Err(error) => report.fail(cell, side, format!("counting system calls, {name}: {error}")),
        }
    }
}

/// Last, on servers of their own: under callgrind they are fifty times slower.
fn count_instructions(dir: &Path, binary: &Path, cells: &[Cell], sides: &[Side], report: &mut Report) {
    if !cells.iter().any(|cell| gateway::counts_instructions(*cell)) {
        return;
    }
    if !callgrind::is_installed() {
        report.notes.push("instructions are not counted: valgrind is missing (apt-get install valgrind)".to_owned());
        return;
    }
    let counted = gateway::count_instructions(dir, binary, cells, sides, |cell, side, figures| {
        let name = run_name(cell, side);
        eprintln!("counted instructions: {name}");
        match figures {
            Ok(figures) => report.add(cell, side, figures),
            Err(error) => report.fail(cell, side, format!("counting instructions, {name}: {error}")),
        }
    });
    if let Err(error) = counted {
        report.failures.push(format!("counting instructions: {error}"));
    }
}

fn pairs<'a>(cells: &'a [Cell], sides: &'a [Side]) -> impl Iterator<Item = (Cell, Side)> + 'a {
    let all = cells.iter().flat_map(move |cell| sides.iter().map(move |side| (*cell, *side)));
    all.filter(|(cell, side)| *side == Side::Ours || !cell.is_ours_alone())
}

fn run_name(cell: Cell, side: Side) -> String {
    let server = if side == Side::Ours { "Sluicegate" } else { cell.peer() };
    format!("{} on {server}", cell.name())
}

fn check_installed(cells: &[Cell], sides: &[Side], binary: &Path) -> Result<()> {
    let missing = missing_packages(cells, sides);
    if !missing.is_empty() {
        return Err(Error::new(format!("needs Debian packages: apt-get install {}", missing.join(" "))));
    }
    if sides.contains(&Side::Ours) && !binary.is_file() {
        let path = binary.display();
        return Err(Error::new(format!("{path} does not exist: cargo build --release, or --only peers")));
    }
    Ok(())
}

/// Two runs at a time would measure each other.
fn lock(dir: &Path) -> Result<File> {
    std::fs::create_dir_all(dir).context(format_args!("create {}", dir.display()))?;
    let file = File::create(dir.join("lock"))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).context("another bench is running")?;
    Ok(file)
}

/// Cargo's target directory of this workspace.
fn target_dir() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace.canonicalize().unwrap_or(workspace).join(target)
}

/// What the run was measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    let model = model.map_or("unknown CPU", |(_, model)| model);
    format!("{cpus} × {model}, Linux {}", kernel.trim())
}
