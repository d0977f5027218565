//! The API gateway: from entities to an answer, without a socket.

pub mod entity;
pub mod router;
pub mod uri;
