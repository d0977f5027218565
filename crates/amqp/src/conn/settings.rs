//! What a listener tells its connections.

use model::limits;

/// Settings of a connection. Limits apply from the first byte.
#[derive(Clone, Debug)]
pub struct AmqpSettings {
    /// `product` of the server's properties.
    pub product: String,
    /// `version` of the server's properties.
    pub version: String,
    /// `cluster_name` of the server's properties.
    pub cluster_name: String,
    /// Bytes of a frame, offered in `connection.tune`. At least `AMQP_FRAME_SIZE_MIN`.
    pub frame_size_max: u32,
    /// Channels, offered in `connection.tune`. At least 1.
    pub channels_max: u16,
    /// Seconds between heartbeats, offered in `connection.tune`; the client's answer wins. 0 offers none.
    pub heartbeat_seconds: u16,
    /// Bytes of a message body.
    pub message_bytes_max: usize,
    /// Bytes from which a body is handed on as it comes instead of being collected.
    pub large_body_bytes_min: usize,
    /// Milliseconds from accept to `connection.open-ok`.
    pub handshake_timeout_ms: u64,
}

impl Default for AmqpSettings {
    fn default() -> Self {
        Self {
            product: "Sluicegate".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            cluster_name: "sluicegate".into(),
            frame_size_max: limits::AMQP_FRAME_SIZE_MAX,
            channels_max: limits::AMQP_CHANNELS_MAX,
            heartbeat_seconds: limits::AMQP_HEARTBEAT_SECONDS,
            message_bytes_max: limits::MESSAGE_BYTES_MAX,
            large_body_bytes_min: limits::LARGE_BODY_BYTES_MIN,
            handshake_timeout_ms: limits::AMQP_HANDSHAKE_TIMEOUT_MS,
        }
    }
}
