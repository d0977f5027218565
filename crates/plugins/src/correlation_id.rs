//! `correlation-id`: gives every request a header that names it.
//!
//! A value the client sent is kept. Kong's generators: `uuid#counter` (one UUID per process and a count), `uuid`, and
//! `tracker` (`server ip-port-pid-connection-request-time`).

use http::header::{HeaderName, HeaderValue};
use plugin::{Context, DefaultValue, Field, Flow, Handler, Kind, Plugin, Problem, ResponseHead, Schema, Setup};
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

static SCHEMA: Schema = Schema::of(&[
    Field::with_default(
        "header_name",
        Kind::HeaderName,
        DefaultValue::Text("Kong-Request-ID"),
        "the header that carries the id",
    ),
    Field::with_default(
        "generator",
        Kind::OneOf(&["uuid", "uuid#counter", "tracker"]),
        DefaultValue::Text("uuid#counter"),
        "how ids are made",
    ),
    Field::with_default("echo_downstream", Kind::Bool, DefaultValue::Bool(false), "set the header on the response too"),
]);

/// The plugin: what its counted ids have in common.
#[derive(Debug)]
pub(crate) struct CorrelationId {
    counted: Arc<Counted>,
}

/// The UUID of the process and how many ids were made from it.
#[derive(Debug)]
struct Counted {
    uuid: Uuid,
    count: AtomicU64,
}

impl Default for CorrelationId {
    fn default() -> Self {
        Self { counted: Arc::new(Counted { uuid: Uuid::new_v4(), count: AtomicU64::new(0) }) }
    }
}

#[derive(Clone, Copy, Deserialize)]
enum Generator {
    #[serde(rename = "uuid")]
    Uuid,
    #[serde(rename = "uuid#counter")]
    UuidCounter,
    #[serde(rename = "tracker")]
    Tracker,
}

#[derive(Deserialize)]
struct Config {
    header_name: String,
    generator: Generator,
    echo_downstream: bool,
}

impl Plugin for CorrelationId {
    fn name(&self) -> &'static str {
        "correlation-id"
    }

    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn configure(&self, config: &Value, _: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>> {
        let config: Config = crate::read(config)?;
        let header = config.header_name.parse();
        let header = header.map_err(|_| vec![Problem::of_field("header_name", "expected a header name")])?;
        Ok(Arc::new(Tag {
            header,
            generator: config.generator,
            echo: config.echo_downstream,
            counted: Arc::clone(&self.counted),
        }))
    }
}

struct Tag {
    header: HeaderName,
    generator: Generator,
    echo: bool,
    counted: Arc<Counted>,
}

impl Tag {
    fn generate(&self, cx: &Context) -> HeaderValue {
        // Long enough for every form: an IPv6 address and five numbers.
        let mut text = [0; 192];
        let mut rest = &mut text[..];
        let written = match self.generator {
            Generator::Uuid => write!(rest, "{}", random_uuid()),
            Generator::UuidCounter => {
                let n = self.counted.count.fetch_add(1, Ordering::Relaxed) + 1;
                write!(rest, "{}#{n}", self.counted.uuid)
            }
            Generator::Tracker => {
                let local = cx.connection.local;
                let (seconds, millis) = (cx.now.wall.seconds(), cx.now.wall.0 % 1000);
                write!(
                    rest,
                    "{}-{}-{}-{}-{}-{seconds}.{millis:03}",
                    local.ip().to_canonical(),
                    local.port(),
                    std::process::id(),
                    cx.connection.serial,
                    cx.request_number
                )
            }
        };
        debug_assert!(written.is_ok(), "an id fits its buffer");
        let unused = rest.len();
        let len = text.len() - unused;
        HeaderValue::from_bytes(&text[..len]).expect("digits, letters and punctuation are a header value")
    }
}

/// A version 4 UUID. The system's random numbers are taken in larger portions, because asking for them is a system call.
fn random_uuid() -> Uuid {
    const PORTION: usize = 2048;
    thread_local! {
        static BUFFERED: RefCell<([u8; PORTION], usize)> = const { RefCell::new(([0; PORTION], PORTION)) };
    }
    let bytes = BUFFERED.with_borrow_mut(|(portion, used)| {
        if *used == PORTION {
            getrandom::fill(portion).ok()?;
            *used = 0;
        }
        let bytes: [u8; 16] = portion[*used..*used + 16].try_into().expect("portions are whole ids");
        *used += 16;
        Some(bytes)
    });
    // Without random numbers from the system there are none from anywhere else either; the crate says so by a panic.
    bytes.map_or_else(Uuid::new_v4, |bytes| uuid::Builder::from_random_bytes(bytes).into_uuid())
}

impl Handler for Tag {
    fn access(&self, cx: &mut Context) -> Flow {
        let value = match cx.request.headers.get(&self.header) {
            Some(value) => value.clone(),
            None => {
                let value = self.generate(cx);
                cx.request.headers.insert(self.header.clone(), value.clone());
                value
            }
        };
        cx.correlation_id = Some(value);
        Flow::Continue
    }

    fn header_filter(&self, cx: &mut Context, _: &mut ResponseHead<'_>) {
        // Without an access phase (no route) the client's own value is echoed.
        if self.echo
            && let Some(value) = cx.correlation_id.as_ref().or_else(|| cx.request.headers.get(&self.header))
        {
            cx.response_headers.put(&self.header, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{handler, header, outcome, problems, request};
    use model::FieldLines;
    use serde_json::json;

    /// The id a request gets, and the one its response gets.
    fn tag(handler: &dyn Handler, name: &str, sent: &[(&str, &str)]) -> (String, Option<String>) {
        let mut cx = request("GET", "/", sent);
        assert_eq!(outcome(handler.access(&mut cx)), "continue");
        let ((mut head, ()), mut lines) = (http::Response::new(()).into_parts(), FieldLines::default());
        handler.header_filter(&mut cx, &mut ResponseHead::new(&mut head, &mut lines));
        let echoed = cx.response_headers.get(&name.parse().unwrap());
        let echoed = echoed.map(|value| String::from_utf8(value.to_vec()).unwrap());
        (header(&cx, name).to_owned(), echoed)
    }

    #[test]
    fn counted_ids_share_a_uuid_over_configurations() {
        let plugin = CorrelationId::default();
        let (first, echoed) = tag(&*handler(&plugin, &json!({})), "kong-request-id", &[]);
        let (second, _) = tag(&*handler(&plugin, &json!(null)), "kong-request-id", &[]);
        let (uuid, one) = first.split_once('#').unwrap();
        assert_eq!((uuid.len(), one, echoed), (36, "1", None));
        assert_eq!(second, format!("{uuid}#2"));
    }

    #[test]
    fn a_value_the_client_sent_is_kept_and_echoed() {
        let handler = handler(&CorrelationId::default(), &json!({"header_name": "X-Id", "echo_downstream": true}));
        assert_eq!(tag(&*handler, "x-id", &[("X-Id", "mine")]), ("mine".to_owned(), Some("mine".to_owned())));
    }

    #[test]
    fn the_other_generators() {
        let plugin = CorrelationId::default();
        let (uuid, echoed) =
            tag(&*handler(&plugin, &json!({"generator": "uuid", "echo_downstream": true})), "kong-request-id", &[]);
        assert_eq!((uuid.len(), echoed), (36, Some(uuid.clone())));
        let (tracker, _) = tag(&*handler(&plugin, &json!({"generator": "tracker"})), "kong-request-id", &[]);
        assert_eq!(tracker, format!("10.0.0.2-8000-{}-12-3-1772366430.250", std::process::id()));
    }

    #[test]
    fn bad_configurations() {
        let config = json!({"header_name": "a b", "generator": "random", "echo": 1});
        let found = problems(&CorrelationId::default(), &config);
        assert_eq!(
            found,
            [
                "echo: unknown field",
                "header_name: bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'",
                "generator: expected one of: uuid, uuid#counter, tracker"
            ]
        );
    }
}
