//! A plugin and its phases.

use crate::context::{Context, LogRecord};
use crate::directory::Directory;
use crate::id::Id;
use crate::schema::{Problem, Schema};
use crate::services::{BoxFuture, Services};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use model::field_lines::NameLengths;
use model::{FieldLines, Principal};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A kind of plugin. Lives as long as the process.
pub trait Plugin: Send + Sync {
    /// The name in configurations, in Kong's spelling.
    fn name(&self) -> &'static str;

    /// The fields of its configuration.
    fn schema(&self) -> &'static Schema;

    /// Makes the handler of one configuration.
    ///
    /// `config` has passed [`Plugin::schema`] and has its defaults; problems left are those only the plugin can see.
    ///
    /// # Errors
    /// All problems of the configuration.
    fn configure(&self, config: &serde_json::Value, setup: &Setup) -> Result<Arc<dyn Handler>, Vec<Problem>>;

    /// Whether a configuration may belong to a consumer. Authentication plugins may not: they find the consumer.
    fn allows_consumer_scope(&self) -> bool {
        true
    }
}

/// What a handler may keep for its life.
pub struct Setup {
    /// Consumers and credentials of the snapshot.
    pub directory: Arc<Directory>,
    /// The program's services.
    pub services: Arc<dyn Services>,
    /// The configuration's identifier: the same after a reload, so what must survive one is kept under it.
    pub config_id: Id,
}

/// A queue to publish to, and as whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueTarget {
    /// User and vhost.
    pub principal: Principal,
    /// Name of the queue.
    pub queue: String,
}

/// One configuration of a plugin, at work. A phase that a plugin does not need does nothing.
pub trait Handler: Send + Sync {
    /// After routing, before the upstream is asked.
    fn access(&self, cx: &mut Context) -> Flow {
        let _ = cx;
        Flow::Continue
    }

    /// Whether this request concerns the handler at all; if not, its access phase is skipped and no body collected.
    fn applies(&self, cx: &Context) -> bool {
        let _ = cx;
        true
    }

    /// If `access` needs the whole body in [`Context::body`]: its limit in bytes. A larger body is answered 413.
    fn body_bytes_max(&self) -> Option<usize> {
        None
    }

    /// When the head of the response is known, from the upstream or from us. Who only sets fields does so in
    /// [`Context::response_headers`].
    fn header_filter(&self, cx: &mut Context, head: &mut ResponseHead<'_>) {
        let _ = (cx, head);
    }

    /// When the response was sent or the client left.
    fn log(&self, cx: &Context, record: &mut LogRecord) {
        let _ = (cx, record);
    }
}

/// The head of a response, as far as it is known.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    parts: &'a mut http::response::Parts,
    lines: &'a mut FieldLines,
}

impl<'a> ResponseHead<'a> {
    /// A head whose fields are those of `parts` and those in `lines`.
    pub const fn new(parts: &'a mut http::response::Parts, lines: &'a mut FieldLines) -> Self {
        Self { parts, lines }
    }

    /// Status and all fields. Makes a map of what an upstream sent, which costs as much as reading its head did.
    pub fn parts(&mut self) -> &mut http::response::Parts {
        std::mem::take(self.lines).move_to(&mut self.parts.headers, NameLengths::default());
        self.parts
    }
}

/// What a phase decided.
pub enum Flow {
    /// Go on with the next plugin.
    Continue,
    /// Answer the client; no further plugin's access phase runs, the response phases do.
    Respond(Reply),
    /// Go on when the future says how.
    Wait(Pending),
}

/// A phase that waits for something.
pub type Pending = BoxFuture<Then>;

/// What to do after waiting.
#[derive(Debug)]
pub enum Then {
    /// Go on with the next plugin.
    Continue,
    /// Answer the client.
    Respond(Reply),
}

/// An answer made by a plugin.
#[derive(Debug)]
pub enum Reply {
    /// As it is.
    Full(Response<Bytes>),
    /// An error whose body the gateway makes in the form the client accepts.
    Error(ErrorReply),
}

/// An error to tell the client.
#[derive(Debug)]
pub struct ErrorReply {
    /// Status.
    pub status: StatusCode,
    /// What happened, for people; Kong's words where Kong has them.
    pub message: Cow<'static, str>,
    /// Further headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Flow {
    /// Answers with an error whose body the gateway makes.
    #[must_use]
    pub const fn error(status: StatusCode, message: &'static str) -> Self {
        Self::Respond(Reply::Error(ErrorReply { status, message: Cow::Borrowed(message), headers: Vec::new() }))
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Respond(reply) => f.debug_tuple("Respond").field(reply).finish(),
            Self::Wait(_) => f.write_str("Wait"),
        }
    }
}

/// The plugins the program knows, in the order in which their phases run.
#[derive(Clone)]
pub struct Registry(Arc<[Arc<dyn Plugin>]>);

impl Registry {
    /// A registry with these plugins, first to run first.
    #[must_use]
    pub fn new(plugins: Vec<Arc<dyn Plugin>>) -> Self {
        Self(plugins.into())
    }

    /// The plugin of that name and its place in the order.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(usize, &Arc<dyn Plugin>)> {
        self.0.iter().enumerate().find(|(_, plugin)| plugin.name() == name)
    }

    /// All plugins in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Plugin>> {
        self.0.iter()
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|plugin| plugin.name())).finish()
    }
}
