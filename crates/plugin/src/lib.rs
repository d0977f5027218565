//! The plugin port: phases, context, configuration schema and the services a plugin may use.

mod id;
mod secret;

pub use id::{Id, NotAnId};
pub use secret::Secret;
