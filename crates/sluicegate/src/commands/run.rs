//! `sluicegate run`: the server.

use super::{Failure, complain};
use crate::cli::RunArgs;
use crate::{logging, server};
use std::time::Instant;

pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let file = server::settings::file(args.config.as_deref());
    let loaded = server::settings::load(file.as_deref()).map_err(Failure::new)?;
    for warning in &loaded.warnings {
        complain(&format!("warning: {warning}"));
    }
    let mut settings = loaded.settings;
    if let Some(data) = &args.data {
        settings.storage.path.clone_from(data);
    }
    logging::start(settings.telemetry.log);
    server::run(settings, file, started)
}
