//! Reading the configuration, at the start and on SIGHUP, with everything tried that can be tried without effect.

use config::{Errors, Loaded};
use std::path::{Path, PathBuf};

/// Reads a configuration and the environment over it.
///
/// # Errors
/// Every mistake.
pub(crate) fn load(path: Option<&Path>) -> Result<Loaded, Errors> {
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    config::load(path, config::environment(), &cwd, &plugins::registry())
}

/// The file to use: the one named, else `./sluicegate.yaml` if there is one.
pub(crate) fn file(named: Option<&Path>) -> Option<PathBuf> {
    let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    named.map(Path::to_owned).or_else(|| config::default_file(&cwd))
}
