//! The amqp crate.
