//! Kong's declarative format 3.0 (1.1 and 2.1 are read): a tree of entities, nested or by themselves, into a store; and back.
//!
//! ```text
//! tree ── walk: lists of entities, parents before children ── item: ids, references, defaults ── Store
//!     └─ every mistake with its path: Mistakes ── fields() as Kong nests them, flattened() for `?flatten_errors=1`
//! ```
//!
//! `null` says nothing, wherever it stands. References are by id, name or user name. An entity without an id gets one that
//! is derived from what identifies it. `deck`'s `_info` and `_plugin_configs` are understood. Top-level keys that are not
//! of this format are the caller's to read or refuse.

mod export;
mod item;
mod key;
mod mistake;
mod paths;
mod walk;

pub use export::export;
pub use mistake::{Mistake, MistakeKind, Mistakes};
pub use walk::read;

use crate::kind::Kind;
use crate::store::Store;
use plugin::{Id, Segment};
use std::collections::HashMap;

/// Versions of the format that are read.
pub const VERSIONS: [&str; 3] = ["1.1", "2.1", "3.0"];

/// Keys of the format beside the lists of entities.
pub const META_KEYS: [&str; 8] =
    ["_format_version", "_transform", "_comment", "_ignore", "_info", "_workspace", "_plugin_configs", "_konnect"];

/// A tree without mistakes.
#[derive(Clone, Debug)]
pub struct Declared {
    /// What was there before, and the tree's entities.
    pub store: Store,
    /// Where each entity of the tree stands.
    pub places: HashMap<(Kind, Id), Vec<Segment>>,
}
