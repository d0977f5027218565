//! `sluicegate run`: the server.

use super::{Failure, complain};
use crate::cli::RunArgs;
use crate::server::settings::Source;
use crate::server::upgrade::{Met, Program};
use crate::{logging, server};
use std::ffi::OsString;
use std::time::Instant;

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let program = Program::called(std::env::args_os().next(), as_successor(args)).map_err(Failure::new)?;
    let met = if args.take_over { Some(Met::on_standard_input()?) } else { None };
    let source = Source::new(args.config.as_deref(), args.data.as_deref());
    let loaded = source.load().map_err(Failure::new)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    logging::start(loaded.settings.telemetry.log);
    server::run(loaded.settings, source, program, met, started)
}

/// The arguments of a process that takes over from this one.
fn as_successor(args: &RunArgs) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["run".into(), "--take-over".into()];
    if let Some(data) = &args.data {
        arguments.extend(["--data".into(), data.into()]);
    }
    if let Some(config) = &args.config {
        arguments.extend(["--".into(), config.into()]);
    }
    arguments
}
