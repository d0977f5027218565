//! From bytes to frames to what they mean in the connection's phase.

use super::channel::{Channel, State};
use super::content::Lent;
use super::step::{Step, Tell};
use super::{Connection, Phase};
use crate::error::{Code, Violation};
use crate::wire::frame::{self, BODY, Frame, HEADER, HEARTBEAT, METHOD};
use crate::wire::method::{self, ChannelMethod, ConnectionMethod};
use crate::wire::reader::Reader;
use crate::wire::{MethodId, encode};
use model::{ChannelId, Now};
use protocol::{Outgoing, Request};

impl Connection {
    /// Takes in all whole frames and returns how many bytes that was.
    pub(super) fn take_in(&mut self, input: &[u8], now: Now, out: &mut Outgoing) -> usize {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.phase {
                Phase::Closed | Phase::Delay => return input.len(),
                _ if self.desynced => return input.len(),
                Phase::Header => {
                    let Some((header, _)) = rest.split_first_chunk() else {
                        return used;
                    };
                    used += header.len();
                    self.on_protocol_header(*header, out);
                }
                _ if matches!(self.steps.back(), Some(Step::ConnectionCloseOk)) => {
                    return input.len();
                }
                _ => match frame::first(rest, self.frame_size_max) {
                    Ok(None) => return used,
                    Ok(Some(frame)) => {
                        used += frame.size();
                        self.on_frame(&frame, now, out);
                    }
                    Err(error) => {
                        self.desynced = true;
                        if self.obeys() {
                            self.violate(ChannelId::CONNECTION, error.into());
                        }
                    }
                },
            }
        }
    }

    /// Whether frames have their meaning.
    fn obeys(&self) -> bool {
        match self.phase {
            Phase::Header | Phase::StartOk | Phase::TuneOk | Phase::Open | Phase::Running => true,
            Phase::Leaving | Phase::Failing | Phase::Closing | Phase::Delay | Phase::Closed => false,
        }
    }

    fn on_frame(&mut self, frame: &Frame<'_>, now: Now, out: &mut Outgoing) {
        let channel = ChannelId(frame.channel);
        if !self.obeys() {
            self.on_frame_while_closing(frame, out);
            return;
        }
        let done = match frame.kind {
            METHOD if channel == ChannelId::CONNECTION => self.on_connection_method(frame, now),
            HEARTBEAT if channel == ChannelId::CONNECTION && frame.payload.is_empty() => Ok(()),
            METHOD | HEADER | BODY if channel != ChannelId::CONNECTION && self.phase == Phase::Running => {
                self.on_channel_frame(channel, frame, now)
            }
            METHOD | HEADER | BODY => Err(Violation::unexpected_frame(frame)),
            HEARTBEAT if frame.payload.is_empty() => Err(Violation::unexpected_frame(frame)),
            _ => Err(Violation::unknown_frame(frame)),
        };
        if let Err(violation) = done {
            self.violate(channel, violation);
        }
    }

    /// Only the end of the handshake of closing still counts.
    fn on_frame_while_closing(&mut self, frame: &Frame<'_>, out: &mut Outgoing) {
        if frame.kind != METHOD || frame.channel != 0 {
            return;
        }
        match (method::split(frame.payload), self.phase) {
            (Ok((MethodId(10, 51), _)), Phase::Closing) => self.end(),
            (Ok((MethodId(10, 50), _)), Phase::Closing) => {
                encode::bare(out, 0, MethodId(10, 51));
                self.end();
            }
            // Both close at once; the answer goes behind our error.
            (Ok((MethodId(10, 50), _)), Phase::Failing) => {
                self.steps.push_back(Step::ConnectionCloseOk);
            }
            _ => {}
        }
    }

    fn on_connection_method(&mut self, frame: &Frame<'_>, now: Now) -> Result<(), Violation> {
        let (id, arguments) = method::split(frame.payload).map_err(|why| Violation::malformed(MethodId::NONE, why))?;
        let method = method::connection(id, arguments)
            .map_err(|why| Violation::malformed(id, why))?
            .ok_or_else(|| self.unexpected_method(id))?;
        match (method, self.phase) {
            (ConnectionMethod::StartOk { properties, mechanism, response }, Phase::StartOk) => {
                self.on_start_ok(&properties, mechanism, response)
            }
            (ConnectionMethod::TuneOk { channels_max, frame_size_max, heartbeat_seconds }, Phase::TuneOk) => {
                self.on_tune_ok(channels_max, frame_size_max, heartbeat_seconds, now)
            }
            (ConnectionMethod::Open { vhost }, Phase::Open) => {
                self.on_open(vhost);
                Ok(())
            }
            (ConnectionMethod::Close { code, text }, _) => {
                if code != 200 && code != 0 {
                    let text = String::from_utf8_lossy(text);
                    self.failure = Some(format!("the client closed with {code}: {text}").into());
                }
                self.phase = Phase::Leaving;
                self.steps.push_back(Step::ConnectionCloseOk);
                Ok(())
            }
            (ConnectionMethod::UpdateSecret, Phase::Running) => {
                Err(Violation::new(Code::NotImplemented, id, "connection.update-secret"))
            }
            _ => Err(self.unexpected_method(id)),
        }
    }

    fn unexpected_method(&self, id: MethodId) -> Violation {
        let state = match self.phase {
            Phase::Header | Phase::StartOk => "starting",
            Phase::TuneOk => "tuning",
            Phase::Open => "opening",
            _ => "running",
        };
        let text = format!("unexpected method in connection state {state}");
        Violation::new(Code::ChannelError, id, text)
    }

    fn on_channel_frame(&mut self, id: ChannelId, frame: &Frame<'_>, now: Now) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(id) else {
            return self.on_new_channel(id, frame);
        };
        match channel.state {
            State::Open => {}
            State::Leaving => return Ok(()),
            State::Failing | State::Closing => {
                self.on_closing_channel(id, frame);
                return Ok(());
            }
        }
        if frame.kind != METHOD {
            let mut lent = Lent {
                arena: &mut self.arena,
                announced: &mut self.announced,
                message_bytes_max: self.settings.message_bytes_max,
                large_body_bytes_min: self.settings.large_body_bytes_min,
                now: now.wall,
                steps: &mut self.steps,
            };
            return channel.content.frame(id, &mut channel.confirms, frame, &mut lent);
        }
        if !channel.content.is_idle() {
            return Err(channel.content.method_instead());
        }
        let (method, arguments) =
            method::split(frame.payload).map_err(|why| Violation::malformed(MethodId::NONE, why))?;
        if method != MethodId::BASIC_PUBLISH {
            let what = decode(method, arguments)?;
            return self.on_channel_method(id, method, what);
        }
        let mut arguments = arguments;
        let publish = method::publish(&mut arguments)
            .and_then(|publish| arguments.finish().map(|()| publish))
            .map_err(|why| Violation::malformed(method, why))?;
        if publish.immediate {
            return Err(Violation::new(Code::NotImplemented, method, "immediate=true"));
        }
        channel.content.start(publish.exchange, publish.routing_key, publish.mandatory);
        Ok(())
    }

    /// A channel that is not there can only be opened.
    fn on_new_channel(&mut self, id: ChannelId, frame: &Frame<'_>) -> Result<(), Violation> {
        let (method, arguments) = match frame.kind {
            METHOD => method::split(frame.payload).map_err(|why| Violation::malformed(MethodId::NONE, why))?,
            _ => {
                return Err(Violation::new(
                    Code::UnexpectedFrame,
                    MethodId::NONE,
                    "expected method frame, got non method frame instead",
                ));
            }
        };
        match decode(method, arguments)? {
            ChannelMethod::ChannelOpen => {}
            // Both sides closed at once; this is the answer to ours, or an echo of it.
            ChannelMethod::ChannelCloseOk => return Ok(()),
            _ => {
                return Err(Violation::new(Code::ChannelError, method, "expected 'channel.open'"));
            }
        }
        let (open, max) = (self.channels.len(), self.channels_max);
        if open >= usize::from(max) {
            return Err(Violation::new(
                Code::NotAllowed,
                MethodId::NONE,
                format!("number of channels opened ({open}) has reached the negotiated channel_max ({max})"),
            ));
        }
        self.channels.put(Channel::new(id, State::Open));
        self.ask(id, method, super::Then::ChannelOpenOk, Request::OpenChannel(id));
        Ok(())
    }

    fn on_closing_channel(&mut self, id: ChannelId, frame: &Frame<'_>) {
        if frame.kind != METHOD {
            return;
        }
        let closing = self.channels.get_mut(id).is_some_and(|c| c.state == State::Closing);
        match method::split(frame.payload) {
            Ok((MethodId(20, 41), _)) if closing => self.channels.remove(id),
            // It closed at the same time; its close-ok to ours still comes.
            Ok((MethodId(20, 40), _)) => self.steps.push_back(Step::Tell(id, Tell::ChannelClose)),
            _ => {}
        }
    }
}

fn decode(id: MethodId, arguments: Reader<'_>) -> Result<ChannelMethod<'_>, Violation> {
    method::channel(id, arguments)
        .map_err(|why| Violation::malformed(id, why))?
        .ok_or_else(|| Violation::new(Code::CommandInvalid, id, "unimplemented method"))
}
