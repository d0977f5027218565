//! Every limit of the product, in one place.

// AMQP 0-9-1.

/// Bytes of a frame, payload and its eight bytes around; what the server offers in `connection.tune`.
pub const AMQP_FRAME_SIZE_MAX: u32 = 131_072;
/// The smallest frame size a client may ask for: the standard's, as RabbitMQ 3.10 has it.
pub const AMQP_FRAME_SIZE_MIN: u32 = 4_096;
/// Bytes of a frame before tuning is done.
pub const AMQP_FRAME_SIZE_BEFORE_TUNE: u32 = 8_192;
/// Channels of a connection, as the server offers them.
pub const AMQP_CHANNELS_MAX: u16 = 2_047;
/// Seconds between heartbeats, as the server offers them.
pub const AMQP_HEARTBEAT_SECONDS: u16 = 60;
/// Milliseconds a client has from accept to `connection.open`.
pub const AMQP_HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// Milliseconds a client has to answer `connection.close` before its socket is closed.
pub const AMQP_CLOSE_TIMEOUT_MS: u64 = 10_000;
/// The same for a client that is not expected to answer: its input is unreadable or its connection was never open.
pub const AMQP_HANG_UP_TIMEOUT_MS: u64 = 1_000;
/// Milliseconds a failed login is left without an answer if the client does not understand one.
pub const AMQP_LOGIN_REFUSED_DELAY_MS: u64 = 3_000;
/// Bytes of bodies a client has announced and not yet sent, on all channels of a connection together, that are collected
/// in memory; what does not fit goes to the engine as it comes, as a large one does.
pub const AMQP_ANNOUNCED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a large body that are handed to the engine at once, but for what the last frame brings beyond it.
pub const AMQP_PIECE_BYTES: usize = 64 * 1024;
/// Nesting of tables and arrays in a field table.
pub const TABLE_DEPTH_MAX: usize = 32;
/// Unsettled deliveries of a channel, with or without a prefetch.
pub const UNSETTLED_PER_CHANNEL_MAX: usize = 1_000_000;
/// Deliveries settled in one transaction of a channel.
pub const TX_SETTLES_MAX: usize = 65_536;
/// Messages published in one transaction of a channel.
pub const TX_MESSAGES_MAX: usize = 65_536;
/// Bytes of messages in the transactions of a connection that are not committed yet, on all channels together.
pub const TX_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Bytes of copies that the transactional channels of a connection keep of unsettled deliveries, to dead-letter what is
/// rejected in the commit's own record; the rest is dead-lettered after it.
pub const TX_KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Consumers of a channel.
pub const CONSUMERS_PER_CHANNEL_MAX: usize = 65_535;

// Messages and queues.

/// Bytes of a message body (RabbitMQ 3.10's default).
pub const MESSAGE_BYTES_MAX: usize = 134_217_728;
/// Bytes of a message body that may be configured (RabbitMQ's own limit).
pub const MESSAGE_BYTES_CEILING: usize = 536_870_912;
/// Bytes from which a body that comes by AMQP goes to a file of its own instead of to memory.
pub const LARGE_BODY_BYTES_MIN: usize = 1024 * 1024;
/// Bytes of a large body that share a checksum and are read at once.
pub const BODY_PIECE_BYTES: usize = 256 * 1024;
/// Bytes of a large body written since it was last synced; a sync of more would keep others waiting.
pub const BODY_UNSYNCED_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of a body that are collected for a push to an HTTP service; a message with a larger one is rejected.
pub const PUSH_BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// Bytes that must be free on the data directory's disk, unless the configuration says otherwise (RabbitMQ's
/// `disk_free_limit`).
pub const DISK_FREE_LIMIT_BYTES: usize = 50_000_000;
/// Bytes of a queue, exchange, routing key or consumer name: AMQP short strings.
pub const NAME_BYTES_MAX: usize = 255;
/// Groups of a queue that take turns (`x-dispatch: fair-by-key`); more keys share them.
pub const FAIR_GROUPS_MAX: u8 = 64;
/// Priorities of a queue (`x-max-priority`).
pub const QUEUE_PRIORITY_MAX: u8 = 255;
/// The longest time to live or expiry, in milliseconds (RabbitMQ: 2^32 - 1).
pub const TTL_MS_MAX: u64 = 4_294_967_295;
/// Dead entries of a queue that wait to be dead-lettered; beyond it the queue stays longer than it may be for a while.
pub const GRAVES_MAX: usize = 16_384;
/// Exchanges visited by one publish.
pub const ROUTE_EXCHANGES_MAX: usize = 1_000;

// The log.

/// Bytes a second that are read to empty sparse files of the log and to put together what is drained together. To this
/// comes, for sparse files, twice what is published.
pub const LOG_MOVE_BYTES_PER_S: u64 = 8 * 1024 * 1024;

// Deduplication.

/// Ids a queue that deduplicates remembers (`x-cache-size`).
pub const DEDUP_WINDOW_MAX: usize = 1_000_000;
/// The same if its declaration does not say.
pub const DEDUP_WINDOW_DEFAULT: usize = 100_000;
/// Ids that all queues together may have declared to remember.
pub const DEDUP_IDS_MAX: usize = 10_000_000;
/// Producers whose sequences a queue remembers; the one that was silent longest is forgotten for another.
pub const DEDUP_PRODUCERS_MAX: usize = 10_000;

// Connections of any protocol.

/// Published messages of a connection that wait for their confirm before it stops being read.
pub const PUBLISH_IN_FLIGHT_MAX: usize = 65_536;
/// Bytes handed to a connection for its consumers and not yet written, after which it gets no more.
pub const OUTBOX_BYTES_MAX: usize = 512 * 1024;
/// Messages handed to a connection for its consumers and not yet written, after which it gets no more.
pub const OUTBOX_MESSAGES_MAX: usize = 2_048;
/// Bytes of a connection's read buffer, if a frame needs so many.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Bytes a connection reads ahead of what it uses, however fast the peer sends. What is read at once is one batch: with
/// four times as much, transient messages of 1 KiB are a tenth faster, for some 3 MiB a busy connection.
pub const READ_AHEAD_BYTES: usize = 64 * 1024;

// HTTP/1.1, both roles (RFC 9112).

/// Bytes of a request or response head, from the first byte to the empty line.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of a head or a trailer section, as Kong reads them.
pub const HTTP_HEADERS_MAX: usize = 100;
/// Bytes of a request target.
pub const HTTP_TARGET_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a method token.
pub const HTTP_METHOD_BYTES_MAX: usize = 32;
/// Bytes of the chunk extensions of one body, all its chunks together.
pub const HTTP_CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a trailer section.
pub const HTTP_TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Bytes of request bodies that are collected at a time, of all connections together; more are answered with 503.
pub const HTTP_COLLECTED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes that a client of HTTP/1 sends ahead while its request is served, after which it is not read and so not heard
/// leaving.
pub const HTTP_READ_AHEAD_BYTES_MAX: usize = 64 * 1024;
/// Interim responses (1xx) before an answer; with more of them there is no answer.
pub const HTTP_INTERIM_RESPONSES_MAX: usize = 16;

/// Ranges of addresses that may be trusted (`trusted_ips`): each is looked at for each request until one fits.
pub const TRUSTED_IPS_MAX: usize = 1_000;
/// Bytes of a PROXY header, extensions included.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 * 1024;

// HTTP/2 to upstreams.

/// Streams of one connection, if the upstream allows as many.
pub const H2_UPSTREAM_STREAMS_MAX: usize = 100;
/// Connections to one target, of each shard; beyond it streams wait for their turn on the emptiest.
pub const H2_UPSTREAM_CONNECTIONS_MAX: usize = 64;

// Upgraded connections.

/// Milliseconds of silence after which an upgraded connection is closed when the server drains.
pub const TUNNEL_DRAIN_IDLE_MS: u64 = 1_000;
/// Milliseconds after which it is closed then, whatever moves.
pub const TUNNEL_DRAIN_MS_MAX: u64 = 5_000;

/// Milliseconds a request to a queue waits while the process before still has the data directory.
pub const TAKE_OVER_WAIT_MS: u64 = 2_000;
/// Such requests that wait; more are answered with 503 at once.
pub const TAKE_OVER_WAITING_MAX: usize = 1_024;
/// Milliseconds that those who keep asking over their connections have, in the process before, to be told that the next one is
/// another process's.
pub const TAKE_OVER_MOVE_MS: u64 = 300;
/// Milliseconds that pushes have to end there.
pub const TAKE_OVER_PUSHES_MS: u64 = 500;
/// Milliseconds that connections which need the data directory have to end there: with what goes before, less than
/// [`TAKE_OVER_WAIT_MS`].
pub const TAKE_OVER_PART_MS: u64 = 1_500;
/// Milliseconds that the data directory may take to be closed there, and to be opened: as long as the longest recovery.
pub const TAKE_OVER_DISK_MS: u64 = 600_000;
/// Bytes of a record that one process hands over to the next: what the Admin API takes, with room to be written otherwise.
pub const HANDED_OVER_BYTES_MAX: u32 = 64 * 1024 * 1024;

// Connections that are not HTTP's (`listen.stream`), and tunnels.

/// Bytes of each direction that were read and that the other side did not take yet; while there are any, no more is read.
pub const RELAY_BUFFER_BYTES: usize = 32 * 1024;
/// Bytes until the end of a TLS ClientHello, records around it included; a longer one is refused.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a datagram that is carried: all that fits into one of IPv4. A longer one (of IPv6) is dropped.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;
/// Sessions of UDP, of all listeners; each has a socket, so there are also no more than half of the files the process may open.
/// Each has a port too, of the 28,232 that Linux gives out: some are left for others, as for questions of DNS. One address (of
/// IPv6: the 64 bits of its network) has at most as many as are left for others.
pub const UDP_SESSIONS_MAX: usize = 16_384;
/// Datagrams of a client that wait for its session to have an upstream; more are dropped.
pub const UDP_SESSION_QUEUE_MAX: usize = 64;
/// Bytes of datagrams of one session that wait; more are dropped. At least one of the longest fits.
pub const UDP_SESSION_QUEUED_BYTES_MAX: usize = 256 * 1024;
/// Bytes of datagrams that wait, of all sessions; more are dropped.
pub const UDP_QUEUED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a session's first datagram that is kept until there is an answer: it can be sent to another address if the
/// first refuses it. A longer one is sent once.
pub const UDP_RESENT_BYTES_MAX: usize = 2 * 1024;

/// Bytes of the access log that wait to be written; lines that come while they do are dropped and counted.
pub const ACCESS_LOG_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

// Upstreams.

/// Slots of a round-robin wheel; where weights ask for more, they are scaled down.
pub const WHEEL_SLOTS_MAX: usize = 65_536;

// Names and addresses (DNS).

/// Names that are remembered (Kong's `dns_cache_size`).
pub const DNS_NAMES_MAX: usize = 10_000;
/// Addresses of a name; more are left out.
pub const DNS_ADDRESSES_MAX: usize = 1_024;
/// Canonical names followed from one name to its addresses.
pub const DNS_CNAMES_MAX: usize = 16;
/// Name servers that are asked.
pub const DNS_SERVERS_MAX: usize = 16;
/// Lookups under way.
pub const DNS_LOOKUPS_MAX: usize = 256;
/// Milliseconds a lookup takes, whatever it has to ask.
pub const DNS_LOOKUP_MS_MAX: u64 = 30_000;
/// Milliseconds a request waits for a newer answer before it uses one that has ended.
pub const DNS_STALE_WAIT_MS: u64 = 500;
/// Seconds an answer is used at least, so that a TTL of 0 does not make a question of each connection.
pub const DNS_TTL_S_MIN: u32 = 1;
/// Seconds an answer is used at most.
pub const DNS_TTL_S_MAX: u32 = 86_400;
/// Bytes read of `/etc/hosts` and of `/etc/resolv.conf`.
pub const DNS_SYSTEM_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

// The router.

/// Bytes of a route's expression.
pub const ROUTE_EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// Parentheses and functions inside each other in an expression.
pub const ROUTE_EXPRESSION_DEPTH_MAX: usize = 64;
/// The highest `priority` of a route with an expression (Kong: 2^46 - 1).
pub const ROUTE_PRIORITY_MAX: u64 = (1 << 46) - 1;
/// Arguments of a query that routes are matched by, as Kong reads them; later ones are not looked at.
pub const HTTP_QUERY_ARGS_MAX: usize = 100;

// The Admin API.

/// Bytes of a request's body (Kong's).
pub const ADMIN_BODY_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Bytes of the bodies of all requests under way; more are answered with 503.
pub const ADMIN_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Arguments of a query or a form (Kong's).
pub const ADMIN_ARGUMENTS_MAX: usize = 1_000;
/// Tokens in the configuration.
pub const ADMIN_TOKENS_MAX: usize = 100;
/// Bytes of a token: what cannot be guessed.
pub const ADMIN_TOKEN_BYTES_MIN: usize = 16;
/// Bytes of a token, as much as a header field can be expected to carry.
pub const ADMIN_TOKEN_BYTES_MAX: usize = 1_024;

// Catalogues of services.

/// Bytes of a catalogue's answer; a longer one counts as none.
pub const CATALOGUE_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Instances of one service in a catalogue; an answer with more counts as none.
pub const CATALOGUE_INSTANCES_MAX: usize = 4_096;

// Copies of requests, and services that share them.

/// Services beside its own that share a route's requests.
pub const SPLIT_SERVICES_MAX: usize = 16;
/// Copies of requests under way; while there are so many, no more are made.
pub const MIRRORS_MAX: usize = 1_024;
/// Bytes of a body that is copied; the copy of a request with a longer one is given up.
pub const MIRROR_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of all copied bodies together.
pub const MIRROR_BODIES_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an answer to a copy that are read away, so that its connection can be used again.
pub const MIRROR_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Time for a copy and its answer.
pub const MIRROR_MS_MAX: u64 = 60_000;

// The broker's topology.

/// Queues of the process.
pub const QUEUES_MAX: usize = 1_000_000;
/// Exchanges of the process, beside those every vhost has.
pub const EXCHANGES_MAX: usize = 100_000;
/// Bindings of the process.
pub const BINDINGS_MAX: usize = 2_000_000;

/// Messages a second, and at once, in a rate quota.
pub const QUOTA_RATE_MAX: u32 = 1_000_000_000;
/// Rate quotas in the configuration: each is looked at for each name there is.
pub const QUOTAS_MAX: usize = 1_000;

// Entities of the gateway.

/// Entities of a page of the Admin API, as in Kong.
pub const ADMIN_PAGE_ENTITIES_MAX: usize = 1_000;

/// Items of a list, a set or a map in an entity or a plugin's configuration.
pub const ENTITY_ITEMS_MAX: usize = 10_000;
/// Problems told of one entity: whoever has more has more to do first.
pub const ENTITY_PROBLEMS_MAX: usize = 1_000;
/// Mistakes told of one declarative configuration.
pub const DECLARATIVE_MISTAKES_MAX: usize = 10_000;
