//! What the broker's tests share: an engine in memory, a clock that is set, clients written as scripts.

// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]
// A test that cannot set up its world has failed.
#![allow(clippy::unwrap_used)]

pub(crate) mod engine;

use engine::MemoryEngine;
use model::definitions::Definitions;
use model::{
    ChannelId, ConsumerId, Envelope, Message, MessageArena, Mono, Now, Origin, Properties, PublishSeq, Secret, Table,
    Value, Wall,
};
use protocol::{
    BindingRequest, ConsumeRequest, Destination, Event, ExchangeDeclaration, Format, Formats, Login, Malformed,
    Publish, QueueDeclaration, Receipt, Request, Settle, Settlement,
};
use sluicegate_broker::{Broker, ConnectionMeta, Link, Reply, Settings, Wake};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Keeps properties aside and writes their number: the tests are about what is in them, not how they are written.
pub(crate) struct TestFormat;

static KEPT: Mutex<Vec<Properties>> = Mutex::new(Vec::new());

impl Format for TestFormat {
    fn origin(&self) -> Origin {
        Origin::Amqp091
    }

    fn decode(&self, header: &[u8]) -> Result<Properties, Malformed> {
        if header.is_empty() {
            return Ok(Properties::default());
        }
        let at = u32::from_le_bytes(header.try_into().map_err(|_| Malformed)?);
        Ok(KEPT.lock().unwrap()[at as usize].clone())
    }

    fn encode(&self, properties: &Properties, out: &mut Vec<u8>) {
        let mut kept = KEPT.lock().unwrap();
        out.extend_from_slice(&u32::try_from(kept.len()).unwrap().to_le_bytes());
        kept.push(properties.clone());
    }
}

/// Counts wakes.
#[derive(Default)]
pub(crate) struct Bell(pub(crate) AtomicU64);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub(crate) fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1_000), wall: Wall(1_000_000_000_000 + ms) }
}

/// A broker on an engine in memory.
pub(crate) struct World {
    pub(crate) engine: Arc<MemoryEngine>,
    pub(crate) broker: Arc<Broker>,
    pub(crate) now: Now,
}

impl World {
    /// Everything durable at once.
    pub(crate) fn new() -> Self {
        Self::with(MemoryEngine::instant(), &Definitions::default())
    }

    /// Nothing durable until [`World::sync`].
    pub(crate) fn slow() -> Self {
        Self::with(MemoryEngine::default(), &Definitions::default())
    }

    pub(crate) fn with(engine: MemoryEngine, definitions: &Definitions) -> Self {
        let engine = Arc::new(engine);
        let formats = Formats::new(vec![Box::new(TestFormat)]);
        let broker = Broker::open(engine.clone(), formats, definitions, Settings::default(), at(0)).unwrap();
        Self { engine, broker, now: at(0) }
    }

    /// The same data directory in a new process.
    pub(crate) fn restart(self) -> Self {
        Self::with(self.engine.restart(), &Definitions::default())
    }

    pub(crate) fn sync(&self) {
        let (ticket, waiting) = self.engine.make_durable();
        self.broker.on_durable(ticket, self.now);
        for queue in waiting {
            self.broker.on_readable(queue, self.now);
        }
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now = Now { mono: Mono(self.now.mono.0 + ms * 1_000), wall: self.now.wall.after_millis(ms) };
        while self.broker.poll_timeout().is_some_and(|t| t <= self.now.mono) {
            self.broker.handle_timeout(self.now);
        }
    }

    /// A client that is logged in as guest with channel 1 open.
    pub(crate) fn client(&self) -> Client {
        self.client_as("guest", "guest")
    }

    pub(crate) fn client_as(&self, user: &str, password: &str) -> Client {
        let mut client = self.stranger(true);
        let login = Login { user: user.into(), password: Secret::new(password.into()) };
        assert_eq!(client.ask(Request::Authenticate(login)), "authenticated");
        assert_eq!(client.ask(Request::OpenVhost("/".into())), "vhost opened");
        assert_eq!(client.ask(Request::OpenChannel(ChannelId(1))), "channel opened");
        client
    }

    pub(crate) fn stranger(&self, loopback: bool) -> Client {
        let bell = Arc::new(Bell::default());
        let meta = ConnectionMeta { peer: "test".into(), loopback, protocol: "test" };
        Client {
            link: self.broker.connect(meta, bell.clone()),
            bell,
            now: self.now,
            published: 0,
            receipts: Vec::new(),
            bodies: Vec::new(),
        }
    }
}

/// What a message is made of in a test.
#[derive(Clone, Default)]
pub(crate) struct Draft {
    pub(crate) properties: Properties,
    pub(crate) priority: u8,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) persistent: bool,
}

pub(crate) fn message(exchange: &str, key: &str, body: &str, draft: &Draft, now: Now) -> Message {
    let mut header = Vec::new();
    let mut properties = draft.properties.clone();
    if let Some(ms) = draft.ttl_ms {
        properties.expiration = Some(ms.to_string());
    }
    if properties != Properties::default() {
        TestFormat.encode(&properties, &mut header);
    }
    let mut arena = MessageArena::new();
    let mut parts = arena.draft(exchange.as_bytes(), key.as_bytes(), &header, body.len());
    parts.push(body.as_bytes());
    parts.finish(Envelope {
        origin: Origin::Amqp091,
        persistent: draft.persistent,
        priority: draft.priority,
        ttl_ms: draft.ttl_ms,
        received_at: now.wall,
        has_headers: properties.headers.is_some(),
        producer: 0,
    })
}

pub(crate) fn properties(message: &Message) -> Properties {
    TestFormat.decode(message.header()).unwrap()
}

pub(crate) fn table(fields: &[(&str, Value)]) -> Table {
    Table(fields.iter().map(|(n, v)| ((*n).to_owned(), v.clone())).collect())
}

/// A client as a script.
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) bell: Arc<Bell>,
    pub(crate) now: Now,
    pub(crate) published: u64,
    /// Receipts of what was delivered, in order, and the messages.
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) bodies: Vec<Message>,
}

pub(crate) const CH: ChannelId = ChannelId(1);

impl Client {
    /// Asks and tells the answer in words.
    pub(crate) fn ask(&mut self, request: Request) -> String {
        match self.link.handle(request, self.now) {
            Reply::None => String::new(),
            Reply::Now(event) => self.show(event),
            Reply::After(_, event) => format!("later: {}", self.show(event)),
            Reply::Wait(_) => "wait".into(),
        }
    }

    fn show(&mut self, event: Event) -> String {
        let body = |m: &Message| String::from_utf8_lossy(m.body()).into_owned();
        let again = |redelivered: bool| if redelivered { " again" } else { "" };
        match event {
            Event::Authenticated => "authenticated".into(),
            Event::VhostOpened => "vhost opened".into(),
            Event::ChannelOpened(_) => "channel opened".into(),
            Event::QueueDeclared { queue, messages, consumers, .. } => format!("{queue} {messages} {consumers}"),
            Event::QueueDeleted { messages, .. } => format!("deleted {messages}"),
            Event::QueuePurged { messages, .. } => format!("purged {messages}"),
            Event::Refused { refusal, .. } => format!("{:?}: {}", refusal.kind, refusal.text),
            Event::GetEmpty(_) => "empty".into(),
            Event::Got { receipt, message, redelivered, remaining, .. } => {
                let text = format!("got {}{} {remaining}", body(&message), again(redelivered));
                self.receipts.push(receipt);
                self.bodies.push(message);
                text
            }
            Event::Deliver { consumer, receipt, message, redelivered, .. } => {
                let text = format!("{consumer}:{}{}", body(&message), again(redelivered));
                self.receipts.push(receipt);
                self.bodies.push(message);
                text
            }
            Event::Returned(returned) => format!("returned {}", body(&returned.message)),
            Event::Confirmed(c) => {
                let word = if c.accepted { "ack" } else { "nack" };
                format!("{word} {}-{}", c.first, c.last)
            }
            Event::ConsumerLost { consumer, .. } => format!("lost {consumer}"),
            Event::Blocked(why) => format!("blocked {why}"),
            Event::Unblocked => "unblocked".into(),
            other => {
                let name = format!("{other:?}");
                name.split(['(', ' ']).next().unwrap_or_default().to_owned()
            }
        }
    }

    /// Everything there is to tell, separated by commas.
    pub(crate) fn events(&mut self) -> String {
        self.link.flush(self.now);
        let mut all = Vec::new();
        while let Some(event) = self.link.poll_event(self.now) {
            all.push(self.show(event));
        }
        self.link.written(0, self.now);
        while let Some(event) = self.link.poll_event(self.now) {
            all.push(self.show(event));
        }
        all.join(",")
    }

    pub(crate) fn declare(&mut self, queue: &str) -> String {
        self.declare_with(queue, true, &[])
    }

    pub(crate) fn declare_with(&mut self, queue: &str, durable: bool, arguments: &[(&str, Value)]) -> String {
        self.declare_as(queue, |d| {
            d.durable = durable;
            d.arguments = table(arguments);
        })
    }

    pub(crate) fn declare_as(&mut self, queue: &str, change: impl FnOnce(&mut QueueDeclaration)) -> String {
        let mut declaration = QueueDeclaration {
            queue: queue.into(),
            generated: queue.is_empty().then(|| "amq.gen-1".into()),
            passive: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Table::new(),
        };
        change(&mut declaration);
        self.ask(Request::DeclareQueue(CH, declaration))
    }

    pub(crate) fn exchange(&mut self, name: &str, kind: &str) -> String {
        self.exchange_as(name, kind, |_| {})
    }

    pub(crate) fn exchange_as(
        &mut self,
        name: &str,
        kind: &str,
        change: impl FnOnce(&mut ExchangeDeclaration),
    ) -> String {
        let mut declaration = ExchangeDeclaration {
            exchange: name.into(),
            kind: kind.into(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::new(),
        };
        change(&mut declaration);
        self.ask(Request::DeclareExchange(CH, declaration))
    }

    pub(crate) fn delete_exchange(&mut self, name: &str, if_unused: bool) -> String {
        self.ask(Request::DeleteExchange { channel: CH, exchange: name.into(), if_unused })
    }

    pub(crate) fn delete(&mut self, queue: &str, if_unused: bool, if_empty: bool) -> String {
        self.ask(Request::DeleteQueue { channel: CH, queue: queue.into(), if_unused, if_empty })
    }

    pub(crate) fn binding(source: &str, to: &str, key: &str, arguments: &[(&str, Value)]) -> BindingRequest {
        let destination = match to.strip_prefix("exchange ") {
            Some(exchange) => Destination::Exchange(exchange.into()),
            None => Destination::Queue(to.into()),
        };
        BindingRequest { source: source.into(), destination, routing_key: key.into(), arguments: table(arguments) }
    }

    pub(crate) fn bind(&mut self, source: &str, to: &str, key: &str) -> String {
        self.ask(Request::Bind(CH, Self::binding(source, to, key, &[])))
    }

    pub(crate) fn unbind(&mut self, source: &str, to: &str, key: &str) -> String {
        self.ask(Request::Unbind(CH, Self::binding(source, to, key, &[])))
    }

    pub(crate) fn publish(&mut self, exchange: &str, key: &str, body: &str) -> String {
        self.publish_with(exchange, key, body, &Draft::default(), |_| {})
    }

    /// Persistent, with a confirm and mandatory.
    pub(crate) fn publish_safely(&mut self, exchange: &str, key: &str, body: &str) -> String {
        let draft = Draft { persistent: true, ..Draft::default() };
        self.published += 1;
        let seq = PublishSeq(self.published);
        self.publish_with(exchange, key, body, &draft, |p| {
            p.confirm = Some(seq);
            p.mandatory = true;
        })
    }

    pub(crate) fn publish_with(
        &mut self,
        exchange: &str,
        key: &str,
        body: &str,
        draft: &Draft,
        change: impl FnOnce(&mut Publish),
    ) -> String {
        let mut publish = Publish {
            channel: CH,
            message: message(exchange, key, body, draft, self.now),
            extra_keys: Vec::new(),
            mandatory: false,
            confirm: None,
            user_id: None,
        };
        change(&mut publish);
        self.ask(Request::Publish(publish))
    }

    pub(crate) fn consume(&mut self, queue: &str, consumer: u32) -> String {
        self.consume_as(queue, consumer, |_| {})
    }

    pub(crate) fn consume_as(
        &mut self,
        queue: &str,
        consumer: u32,
        change: impl FnOnce(&mut ConsumeRequest),
    ) -> String {
        let mut request = ConsumeRequest {
            queue: queue.into(),
            consumer: ConsumerId(consumer),
            tag: format!("c{consumer}"),
            no_ack: false,
            exclusive: false,
            arguments: Table::new(),
        };
        change(&mut request);
        self.ask(Request::Consume(CH, request))
    }

    pub(crate) fn cancel(&mut self, consumer: u32) -> String {
        self.ask(Request::Cancel { channel: CH, consumer: ConsumerId(consumer) })
    }

    pub(crate) fn qos(&mut self, prefetch: u16, global: bool) {
        let qos = Request::Qos { channel: CH, prefetch, global };
        assert_eq!(self.ask(qos), "QosSet");
    }

    pub(crate) fn get(&mut self, queue: &str) -> String {
        self.ask(Request::Get { channel: CH, queue: queue.into(), no_ack: false })
    }

    /// Gets everything there is, without acknowledgement, as bodies separated by blanks.
    pub(crate) fn take_all(&mut self, queue: &str) -> String {
        let mut all = Vec::new();
        loop {
            let got = self.ask(Request::Get { channel: CH, queue: queue.into(), no_ack: true });
            match got.strip_prefix("got ") {
                Some(rest) => all.push(rest.split(' ').next().unwrap_or_default().to_owned()),
                None => return all.join(" "),
            }
        }
    }

    /// Settles the first `n` unsettled deliveries.
    pub(crate) fn settle(&mut self, n: usize, settlement: Settlement) {
        let receipts = self.receipts.drain(..n).collect();
        let settle = Settle { channel: CH, settlement, receipts };
        assert_eq!(self.ask(Request::Settle(settle)), "");
        self.link.flush(self.now);
    }

    pub(crate) fn ack(&mut self, n: usize) {
        self.settle(n, Settlement::Ack);
    }
}
