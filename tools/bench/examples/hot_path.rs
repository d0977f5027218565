//! Instructions a message costs inside the server: the AMQP state machine, the broker and the engine, driven by one
//! thread without sockets, timers or other threads, so that a count of instructions is the same on a busy machine.
//!
//! ```text
//! cargo build --release -p bench --example hot_path
//! valgrind --tool=callgrind --toggle-collect=hot_path::drive target/release/examples/hot_path b 20000 target/hot_path
//! ```
//!
//! prints how many deliveries there were; callgrind says how many instructions they took, without the start and the
//! declarations. The cells are those of the bench, with the batches a busy server sees. Not here: clients, the kernel,
//! the waking of threads.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use broker::{Broker, ConnectionMeta, Link, Reply, Wake};
use engine::{Engine, EngineEvents, Pressure, Ticket};
use model::definitions::Definitions;
use model::{Mono, NameSource, Now, QueueId, Wall};
use protocol::{Connection, Outgoing};
use storage::{Options, RealDisk, Storage};

/// Octets a busy connection reads at a time.
const READ_BYTES: usize = 256 * 1024;
/// Messages a confirmed publisher sends at a time, its window being larger.
const CONFIRMED_BATCH: usize = 100;
/// Messages a consumer acknowledges at a time.
const ACK_BATCH: u64 = 100;
const DELIVER: [u8; 4] = [0, 60, 0, 60];

/// What is driven.
struct Shape {
    body: usize,
    durable: bool,
    lanes: usize,
    /// Of each lane, visited in turn.
    queues: usize,
    /// One publisher to a fanout exchange, a consumer for each lane.
    fanout: bool,
}

fn shape(cell: &str) -> Option<Shape> {
    let lane = Shape { body: 1024, durable: true, lanes: 1, queues: 1, fanout: false };
    Some(match cell {
        "a16" => Shape { body: 16, durable: false, ..lane },
        "a1k" => Shape { durable: false, ..lane },
        "b" => lane,
        "c" => Shape { lanes: 10, ..lane },
        "c10k" => Shape { lanes: 10, queues: 1000, ..lane },
        "f" => Shape { durable: false, lanes: 10, fanout: true, ..lane },
        _ => return None,
    })
}

/// Only the highest ticket matters: the loop below asks for it after each sync.
#[derive(Default)]
struct Announced(AtomicU64);

impl EngineEvents for Announced {
    fn durable(&self, ticket: Ticket) {
        self.0.fetch_max(ticket.0, Relaxed);
    }
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, error: &str) {
        eprintln!("the log failed: {error}");
    }
}

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

/// A connection and its link, driven as the server's driver does it.
struct Peer {
    connection: Box<dyn Connection>,
    link: Link,
    outgoing: Outgoing,
    now: Now,
}

impl Peer {
    fn new(broker: &Arc<Broker>, seed: u64) -> Self {
        let now = Now { mono: Mono(1), wall: Wall(1_700_000_000_000) };
        let meta = ConnectionMeta { peer: "hot path".into(), loopback: true, protocol: "AMQP 0-9-1" };
        let connection = amqp::Connection::new(Arc::default(), NameSource::new(seed), now);
        let link = broker.connect(meta, Arc::new(Nobody));
        let mut peer = Self { connection: Box::new(connection), link, outgoing: Outgoing::new(), now };
        peer.turn(b"AMQP\0\0\x09\x01");
        let login = [&[0; 4], &short(b"PLAIN")[..], &long(b"\0guest\0guest"), &short(b"en_US")].concat();
        peer.turn(&method(0, [10, 11], &login));
        peer.turn(&method(0, [10, 31], &[0, 10, 0, 2, 0, 0, 0, 0]));
        peer.turn(&method(0, [10, 40], &[&short(b"/")[..], &[0, 0]].concat()));
        peer.turn(&method(1, [20, 10], &[0]));
        peer
    }

    /// One turn: everything read goes to the broker as one batch. Returns what it has to say.
    fn turn(&mut self, input: &[u8]) -> Vec<u8> {
        let (now, out) = (self.now, &mut self.outgoing);
        self.connection.handle_input(input, now, out);
        while let Some(request) = self.connection.poll_request() {
            if let Some(message) = self.connection.upcoming() {
                self.link.expect(message);
            }
            match self.link.handle(request, now) {
                Reply::None => {}
                Reply::Now(event) | Reply::After(_, event) => self.connection.handle_event(event, now, out),
                Reply::Wait(request) => eprintln!("held back: {request:?}"),
            }
        }
        self.link.flush(now);
        while let Some(event) = self.link.poll_event(now) {
            self.connection.handle_event(event, now, out);
        }
        let said = out.buffer().clone();
        let len = out.len();
        out.advance(len);
        self.link.written(0, now);
        said
    }
}

/// A consumer and how far it has acknowledged.
struct Consumer {
    peer: Peer,
    delivered: u64,
    acked: u64,
}

impl Consumer {
    /// Takes what is there, and acknowledges it in batches. Returns whether anything was.
    fn take(&mut self, manual: bool) -> bool {
        let said = self.peer.turn(&[]);
        let mut rest = &said[..];
        while rest.len() > 11 {
            let size = u32::from_be_bytes([rest[3], rest[4], rest[5], rest[6]]) as usize;
            self.delivered += u64::from(rest[0] == 1 && rest[7..11] == DELIVER);
            rest = &rest[size + 8..];
        }
        if manual && self.delivered >= self.acked + ACK_BATCH {
            self.acked = self.delivered;
            let ack = [&self.acked.to_be_bytes()[..], &[1]].concat();
            self.peer.turn(&method(1, [60, 80], &ack));
        }
        !said.is_empty()
    }
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8], text].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn frame(kind: u8, channel: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 0, channel], &long(payload)[..], &[0xce]].concat()
}

fn method(channel: u8, [class, id]: [u8; 2], arguments: &[u8]) -> Vec<u8> {
    frame(1, channel, &[&[0, class, 0, id], arguments].concat())
}

fn publish(exchange: &[u8], queue: &[u8], shape: &Shape) -> Vec<u8> {
    let to = [&[0, 0], &short(exchange)[..], &short(queue), &[0]].concat();
    let properties: &[u8] = if shape.durable { &[0x10, 0, 2] } else { &[0, 0] };
    let header = [&[0, 60, 0, 0], &(shape.body as u64).to_be_bytes()[..], properties].concat();
    [method(1, [60, 40], &to), frame(2, 1, &header), frame(3, 1, &vec![7; shape.body])].concat()
}

/// What each publisher sends, one read after the other, over and over.
fn reads(shape: &Shape, lane: usize) -> Vec<Vec<u8>> {
    let exchange: &[u8] = if shape.fanout { b"fan" } else { b"" };
    let messages: Vec<Vec<u8>> = (0..shape.queues).map(|n| publish(exchange, &name(lane, n), shape)).collect();
    let batch = if shape.durable { CONFIRMED_BATCH } else { READ_BYTES / messages[0].len() };
    let count = (shape.queues / batch).max(1);
    (0..count)
        .map(|read| (0..batch).flat_map(|n| messages[(read * batch + n) % shape.queues].clone()).collect())
        .collect()
}

fn name(lane: usize, queue: usize) -> Vec<u8> {
    format!("bench-{lane}-{queue:05}").into_bytes()
}

fn consumer(broker: &Arc<Broker>, shape: &Shape, lane: usize) -> Consumer {
    let mut peer = Peer::new(broker, lane as u64);
    peer.turn(&method(1, [60, 10], &[0, 0, 0, 0, 0x07, 0xd0, 0]));
    for n in 0..shape.queues {
        let queue = name(lane, n);
        let bits = if shape.durable { 2 } else { 0 };
        peer.turn(&method(1, [50, 10], &[&[0, 0], &short(&queue)[..], &[bits, 0, 0, 0, 0]].concat()));
        if shape.fanout {
            let to = [&[0, 0], &short(&queue)[..], &short(b"fan"), &short(b""), &[0; 5]].concat();
            peer.turn(&method(1, [50, 20], &to));
        }
        let no_ack = if shape.durable { 0 } else { 2 };
        let what = [&[0, 0], &short(&queue)[..], &short(b""), &[no_ack, 0, 0, 0, 0]].concat();
        peer.turn(&method(1, [60, 20], &what));
    }
    Consumer { peer, delivered: 0, acked: 0 }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [cell, messages, dir] = &arguments[..] else { return Err("hot_path CELL MESSAGES DIRECTORY".into()) };
    let shape = shape(cell).ok_or("no such cell")?;
    let messages: u64 = messages.parse()?;
    // Whatever an earlier run left; it may not be there.
    let _ = std::fs::remove_dir_all(dir);
    let announced = Arc::new(Announced::default());
    let disk = Arc::new(RealDisk::open(Path::new(dir))?);
    let storage = Arc::new(Storage::open_by_hand(disk, Options::default(), announced.clone())?);
    let engine: Arc<dyn Engine> = storage.clone();
    let now = Now { mono: Mono(1), wall: Wall(1_700_000_000_000) };
    let formats = protocol::Formats::new(vec![Box::new(amqp::Amqp091Format)]);
    let broker = Broker::open(engine, formats, &Definitions::default(), broker::Settings::default(), now)?;

    let publishers_count = if shape.fanout { 1 } else { shape.lanes };
    let mut publishers: Vec<Peer> = (0..publishers_count).map(|n| Peer::new(&broker, 100 + n as u64)).collect();
    if shape.fanout {
        let exchange = [&[0, 0], &short(b"fan")[..], &short(b"fanout"), &[0; 5]].concat();
        publishers[0].turn(&method(1, [40, 10], &exchange));
    }
    let consumers: Vec<Consumer> = (0..shape.lanes).map(|lane| consumer(&broker, &shape, lane)).collect();
    if shape.durable {
        for publisher in &mut publishers {
            publisher.turn(&method(1, [85, 10], &[0]));
        }
    }
    let sent: Vec<Vec<Vec<u8>>> = (0..publishers_count).map(|lane| reads(&shape, lane)).collect();
    let mut run = Run { broker, storage, announced, publishers, consumers, sent };
    let delivered = drive(&mut run, messages, shape.durable, now);
    writeln!(std::io::stdout(), "{delivered} deliveries")?;
    Ok(())
}

struct Run {
    broker: Arc<Broker>,
    storage: Arc<Storage>,
    announced: Arc<Announced>,
    publishers: Vec<Peer>,
    consumers: Vec<Consumer>,
    sent: Vec<Vec<Vec<u8>>>,
}

/// Publishes, syncs, delivers and acknowledges until at least so many messages were delivered; returns how many.
#[inline(never)]
fn drive(run: &mut Run, messages: u64, manual: bool, now: Now) -> u64 {
    for round in 0.. {
        for (publisher, reads) in run.publishers.iter_mut().zip(&run.sent) {
            publisher.turn(&reads[round % reads.len()]);
        }
        run.storage.sync_step(false);
        run.broker.on_durable(Ticket(run.announced.0.load(Relaxed)), now);
        for publisher in &mut run.publishers {
            publisher.turn(&[]);
        }
        for consumer in &mut run.consumers {
            while consumer.take(manual) {}
        }
        run.storage.keep_step();
        let delivered = run.consumers.iter().map(|c| c.delivered).sum();
        if delivered >= messages {
            return delivered;
        }
    }
    unreachable!("rounds without end")
}
