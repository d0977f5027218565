//! Structured logs on stderr: one event a fact, fields rather than prose.

use config::{Log, LogFormat, LogLevel};
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Changes the level of what runs.
static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging as configured. A second call changes nothing.
pub(crate) fn start(log: Log) {
    let (filter, handle) = reload::Layer::new(EnvFilter::new(log.level.as_str()));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    match tracing_subscriber::registry().with(filter).with(lines).try_init() {
        Ok(()) => drop(LEVEL.set(handle)),
        Err(error) => tracing::warn!(%error, "logging was started before"),
    }
}

/// Changes the level.
pub(crate) fn set_level(level: LogLevel) {
    let Some(handle) = LEVEL.get() else { return };
    if let Err(error) = handle.reload(EnvFilter::new(level.as_str())) {
        tracing::warn!(%error, "the log level stays as it is");
    }
}
