//! Connections and datagrams that are carried without a look at what is in them: Kong's stream routes.
//!
//! | file | what |
//! |---|---|
//! | `routes`  | the routes for connections, compiled into a snapshot |
//! | `session` | one connection, or the datagrams of one client, as steps that the owner of the sockets performs |
//! | `log`     | its line of the access log, shaped as Kong's |
//!
//! Invariants: no IO; a session keeps the route and the service it began with, whatever changes.

mod log;
mod routes;
mod session;

pub use routes::StreamRouteView;
pub(crate) use routes::{StreamRoutes, StreamService, compile};
pub use session::{Client, Session, SessionPlan, SessionStep};
