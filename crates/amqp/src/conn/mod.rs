//! The server's side of one AMQP 0-9-1 connection, as a state machine.
//!
//! ```text
//! Header → StartOk → TuneOk → Open → Running ─┬→ Failing → Closing → Closed    (a rule was broken)
//!             │ login refused                 ├→ Leaving → Closed              (the client closes)
//!             └→ Delay → Closed               └→ Closing → Closed              (the server closes)
//! ```
//!
//! Frames are parsed ahead of the broker: what they ask becomes a [`Step`], and steps are done strictly in order. A
//! step that needs no broker waits behind those that do; since `poll_request` cannot write, the connection then asks
//! to be woken at once (`poll_timeout`). A publish or settle that is refused must be so before the next request is polled.

mod channel;
mod content;
mod handshake;
mod heartbeat;
mod input;
mod methods;
mod reply;
mod settings;
mod settle;
mod step;
mod streams;
mod tx;
mod unsettled;

pub use settings::AmqpSettings;

use crate::error::{Code, Violation};
use crate::wire::MethodId;
use crate::wire::encode;
use channel::{Channels, State};
use handshake::Client;
use heartbeat::Heartbeat;
use model::limits::{AMQP_CLOSE_TIMEOUT_MS, AMQP_FRAME_SIZE_BEFORE_TUNE, AMQP_HANG_UP_TIMEOUT_MS};
use model::{ChannelId, Message, MessageArena, Mono, NameSource, Now};
use protocol::{BodyRead, ConnectionInfo, Event, Outgoing, Request, Status};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use step::{Reply, Step, Tell, Then};
use streams::Streams;

/// Steps whose memory is kept for the next burst.
const STEPS_KEPT: usize = 256;
/// Steps ahead of the next one that are far enough for memory to come while they are taken, and not so far that it goes again.
const AHEAD: usize = 6;

/// What comes next on the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The protocol header.
    Header,
    /// `connection.start-ok`
    StartOk,
    /// `connection.tune-ok`
    TuneOk,
    /// `connection.open`
    Open,
    /// Anything on channels.
    Running,
    /// The client closed; nothing is read any more, close-ok waits for its turn.
    Leaving,
    /// A rule was broken; nothing is read any more, the error waits for its turn.
    Failing,
    /// `connection.close` was sent; only close and close-ok are read.
    Closing,
    /// Login failed and the client cannot be told; nothing is read.
    Delay,
    /// Over.
    Closed,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Connection {
    settings: Arc<AmqpSettings>,
    names: NameSource,
    phase: Phase,
    /// When the phase must be over: handshake, closing and delay.
    deadline: Option<Mono>,
    steps: VecDeque<Step>,
    /// The request that was handed out and not yet replied to.
    awaiting: Option<Reply>,
    /// The method of the last publish or settle that was handed out, should it be refused.
    last_unanswered: MethodId,
    /// There is a step to do that the driver cannot know of.
    wake: bool,
    /// Input cannot be told into frames any more.
    desynced: bool,
    channels: Channels,
    /// Large bodies that are being sent.
    streams: Streams,
    next_consumer: u32,
    arena: MessageArena,
    /// Bytes of bodies announced and not yet complete.
    announced: usize,
    client: Client,
    user: Option<String>,
    vhost: Option<String>,
    /// Bytes of a frame, both ways.
    frame_size_max: u32,
    channels_max: u16,
    heartbeat: Heartbeat,
    /// The broker is short of something; publishers are not read.
    blocked: bool,
    failure: Option<Cow<'static, str>>,
}

impl Connection {
    /// A connection that was just accepted. `names` makes names of queues and consumers the client leaves to us.
    #[must_use]
    pub fn new(settings: Arc<AmqpSettings>, names: NameSource, now: Now) -> Self {
        let handshake = Duration::from_millis(settings.handshake_timeout_ms);
        Self {
            names,
            phase: Phase::Header,
            deadline: Some(now.mono.after(handshake)),
            steps: VecDeque::new(),
            awaiting: None,
            last_unanswered: MethodId::NONE,
            wake: false,
            desynced: false,
            channels: Channels::default(),
            streams: Streams::default(),
            next_consumer: 0,
            arena: MessageArena::new(),
            announced: 0,
            client: Client::default(),
            user: None,
            vhost: None,
            frame_size_max: AMQP_FRAME_SIZE_BEFORE_TUNE,
            channels_max: settings.channels_max,
            heartbeat: Heartbeat::new(now.mono),
            blocked: false,
            failure: None,
            settings,
        }
    }

    /// Queues a request that is replied to.
    fn ask(&mut self, channel: ChannelId, method: MethodId, then: Then, request: Request) {
        let reply = Reply { channel, method, then };
        self.steps.push_back(Step::Ask(request, reply));
    }

    /// Queues a publish or settle.
    fn ask_without_reply(&mut self, channel: ChannelId, method: MethodId, request: Request) {
        self.ask(channel, method, Then::NoReply, request);
    }

    /// Queues the end of a channel or of the connection, and stops listening to it.
    fn violate(&mut self, channel: ChannelId, violation: Violation) {
        if violation.code.is_hard() || channel == ChannelId::CONNECTION {
            self.phase = Phase::Failing;
            self.steps.push_back(Step::FailConnection(violation));
        } else if let Some(there) = self.channels.get_mut(channel) {
            self.announced -= there.content.abandon();
            there.state = State::Failing;
            self.steps.push_back(Step::FailChannel(channel, violation));
        }
    }

    /// Does the steps at the front that need no broker.
    fn run_steps(&mut self, now: Mono, out: &mut Outgoing) {
        while self.awaiting.is_none() && !matches!(self.steps.front(), None | Some(Step::Ask(..))) {
            match self.steps.pop_front() {
                Some(Step::Tell(channel, tell)) => self.tell(channel, &tell, out),
                Some(Step::FailChannel(channel, violation)) => self.close_channel(channel, &violation, out),
                Some(Step::FailConnection(violation)) => self.close_connection(&violation, now, out),
                Some(Step::ConnectionCloseOk) => {
                    encode::bare(out, 0, MethodId(10, 51));
                    self.end();
                }
                Some(Step::Ask(..)) | None => {}
            }
        }
    }

    fn tell(&mut self, channel: ChannelId, tell: &Tell, out: &mut Outgoing) {
        let c = channel.0;
        let out = self.streams.lane(channel, out);
        match tell {
            Tell::Flow => encode::method(out, c, MethodId(20, 21), |b| b.push(1)),
            Tell::AccessRequest => {
                encode::method(out, c, MethodId(30, 11), |b| b.extend_from_slice(&[0, 1]));
            }
            Tell::ConfirmSelect => encode::bare(out, c, MethodId(85, 11)),
            Tell::ChannelClose => encode::bare(out, c, MethodId(20, 41)),
            Tell::Recover => encode::bare(out, c, MethodId(60, 111)),
            Tell::Cancel(tag) => encode::with_short(out, c, MethodId(60, 31), tag),
        }
    }

    /// Sends `channel.close`, drops what the channel still wanted, and tells the broker to let go of it first of all.
    fn close_channel(&mut self, id: ChannelId, violation: &Violation, out: &mut Outgoing) {
        let Some(channel) = self.channels.get_mut(id) else {
            return;
        };
        self.announced -= channel.content.abandon();
        *channel = channel::Channel::new(id, State::Closing);
        // A close of the client's that crosses ours still gets its answer.
        self.steps.retain(|step| step.channel() != Some(id) || matches!(step, Step::Tell(_, Tell::ChannelClose)));
        let reply = Reply { channel: id, method: violation.method, then: Then::Silent };
        self.steps.push_front(Step::Ask(Request::CloseChannel(id), reply));
        let (code, _) = violation.code.reply();
        let out = self.streams.lane(id, out);
        encode::close(out, id.0, code, &violation.reply_text(), violation.method);
    }

    /// Sends `connection.close` and drops everything; the broker lets go of all when the driver ends.
    fn close_connection(&mut self, violation: &Violation, now: Mono, out: &mut Outgoing) {
        let text = violation.reply_text();
        let (code, _) = violation.code.reply();
        encode::close(out, 0, code, &text, violation.method);
        let crossing = matches!(self.steps.back(), Some(Step::ConnectionCloseOk));
        self.end();
        if crossing {
            encode::bare(out, 0, MethodId(10, 51));
        } else {
            self.phase = Phase::Closing;
            // What cannot be told into frames holds no answer, and who breaks the handshake will hardly give one.
            let hangs_up = self.desynced || self.vhost.is_none();
            let patience_ms = if hangs_up { AMQP_HANG_UP_TIMEOUT_MS } else { AMQP_CLOSE_TIMEOUT_MS };
            self.deadline = Some(now.after(Duration::from_millis(patience_ms)));
        }
        self.failure = Some(text.into());
    }

    /// The broker takes back what a channel has not settled.
    fn forget_unsettled(&mut self, channel: ChannelId) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.unsettled.clear();
        }
    }

    /// Lets go of everything.
    fn end(&mut self) {
        self.phase = Phase::Closed;
        self.deadline = None;
        self.steps = VecDeque::new();
        self.awaiting = None;
        self.wake = false;
        self.channels.clear();
        self.streams.clear();
        self.announced = 0;
        self.heartbeat.stop();
    }

    /// Ends without a word.
    fn drop_peer(&mut self, why: impl Into<Cow<'static, str>>) {
        self.end();
        self.failure = Some(why.into());
    }

    fn on_deadline(&mut self, now: Mono) {
        match self.phase {
            Phase::Closing | Phase::Delay => self.end(),
            _ => {
                let ms = self.settings.handshake_timeout_ms;
                self.drop_peer(format!("the handshake was not done within {ms} ms"));
            }
        }
        self.heartbeat.note_sent(now);
    }
}

impl protocol::Connection for Connection {
    fn handle_input(&mut self, input: &[u8], now: Now, out: &mut Outgoing) -> usize {
        let before = out.len();
        self.wake = false;
        self.heartbeat.note_received(now.mono);
        let used = self.take_in(input, now, out);
        self.run_steps(now.mono, out);
        if out.len() != before {
            self.heartbeat.note_sent(now.mono);
        }
        used
    }

    fn upcoming(&self) -> Option<&Message> {
        match self.steps.get(AHEAD)? {
            Step::Ask(Request::Publish(publish), _) => Some(&publish.message),
            _ => None,
        }
    }

    fn poll_request(&mut self) -> Option<Request> {
        if self.awaiting.is_some() {
            return None;
        }
        let Some(Step::Ask(_, reply)) = self.steps.front() else {
            self.wake = !self.steps.is_empty();
            if self.steps.is_empty() && self.steps.capacity() > STEPS_KEPT {
                self.steps.shrink_to(STEPS_KEPT);
            }
            return None;
        };
        let reply = *reply;
        if reply.then == Then::NoReply {
            self.last_unanswered = reply.method;
        } else {
            self.awaiting = Some(reply);
        }
        let Some(Step::Ask(request, _)) = self.steps.pop_front() else {
            return None;
        };
        if let Request::Recover(channel) = request {
            self.forget_unsettled(channel);
        }
        Some(request)
    }

    fn poll_body(&mut self) -> Option<BodyRead> {
        self.streams.next_read()
    }

    fn is_sending_body(&self) -> bool {
        self.streams.is_busy()
    }

    fn bytes_behind_body(&self) -> usize {
        self.streams.bytes_behind()
    }

    fn handle_event(&mut self, event: Event, now: Now, out: &mut Outgoing) {
        let before = out.len();
        self.on_event(event, now.mono, out);
        self.run_steps(now.mono, out);
        if out.len() != before {
            self.heartbeat.note_sent(now.mono);
        }
    }

    fn handle_timeout(&mut self, now: Now, out: &mut Outgoing) {
        self.wake = false;
        let before = out.len();
        self.run_steps(now.mono, out);
        if self.deadline.is_some_and(|deadline| now.mono >= deadline) {
            self.on_deadline(now.mono);
        }
        if self.heartbeat.peer_is_gone(now.mono) {
            if self.blocked || self.awaiting.is_some() || !self.steps.is_empty() {
                // The driver does not read while we are behind: the silence is ours.
                self.heartbeat.note_received(now.mono);
            } else {
                let seconds = self.heartbeat.seconds();
                self.drop_peer(format!("missed heartbeats from client, timeout: {seconds}s"));
            }
        } else if self.heartbeat.must_send(now.mono) {
            encode::heartbeat(out);
        }
        if out.len() != before {
            self.heartbeat.note_sent(now.mono);
        }
    }

    fn note_unread(&mut self, now: Now) {
        self.heartbeat.note_received(now.mono);
    }

    fn poll_timeout(&self) -> Option<Mono> {
        if self.wake {
            return Some(Mono(0));
        }
        match (self.deadline, self.heartbeat.next()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn shut_down(&mut self, reason: &str, now: Now, out: &mut Outgoing) {
        match self.phase {
            Phase::Closed | Phase::Closing => {}
            Phase::Header | Phase::Delay => self.drop_peer(reason.to_owned()),
            _ => {
                let violation = Violation::new(Code::ConnectionForced, MethodId::NONE, reason.to_owned());
                self.close_connection(&violation, now.mono, out);
                self.heartbeat.note_sent(now.mono);
            }
        }
    }

    fn status(&self) -> Status {
        match self.phase {
            Phase::Closed => Status::Closed,
            Phase::Closing | Phase::Delay => Status::Closing,
            _ => Status::Open,
        }
    }

    fn failure(&self) -> Option<Cow<'_, str>> {
        self.failure.as_deref().map(Cow::Borrowed)
    }

    fn info(&self) -> ConnectionInfo {
        ConnectionInfo {
            protocol: "AMQP 0-9-1",
            user: self.user.clone(),
            vhost: self.vhost.clone(),
            client: self.client.name.clone(),
            channels: self.channels.len(),
        }
    }
}
