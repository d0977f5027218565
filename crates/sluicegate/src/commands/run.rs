//! `sluicegate run`: the server.

use super::{Failure, complain};
use crate::cli::RunArgs;
use crate::server::settings::Source;
use crate::{logging, server};
use std::time::Instant;

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let source = Source::new(args.config.as_deref(), args.data.as_deref());
    let loaded = source.load().map_err(Failure::new)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    logging::start(loaded.settings.telemetry.log);
    server::run(loaded.settings, source, started)
}
