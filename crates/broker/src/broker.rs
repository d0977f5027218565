//! The broker as the shell sees it: opening, connections, and what the engine and the clock tell it.

use crate::api::{ConnectionMeta, OpenError, Published, Settings, Wake};
use crate::counters::Counters;
use crate::dead_letter::Burial;
use crate::link::Link;
use crate::mailbox::Mailbox;
use crate::publish::Touched;
use crate::queue::Queue;
use crate::quotas::Quotas;
use crate::refuse;
use crate::registry::Registry;
use crate::timers::{Look, Timers};
use crate::waiters::{Waiter, Waiters};
use arc_swap::ArcSwap;
use engine::{Engine, Pressure, Ticket};
use model::definitions::Definitions;
use model::{ConnectionId, HolderId, Message, Mono, Now, Principal, QueueId, Wall};
use parking_lot::{Mutex, RwLock};
use protocol::{Formats, Refusal};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

/// When a head that has expired and could not be taken is looked at again.
const OVERDUE: Duration = Duration::from_millis(10);

/// Queues looked at in one call.
const LOOKS_MAX: usize = 1_024;

/// The broker. One per process; shared by every connection.
pub struct Broker {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) formats: Formats,
    pub(crate) settings: Settings,
    pub(crate) registry: RwLock<Registry>,
    /// Grows with every change of what a publish could depend on.
    pub(crate) epoch: AtomicU64,
    pub(crate) mailboxes: Mutex<HashMap<ConnectionId, Arc<Mailbox>>>,
    pub(crate) counters: Counters,
    pub(crate) quotas: ArcSwap<Quotas>,
    /// Definitions and quotas are applied one after the other; held before any other lock.
    pub(crate) applying: Mutex<()>,
    pressure: AtomicU8,
    waiters: Mutex<Waiters>,
    timers: Mutex<Timers>,
    next_id: AtomicU64,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broker")
    }
}

fn pressure_code(pressure: Pressure) -> u8 {
    match pressure {
        Pressure::None => 0,
        Pressure::Memory => 1,
        Pressure::Disk => 2,
    }
}

impl Broker {
    /// Opens the broker on what the engine has kept, makes what must exist and applies `definitions`.
    ///
    /// # Errors
    /// [`OpenError`]; a contradiction in the definitions lists all of them.
    pub fn open(
        engine: Arc<dyn Engine>,
        formats: Formats,
        definitions: &Definitions,
        settings: Settings,
        now: Now,
    ) -> Result<Arc<Self>, OpenError> {
        let registry = crate::recovery::recover(&*engine, now)?;
        let pressure = AtomicU8::new(pressure_code(engine.pressure()));
        let broker = Self {
            engine,
            formats,
            settings,
            registry: RwLock::new(registry),
            epoch: AtomicU64::new(1),
            mailboxes: Mutex::default(),
            counters: Counters::default(),
            quotas: ArcSwap::default(),
            applying: Mutex::default(),
            pressure,
            waiters: Mutex::default(),
            timers: Mutex::default(),
            next_id: AtomicU64::new(1),
        };
        broker.apply_definitions(definitions, now).map_err(OpenError::Definitions)?;
        let queues: Vec<_> = broker.registry.read().queues.values().cloned().collect();
        for queue in queues {
            // Only now, when the policies are known: what an argument alone would end, a policy may keep.
            broker.engine.set_limits(queue.id, queue.limits(), now);
            broker.bury_given_back(&queue, now);
            broker.watch(&queue, now);
        }
        let stores: Vec<_> = broker.registry.read().stores.values().cloned().collect();
        for store in stores {
            broker.watch_store(&store, now);
        }
        Ok(Arc::new(broker))
    }

    /// A new connection of a client that is yet to log in.
    pub fn connect(self: &Arc<Self>, meta: ConnectionMeta, wake: Arc<dyn Wake>) -> Link {
        Link::new(self.clone(), self.add_mailbox(meta, wake))
    }

    /// A connection from within the process that acts as `principal`, with its permissions and without a password.
    ///
    /// # Errors
    /// The user or the vhost does not exist, or the user has no permissions there.
    pub fn connect_as(
        self: &Arc<Self>,
        meta: ConnectionMeta,
        principal: &Principal,
        wake: Arc<dyn Wake>,
    ) -> Result<Link, Refusal> {
        let registry = self.registry.read();
        let Some(vhost) = registry.vhosts.get(&principal.vhost) else {
            return Err(refuse::no_vhost(&principal.vhost));
        };
        let Some(access) = registry.users.access(&principal.user, &vhost.name) else {
            return Err(refuse::vhost_access(&principal.vhost, &principal.user));
        };
        drop(registry);
        Ok(Link::open(self.clone(), self.add_mailbox(meta, wake), access))
    }

    fn add_mailbox(&self, meta: ConnectionMeta, wake: Arc<dyn Wake>) -> Arc<Mailbox> {
        let id = ConnectionId(self.next_id.fetch_add(1, SeqCst));
        let mailbox = Arc::new(Mailbox::new(id, meta, wake));
        self.mailboxes.lock().insert(id, mailbox.clone());
        self.counters.connections_opened.add(1);
        mailbox
    }

    pub(crate) fn new_holder(&self) -> HolderId {
        HolderId(self.next_id.fetch_add(1, SeqCst))
    }

    /// Publishes one message as `principal`; exchange and routing key are in the message.
    ///
    /// # Errors
    /// What a client would be refused for, or the engine cannot take it in (`ResourceError`: worth retrying).
    pub fn publish(&self, principal: &Principal, message: Message, now: Now) -> Result<Published, Refusal> {
        self.publish_one(principal, message, now)
    }

    /// The highest ticket that is durable.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.engine.durable()
    }

    /// Wakes when `ticket` is durable, at once if it is; seldom a second time.
    pub fn when_durable(&self, ticket: Ticket, wake: Arc<dyn Wake>) {
        if ticket > self.engine.durable() {
            self.waiters.lock().push(ticket, Waiter::Wake(wake.clone()));
            if ticket > self.engine.durable() {
                return;
            }
            // It became durable meanwhile. Who else waited is told by the call that says so: it knows the time.
        }
        wake.wake();
    }

    /// Notes who waits for a ticket.
    pub(crate) fn wait_for(&self, ticket: Ticket, waiter: Waiter, now: Now) {
        self.waiters.lock().push(ticket, waiter);
        let durable = self.engine.durable();
        if ticket <= durable {
            // It became durable meanwhile, and the call that says so may be over.
            self.on_durable(durable, now);
        }
    }

    /// The engine says: everything up to `ticket` is durable.
    pub fn on_durable(&self, ticket: Ticket, now: Now) {
        let mut waiters = Vec::new();
        self.waiters.lock().pop(ticket, &mut waiters);
        let (mut queues, mut mailboxes) = (Vec::new(), Vec::new());
        for waiter in waiters {
            match waiter {
                Waiter::Mailbox(mailbox) => mailboxes.push(mailbox),
                Waiter::Wake(wake) => wake.wake(),
                Waiter::Queues(more) => queues.extend(more),
            }
        }
        // Several batches of a busy queue become durable at once; one look is enough for all.
        queues.sort_by_key(|touched: &Touched| touched.id);
        queues.dedup_by_key(|touched| touched.id);
        self.dispatch_all(&queues, now);
        // Last of all, because what is woken last runs next, on this very thread: a publisher may have stopped for its
        // confirm, and the deliveries wake another thread anyway.
        for mailbox in mailboxes {
            mailbox.wake();
        }
    }

    /// The engine says: entries of this queue can be handed out.
    pub fn on_readable(&self, queue: QueueId, now: Now) {
        let Some(queue) = self.queue(queue) else {
            if let Some(store) = self.store(queue) {
                self.fire(&store, now);
            }
            return;
        };
        queue.wake_getters();
        self.dispatch(&queue, now);
        if (queue.may_expire.load(SeqCst) || queue.has_dead_letter()) && self.bury(&queue, now) == Burial::Done {
            self.watch_head(&queue, now);
        }
    }

    /// The engine says: publishers must stop, or may go on.
    pub fn on_pressure(&self, pressure: Pressure, _now: Now) {
        self.pressure.store(pressure_code(pressure), SeqCst);
        for mailbox in self.mailboxes.lock().values() {
            if mailbox.publishes.load(SeqCst) {
                mailbox.wake();
            }
        }
    }

    /// Why publishers are not read, in RabbitMQ's words.
    pub(crate) fn blocked(&self) -> Option<&'static str> {
        match self.pressure.load(SeqCst) {
            0 => None,
            1 => Some("low on memory"),
            _ => Some("low on disk"),
        }
    }

    /// To be called when [`Broker::poll_timeout`] is due: routes what was delayed, expires messages and queues, wakes whom a quota held.
    /// Looks at a bounded number of queues, since dead letters lead to dead letters; if more are due, so is the next call.
    pub fn handle_timeout(&self, now: Now) {
        for _ in 0..LOOKS_MAX {
            let Some(look) = self.timers.lock().pop(now.mono) else {
                return;
            };
            let id = match look {
                Look::Queue(id) => id,
                Look::Connection(id) => {
                    self.wake_connection(id);
                    continue;
                }
            };
            if let Some(store) = self.store(id) {
                self.fire(&store, now);
                continue;
            }
            // Consumers first: what they waited for does not expire.
            if let Some(queue) = self.queue(id) {
                self.dispatch(&queue, now);
                if self.bury(&queue, now) == Burial::Done {
                    queue.wake_getters();
                    self.watch(&queue, now);
                }
            }
        }
    }

    /// When [`Broker::handle_timeout`] is wanted next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.timers.lock().next()
    }

    pub(crate) fn queue(&self, id: QueueId) -> Option<Arc<Queue>> {
        self.registry.read().queues.get(id).cloned()
    }

    fn wake_connection(&self, id: ConnectionId) {
        let mailbox = self.mailboxes.lock().get(&id).cloned();
        if let Some(mailbox) = mailbox {
            mailbox.wake();
        }
    }

    /// Asks for a look at a queue.
    pub(crate) fn schedule(&self, queue: QueueId, at: Mono) {
        self.schedule_look(Look::Queue(queue), at);
    }

    /// Asks for a connection to be woken.
    pub(crate) fn schedule_wake(&self, connection: ConnectionId, at: Mono) {
        self.schedule_look(Look::Connection(connection), at);
    }

    fn schedule_look(&self, look: Look, at: Mono) {
        if self.timers.lock().schedule(look, at)
            && let Some(timer) = &self.settings.timer
        {
            timer.wake();
        }
    }

    /// Sets the next look at a queue, and deletes it if it has expired unused.
    pub(crate) fn watch(&self, queue: &Arc<Queue>, now: Now) {
        if queue.may_expire.load(SeqCst) {
            self.watch_head(queue, now);
        }
        let Some(expires_ms) = queue.behaviour().expires_ms else {
            return;
        };
        let state = queue.state.lock();
        if !state.consumers().is_empty() || state.deleted {
            return;
        }
        let used_at = state.used_at;
        let at = used_at.after(Duration::from_millis(expires_ms));
        drop(state);
        if at > now.mono {
            self.schedule(queue.id, at);
        } else {
            // Nobody waits for this; a failing engine stops the process by itself.
            let _ = self.delete_queue_if(queue, |state| state.consumers().is_empty() && state.used_at == used_at);
        }
    }

    /// Sets the next look at the head of a queue.
    pub(crate) fn watch_head(&self, queue: &Queue, now: Now) {
        if let Some(Wall(at)) = self.engine.stats(queue.id).head_expires_at {
            let left = match at.saturating_sub(now.wall.0) {
                // It waits for its sync or its body; the engine says when it is readable, this is for the rest.
                0 => OVERDUE,
                ms => Duration::from_millis(ms),
            };
            self.schedule(queue.id, now.mono.after(left));
        }
    }
}
