//! A relay that speaks just enough AMQP for the generator: the other end in the generator's own tests.
//!
//! It has no queue: what the publisher sends is written to the consumer at once, and confirmed. It can be told to lose,
//! double or swap one message or to confirm one twice, so that the tests show the generator notices.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::{CHANNEL, Fields, FrameKind, Method, Output, PROTOCOL_HEADER, method, request, split_frame};

/// What the relay does wrong, to the message at this position (from 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
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
}

type Consumer = Arc<Mutex<Option<TcpStream>>>;

/// Starts a relay for one publisher and one consumer; its threads end with their connections.
pub(crate) fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let consumer = Consumer::default();
        for stream in listener.incoming().take(2) {
            let peer = Peer::new(stream.unwrap(), Arc::clone(&consumer), fault);
            thread::spawn(move || peer.serve());
        }
    });
    address
}

struct Peer {
    stream: TcpStream,
    consumer: Consumer,
    fault: Fault,
    published: u64,
    tag: u64,
    confirms: bool,
    swapped: Option<Vec<u8>>,
    deliveries: Output,
}

impl Peer {
    fn new(stream: TcpStream, consumer: Consumer, fault: Fault) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            consumer,
            fault,
            published: 0,
            tag: 0,
            confirms: false,
            swapped: None,
            deliveries: Output::default(),
        }
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
        // The generator may be gone already, when it is its error that is tested.
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
            method::QUEUE_DECLARE => self.answer(CHANNEL, method::QUEUE_DECLARE_OK, |out| {
                out.short_string("q").long(0).long(0);
            }),
            method::QUEUE_DELETE => self.answer(CHANNEL, method::QUEUE_DELETE_OK, |out| {
                out.long(0);
            }),
            method::BASIC_QOS => self.answer(CHANNEL, method::BASIC_QOS_OK, |_| {}),
            method::BASIC_CANCEL => self.answer(CHANNEL, method::BASIC_CANCEL_OK, |out| {
                out.short_string("bench");
            }),
            method::BASIC_CONSUME => {
                *self.consumer.lock().unwrap() = Some(self.stream.try_clone().unwrap());
                self.answer(CHANNEL, method::BASIC_CONSUME_OK, |out| {
                    out.short_string("bench");
                });
            }
            method::CONFIRM_SELECT => {
                self.confirms = true;
                self.answer(CHANNEL, method::CONFIRM_SELECT_OK, |_| {});
            }
            _ => {}
        }
    }

    fn publish(&mut self, body: &[u8]) {
        let at = self.published;
        self.published += 1;
        match self.fault {
            Fault::Lose(lost) if lost == at => {}
            Fault::Swap(swapped) if swapped == at => self.swapped = Some(body.to_vec()),
            Fault::Damage(damaged) if damaged == at => {
                let mut body = body.to_vec();
                *body.last_mut().unwrap() ^= 1;
                self.deliver(&body);
            }
            fault => {
                self.deliver(body);
                if fault == Fault::Duplicate(at) {
                    self.deliver(body);
                }
                if let Some(swapped) = self.swapped.take() {
                    self.deliver(&swapped);
                }
            }
        }
    }

    fn deliver(&mut self, body: &[u8]) {
        self.tag += 1;
        let tag = self.tag;
        self.deliveries.method(CHANNEL, method::BASIC_DELIVER, |out| {
            out.short_string("bench").long_long(tag).octet(0).short_string("").short_string("q");
        });
        self.deliveries.frame(FrameKind::Header, CHANNEL, |out| {
            out.short(60).short(0).long_long(body.len() as u64).short(0);
        });
        self.deliveries.frame(FrameKind::Body, CHANNEL, |out| out.0.extend_from_slice(body));
    }

    /// Writes what the last read brought, and confirms it.
    fn flush(&mut self, published_before: u64) {
        if let Some(consumer) = self.consumer.lock().unwrap().as_mut()
            && !self.deliveries.0.is_empty()
        {
            let _ = consumer.write_all(&self.deliveries.0);
            self.deliveries.0.clear();
        }
        let upto = self.published;
        if self.confirms && upto > published_before {
            self.confirm(upto);
        }
        if let Fault::ConfirmTwice(twice) = self.fault
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
