//! Where transient messages go when memory is short. Never synced, dropped at every start.

use crate::disk::DiskFile;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub(crate) struct Spill {}

impl Spill {
    /// The file that holds a place, and where in it.
    pub(crate) fn place(&self, _at: u64) -> Option<(Arc<dyn DiskFile>, u64)> {
        None
    }

    /// A message is no longer needed.
    pub(crate) fn free(&mut self, _lsn: u64) {}
}
