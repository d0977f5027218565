//! What the routers show, over a real broker on a simulated disk.

use arc_swap::ArcSwap;
use broker::Broker;
use engine::{Engine, EngineEvents, Pressure, Ticket};
use gateway::Gateway;
use model::definitions::Definitions;
use model::{Now, QueueId};
use plugin::{BoxFuture, Publish, PublishError, Published, Services};
use protocol::Formats;
use sluicegate_admin::{Clock, Control, State, Worker};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;
use storage::sim::SimDisk;
use storage::{Options, Storage};

/// Nobody listens to the engine here.
struct Deaf;

impl EngineEvents for Deaf {
    fn durable(&self, _: Ticket) {}
    fn readable(&self, _: QueueId) {}
    fn pressure(&self, _: Pressure) {}
    fn failed(&self, error: &str) {
        panic!("{error}");
    }
}

/// No route publishes here.
struct NoServices;

impl Services for NoServices {
    fn publish(&self, _: Publish) -> BoxFuture<Result<Published, PublishError>> {
        Box::pin(ready(Ok(Published { n_queues: 0 })))
    }
}

/// No entities, and who would make changes of them if he worked.
pub(crate) fn state(definitions: &Definitions, clock: Clock) -> (Arc<State>, Worker) {
    let engine: Arc<dyn Engine> =
        Arc::new(Storage::open_on(Arc::new(SimDisk::new()), Options::default(), Arc::new(Deaf)).unwrap());
    let (formats, settings) = (Formats::new(Vec::new()), broker::Settings::default());
    let broker = Broker::open(Arc::clone(&engine), formats, definitions, settings, clock()).unwrap();
    let gateway = Arc::new(Gateway::new(plugins::registry(), Arc::new(NoServices)));
    let (control, worker) = Control::new(Arc::clone(&gateway), clock, |_| None);
    let state = State {
        broker,
        engine,
        gateway,
        control,
        parse_yaml: |_| Err(String::new()),
        tokens: ArcSwap::default(),
        ready: AtomicBool::new(true),
        started_at: SystemTime::now(),
        now: Box::new(Now::default),
        log_lines_dropped: Box::new(|| 0),
        version: "0",
    };
    (Arc::new(state), worker)
}
