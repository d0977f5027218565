//! Reading the configuration, at the start and on SIGHUP, with everything tried that can be tried without effect.

use config::{Errors, Loaded};
use std::path::{Path, PathBuf};

/// Where a configuration comes from, the same at the start and at every reload.
pub(crate) struct Source {
    file: Option<PathBuf>,
    data: Option<PathBuf>,
}

impl Source {
    /// The file named, else `./sluicegate.yaml` if there is one; with `data` that data directory and no other.
    pub(crate) fn new(named: Option<&Path>, data: Option<&Path>) -> Self {
        let file = named.map(Path::to_owned).or_else(|| config::default_file(&current_dir()));
        Self { file, data: data.map(Path::to_owned) }
    }

    /// Reads the file, the environment over it and the command line over both.
    ///
    /// # Errors
    /// Every mistake.
    pub(crate) fn load(&self) -> Result<Loaded, Errors> {
        let mut loaded =
            config::load(self.file.as_deref(), config::environment(), &current_dir(), &plugins::registry())?;
        if let Some(data) = &self.data {
            loaded.settings.storage.path.clone_from(data);
        }
        Ok(loaded)
    }
}

fn current_dir() -> PathBuf {
    std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_s_data_directory_outlives_a_reload() {
        let source = Source::new(None, Some(Path::new("elsewhere")));
        let (start, reload) = (source.load().expect("the defaults"), source.load().expect("the defaults"));
        assert_eq!(start.settings.storage.path, Path::new("elsewhere"));
        assert!(config::diff(&start.settings, &reload.settings).restart_required.is_empty());
    }
}
