//! A blocking AMQP connection with one open channel, and the read buffer its frames are parsed in.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::wire::{
    CHANNEL, Fields, Frame, FrameKind, Method, Output, PROTOCOL_HEADER, WireError, method, request, split_frame,
};
use crate::error::{Context, Error, Result};

/// Offered to the server; it may lower it.
const FRAME_SIZE_MAX: u32 = 128 * 1024;
/// Holds at least one frame of the largest size, and small enough to stay in the L2 cache.
const INPUT_SIZE: usize = 256 * 1024;
/// How long a server may take to answer a request or to take our bytes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one read blocks before the caller may look at the clock.
const READ_TICK: Duration = Duration::from_millis(100);

/// An open connection with channel 1 open.
pub(crate) struct Connection {
    stream: TcpStream,
    input: Input,
}

/// Octets read and not yet parsed.
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    frame_size_max: usize,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// This many octets.
    Octets(usize),
    /// Nothing for 100 ms.
    Nothing,
}

impl Connection {
    /// Connects as guest to vhost `/`, without heartbeats, and opens the channel.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context(format_args!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TICK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let input = Input { bytes: vec![0; INPUT_SIZE], start: 0, end: 0, frame_size_max: FRAME_SIZE_MAX as usize };
        let mut connection = Self { stream, input };
        connection.handshake().context("AMQP handshake")?;
        Ok(connection)
    }

    fn handshake(&mut self) -> Result<()> {
        self.call(PROTOCOL_HEADER, method::CONNECTION_START)?;
        let start_ok = request(0, method::CONNECTION_START_OK, |out| {
            out.empty_table().short_string("PLAIN").long_string(b"\0guest\0guest").short_string("en_US");
        });
        let tune = self.call(&start_ok, method::CONNECTION_TUNE)?;
        let mut fields = Fields(&tune);
        let mut tuned = || -> std::result::Result<_, WireError> { Ok((fields.short()?, fields.long()?)) };
        let (channel_max, frame_max) = tuned().context("connection.tune")?;
        let frame_max = if frame_max == 0 { FRAME_SIZE_MAX } else { frame_max.min(FRAME_SIZE_MAX) };
        self.input.frame_size_max = frame_max as usize;
        let mut open = Output::default();
        open.method(0, method::CONNECTION_TUNE_OK, |out| {
            out.short(channel_max).long(frame_max).short(0);
        });
        open.method(0, method::CONNECTION_OPEN, |out| {
            out.short_string("/").short_string("").octet(0);
        });
        self.call(&open.0, method::CONNECTION_OPEN_OK)?;
        let open = request(CHANNEL, method::CHANNEL_OPEN, |out| {
            out.short_string("");
        });
        self.call(&open, method::CHANNEL_OPEN_OK)?;
        Ok(())
    }

    /// Sends octets.
    pub(crate) fn send(&mut self, octets: &[u8]) -> Result<()> {
        self.stream.write_all(octets).context("write to the server")
    }

    /// Sends a request and waits for its answer; returns the answer's arguments. Nothing else may arrive meanwhile.
    pub(crate) fn call(&mut self, octets: &[u8], answer: Method) -> Result<Vec<u8>> {
        let mut arguments = Vec::new();
        self.call_all(octets, answer, 1, |fields| {
            arguments = fields.0.to_vec();
            Ok(())
        })?;
        Ok(arguments)
    }

    /// Sends `count` requests at once and waits for as many answers, handed to `each`. Nothing else may arrive meanwhile.
    pub(crate) fn call_all(
        &mut self,
        octets: &[u8],
        answer: Method,
        count: usize,
        each: impl FnMut(Fields<'_>) -> Result<()>,
    ) -> Result<()> {
        self.call_amid(octets, answer, count, each, |frame| Err(unexpected(&frame)))
    }

    /// As [`Self::call_all`], with a handler for the other frames that arrive before the last answer.
    pub(crate) fn call_amid(
        &mut self,
        octets: &[u8],
        answer: Method,
        mut count: usize,
        mut each: impl FnMut(Fields<'_>) -> Result<()>,
        mut other: impl FnMut(Frame<'_>) -> Result<()>,
    ) -> Result<()> {
        self.send(octets)?;
        let mut heard = Instant::now();
        loop {
            self.parse(|frame| {
                let mut fields = Fields(frame.payload);
                if frame.kind != FrameKind::Method || fields.method() != Ok(answer) {
                    return other(frame).map(ControlFlow::Continue);
                }
                each(fields)?;
                count -= 1;
                Ok(if count == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            if count == 0 {
                return Ok(());
            }
            if self.read()? != Arrival::Nothing {
                heard = Instant::now();
            } else if heard.elapsed() > PATIENCE {
                return Err(Error::new(format!("no {answer:?} within {PATIENCE:?}, {count} open")));
            }
        }
    }

    /// Sleeps until `deadline` or until there is something to read; tells which.
    pub(crate) fn wait_readable(&self, deadline: Instant) -> Result<bool> {
        let rest = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: rest.as_secs() as i64, tv_nsec: i64::from(rest.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&timeout)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error).context("wait for the server"),
        }
    }

    /// Messages that lie in `queue`, ready and not yet delivered.
    pub(crate) fn ready_messages(&mut self, queue: &str) -> Result<u64> {
        let passive = request(CHANNEL, method::QUEUE_DECLARE, |out| {
            out.short(0).short_string(queue).octet(1).empty_table();
        });
        let answer = self.call(&passive, method::QUEUE_DECLARE_OK)?;
        let mut fields = Fields(&answer);
        let mut read = || -> std::result::Result<_, WireError> {
            fields.short_string()?;
            fields.long()
        };
        read().map(u64::from).context("queue.declare-ok")
    }

    /// Reads what is there, waiting up to 100 ms for the first octet.
    pub(crate) fn read(&mut self) -> Result<Arrival> {
        match self.stream.read(self.input.space()) {
            Ok(0) => Err(Error::new("the server closed the connection")),
            Ok(count) => {
                self.input.end += count;
                Ok(Arrival::Octets(count))
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                Ok(Arrival::Nothing)
            }
            Err(error) => Err(error).context("read from the server"),
        }
    }

    /// Hands every complete frame to `handle` until it breaks. Heartbeats are dropped.
    #[inline]
    pub(crate) fn parse(&mut self, mut handle: impl FnMut(Frame<'_>) -> Result<ControlFlow<()>>) -> Result<()> {
        let input = &mut self.input;
        loop {
            let unread = &input.bytes[input.start..input.end];
            let Some((frame, size)) = split_frame(unread, input.frame_size_max).context("bad frame")? else {
                return Ok(());
            };
            input.start += size;
            if frame.kind != FrameKind::Heartbeat && handle(frame)?.is_break() {
                return Ok(());
            }
        }
    }

    /// Closes the connection properly, so that an error the server kept for us is seen.
    pub(crate) fn close(mut self) -> Result<()> {
        let close = request(0, method::CONNECTION_CLOSE, |out| {
            out.short(200).short_string("").short(0).short(0);
        });
        self.call(&close, method::CONNECTION_CLOSE_OK)?;
        Ok(())
    }
}

impl Input {
    /// Free space at the end, with what is unread moved to the front if little is left behind it.
    fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.bytes.len() - self.start < self.frame_size_max + INPUT_SIZE / 4 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }
}

/// The error for a frame that has no place here; a close says why.
#[cold]
pub(crate) fn unexpected(frame: &Frame<'_>) -> Error {
    let mut fields = Fields(frame.payload);
    match (frame.kind, fields.method()) {
        (FrameKind::Method, Ok(method::CONNECTION_CLOSE | method::CHANNEL_CLOSE)) => {
            let code = fields.short().unwrap_or_default();
            let text = String::from_utf8_lossy(fields.short_string().unwrap_or_default());
            Error::new(format!("the server closed with {code} {text}"))
        }
        (FrameKind::Method, Ok(method)) => Error::new(format!("unexpected {method:?}")),
        (kind, _) => Error::new(format!("unexpected {kind:?} frame")),
    }
}
