//! The port's suite on the operating system's disk and on the simulated one.

mod common;

use common::{Recorder, Scratch, at, message};
use engine::suite::Rig;
use engine::{Batch, Durability, Engine, Order, QueueSpec, Ticket};
use model::QueueId;
use sluicegate_storage::sim::{Dice, SimDisk};
use sluicegate_storage::{Options, Storage};
use std::sync::Arc;

struct RealRig {
    dir: Scratch,
    events: Arc<Recorder>,
    storage: Option<Storage>,
}

impl RealRig {
    fn open(&mut self) {
        self.events = Arc::new(Recorder::default());
        let opened = Storage::open(self.dir.path(), Options::default(), self.events.clone());
        self.storage = Some(opened.expect("a directory of our own opens"));
    }
}

impl Rig for RealRig {
    fn engine(&self) -> &dyn Engine {
        self.storage.as_ref().expect("open")
    }

    fn wait_durable(&mut self, ticket: Ticket) {
        if self.engine().durable() < ticket {
            self.events.wait_durable(ticket);
        }
    }

    fn wait_readable(&mut self, queue: QueueId) {
        self.events.wait_readable(queue);
    }

    fn work(&mut self) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }

    fn restart(&mut self) {
        let _ = self.engine().close();
        self.crash();
    }

    fn crash(&mut self) {
        self.storage = None;
        self.open();
    }
}

struct SimRig {
    disk: SimDisk,
    dice: Dice,
    options: Options,
    events: Arc<Recorder>,
    storage: Storage,
}

impl SimRig {
    fn new(seed: u64, options: Options) -> Self {
        let disk = SimDisk::new();
        let events = Arc::new(Recorder::default());
        let opened = Storage::open_by_hand(Arc::new(disk.clone()), options, events.clone());
        Self { storage: opened.expect("an empty disk opens"), dice: Dice::new(seed), disk, options, events }
    }

    fn open(&mut self) {
        let disk = Arc::new(self.disk.clone());
        let opened = Storage::open_by_hand(disk, self.options, self.events.clone());
        self.storage = opened.expect("what was written opens");
    }
}

impl Rig for SimRig {
    fn engine(&self) -> &dyn Engine {
        &self.storage
    }

    fn wait_durable(&mut self, ticket: Ticket) {
        self.storage.sync_step(false);
        self.storage.keep_step();
        assert!(self.storage.durable() >= ticket);
    }

    fn wait_readable(&mut self, queue: QueueId) {
        self.storage.sync_step(false);
        self.storage.keep_step();
        while self.storage.read_step() {}
        assert!(self.events.take_readable(queue), "nobody said readable");
    }

    fn work(&mut self) {
        while self.storage.body_step() {}
        while self.storage.piece_step() {}
        self.storage.keep_step();
        self.storage.sync_step(true);
    }

    fn restart(&mut self) {
        let _ = self.storage.close();
        self.disk.kill();
        self.open();
    }

    fn crash(&mut self) {
        self.disk.crash(&mut self.dice);
        self.open();
    }
}

#[test]
fn the_suite_passes_on_a_real_disk() {
    let ran = engine::suite::run(|name| {
        let mut rig = RealRig { dir: Scratch::new(name), events: Arc::new(Recorder::default()), storage: None };
        rig.open();
        Box::new(rig)
    });
    assert!(ran >= 25);
}

#[test]
fn the_suite_passes_on_a_simulated_disk() {
    let options = Options { first_file_bytes: 4096, file_bytes: 8192, body_piece_bytes: 1000, ..Options::default() };
    for seed in 0..20 {
        engine::suite::run(|_| Box::new(SimRig::new(seed, options)));
    }
}

#[test]
fn the_suite_passes_with_hardly_any_memory() {
    let options = Options {
        resident_bytes_max: 8192,
        first_file_bytes: 4096,
        file_bytes: 8192,
        body_piece_bytes: 1000,
        ..Options::default()
    };
    for seed in 0..20 {
        engine::suite::run(|_| Box::new(SimRig::new(seed, options)));
    }
}

const INTERVAL: QueueSpec =
    QueueSpec { durable: true, durability: Durability::Interval, priority_max: 0, ttl_ms: None, order: Order::Arrival };

fn append(engine: &dyn Engine, queue: QueueId) {
    let mut batch = Batch::new();
    batch.push(message(true, b"body".to_vec()), &[queue]);
    assert_eq!(engine.append(&mut batch, at(0)), Ok(Ticket::NONE));
}

#[test]
fn what_an_interval_queue_takes_in_is_synced_though_nobody_asks() {
    let mut rig = RealRig { dir: Scratch::new("interval"), events: Arc::new(Recorder::default()), storage: None };
    rig.open();
    let (queue, ticket) = rig.engine().create_queue(INTERVAL).expect("a queue");
    rig.wait_durable(ticket);
    let before = rig.engine().durable();
    append(rig.engine(), queue);
    rig.events.wait_durable(Ticket(before.0 + 1));
}

#[test]
fn and_though_there_is_never_a_pause() {
    let rig = SimRig::new(1, Options::default());
    let (queue, _) = rig.storage.create_queue(INTERVAL).expect("a queue");
    rig.storage.sync_step(false);
    let mut last = rig.storage.durable();
    let mut syncs = 0;
    for _ in 0..1_000 {
        // The simulated clock moves a millisecond each time it is read.
        append(&rig.storage, queue);
        rig.storage.sync_step(false);
        syncs += usize::from(rig.storage.durable() > last);
        last = rig.storage.durable();
    }
    assert!((10..100).contains(&syncs), "{syncs}: neither never nor each time");
}
