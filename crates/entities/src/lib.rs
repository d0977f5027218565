//! Kong's entities as one table: their fields, rules, references and errors, for the configuration file and the Admin API.
//!
//! ```text
//! Kind      services, routes, …: names, paths, fields, references; Kind::fields() with plugin::schema::describe is /schemas/*
//! Entity    a record that fits its kind, with its origin (file or API)
//! Store     all entities; find, page, children; insert (POST), update (PATCH), upsert (PUT), delete → Change
//! Change    the next store, and what it put and removed
//! declarative  a tree of Kong's file format into a store and back, every mistake with its path
//! Error     Kong's code, name, message and fields; status() and body() are the answer
//! ```
//!
//! Invariants: every reference in a store leads somewhere, every unique value is one entity's, every record has every field
//! of its kind (`null` where it has no value). Time and fresh ids come in with [`Write`]; nothing here does IO. What the
//! gateway can run is not known here: an entity that fits may be one that `gateway` refuses.
//! Reference: Kong 3.9, `db/schema` and `db/errors`.

pub mod declarative;
mod derive;
mod entity;
mod error;
mod fields;
mod kind;
mod pretty;
mod rules;
mod shards;
mod store;
mod syntax;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod violation;
mod x509;

pub use derive::derived_id;
pub use entity::{EXPIRES_MS, Entity, Origin};
pub use error::{Code, Error};
pub use kind::{Kind, OnDelete, REFUSED, Reference, refused};
pub use store::{Change, Difference, Page, PageQuery, Store, Tags, Write};
