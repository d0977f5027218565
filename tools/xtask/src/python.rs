//! The Python environment of the real-client tests: one virtual environment at the root, from pinned requirements.

use crate::process::{Failure, Step, root};

const REQUIREMENTS: &str = "tools/conformance/requirements.txt";

/// The interpreter of the environment, made or brought up to date if needed.
pub(crate) fn interpreter() -> Result<String, Failure> {
    let wanted = std::fs::read_to_string(root().join(REQUIREMENTS))
        .map_err(|error| Failure::new(format!("{REQUIREMENTS}: {error}")))?;
    let stamp = root().join(".venv/requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(".venv/bin/python".to_owned());
    }
    if Step::new("python3").args(["-m", "venv", "--clear", ".venv"]).run().is_err() {
        // Debian ships venv apart from Python.
        Step::new("apt-get").args(["install", "--yes", "--quiet", "python3-venv"]).run()?;
        Step::new("python3").args(["-m", "venv", "--clear", ".venv"]).run()?;
    }
    Step::new(".venv/bin/python")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", REQUIREMENTS])
        .run()?;
    std::fs::write(&stamp, wanted).map_err(|error| Failure::new(format!("{}: {error}", stamp.display())))?;
    Ok(".venv/bin/python".to_owned())
}
