//! The Python environments of the tools: virtual ones at the root, each from pinned requirements.

use crate::process::{Failure, Step, root};

/// A virtual environment.
pub(crate) struct Environment {
    dir: &'static str,
    requirements: &'static str,
}

/// What the real-client tests run in.
pub(crate) const CONFORMANCE: Environment =
    Environment { dir: ".venv", requirements: "tools/conformance/requirements.txt" };
/// What draws pictures of measurements.
pub(crate) const BENCH: Environment = Environment { dir: ".venv-bench", requirements: "tools/bench/requirements.txt" };

impl Environment {
    /// Its interpreter; it is made or brought up to date if needed.
    pub(crate) fn interpreter(&self) -> Result<String, Failure> {
        let Self { dir, requirements } = *self;
        let python = format!("{dir}/bin/python");
        let wanted = std::fs::read_to_string(root().join(requirements))
            .map_err(|error| Failure::new(format!("{requirements}: {error}")))?;
        let stamp = root().join(dir).join("requirements.txt");
        if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
            return Ok(python);
        }
        let make = || Step::new("python3").args(["-m", "venv", "--clear", dir]).run();
        if make().is_err() {
            // Debian ships venv apart from Python.
            Step::new("apt-get").args(["install", "--yes", "--quiet", "python3-venv"]).run()?;
            make()?;
        }
        Step::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", requirements])
            .run()?;
        std::fs::write(&stamp, wanted).map_err(|error| Failure::new(format!("{}: {error}", stamp.display())))?;
        Ok(python)
    }
}
