//! A small blocking AMQP 0-9-1 client for `publish` and `consume`: one connection, one channel.
//!
//! It speaks to any AMQP 0-9-1 broker. It does not reconnect, does not pipeline and does no TLS: it is for people at a
//! terminal.

use amqp::Amqp091Format;
use model::{Properties, Secret};
use protocol::Format;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
const CHANNEL: u16 = 1;
/// A frame larger than this is not what a broker sends us.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// For connecting and for each answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What went wrong, for the person at the terminal.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// The socket.
    Io(String, io::Error),
    /// The server said no, in its words.
    Refused(String),
    /// The server sent something we cannot read.
    Protocol(&'static str),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(address, error) => write!(f, "{address}: {error}"),
            Self::Refused(text) => write!(f, "the server refused: {text}"),
            Self::Protocol(what) => write!(f, "the server does not speak AMQP 0-9-1 as expected: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// A message that was delivered.
pub(crate) struct Delivered {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
}

/// What became of a published message.
pub(crate) enum Outcome {
    Confirmed,
    /// It reached no queue.
    Unroutable,
    /// The server could not keep it.
    Rejected,
}

/// An open connection with one open channel.
pub(crate) struct AmqpClient {
    address: String,
    stream: TcpStream,
    frame_size_max: u32,
}

struct Method {
    class: u16,
    id: u16,
    arguments: Vec<u8>,
}

impl AmqpClient {
    pub(crate) fn connect(address: &str, vhost: &str, user: &str, password: &Secret) -> Result<Self, ClientError> {
        let fail = |error| ClientError::Io(address.to_owned(), error);
        let stream = TcpStream::connect(address).map_err(fail)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(fail)?;
        stream.set_nodelay(true).map_err(fail)?;
        let mut client = Self { address: address.to_owned(), stream, frame_size_max: 4096 };
        client.send(b"AMQP\x00\x00\x09\x01")?;
        client.expect(10, 10)?;
        let mut start_ok = Writer::default();
        start_ok
            .client_properties()
            .short("PLAIN")
            .long(format!("\0{user}\0{}", password.reveal()).as_bytes())
            .short("en_US");
        client.method(0, 10, 11, &start_ok)?;
        let tune = client.expect(10, 30)?;
        let mut tune = Reader(&tune.arguments);
        let channels_max = tune.u16()?;
        client.frame_size_max = tune.u32()?.clamp(4096, 131_072);
        // No heartbeats: a person may look at the screen for long.
        let mut tune_ok = Writer::default();
        tune_ok.u16(channels_max).u32(client.frame_size_max).u16(0);
        client.method(0, 10, 31, &tune_ok)?;
        let mut open = Writer::default();
        open.short(vhost).short("").u8(0);
        client.method(0, 10, 40, &open)?;
        client.expect(10, 41)?;
        let mut open = Writer::default();
        open.short("");
        client.method(CHANNEL, 20, 10, &open)?;
        client.expect(20, 11)?;
        Ok(client)
    }

    /// Declares a durable queue.
    pub(crate) fn declare(&mut self, queue: &str) -> Result<(), ClientError> {
        let mut declare = Writer::default();
        declare.u16(0).short(queue).u8(0b10).u32(0);
        self.method(CHANNEL, 50, 10, &declare)?;
        self.expect(50, 11).map(|_| ())
    }

    /// Publishes one message and waits for the confirm.
    pub(crate) fn publish(
        &mut self,
        exchange: &str,
        key: &str,
        properties: &Properties,
        body: &[u8],
    ) -> Result<Outcome, ClientError> {
        let mut select = Writer::default();
        select.u8(0);
        self.method(CHANNEL, 85, 10, &select)?;
        self.expect(85, 11)?;
        let mut publish = Writer::default();
        publish.u16(0).short(exchange).short(key).u8(1);
        self.method(CHANNEL, 60, 40, &publish)?;
        let mut header = Writer::default();
        header.u16(60).u16(0).u64(body.len() as u64);
        Amqp091Format.encode(properties, &mut header.0);
        self.frame(HEADER, CHANNEL, &header.0)?;
        for part in body.chunks(self.frame_size_max as usize - 8) {
            self.frame(BODY, CHANNEL, part)?;
        }
        let mut returned = false;
        loop {
            let method = self.next_method()?;
            match (method.class, method.id) {
                (60, 50) => {
                    returned = true;
                    self.content()?;
                }
                (60, 80) if returned => return Ok(Outcome::Unroutable),
                (60, 80) => return Ok(Outcome::Confirmed),
                (60, 120) => return Ok(Outcome::Rejected),
                _ => return Err(ClientError::Protocol("something else than a confirm")),
            }
        }
    }

    /// Starts to consume with manual acknowledgement.
    pub(crate) fn consume(&mut self, queue: &str, prefetch: u16) -> Result<(), ClientError> {
        let mut qos = Writer::default();
        qos.u32(0).u16(prefetch).u8(0);
        self.method(CHANNEL, 60, 10, &qos)?;
        self.expect(60, 11)?;
        let mut consume = Writer::default();
        consume.u16(0).short(queue).short("").u8(0).u32(0);
        self.method(CHANNEL, 60, 20, &consume)?;
        self.expect(60, 21)?;
        // From here on a message may take as long as it likes.
        self.stream.set_read_timeout(None).map_err(|error| ClientError::Io(self.address.clone(), error))
    }

    /// The next delivery.
    pub(crate) fn delivery(&mut self) -> Result<Delivered, ClientError> {
        let method = self.next_method()?;
        match (method.class, method.id) {
            (60, 60) => {}
            (60, 30) => return Err(ClientError::Refused("the queue is gone".to_owned())),
            _ => return Err(ClientError::Protocol("something else than a delivery")),
        }
        let mut arguments = Reader(&method.arguments);
        arguments.short()?;
        let tag = arguments.u64()?;
        let redelivered = arguments.u8()? & 1 != 0;
        let exchange = arguments.short()?;
        let routing_key = arguments.short()?;
        let (properties, body) = self.content()?;
        Ok(Delivered { tag, redelivered, exchange, routing_key, properties, body })
    }

    pub(crate) fn ack(&mut self, tag: u64) -> Result<(), ClientError> {
        let mut ack = Writer::default();
        ack.u64(tag).u8(0);
        self.method(CHANNEL, 60, 80, &ack)
    }

    /// Closes the connection and waits for the answer, so that the server has seen everything before it.
    pub(crate) fn close(mut self) -> Result<(), ClientError> {
        let mut close = Writer::default();
        close.u16(200).short("bye").u16(0).u16(0);
        self.method(0, 10, 50, &close)?;
        loop {
            // Deliveries that were under way come first and go back to their queue.
            let (kind, _, payload) = self.read_frame()?;
            if kind == METHOD && payload.starts_with(&[0, 10, 0, 51]) {
                return Ok(());
            }
        }
    }

    fn content(&mut self) -> Result<(Properties, Vec<u8>), ClientError> {
        let (HEADER, _, header) = self.read_frame()? else {
            return Err(ClientError::Protocol("no content header"));
        };
        let mut reader = Reader(&header);
        reader.u32()?;
        let size = usize::try_from(reader.u64()?).map_err(|_| ClientError::Protocol("a body too large"))?;
        let properties = Amqp091Format.decode(reader.0).map_err(|_| ClientError::Protocol("malformed properties"))?;
        let mut body = Vec::new();
        while body.len() < size {
            let (BODY, _, part) = self.read_frame()? else { return Err(ClientError::Protocol("no content body")) };
            body.extend_from_slice(&part);
        }
        Ok((properties, body))
    }

    fn expect(&mut self, class: u16, id: u16) -> Result<Method, ClientError> {
        let method = self.next_method()?;
        if (method.class, method.id) == (class, id) {
            Ok(method)
        } else {
            Err(ClientError::Protocol("an unexpected method"))
        }
    }

    /// The next method; a close becomes an error with its text.
    fn next_method(&mut self) -> Result<Method, ClientError> {
        loop {
            let (kind, _, payload) = self.read_frame()?;
            if kind == HEARTBEAT {
                continue;
            }
            if kind != METHOD {
                return Err(ClientError::Protocol("content without a method"));
            }
            let mut reader = Reader(&payload);
            let (class, id) = (reader.u16()?, reader.u16()?);
            if matches!((class, id), (10, 50) | (20, 40)) {
                reader.u16()?;
                return Err(ClientError::Refused(reader.short()?));
            }
            // Blocked and unblocked only matter to those who publish for long.
            if !matches!((class, id), (10, 60 | 61)) {
                return Ok(Method { class, id, arguments: reader.0.to_vec() });
            }
        }
    }

    fn method(&mut self, channel: u16, class: u16, id: u16, arguments: &Writer) -> Result<(), ClientError> {
        let mut payload = Writer::default();
        payload.u16(class).u16(id);
        payload.0.extend_from_slice(&arguments.0);
        self.frame(METHOD, channel, &payload.0)
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<(), ClientError> {
        let size = u32::try_from(payload.len()).map_err(|_| ClientError::Protocol("a frame too large"))?;
        let mut frame = Writer::default();
        frame.u8(kind).u16(channel).u32(size);
        frame.0.extend_from_slice(payload);
        frame.u8(FRAME_END);
        self.send(&frame.0)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream.write_all(bytes).map_err(|error| ClientError::Io(self.address.clone(), error))
    }

    fn read_frame(&mut self) -> Result<(u8, u16, Vec<u8>), ClientError> {
        let fail = |error: io::Error| {
            let ended = error.kind() == io::ErrorKind::UnexpectedEof;
            let error = if ended { io::Error::new(error.kind(), "the server closed the connection") } else { error };
            ClientError::Io(self.address.clone(), error)
        };
        let mut head = [0; 7];
        (&self.stream).read_exact(&mut head).map_err(fail)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if size > FRAME_BYTES_MAX {
            return Err(ClientError::Protocol("a frame too large"));
        }
        let mut payload = vec![0; size + 1];
        (&self.stream).read_exact(&mut payload).map_err(fail)?;
        if payload.pop() != Some(FRAME_END) {
            return Err(ClientError::Protocol("a frame without its end"));
        }
        Ok((head[0], u16::from_be_bytes([head[1], head[2]]), payload))
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    /// Who this is, and that it wants to hear why a login fails.
    fn client_properties(&mut self) -> &mut Self {
        let mut capabilities = Self::default();
        capabilities.short("authentication_failure_close").u8(b't').u8(1);
        let mut table = Self::default();
        table.short("product").u8(b'S').long(b"sluicegate");
        table.short("capabilities").u8(b'F').long(&capabilities.0);
        self.long(&table.0)
    }

    fn u8(&mut self, n: u8) -> &mut Self {
        self.0.push(n);
        self
    }

    fn u16(&mut self, n: u16) -> &mut Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn u32(&mut self, n: u32) -> &mut Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    fn u64(&mut self, n: u64) -> &mut Self {
        self.0.extend_from_slice(&n.to_be_bytes());
        self
    }

    /// A short string; what does not fit 255 bytes is cut, and the server will not know the name.
    fn short(&mut self, text: &str) -> &mut Self {
        let bytes = &text.as_bytes()[..text.len().min(255)];
        self.0.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        self.0.extend_from_slice(bytes);
        self
    }

    fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ClientError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(ClientError::Protocol("a method cut short"))?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self) -> Result<u8, ClientError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, ClientError> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, ClientError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, ClientError> {
        self.array().map(u64::from_be_bytes)
    }

    fn short(&mut self) -> Result<String, ClientError> {
        let len = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(len).ok_or(ClientError::Protocol("a method cut short"))?;
        self.0 = rest;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Answers the n-th thing a client sends with the n-th bytes, then closes; returns what it has read.
    fn server(answers: Vec<Vec<u8>>) -> (String, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = Vec::new();
            let mut buffer = [0; 4096];
            for answer in answers {
                let n = stream.read(&mut buffer).unwrap();
                read.extend_from_slice(&buffer[..n]);
                stream.write_all(&answer).unwrap();
            }
            read
        };
        (address, thread::spawn(serve))
    }

    fn method(class: u16, id: u16, arguments: &Writer) -> Vec<u8> {
        let mut frame = Writer::default();
        frame.u8(METHOD).u16(0).u32(u32::try_from(arguments.0.len() + 4).unwrap()).u16(class).u16(id);
        frame.0.extend_from_slice(&arguments.0);
        frame.u8(FRAME_END);
        frame.0
    }

    #[test]
    fn a_refused_login_is_told_in_the_servers_words() {
        let mut start = Writer::default();
        start.u8(0).u8(9).u32(0).long(b"PLAIN").long(b"en_US");
        let mut close = Writer::default();
        close.u16(403).short("ACCESS_REFUSED - Login was refused").u16(0).u16(0);
        let (address, server) = server(vec![method(10, 10, &start), method(10, 50, &close)]);
        let refused = AmqpClient::connect(&address, "/", "u", &Secret::new("wrong".into())).err().unwrap();
        assert_eq!(refused.to_string(), "the server refused: ACCESS_REFUSED - Login was refused");
        let sent = server.join().unwrap();
        let asked = b"\x1cauthentication_failure_closet\x01";
        assert!(sent.windows(asked.len()).any(|w| w == asked), "without it the server says nothing");
    }
}
