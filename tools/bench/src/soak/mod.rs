//! The soak: a steady mixed load at half the rate of cell `b`, for as long as asked, with a look at the server every few
//! seconds. Memory and files must stay flat, and every message must arrive once and in order.
//!
//! Four lanes: most is persistent and confirmed; some is transient; one consumer sleeps every other while, so that its
//! backlog grows beyond the memory and shrinks again; and one queue lets its messages expire into another.

mod samples;

pub(crate) use samples::Soaked;

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::cells::broker::{self, MANUAL};
use crate::cells::{Cell, PATIENCE};
use crate::client::checker::Verdict;
use crate::client::connection::Connection;
use crate::client::consumer::{Consumed, Consumer};
use crate::client::lane::{Control, Destination, Lane, Queues, Subscriber};
use crate::client::load::{Acks, Flow, Gather, Load, Shape, Timing};
use crate::client::pace::Pace;
use crate::client::wire::{CHANNEL, Value, method, request};
use crate::client::{publisher, run};
use crate::error::{Context, Error, Result};
use crate::histogram::Histogram;
use crate::peers::sluicegate::Sluicegate;
use crate::proc;
use samples::{Sample, Watcher};

/// How long cell `b` is measured first.
const MEASURED: Timing = Timing { warm_up: Duration::from_secs(1), window: Duration::from_secs(4), patience: PATIENCE };
/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);
/// For so long the slow consumer sleeps, and for so long it is awake: together, a period.
const SLEEP: Duration = Duration::from_secs(20);
const SAMPLES_PER_PERIOD: usize = (2 * SLEEP.as_secs() / SAMPLE_INTERVAL.as_secs()) as usize;
/// Octets of each body.
const BODY_SIZE: usize = 1024;
/// How long a message lies before it is dead.
const DEAD_AFTER_MS: u64 = 1_000;
/// Percent of the load: persistent, transient, for the slow consumer, to be dead-lettered.
const SHARES: [u64; 4] = [60, 25, 10, 5];
/// Publishers wake up so often a second.
const WAKE_UPS: u64 = 500;
/// The lane whose consumer sleeps, and the one that expires.
const SLOW: usize = 2;
const DEAD: usize = 3;

/// Applies the load for `duration` to the server `binary`, with data under `dir`.
pub(crate) fn run(binary: &Path, dir: &Path, duration: Duration, machine: String) -> Result<Soaked> {
    eprintln!("starting Sluicegate");
    let server = Sluicegate::start(binary, &dir.join("sluicegate-soak"))?;
    let rate = rate_of_b(&server)?;
    let soak = Soak::new(rate / 2);
    let minutes = duration.as_secs_f64() / 60.0;
    eprintln!("cell b: {rate}/s; soaking at {}/s for {minutes:.0} minutes", rate / 2);
    let (samples, verdict) = soak.apply(&server, duration)?;
    run::check(verdict)?;
    let soaked = Soaked { samples, rate: rate / 2, verdict, machine };
    server.remove()?;
    Ok(soaked)
}

fn rate_of_b(server: &Sluicegate) -> Result<u64> {
    let load = broker::load_of(Cell::B).ok_or_else(|| Error::new("cell b has no load"))?;
    let outcome = run::run(server.amqp, server.id(), &load, MEASURED)?;
    Ok((outcome.operations as f64 / outcome.used.elapsed.as_secs_f64()) as u64)
}

/// The lanes, each with its load.
struct Soak {
    loads: Vec<Load>,
    lanes: Vec<Lane>,
    /// What expires lies here first.
    expiring: Queues,
}

impl Soak {
    fn new(rate: u64) -> Self {
        let loads: Vec<Load> = (0..SHARES.len()).map(|lane| load(lane, rate * SHARES[lane] / 100)).collect();
        let number = run::run_number();
        let mut lanes: Vec<Lane> = Vec::new();
        for (load, at) in loads.iter().zip(0u64..) {
            lanes.extend(Lane::all(load, number + at));
        }
        for lane in lanes.iter_mut().filter(|lane| lane.send_times.is_none()) {
            lane.sampled = Some(Mutex::new(Histogram::new()));
        }
        let expiring = Queues::new(format!("soak-{number:x}-expiring"), 1);
        lanes[DEAD].destination = Destination::Queues(expiring.clone());
        Self { loads, lanes, expiring }
    }

    fn declare(&self, connection: &mut Connection) -> Result<()> {
        for (load, lane) in self.loads.iter().zip(&self.lanes) {
            lane.declare(connection, load.durable)?;
        }
        let dead = self.lanes[DEAD].subscribers[0].queues.name(0);
        let declare = request(CHANNEL, method::QUEUE_DECLARE, |out| {
            const DURABLE: u8 = 1 << 1;
            out.short(0).short_string(&self.expiring.name(0)).octet(DURABLE).table(&[
                ("x-message-ttl", Value::Long(DEAD_AFTER_MS)),
                ("x-dead-letter-exchange", Value::Text("")),
                ("x-dead-letter-routing-key", Value::Text(&dead)),
            ]);
        });
        connection.call(&declare, method::QUEUE_DECLARE_OK).map(drop)
    }

    fn apply(&self, server: &Sluicegate, duration: Duration) -> Result<(Vec<Sample>, Verdict)> {
        let mut connection = Connection::open(server.amqp)?;
        self.declare(&mut connection)?;
        let control = &Control::new(PATIENCE);
        control.measuring.store(true, Relaxed);
        let mut consumers = Vec::new();
        let mut publishing = Vec::new();
        for (load, lane) in self.loads.iter().zip(&self.lanes) {
            let connection = Connection::open(server.amqp)?;
            consumers.push(Consumer::subscribe(connection, load, lane, &lane.subscribers[0])?);
            publishing.push(Connection::open(server.amqp)?);
        }
        let applied = thread::scope(|scope| {
            let consumers: Vec<_> = consumers
                .into_iter()
                .map(|mut consumer| scope.spawn(move || consumer.receive(control).and_then(|()| consumer.leave())))
                .collect();
            let publishers: Vec<_> = (self.loads.iter().zip(&self.lanes))
                .zip(publishing)
                .map(|((load, lane), connection)| scope.spawn(move || publisher::run(connection, load, lane, control)))
                .collect();
            let ended = || {
                consumers.iter().any(ScopedJoinHandle::is_finished)
                    || publishers.iter().any(ScopedJoinHandle::is_finished)
            };
            let samples = self.watch(server, duration, ended);
            self.slow().paused.store(false, Relaxed);
            let published = run::stop(control, &self.lanes, publishers);
            let consumed: Vec<Result<Consumed>> = consumers.into_iter().map(run::join).collect();
            published?;
            let consumed: Vec<Consumed> = consumed.into_iter().collect::<Result<_>>()?;
            let verdict = consumed.iter().map(|consumed| consumed.verdict).fold(Verdict::default(), Verdict::and);
            samples.map(|samples| (samples, verdict))
        })?;
        self.remove_expiring(&mut connection)?;
        connection.close()?;
        Ok(applied)
    }

    /// Samples until the time is over or a thread has ended, and lets the slow consumer sleep now and then.
    fn watch(&self, server: &Sluicegate, duration: Duration, ended: impl Fn() -> bool) -> Result<Vec<Sample>> {
        let start = Instant::now();
        let mut watcher = Watcher::new(server);
        let mut samples = Vec::new();
        let count = duration.as_secs() / SAMPLE_INTERVAL.as_secs();
        for due in (1..=count).map(|n| SAMPLE_INTERVAL * n as u32) {
            if ended() {
                break;
            }
            let asleep = ((due - SAMPLE_INTERVAL).as_secs() / SLEEP.as_secs()).is_multiple_of(2);
            self.slow().paused.store(asleep, Relaxed);
            thread::sleep(due.saturating_sub(start.elapsed()));
            let delivered = self.lanes.iter().map(Lane::delivered).sum();
            let slow = &self.lanes[SLOW];
            let backlog = slow.confirmed.load(Relaxed).saturating_sub(slow.delivered());
            let sample = watcher.sample(start.elapsed(), delivered, backlog, &self.take_latencies())?;
            eprintln!("{}", sample.to_line());
            samples.push(sample);
        }
        Ok(samples)
    }

    fn slow(&self) -> &Subscriber {
        &self.lanes[SLOW].subscribers[0]
    }

    /// Publish to confirm since it was last asked.
    fn take_latencies(&self) -> Histogram {
        let mut all = Histogram::new();
        for sampled in self.lanes.iter().filter_map(|lane| lane.sampled.as_ref()) {
            let mut sampled = sampled.lock().unwrap_or_else(PoisonError::into_inner);
            all.add(&std::mem::replace(&mut sampled, Histogram::new()));
        }
        all
    }

    fn remove_expiring(&self, connection: &mut Connection) -> Result<()> {
        let delete = request(CHANNEL, method::QUEUE_DELETE, |out| {
            out.short(0).short_string(&self.expiring.name(0)).octet(0);
        });
        let answer = connection.call(&delete, method::QUEUE_DELETE_OK)?;
        let left = crate::client::wire::Fields(&answer).long().context("queue.delete-ok")?;
        if left != 0 {
            return Err(Error::new(format!("{left} messages have not expired")));
        }
        Ok(())
    }
}

/// The load of a lane that publishes `per_second`.
fn load(lane: usize, per_second: u64) -> Load {
    let transient = lane == 1;
    let pace = Pace { per_second: per_second.max(1), batch: (per_second / WAKE_UPS).max(1) };
    Load {
        shape: Shape::SINGLE,
        body_size: BODY_SIZE,
        durable: !transient,
        flow: Flow::Paced { pace, confirms: !transient },
        acks: if transient { Acks::Auto } else { MANUAL },
        gather: Some(Gather(Duration::from_millis(1))),
    }
}

/// The memory, in octets, and the open files of the server.
fn process(server: &Sluicegate) -> Result<(u64, u64)> {
    Ok((proc::rss(server.id())?, proc::open_files(server.id())?))
}
