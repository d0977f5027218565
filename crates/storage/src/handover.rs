//! Models of the hand-over of a group commit: those who append, the threads that write and sync, and those who are told.
//!
//! What runs here is the engine itself, with the locks of a model checker: loom tries every order of the steps of its
//! threads that differs in what they see, up to a number of preemptions. A wake-up that is lost leaves everybody waiting,
//! which loom reports. The bugs at the end are built in on purpose, and must be found.
//!
//! Not here: what the simulator tries by hand (crashes, full disks, files), large bodies, and the keeper.

mod disk;

use crate::canary::Canary;
use crate::disk::Disk;
use crate::sync::{Condvar, Mutex};
use crate::threads::write;
use crate::{Options, Storage};
use bytes::Bytes;
use disk::ModelDisk;
use engine::{Batch, Credit, Durability, Engine, EngineError, EngineEvents, Pressure, QueueSpec, Ticket};
use loom::thread::JoinHandle;
use model::{Envelope, HolderId, Message, Mono, Now, Origin, QueueId, Wall};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// How many times in one order of steps a thread is interrupted that could go on: in models of up to three threads, and in
/// those of four, which have many more orders. Bugs of this kind seldom need more than two. With `MODELS=long` one more.
const PREEMPTIONS: [usize; 2] = [2, 1];

/// How two messages come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Publish {
    /// The second when the first is confirmed: it finds the writers at rest, or on their way there.
    OneByOne,
    /// From one thread, which waits when it has published both.
    InARow,
    /// From two threads.
    AtOnce,
}

use Publish::{AtOnce, InARow, OneByOne};

/// Bytes of a message of which a file of the log holds one.
const FILLS: usize = 3000;

/// What the engine said.
#[derive(Default)]
struct Said {
    durable: Ticket,
    readable: usize,
    failed: bool,
}

struct Listener {
    disk: Arc<ModelDisk>,
    said: Mutex<Said>,
    changed: Condvar,
}

impl Listener {
    fn note(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock());
        self.changed.notify_all();
    }

    fn wait(&self, done: impl Fn(&Said) -> bool) -> bool {
        let mut said = self.said.lock();
        while !done(&said) && !said.failed {
            self.changed.wait(&mut said);
        }
        done(&said)
    }
}

impl EngineEvents for Listener {
    fn durable(&self, ticket: Ticket) {
        let synced = self.disk.synced_lsn();
        assert!(ticket.0 <= synced, "{} was confirmed, and the disk has synced up to {synced}", ticket.0);
        self.note(|said| said.durable = said.durable.max(ticket));
    }

    fn readable(&self, _: QueueId) {
        self.note(|said| said.readable += 1);
    }

    fn pressure(&self, _: Pressure) {}

    fn failed(&self, _: &str) {
        self.note(|said| said.failed = true);
    }
}

fn now() -> Now {
    Now { mono: Mono(1), wall: Wall(1) }
}

/// An engine with one durable queue, and nothing running.
struct World {
    storage: Storage,
    listener: Arc<Listener>,
    queue: QueueId,
}

impl World {
    fn new(canary: Option<Canary>) -> Arc<Self> {
        Self::with(canary, Durability::Sync)
    }

    fn with(canary: Option<Canary>, durability: Durability) -> Arc<Self> {
        let disk = Arc::new(ModelDisk::default());
        let listener = Arc::new(Listener { disk: disk.clone(), said: Mutex::default(), changed: Condvar::default() });
        let options = Options { canary, first_file_bytes: 4096, file_bytes: 4096, ..Options::default() };
        let storage = Storage::open_by_hand(disk as Arc<dyn Disk>, options, listener.clone()).expect("an empty disk");
        let spec = QueueSpec { durable: true, durability, ..QueueSpec::default() };
        let (queue, _) = storage.create_queue(spec).expect("a queue");
        storage.sync_step(true);
        loom::explore();
        Arc::new(Self { storage, listener, queue })
    }

    /// Threads that write and sync, as the engine's own do.
    fn writers(self: &Arc<Self>, count: usize) -> Vec<JoinHandle<()>> {
        (0..count).map(|_| self.beside(|world| write(&world.storage.core))).collect()
    }

    /// A thread that does this.
    fn beside<T: 'static>(self: &Arc<Self>, job: impl FnOnce(&Self) -> T + 'static) -> JoinHandle<T> {
        let world = self.clone();
        loom::thread::spawn(move || job(&world))
    }

    fn append(&self, bytes: usize) -> Result<Ticket, EngineError> {
        let envelope = Envelope {
            origin: Origin::Amqp091,
            persistent: true,
            priority: 0,
            ttl_ms: None,
            received_at: Wall(1),
            has_headers: false,
            producer: 0,
        };
        let message = Message::from_parts(envelope, 0, 0, 0, Bytes::from(vec![7; bytes])).expect("a body alone");
        let mut batch = Batch::new();
        batch.push(message, &[self.queue]);
        self.storage.append(&mut batch, now())
    }

    /// Waits to be told; returns whether it is durable, which it is unless the engine failed.
    fn is_confirmed(&self, appended: Result<Ticket, EngineError>) -> bool {
        let Ok(ticket) = appended else { return false };
        let confirmed = self.listener.wait(|said| said.durable >= ticket);
        if confirmed {
            assert!(self.storage.durable() >= ticket, "confirmed, and not durable when asked");
        }
        confirmed
    }

    /// Publishes two messages of so many bytes; returns which were confirmed.
    fn publish(self: &Arc<Self>, how: Publish, bytes: usize) -> [bool; 2] {
        match how {
            OneByOne => [(); 2].map(|()| self.is_confirmed(self.append(bytes))),
            InARow => [self.append(bytes), self.append(bytes)].map(|appended| self.is_confirmed(appended)),
            AtOnce => {
                let other = self.beside(move |world| world.is_confirmed(world.append(bytes)));
                [self.is_confirmed(self.append(bytes)), other.join().expect("the other publisher")]
            }
        }
    }

    /// Takes a message, waiting until there is one.
    fn consume(&self) {
        loop {
            let before = self.listener.said.lock().readable;
            let credit = Credit { messages: 1, bytes: usize::MAX };
            let left = self.storage.deliver(self.queue, credit, now(), &mut |_| HolderId(1));
            if left.delivered == 1 {
                let durable = self.storage.durable().0;
                assert!(durable <= self.listener.disk.synced_lsn(), "handed out before it was synced");
                return;
            }
            assert!(left.pending, "the message is there, and nobody will tell");
            self.listener.wait(|said| said.readable > before);
        }
    }

    /// All have been told what they waited for.
    fn end(&self, writers: Vec<JoinHandle<()>>) {
        loom::stop_exploring();
        self.storage.core.signals.write.stop();
        for writer in writers {
            writer.join().expect("a writer");
        }
        let (durable, synced) = (self.storage.durable().0, self.listener.disk.synced_lsn());
        assert!(durable <= synced, "durable up to {durable}, synced up to {synced}");
    }
}

/// Tries every order of steps of a model of so many threads.
fn check(threads: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    let more = usize::from(std::env::var("MODELS").is_ok_and(|long| long == "long"));
    builder.preemption_bound = Some(PREEMPTIONS[usize::from(threads > 3)] + more);
    builder.max_branches = 20_000;
    builder.expect_explicit_explore = true;
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    eprintln!("{} orders of steps", tried.load(Relaxed));
}

/// So many writers, and two messages of so many bytes.
#[derive(Clone, Copy)]
struct Load(usize, Publish, usize);

impl Load {
    fn threads(self) -> usize {
        self.0 + if self.1 == AtOnce { 2 } else { 1 }
    }
}

/// Whoever publishes is told when what it published is synced, and not before.
fn publishing(canary: Option<Canary>, load: Load) {
    check(load.threads(), move || {
        let Load(writers, how, bytes) = load;
        let world = World::new(canary);
        let writers = world.writers(writers);
        assert_eq!(world.publish(how, bytes), [true; 2]);
        world.end(writers);
    });
}

/// The first sync fails: nobody is told that anything is durable, whatever is tried after it.
fn failing(canary: Option<Canary>, load: Load) {
    check(load.threads(), move || {
        let Load(writers, how, bytes) = load;
        let world = World::new(canary);
        world.listener.disk.fail_next_sync();
        let writers = world.writers(writers);
        assert_eq!(world.publish(how, bytes), [false; 2], "the sync failed");
        assert!(world.append(1).is_err(), "taken in by an engine that has failed");
        world.end(writers);
    });
}

/// A consumer finds the message of a publisher that does not wait, or is told when it can have it.
fn consumer(canary: Option<Canary>) {
    check(2, move || {
        let world = World::new(canary);
        let writers = world.writers(1);
        world.append(1).expect("nothing is wrong");
        world.consume();
        world.end(writers);
    });
}

#[test]
fn each_append_finds_a_writer() {
    publishing(None, Load(1, OneByOne, 1));
    publishing(None, Load(2, OneByOne, 1));
}

#[test]
fn a_writer_goes_on_while_the_other_syncs() {
    publishing(None, Load(1, InARow, 1));
    publishing(None, Load(2, InARow, 1));
}

#[test]
fn two_publishers_share_a_sync() {
    publishing(None, Load(1, AtOnce, 1));
    publishing(None, Load(2, AtOnce, 1));
}

#[test]
fn a_full_file_is_synced_before_the_next_is_written() {
    publishing(None, Load(2, InARow, FILLS));
    publishing(None, Load(1, AtOnce, FILLS));
    publishing(None, Load(2, AtOnce, FILLS));
}

#[test]
fn a_failed_sync_confirms_nothing() {
    failing(None, Load(2, InARow, 1));
    failing(None, Load(1, AtOnce, 1));
    failing(None, Load(2, AtOnce, 1));
}

#[test]
fn a_failed_sync_confirms_nothing_in_the_next_file() {
    failing(None, Load(2, InARow, FILLS));
    failing(None, Load(2, AtOnce, FILLS));
}

#[test]
fn a_consumer_is_told_when_its_message_is_durable() {
    consumer(None);
}

#[test]
fn what_nobody_waits_for_is_synced_within_the_interval() {
    check(3, || {
        let world = World::with(None, Durability::Interval);
        let writers = world.writers(1);
        let append = |world: &World| {
            assert_eq!(world.append(1), Ok(Ticket::NONE));
            Ticket(world.storage.core.log.lock().next)
        };
        let other = world.beside(append);
        let last = append(&world).max(other.join().expect("the other publisher"));
        assert!(world.listener.wait(|said| said.durable >= last));
        world.end(writers);
    });
}

#[test]
fn what_is_taken_in_before_the_end_is_durable_at_the_end() {
    check(3, || {
        let world = World::new(None);
        let writers = world.writers(1);
        let other = world.beside(|world| [world.append(1), world.append(1)]);
        world.storage.close().expect("everything is written");
        let durable = world.storage.durable();
        for ticket in other.join().expect("the publisher").into_iter().flatten() {
            // One that met the end got a place that never becomes durable.
            assert!(ticket <= durable || ticket.0 == u64::MAX, "{ticket:?} is lost, {durable:?} is durable");
        }
        world.end(writers);
    });
}

#[test]
#[should_panic(expected = "was confirmed, and the disk has synced up to")]
fn confirming_before_the_sync_is_found() {
    publishing(Some(Canary::ConfirmBeforeSync), Load(1, OneByOne, 1));
}

#[test]
#[should_panic(expected = "was confirmed, and the disk has synced up to")]
fn a_sync_that_covers_too_much_is_found() {
    publishing(Some(Canary::CoverTooMuch), Load(2, InARow, 1));
}

#[test]
#[should_panic(expected = "deadlock")]
fn going_to_sleep_in_two_steps_is_found() {
    publishing(Some(Canary::SleepLater), Load(1, OneByOne, 1));
}

#[test]
#[should_panic(expected = "was confirmed, and the disk has synced up to")]
fn trying_a_failed_sync_again_is_found() {
    failing(Some(Canary::RetryFailedSync), Load(1, AtOnce, 1));
}

#[test]
#[should_panic(expected = "was confirmed, and the disk has synced up to")]
fn a_sync_beside_one_that_fails_is_found() {
    failing(Some(Canary::SyncOutOfTurn), Load(2, InARow, FILLS));
}

#[test]
#[should_panic(expected = "deadlock")]
fn asking_too_early_whether_it_is_durable_is_found() {
    consumer(Some(Canary::AskTooEarly));
}

#[test]
#[should_panic(expected = "deadlock")]
fn not_telling_consumers_is_found() {
    consumer(Some(Canary::ForgetReadable));
}
