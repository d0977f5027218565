//! Many connections at once: nothing is lost, doubled or left lying, whatever the threads do.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use model::ChannelId;
use protocol::{Event, Request, Settle, Settlement};
use sluicegate_broker::Wake;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use support::{CH, World, at};

/// A wake that a thread can wait for.
struct Doorbell(Mutex<Sender<()>>);

impl Wake for Doorbell {
    fn wake(&self) {
        let _ = self.0.lock().map(|sender| sender.send(()));
    }
}

fn doorbell() -> (Arc<Doorbell>, Receiver<()>) {
    let (sender, receiver) = channel();
    (Arc::new(Doorbell(Mutex::new(sender))), receiver)
}

const PUBLISHERS: u64 = 3;
const CONSUMERS: u16 = 4;
const EACH: u64 = 4_000;

/// What the threads share.
struct Shared<'a> {
    world: &'a World,
    seen: AtomicU64,
    bodies: Mutex<HashSet<String>>,
    bells: Mutex<Vec<Arc<Doorbell>>>,
    done: AtomicBool,
}

fn consume(shared: &Shared<'_>, prefetch: u16) {
    let Shared { world, seen, bodies, bells, .. } = shared;
    let (bell, rings) = doorbell();
    bells.lock().unwrap().push(bell.clone());
    let mut client = world.client();
    let principal = model::Principal { user: "guest".into(), vhost: "/".into() };
    let meta = sluicegate_broker::ConnectionMeta::default();
    client.link = world.broker.connect_as(meta, &principal, bell).unwrap();
    client.ask(Request::OpenChannel(ChannelId(1)));
    client.qos(prefetch, prefetch.is_multiple_of(2));
    client.consume("q", 1);
    client.consume("r", 2);
    let total = PUBLISHERS * EACH;
    loop {
        while let Some(event) = client.link.poll_event(at(0)) {
            let Event::Deliver { receipt, message, .. } = event else {
                continue;
            };
            let body = String::from_utf8_lossy(message.body()).into_owned();
            assert!(bodies.lock().unwrap().insert(body), "delivered twice");
            seen.fetch_add(1, SeqCst);
            let settle = Settle { channel: CH, settlement: Settlement::Ack, receipts: vec![receipt] };
            client.ask(Request::Settle(settle));
        }
        client.link.flush(at(0));
        client.link.written(0, at(0));
        if seen.load(SeqCst) == total {
            bells.lock().unwrap().iter().for_each(|bell| bell.wake());
            return;
        }
        // What a flush or a write has brought to this connection rings too. Only a missed wake makes this run out.
        let waited = rings.recv_timeout(std::time::Duration::from_secs(20));
        assert!(waited.is_ok() || seen.load(SeqCst) == total, "a wake was missed");
    }
}

#[test]
fn no_wake_is_missed_between_threads() {
    let world = World::slow();
    let mut setup = world.client();
    setup.declare("q");
    setup.declare("r");
    world.sync();
    let shared = Shared {
        world: &world,
        seen: AtomicU64::new(0),
        bodies: Mutex::default(),
        bells: Mutex::default(),
        done: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let shared = &shared;
        let prefetches = 1..=CONSUMERS;
        let consumers: Vec<_> = prefetches.map(|prefetch| scope.spawn(move || consume(shared, prefetch))).collect();
        for publisher in 0..PUBLISHERS {
            scope.spawn(move || publish(shared.world, publisher));
        }
        scope.spawn(move || {
            while !shared.done.load(SeqCst) {
                shared.world.sync();
                std::thread::yield_now();
            }
        });
        let ended: Vec<_> = consumers.into_iter().map(|c| c.join()).collect();
        shared.done.store(true, SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });
    assert_eq!(shared.bodies.lock().unwrap().len() as u64, PUBLISHERS * EACH);
}

fn publish(world: &World, publisher: u64) {
    let mut client = world.client();
    for i in 0..EACH {
        let queue = if i % 3 == 0 { "r" } else { "q" };
        let body = format!("{publisher}-{i}");
        if i % 2 == 0 {
            client.publish_safely("", queue, &body);
        } else {
            client.publish("", queue, &body);
        }
        if i % 7 == 0 {
            client.link.flush(client.now);
        }
    }
    client.link.flush(client.now);
}
