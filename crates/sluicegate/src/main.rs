//! The binary: command line, composition root, and nothing else.
//!
//! What it does not do: anything a crate below could. Here parts are made, joined and joined again at shutdown.

mod amqp_client;
mod cli;
mod commands;
mod logging;
mod server;

use clap::Parser;
use std::process::ExitCode;

/// Smaller and steadier in memory than the system's allocator under many small connections.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            commands::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}
