//! Scripts that run a connection without a socket.
//!
//! A script is its own expectation: the lines that go in are taken from it, the connection is run, and the whole
//! transcript must come out again (`UPDATE_EXPECT=1` writes it). Every script runs twice, once with its client's bytes
//! in whole pieces and once byte by byte; what the server writes must be the same.
//!
//! In: `C>` a frame from the client (consecutive ones arrive together), `E>` an event from the broker, `R>` how the
//! broker replies to the next request (`refuse Kind "text"`, `hold`, `got …`, `empty`), `T>` seconds that pass (`unread`: while
//! the driver does not read),
//! `X>` the server shuts down, `L>` (first of all) from how many bytes on bodies are large, `--` nothing, so that the frames around it arrive apart. Out: `S<` a frame to the client, `B<` a request, `=` a change of status.

pub(crate) mod broker;
pub(crate) mod spec;
pub(crate) mod text;

use broker::Broker;
use expect_test::Expect;
use model::{Mono, NameSource, Now, Wall};
use protocol::{Connection as _, Event, Outgoing, Status};
use sluicegate_amqp::{AmqpSettings, Connection};
use std::io::IoSlice;
use std::sync::Arc;

/// A connection, its fake broker, and what they have said.
pub(crate) struct Runner {
    pub(crate) connection: Connection,
    pub(crate) broker: Broker,
    pub(crate) out: Outgoing,
    pub(crate) transcript: Vec<String>,
    now: Now,
    status: Status,
    kept: Vec<u8>,
    /// Bytes written that are not whole frames yet: there must be none.
    unread: Vec<u8>,
}

impl Runner {
    pub(crate) fn new() -> Self {
        Self::with(AmqpSettings::default())
    }

    fn with(settings: AmqpSettings) -> Self {
        let now = Now { mono: Mono(0), wall: Wall(1_700_000_000_000) };
        let settings = Arc::new(AmqpSettings { version: "1.2.3".into(), ..settings });
        Self {
            connection: Connection::new(settings, NameSource::new(1), now),
            broker: Broker::default(),
            out: Outgoing::new(),
            transcript: Vec::new(),
            now,
            status: Status::Open,
            kept: Vec::new(),
            unread: Vec::new(),
        }
    }

    pub(crate) fn input(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let used = self.connection.handle_input(&self.kept, self.now, &mut self.out);
        self.kept.drain(..used);
        self.settle_down();
    }

    pub(crate) fn connection_is_open(&self) -> bool {
        self.connection.status() == Status::Open
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.connection.handle_event(event, self.now, &mut self.out);
        self.settle_down();
    }

    pub(crate) fn pass_seconds(&mut self, seconds: u64, unread: bool) {
        let until = Mono(self.now.mono.0 + seconds * 1_000_000);
        while let Some(due) = self.connection.poll_timeout().filter(|due| *due <= until) {
            self.now.mono = self.now.mono.max(due);
            if unread {
                self.connection.note_unread(self.now);
            }
            self.connection.handle_timeout(self.now, &mut self.out);
            self.settle_down();
        }
        self.now.mono = until;
    }

    /// What a driver does after every wake-up.
    fn settle_down(&mut self) {
        loop {
            self.read_out();
            if let Some(request) = self.connection.poll_request() {
                let (line, reply) = self.broker.take(request);
                self.transcript.push(format!("B< {line}"));
                if let Some(reply) = reply {
                    self.connection.handle_event(reply, self.now, &mut self.out);
                }
                continue;
            }
            if self.connection.poll_timeout().is_some_and(|due| due <= self.now.mono) {
                self.connection.handle_timeout(self.now, &mut self.out);
                continue;
            }
            if let Some(read) = self.connection.poll_body() {
                self.transcript.push(format!("B< ReadBody at {}", read.at));
            }
            break;
        }
        let status = self.connection.status();
        if status != self.status {
            self.status = status;
            let failure = self.connection.failure().unwrap_or("".into());
            self.transcript.push(format!("= {status:?} {failure}").trim_end().to_owned());
        }
    }

    fn read_out(&mut self) {
        while !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let n = self.out.slices(&mut slices);
            let flat: Vec<u8> = slices[..n].iter().flat_map(|s| s.iter().copied()).collect();
            self.out.advance(flat.len());
            self.unread.extend_from_slice(&flat);
        }
        let mut rest = &self.unread[..];
        while !rest.is_empty() {
            self.transcript.push(format!("S< {}", text::decode(&mut rest)));
        }
        self.unread.clear();
    }

    fn line(&mut self, kind: &str, rest: &str) {
        match kind {
            "E>" => {
                let event = self.broker.event(rest);
                self.event(event);
            }
            "R>" => {
                if let Some(event) = self.broker.instruct(rest) {
                    self.event(event);
                }
            }
            "L>" => {
                let large_body_bytes_min = rest.parse().unwrap();
                *self = Self::with(AmqpSettings { large_body_bytes_min, ..AmqpSettings::default() });
            }
            "T>" => match rest.strip_suffix(" unread") {
                Some(seconds) => self.pass_seconds(seconds.parse().unwrap(), true),
                None => self.pass_seconds(rest.parse().unwrap(), false),
            },
            "X>" => {
                self.connection.shut_down(rest, self.now, &mut self.out);
                self.settle_down();
            }
            other => panic!("a line starts with {other}"),
        }
    }
}

/// Runs the lines of `script` that go in; `byte_by_byte` says how the client's bytes arrive.
pub(crate) fn run(script: &str, byte_by_byte: bool) -> Vec<String> {
    let mut runner = Runner::new();
    let mut bytes = Vec::new();
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        if kind == "C>" {
            runner.transcript.push(line.to_owned());
            bytes.extend(text::encode(rest));
            continue;
        }
        flush(&mut runner, &mut bytes, byte_by_byte);
        if matches!(kind, "E>" | "R>" | "T>" | "X>" | "L>") {
            runner.transcript.push(line.to_owned());
            runner.line(kind, rest);
        }
    }
    flush(&mut runner, &mut bytes, byte_by_byte);
    runner.transcript
}

fn flush(runner: &mut Runner, bytes: &mut Vec<u8>, byte_by_byte: bool) {
    let step = if byte_by_byte { 1 } else { bytes.len().max(1) };
    for piece in bytes.chunks(step) {
        runner.input(piece);
    }
    bytes.clear();
}

/// Runs a script behind `before`, which must have been checked elsewhere, and compares the transcript.
pub(crate) fn check_after(before: &str, script: &Expect) {
    let whole = format!("{before}\n--\n{}", script.data());
    let known = run(before, false).len();
    let transcript = run(&whole, false);
    let text: Vec<&str> = transcript[known..].iter().map(String::as_str).collect();
    script.assert_eq(&format!("{}\n", text.join("\n")));
    // Where the piece is large, an intermediate status may pass unseen.
    let written = |lines: Vec<String>| -> Vec<String> {
        let last = lines.iter().rfind(|l| l.starts_with('=')).cloned();
        let written = lines.into_iter().filter(|l| l.starts_with("S<"));
        written.chain(last).collect()
    };
    assert_eq!(written(transcript), written(run(&whole, true)), "byte by byte");
}

/// Runs a script from the first byte of a connection.
pub(crate) fn check(script: &Expect) {
    check_after("", script);
}

/// A handshake up to an open vhost, by a client that understands everything.
pub(crate) const OPEN: &str = r#"
C> raw "AMQP\0\0\x09\x01"
--
C> 0 connection.start-ok properties={capabilities={consumer_cancel_notify=true, connection.blocked=true, authentication_failure_close=true}, connection_name="test"} mechanism="PLAIN" response="\0guest\0guest" locale="en_US"
--
C> 0 connection.tune-ok channel-max=2047 frame-max=131072
C> 0 connection.open vhost="/"
--
"#;

/// The same, and channel 1 open.
pub(crate) fn channel() -> String {
    format!("{OPEN}C> 1 channel.open\n--\n")
}
