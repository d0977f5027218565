//! The plugin port: what a plugin is told about a request, what it may answer, how its configuration is checked,
//! and the services it may use.
//!
//! A [`Plugin`] is a kind of plugin and lives as long as the process, so it owns what must survive a reload (counters).
//! It makes one [`Handler`] for each of its configurations; handlers belong to one routing snapshot and die with it.
//!
//! Invariants: phases are synchronous and touch no socket, file or clock; what takes time is a future returned as
//! [`Flow::Wait`], the only result that allocates. Kong's `certificate`, `rewrite` and `body_filter` phases
//! come with the first plugin that needs them.

mod context;
mod directory;
mod handler;
mod id;
mod push;
pub mod schema;
mod services;

pub use context::{
    ClientCertificate, Connection, Context, Export, LogRecord, RequestId, RouteInfo, Scheme, ServiceInfo, Source,
    Timing, TlsHandshake,
};
pub use directory::{Consumer, Credential, Directory};
pub use handler::{
    ErrorReply, Flow, Handler, Pending, Plugin, QueueTarget, Registry, Reply, ResponseHead, Setup, Then,
};
pub use id::{Id, NotAnId};
pub use push::{Fed, FedId, Feed, PushServices, SendError, Verdict};
pub use schema::{DefaultValue, Field, Kind, Nulls, Problem, ProblemKind, Schema, Segment, Syntax};
pub use services::{BoxFuture, Publish, PublishError, Published, Services};
