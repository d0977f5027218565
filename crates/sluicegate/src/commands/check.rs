//! `sluicegate check`: every mistake of a configuration at once.

use super::{Failure, complain, say};
use crate::server::settings::Source;
use std::path::Path;

pub(crate) fn run(path: &Path, json: bool) -> Result<(), Failure> {
    match Source::new(Some(path), None).load() {
        Ok(loaded) => {
            if json {
                let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
                say(&serde_json::json!({ "ok": true, "errors": [], "warnings": warnings }).to_string());
            } else {
                for warning in &loaded.warnings {
                    complain(&format!("warning: {warning}"));
                }
                say(&format!("{} is fine", path.display()));
            }
            Ok(())
        }
        Err(errors) if json => {
            say(&errors.to_json().to_string());
            Err(Failure::new(format!("{} has mistakes", path.display())))
        }
        Err(errors) => Err(Failure::new(errors)),
    }
}
