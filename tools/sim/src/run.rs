//! One seed: which operation comes next, and what is checked after each.
//!
//! The calls of the port are in `calls`, what goes wrong around the engine is in `faults`.

use crate::bodies::check_body;
use crate::message::checked_tag;
use crate::model::{Back, Mark, Model, Recovered, Tag};
use crate::watch::Watch;
use ::model::{HolderId, LargeBody, Message, Mono, Now, QueueId, Wall};
use engine::{Batch, Credit, Engine, Limits, Order};
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::sim::{Dice, SimDisk};
use storage::{Canary, OpenError, Options, Storage};

/// What a run did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Operations.
    pub operations: u64,
    /// Crashes of machine or process, and clean restarts.
    pub crashes: u64,
    /// Calls of the disk that were made to fail, and syncs that took long.
    pub faults: u64,
    /// Disks that rotted: directories opened after a bit had flipped.
    pub rotten: u64,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { operations, crashes, faults, rotten } = self;
        write!(f, "{operations} operations, {crashes} crashes, {faults} faults, {rotten} flipped bits")
    }
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.rotten += other.rotten;
    }
}

/// A promise that was not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The seed that shows it.
    pub seed: u64,
    /// How many operations it was to have.
    pub operations: u64,
    /// The fault that was built in.
    pub canary: Option<Canary>,
    /// After how many operations.
    pub operation: u64,
    /// What is wrong.
    pub what: String,
}

/// Rounds that reading everything back may take before it counts as stuck.
const ROUNDS_MAX: usize = 5_000;
/// The year 2023; the clock jumps about it.
const WALL: u64 = 1_700_000_000_000;
/// Milliseconds of the clock's jumps.
const JUMP_MS: usize = 7_200_000;

pub(crate) struct Run {
    pub(crate) dice: Dice,
    pub(crate) disk: SimDisk,
    pub(crate) engine: Arc<Storage>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) options: Options,
    pub(crate) model: Model,
    pub(crate) now: Now,
    pub(crate) next_tag: Tag,
    pub(crate) next_holder: u64,
    pub(crate) done: Outcome,
    /// A fault was injected after which the engine may fail.
    pub(crate) faulty: bool,
    /// The machine has crashed while something was under way; what was durable then.
    pub(crate) crashed: Option<u64>,
    pub(crate) batch: Batch,
    /// Bodies that no message has.
    pub(crate) idle: Vec<Arc<LargeBody>>,
}

/// Runs one seed.
///
/// # Errors
/// What the engine did wrong.
pub fn run_seed(seed: u64, operations: u64, canary: Option<Canary>) -> Result<Outcome, Found> {
    let mut dice = Dice::new(seed);
    let options = Options {
        resident_bytes_max: 8192 << dice.below(4),
        first_file_bytes: 4096 << dice.below(2),
        file_bytes: 8192 << dice.below(3),
        disk_free_limit: dice.below(2) as u64 * 4096,
        move_bytes_per_s: 16 * 1024 * 1024,
        body_piece_bytes: 500 << dice.below(3),
        canary,
    };
    let disk = SimDisk::new();
    let fail = |operation, what| Found { seed, operations, canary, operation, what };
    let watch = Arc::new(Watch::new());
    let engine = Storage::open_by_hand(Arc::new(disk.clone()), options, Arc::clone(&watch) as _)
        .map_err(|e| fail(0, e.to_string()))?;
    let mut run = Run {
        dice,
        disk,
        engine: Arc::new(engine),
        watch,
        options,
        model: Model { batches: vec![Mark::default()], ..Model::default() },
        now: Now { mono: Mono(1), wall: Wall(WALL) },
        next_tag: 1,
        next_holder: 1,
        done: Outcome::default(),
        faulty: false,
        crashed: None,
        batch: Batch::new(),
        idle: Vec::new(),
    };
    for _ in 0..operations {
        run.done.operations += 1;
        run.operation().map_err(|e| fail(run.done.operations, e))?;
    }
    run.crash().map_err(|e| fail(run.done.operations, e))?;
    Ok(run.done)
}

impl Run {
    fn operation(&mut self) -> Result<(), String> {
        self.tick();
        match self.dice.below(100) {
            0..=73 => self.call()?,
            74..=76 => self.engine.write_step(),
            77..=84 => self.engine.sync_step(false),
            85..=87 => {
                self.model.tell_attempts();
                self.engine.sync_step(true);
            }
            88..=91 => self.engine.keep_step(),
            92 => {
                self.engine.read_step();
                self.trim_all()?;
            }
            93 => _ = self.idle.pop(),
            94 => self.stall()?,
            95..=96 => self.fault(),
            97 => self.fill_disk()?,
            98 if self.dice.once_in(3) => self.crash()?,
            99 if self.dice.once_in(8) => self.close()?,
            _ => {}
        }
        self.watch.check(self.engine.durable(), self.engine.pressure(), self.faulty)
    }

    /// Time goes on, and now and then jumps, forwards or back.
    pub(crate) fn tick(&mut self) {
        self.model.step += 1;
        self.now.mono = Mono(self.now.mono.0 + self.dice.below(3000) as u64);
        self.now.wall = Wall(self.now.wall.0 + self.dice.below(3) as u64);
        if self.dice.once_in(100) {
            self.now.wall = Wall(WALL - JUMP_MS as u64 + self.dice.below(2 * JUMP_MS) as u64);
        }
        if self.dice.once_in(200) {
            self.now.mono = Mono(1 + self.dice.below(1_000_000_000) as u64);
        }
    }

    pub(crate) fn open(&self, disk: &SimDisk, watch: &Arc<Watch>) -> Result<Storage, OpenError> {
        Storage::open_by_hand(Arc::new(disk.clone()), self.options, Arc::clone(watch) as _)
    }
}

/// Everything in the durable queues, put back afterwards, and the large bodies that belong to it. Queues that count
/// attempts count this one, and those that are fair have nothing in groups.
pub(crate) fn read_everything(engine: &Storage, model: &Model) -> Result<(Recovered, BTreeSet<u64>), String> {
    let mut recovered = Recovered::new();
    let mut bodies = BTreeSet::new();
    for (id, spec) in engine.queues() {
        if !spec.durable {
            return Err(format!("transient queue {id} was recovered"));
        }
        let limits = model.queues.get(&id).map(|queue| queue.limits).unwrap_or_default();
        let Limits { counts_attempts, fair, .. } = limits;
        engine.set_limits(
            id,
            Limits { counts_attempts, fair, ..Limits::default() },
            Now { mono: Mono(1), wall: Wall(0) },
        );
        recovered.insert(id, read_all(engine, id, spec.order, &mut bodies)?);
    }
    Ok((recovered, bodies))
}

/// Everything in a queue, put back afterwards.
fn read_all(engine: &Storage, id: QueueId, order: Order, bodies: &mut BTreeSet<u64>) -> Result<Vec<Back>, String> {
    let mut all = Vec::new();
    let holder = HolderId(u64::MAX - 1);
    let credit = Credit { messages: usize::MAX, bytes: usize::MAX };
    // At this time nothing has expired, or all is due.
    let wall = if order == Order::Due { u64::MAX } else { 0 };
    let now = Now { mono: Mono(1), wall: Wall(wall) };
    for _ in 0..ROUNDS_MAX {
        let mut bad = None;
        let mut large: Vec<Message> = Vec::new();
        let remainder = engine.deliver(id, credit, now, &mut |delivery| {
            match checked_tag(&delivery.message) {
                Ok(tag) => all.push(Back { tag, attempts: delivery.attempts }),
                Err(error) => bad = Some(error),
            }
            if let Some(body) = delivery.message.large_body() {
                bodies.insert(body.id());
                large.push(delivery.message);
            }
            holder
        });
        if let Some(bad) = bad {
            return Err(bad);
        }
        for message in large {
            check_body(engine, &message)?;
        }
        if !remainder.pending {
            engine.release(id, holder, now);
            return Ok(all);
        }
        engine.read_step();
    }
    Err(format!("queue {id} is never read to its end"))
}
