//! The broker: vhosts, exchanges, bindings, queues, consumers and permissions over an [`engine::Engine`].
//!
//! The engine owns what is in a queue; this crate decides where a message goes, who may do what, and which consumer
//! gets an entry. It is sans-IO: no clock, no threads, no waiting; time is passed in, and a [`Wake`] tells the driver
//! of a connection that [`Link::poll_event`] has something.
//!
//! How a driver runs a [`Link`]: [`Link::handle`] each request, [`Link::flush`] when there is no further one (before
//! it waits for anything), [`Link::poll_event`] until it is empty, write, [`Link::written`].
//!
//! Lock order, outermost first: registry, queue, engine, then outbox, waiters, timers or quotas' buckets (never two of
//! these). No lock is held while something waits.

mod api;
mod arguments;
mod behaviour;
mod broker;
mod bucket;
mod consumer;
mod counters;
mod dead_letter;
mod dedup;
mod definitions;
mod delay;
mod dispatch;
mod exchange;
mod headers;
mod kind;
mod link;
mod mailbox;
mod observe;
mod policies;
mod publish;
mod queue;
mod quotas;
mod record;
mod recovery;
mod refuse;
mod registry;
mod rehearsal;
mod ring;
mod route;
mod take_in;
mod timers;
mod topic;
mod topology;
mod users;
mod waiters;

pub use api::{ConnectionMeta, OpenError, Published, Reply, Settings, Wake};
pub use broker::Broker;
pub use counters::Totals;
pub use link::Link;
pub use observe::{Activity, BindingView, ConnectionView, ConsumerView, ExchangeView, QueueView, UserView};
pub use policies::{PolicyMistake, PolicyView};
pub use quotas::QuotaView;
pub use recovery::queue_names;
pub use rehearsal::Rehearsal;
