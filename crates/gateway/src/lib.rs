//! The API gateway: from entities to an answer, without a socket.
//!
//! | module | what |
//! |---|---|
//! | [`entity`] | services, routes, consumers and plugins as plain data |
//! | [`convert`] | from records of the crate `entities` to those, and what is refused |
//! | [`router`] | which route takes a request |
//! | `chain` | which configuration of each plugin runs |
//! | [`Snapshot`] | all of that compiled, immutable, swapped whole |
//! | [`tls`] | certificates, parsed, and which is shown for which server name |
//! | [`balancer`] | upstreams: which address a request goes to, health, breakers, retries |
//! | [`stream`] | connections that are carried without a look at what is in them |
//! | [`Exchange`] | one request's life as steps that the owner of the sockets performs |
//! | [`Mirror`], `split` | copies of requests for another service, services that share a route's requests |
//! | [`uri`], `forward`, `error` | paths, headers and error bodies, as Kong has them |
//! | [`stats`], [`Reason`], [`AccessLog`] | what was counted, why a request failed, its line of log |
//!
//! Invariants: a request sees one snapshot from beginning to end. What matched is what the upstream gets: paths are
//! matched and sent in one normal form. It does no IO; upstreams are named, not connected to.

mod access_log;
pub mod balancer;
mod budget;
mod chain;
pub mod convert;
mod decision;
pub mod entity;
mod error;
mod exchange;
mod forward;
mod gateway;
mod grpc;
mod mirror;
mod proxying;
pub mod real_ip;
mod reason;
pub mod router;
mod shared;
mod snapshot;
mod split;
pub mod stats;
pub mod stream;
pub mod tls;
pub mod uri;

pub use access_log::AccessLog;
pub use budget::{BodyBudget, BodyRoom};
pub use decision::{BodyFailure, Datagrams, Decision, Lost, Next, Plan, Transferred, UpstreamFailure};
pub use exchange::Exchange;
pub use forward::PRODUCT;
pub use gateway::{Gateway, Telling};
pub use mirror::{Mirror, Mirrors};
pub use reason::Reason;
pub use snapshot::{BuildError, RouteChange, RouteView, Snapshot, Upstream};
