//! From the protocol header to `connection.open` (§2.2.4 and §4.2.2), with the mechanisms PLAIN and AMQPLAIN.

use super::step::Then;
use super::{Connection, Phase};
use crate::error::{Code, Violation};
use crate::wire::{MethodId, encode, table};
use model::limits::{AMQP_FRAME_SIZE_MIN, AMQP_LOGIN_REFUSED_DELAY_MS};
use model::{ChannelId, Mono, Now, Secret, Table, Value};
use protocol::{Login, Outgoing, Refusal, RefusalKind, Request};
use std::time::Duration;

const HEADER_0_9_1: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// 0-9, which differs in nothing that matters here.
const HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

const MECHANISMS: &str = "PLAIN AMQPLAIN";

const START_OK: MethodId = MethodId(10, 11);
const TUNE_OK: MethodId = MethodId(10, 31);
const OPEN: MethodId = MethodId(10, 40);

/// What we can do beyond the standard. Clients look here.
const CAPABILITIES: &[&str] = &[
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
];

/// What the client said about itself.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// `connection_name`, else `product`.
    pub(super) name: Option<String>,
    /// It wants `basic.cancel` when a consumer ends on our side.
    pub(super) hears_cancel: bool,
    /// It wants `connection.blocked` and `connection.unblocked`.
    pub(super) hears_blocked: bool,
    /// It wants `connection.close` when login fails.
    hears_login_refused: bool,
    mechanism: &'static str,
}

impl Connection {
    pub(super) fn on_protocol_header(&mut self, header: [u8; 8], out: &mut Outgoing) {
        if header == HEADER_0_9_1 || header == HEADER_0_9 {
            self.phase = Phase::StartOk;
            let s = &self.settings;
            let properties = encode::server_properties(
                &[
                    ("product", s.product.clone()),
                    ("version", s.version.clone()),
                    ("cluster_name", s.cluster_name.clone()),
                    ("platform", "Rust".into()),
                    ("copyright", "Copyright (c) the Sluicegate authors. Licensed under the Apache License 2.0".into()),
                    ("information", "AMQP 0-9-1 as RabbitMQ speaks it".into()),
                ],
                CAPABILITIES,
            );
            encode::start(out, &properties, MECHANISMS);
            return;
        }
        out.buffer().extend_from_slice(&HEADER_0_9_1);
        let what = match &header {
            [b'A', b'M', b'Q', b'P', 0 | 3, 1, 0, 0] => "it speaks AMQP 1.0, this is AMQP 0-9-1",
            [b'A', b'M', b'Q', b'P', ..] => "it speaks another version of AMQP than 0-9-1",
            [0x16, 3, ..] => "it speaks TLS, this listener does not",
            [b'G', b'E', b'T', b' ', ..]
            | [b'P', b'O', b'S', b'T', b' ', ..]
            | [b'P', b'U', b'T', b' ', ..]
            | [b'H', b'E', b'A', b'D', b' ', ..]
            | [b'P', b'R', b'I', b' ', ..]
            | [b'D', b'E', b'L', b'E', b'T', b'E', b' ', ..]
            | [b'O', b'P', b'T', b'I', b'O', b'N', b'S', b' '] => "it speaks HTTP, this is an AMQP port",
            _ => "it does not speak AMQP",
        };
        self.drop_peer(what);
    }

    pub(super) fn on_start_ok(
        &mut self,
        properties: &Table,
        mechanism: &str,
        response: &[u8],
    ) -> Result<(), Violation> {
        self.client = client(properties);
        let login = match mechanism {
            "PLAIN" => {
                self.client.mechanism = "PLAIN";
                plain(response)
            }
            "AMQPLAIN" => {
                self.client.mechanism = "AMQPLAIN";
                amqplain(response)
            }
            other => {
                return Err(Violation::new(
                    Code::CommandInvalid,
                    START_OK,
                    format!("unknown authentication mechanism '{other}'"),
                ));
            }
        };
        let login = login.ok_or_else(|| {
            Violation::new(Code::SyntaxError, START_OK, format!("the response is none of mechanism {mechanism}"))
        })?;
        self.user = Some(login.user.clone());
        self.phase = Phase::TuneOk;
        let request = Request::Authenticate(login);
        self.ask(ChannelId::CONNECTION, START_OK, Then::Tune, request);
        Ok(())
    }

    pub(super) fn on_tune_ok(
        &mut self,
        channels_max: u16,
        frame_size_max: u32,
        heartbeat_seconds: u16,
        now: Now,
    ) -> Result<(), Violation> {
        let s = &self.settings;
        let (frame_min, frame_max) = (AMQP_FRAME_SIZE_MIN, s.frame_size_max);
        let channel_max = u32::from(s.channels_max);
        negotiated("frame_max", frame_size_max, frame_min, frame_max)?;
        negotiated("channel_max", channels_max.into(), 1, channel_max)?;
        self.frame_size_max = frame_size_max;
        self.channels_max = channels_max;
        self.heartbeat.start(heartbeat_seconds, now.mono);
        self.phase = Phase::Open;
        Ok(())
    }

    pub(super) fn on_open(&mut self, vhost: &str) {
        self.vhost = Some(vhost.to_owned());
        self.phase = Phase::Running;
        let request = Request::OpenVhost(vhost.to_owned());
        self.ask(ChannelId::CONNECTION, OPEN, Then::ConnectionOpenOk, request);
    }

    /// Login failed. A client that cannot be told is left waiting for a moment, which slows guessing down.
    pub(super) fn on_login_refused(&mut self, refusal: Refusal, now: Mono, out: &mut Outgoing) {
        let text = if refusal.kind == RefusalKind::LoginRefused {
            format!(
                "Login was refused using authentication mechanism {}. For details see the broker logfile.",
                self.client.mechanism
            )
        } else {
            refusal.text.clone()
        };
        if self.client.hears_login_refused || refusal.kind != RefusalKind::LoginRefused {
            let violation = Violation::new(refusal.kind.into(), MethodId::NONE, text);
            self.close_connection(&violation, now, out);
        } else {
            self.end();
            self.phase = Phase::Delay;
            self.deadline = Some(now.after(Duration::from_millis(AMQP_LOGIN_REFUSED_DELAY_MS)));
        }
        // For the log: who, and the broker's own words.
        let user = self.user.take().unwrap_or_default();
        self.failure = Some(format!("login of user '{user}' refused: {}", refusal.text).into());
    }
}

fn client(properties: &Table) -> Client {
    let capability = |name| match properties.get("capabilities") {
        Some(Value::Table(list)) => matches!(list.get(name), Some(Value::Bool(true))),
        _ => false,
    };
    let text = |name| properties.get(name).and_then(Value::as_str);
    Client {
        name: text("connection_name").or_else(|| text("product")).map(str::to_owned),
        hears_cancel: capability("consumer_cancel_notify"),
        hears_blocked: capability("connection.blocked"),
        hears_login_refused: capability("authentication_failure_close"),
        mechanism: "",
    }
}

/// `authzid NUL user NUL password` (RFC 4616); the first is ignored.
fn plain(response: &[u8]) -> Option<Login> {
    let mut parts = response.splitn(3, |b| *b == 0).skip(1);
    login(parts.next()?, parts.next()?)
}

/// A table without its length, with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<Login> {
    let table = table::decode(response).ok()?;
    let (Value::Text(user), Value::Text(password)) = (table.get("LOGIN")?, table.get("PASSWORD")?) else {
        return None;
    };
    login(user, password)
}

fn login(user: &[u8], password: &[u8]) -> Option<Login> {
    Some(Login {
        user: std::str::from_utf8(user).ok()?.to_owned(),
        password: Secret::new(std::str::from_utf8(password).ok()?.to_owned()),
    })
}

/// The client's value must be within the server's. 0 means no limit, which is more than any.
fn negotiated(name: &str, value: u32, min: u32, max: u32) -> Result<(), Violation> {
    let (word, bound, limit) = if value != 0 && value < min {
        ("lower", "minimum", min)
    } else if value == 0 || value > max {
        ("higher", "maximum", max)
    } else {
        return Ok(());
    };
    Err(Violation::new(
        Code::NotAllowed,
        TUNE_OK,
        format!("negotiated {name} = {value} is {word} than the {bound} allowed value ({limit})"),
    ))
}
