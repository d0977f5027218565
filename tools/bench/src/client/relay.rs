//! A relay that speaks just enough AMQP for the generator: the other end in the generator's own tests.
//!
//! What a publisher sends is written to the queue's consumer at once, or kept until there is one, and confirmed. It can be
//! told to lose, double or swap one message or to confirm one twice, so that the tests show the generator notices.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::{CHANNEL, Fields, FrameKind, Method, Output, PROTOCOL_HEADER, method, request, split_frame};

/// What the relay does wrong, to the message at this position (from 0) of all that are published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Does not deliver it, but confirms it.
    Lose(u64),
    /// Delivers it twice.
    Duplicate(u64),
    /// Delivers it after its successor.
    Swap(u64),
    /// Confirms it twice.
    ConfirmTwice(u64),
    /// Delivers its body with a flipped bit.
    Damage(u64),
    /// Delivers it from the queue that was declared last.
    Misroute(u64),
}

/// Starts a relay; its threads end with their connections.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let broker = Arc::new(Mutex::new(Broker { fault, ..Broker::default() }));
    thread::spawn(move || {
        for (id, stream) in listener.incoming().enumerate() {
            let peer = Peer::new(id, stream.unwrap(), Arc::clone(&broker));
            thread::spawn(move || peer.serve());
        }
    });
    address
}

/// What all connections share.
#[derive(Default)]
struct Broker {
    fault: Fault,
    published: u64,
    swapped: Option<(String, Vec<u8>)>,
    queues: HashMap<String, Queue>,
    last_declared: String,
    /// The queues bound to each exchange.
    bindings: HashMap<String, Vec<String>>,
    sinks: HashMap<usize, Sink>,
}

#[derive(Default)]
struct Queue {
    kept: Vec<Vec<u8>>,
    /// Connection and consumer tag.
    consumer: Option<(usize, String)>,
}

/// A connection's deliveries.
struct Sink {
    stream: TcpStream,
    tag: u64,
    out: Output,
}

impl Broker {
    fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) {
        let targets = if exchange.is_empty() { vec![key.to_owned()] } else { self.bindings[exchange].clone() };
        let at = self.published;
        self.published += 1;
        for queue in targets {
            match self.fault {
                Fault::Lose(lost) if lost == at => {}
                Fault::Swap(swapped) if swapped == at => self.swapped = Some((queue, body.to_vec())),
                Fault::Misroute(misrouted) if misrouted == at => self.deliver(&self.last_declared.clone(), body),
                Fault::Damage(damaged) if damaged == at => {
                    let mut body = body.to_vec();
                    *body.last_mut().unwrap() ^= 1;
                    self.deliver(&queue, &body);
                }
                fault => {
                    self.deliver(&queue, body);
                    if fault == Fault::Duplicate(at) {
                        self.deliver(&queue, body);
                    }
                    if let Some((queue, swapped)) = self.swapped.take() {
                        self.deliver(&queue, &swapped);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, queue: &str, body: &[u8]) {
        let queue = self.queues.get_mut(queue).unwrap();
        let Some((connection, consumer_tag)) = &queue.consumer else { return queue.kept.push(body.to_vec()) };
        let sink = self.sinks.get_mut(connection).unwrap();
        sink.tag += 1;
        let tag = sink.tag;
        sink.out.method(CHANNEL, method::BASIC_DELIVER, |out| {
            out.short_string(consumer_tag).long_long(tag).octet(0).short_string("").short_string("q");
        });
        sink.out.frame(FrameKind::Header, CHANNEL, |out| {
            out.short(60).short(0).long_long(body.len() as u64).short(0);
        });
        sink.out.frame(FrameKind::Body, CHANNEL, |out| out.0.extend_from_slice(body));
    }

    fn consume(&mut self, connection: usize, stream: &TcpStream, name: &str, consumer_tag: &str) {
        let stream = || stream.try_clone().unwrap();
        self.sinks.entry(connection).or_insert_with(|| Sink { stream: stream(), tag: 0, out: Output::default() });
        let queue = self.queues.get_mut(name).unwrap();
        queue.consumer = Some((connection, consumer_tag.to_owned()));
        for body in std::mem::take(&mut queue.kept) {
            self.deliver(name, &body);
        }
    }

    /// Writes what there is to deliver.
    fn flush(&mut self) {
        for sink in self.sinks.values_mut().filter(|sink| !sink.out.0.is_empty()) {
            // The generator may be gone already, when it is its error that is tested.
            let _ = sink.stream.write_all(&sink.out.0);
            sink.out.0.clear();
        }
    }
}

/// One connection.
struct Peer {
    id: usize,
    stream: TcpStream,
    broker: Arc<Mutex<Broker>>,
    /// Exchange and routing key of the publish whose body is awaited.
    target: (String, String),
    /// Publishes on this connection.
    published: u64,
    confirms: bool,
}

impl Peer {
    fn new(id: usize, stream: TcpStream, broker: Arc<Mutex<Broker>>) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { id, stream, broker, target: Default::default(), published: 0, confirms: false }
    }

    fn serve(mut self) {
        let mut header = [0; PROTOCOL_HEADER.len()];
        self.stream.read_exact(&mut header).unwrap();
        assert_eq!(&header, PROTOCOL_HEADER);
        self.answer(0, method::CONNECTION_START, |out| {
            out.octet(0).octet(9).empty_table().long_string(b"PLAIN").long_string(b"en_US");
        });
        let mut bytes = vec![0; 256 * 1024];
        let mut end = 0;
        loop {
            match self.stream.read(&mut bytes[end..]) {
                Ok(0) | Err(_) => return,
                Ok(count) => end += count,
            }
            let mut start = 0;
            let before = self.published;
            while let Some((frame, size)) = split_frame(&bytes[start..end], 128 * 1024).unwrap() {
                match frame.kind {
                    FrameKind::Method => self.method(frame.payload),
                    FrameKind::Body => self.publish(frame.payload),
                    FrameKind::Header | FrameKind::Heartbeat => {}
                }
                start += size;
            }
            bytes.copy_within(start..end, 0);
            end -= start;
            self.flush(before);
        }
    }

    fn answer(&mut self, channel: u16, method: Method, fields: impl FnOnce(&mut Output)) {
        // As above: it may be gone.
        let _ = self.stream.write_all(&request(channel, method, fields));
    }

    fn method(&mut self, payload: &[u8]) {
        let mut fields = Fields(payload);
        match fields.method().unwrap() {
            method::CONNECTION_START_OK => self.answer(0, method::CONNECTION_TUNE, |out| {
                out.short(2047).long(131_072).short(60);
            }),
            method::CONNECTION_OPEN => self.answer(0, method::CONNECTION_OPEN_OK, |out| {
                out.short_string("");
            }),
            method::CONNECTION_CLOSE => self.answer(0, method::CONNECTION_CLOSE_OK, |_| {}),
            method::CHANNEL_OPEN => self.answer(CHANNEL, method::CHANNEL_OPEN_OK, |out| {
                out.long(0);
            }),
            method::EXCHANGE_DECLARE => self.answer(CHANNEL, method::EXCHANGE_DECLARE_OK, |_| {}),
            method::BASIC_QOS => self.answer(CHANNEL, method::BASIC_QOS_OK, |_| {}),
            method::CONFIRM_SELECT => {
                self.confirms = true;
                self.answer(CHANNEL, method::CONFIRM_SELECT_OK, |_| {});
            }
            method::BASIC_PUBLISH => {
                fields.short().unwrap();
                self.target = (text(&mut fields), text(&mut fields));
            }
            method::CONNECTION_TUNE_OK | method::BASIC_ACK => {}
            other => self.queue_method(other, fields),
        }
    }

    fn queue_method(&mut self, called: Method, mut fields: Fields<'_>) {
        if called == method::BASIC_CANCEL {
            let consumer_tag = text(&mut fields);
            return self.answer(CHANNEL, method::BASIC_CANCEL_OK, |out| {
                out.short_string(&consumer_tag);
            });
        }
        fields.short().unwrap();
        let queue = text(&mut fields);
        let shared = Arc::clone(&self.broker);
        let mut broker = shared.lock().unwrap();
        match called {
            method::QUEUE_DECLARE => {
                let ready = broker.queues.entry(queue.clone()).or_default().kept.len();
                broker.last_declared.clone_from(&queue);
                self.answer(CHANNEL, method::QUEUE_DECLARE_OK, |out| {
                    out.short_string(&queue).long(ready as u32).long(0);
                });
            }
            method::QUEUE_BIND => {
                broker.bindings.entry(text(&mut fields)).or_default().push(queue);
                self.answer(CHANNEL, method::QUEUE_BIND_OK, |_| {});
            }
            method::QUEUE_DELETE => self.answer(CHANNEL, method::QUEUE_DELETE_OK, |out| {
                out.long(0);
            }),
            method::BASIC_CONSUME => {
                let consumer_tag = text(&mut fields);
                self.answer(CHANNEL, method::BASIC_CONSUME_OK, |out| {
                    out.short_string(&consumer_tag);
                });
                broker.consume(self.id, &self.stream, &queue, &consumer_tag);
            }
            other => panic!("the generator does not call {other:?}"),
        }
    }

    fn publish(&mut self, body: &[u8]) {
        self.published += 1;
        let (exchange, key) = &self.target;
        self.broker.lock().unwrap().publish(exchange, key, body);
    }

    /// Delivers what the last read brought, and confirms it.
    fn flush(&mut self, published_before: u64) {
        let fault = {
            let mut broker = self.broker.lock().unwrap();
            broker.flush();
            broker.fault
        };
        let upto = self.published;
        if self.confirms && upto > published_before {
            self.confirm(upto);
        }
        if let Fault::ConfirmTwice(twice) = fault
            && (published_before..upto).contains(&twice)
        {
            self.confirm(upto);
        }
    }

    fn confirm(&mut self, tag: u64) {
        self.answer(CHANNEL, method::BASIC_ACK, |out| {
            out.long_long(tag).octet(1);
        });
    }
}

fn text(fields: &mut Fields<'_>) -> String {
    String::from_utf8(fields.short_string().unwrap().to_vec()).unwrap()
}
