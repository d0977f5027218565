//! One process takes over from another, without a port that is closed for a moment: the upgrade of the binary.
//!
//! On SIGUSR2 the running process starts the program that lies at its path now, with the arguments it was started with, and
//! hands over its listening sockets, what is kept of the Admin API and what the broker consists of.
//!
//! ```text
//! old                                                  new
//! starts it, and makes no change of the Admin API   -> reads its configuration, tries it on what the broker consists of,
//!                                                      binds what is new
//! no longer accepts, each answer is the last of its <- serves HTTP; what goes into a queue waits
//!   connection
//! sends clients of the broker away, closes the log  -> opens it, serves all
//! ends what is left of HTTP                         <- has taken over
//! ```
//!
//! Invariants: whatever happens before the new process serves HTTP, the old one goes on and nothing was lost. The data
//! directory is never open twice. If the new process cannot open it, the old one's program is started in its place: its
//! sockets were kept that long. What is not durable ends with the process, as at any end.

mod channel;
mod predecessor;
mod successor;

pub(crate) use channel::{Inheritance, Socket, UDP};
pub(crate) use predecessor::Met;
pub(crate) use successor::Program;

use super::listeners::Listeners;
use super::{Server, notify};
use crate::commands::{Failure, complain};
use admin::Held;
use engine::{Engine, MetaSpace};
use model::limits::{TAKE_OVER_DISK_MS, TAKE_OVER_MOVE_MS, TAKE_OVER_PART_MS, TAKE_OVER_PUSHES_MS};
use std::time::Duration;
use successor::Successor;

/// How long those who keep asking over their connections have to be told that the next one is another process's. What goes
/// into a queue waits meanwhile.
pub(super) const MOVE_TIME: Duration = Duration::from_millis(TAKE_OVER_MOVE_MS);
/// What pushes have to end then.
pub(super) const PUSHES_TIME: Duration = Duration::from_millis(TAKE_OVER_PUSHES_MS);
/// What connections that need the data directory have to end: less than a request to a queue waits in the new process,
/// with what goes before. A client of the broker that has not been sent its confirms by then will publish again.
pub(super) const PART_TIME: Duration = Duration::from_millis(TAKE_OVER_PART_MS);
/// How long the data directory may take to be closed, whatever the disk does, and to be opened: as long as the longest
/// recovery.
const DISK_TIMEOUT: Duration = Duration::from_millis(TAKE_OVER_DISK_MS);
/// How long it takes to have it closed at most: the new process gives up later than the old one can take.
const CLOSE_TIMEOUT: Duration =
    MOVE_TIME.saturating_add(PUSHES_TIME).saturating_add(PART_TIME).saturating_add(DISK_TIMEOUT);

/// Another process serves HTTP beside this one.
pub(super) struct Upgrade {
    successor: Successor,
    program: Program,
    /// For another try.
    spare: Vec<Socket>,
    /// It knows the entities as they were; they stay so.
    _held: Held,
}

impl Upgrade {
    /// Starts the other process.
    ///
    /// # Errors
    /// It does not come so far; then this one goes on.
    pub(super) async fn begin(server: &Server, listeners: &Listeners) -> Result<Self, Failure> {
        let held = server.state.control.hold().await;
        let (program, spare) = (server.program.clone(), listeners.sockets().map_err(Failure::new)?);
        complain(&format!("upgrade: starting {}", program.path().display()));
        let sockets = listeners.sockets().map_err(Failure::new)?;
        let successor = Successor::start(program.clone(), inheritance(&*server.engine, sockets)).await?;
        complain(&format!("upgrade: process {} serves HTTP", successor.pid()));
        notify::main_pid(successor.pid());
        Ok(Self { successor, program, spare, _held: held })
    }

    /// Leaves it the data directory, which is closed.
    ///
    /// # Errors
    /// Neither it nor this program once more can open it.
    pub(super) async fn finish(self, engine: &dyn Engine) -> Result<(), Failure> {
        let pid = self.successor.pid();
        let Err(error) = self.successor.take_over(DISK_TIMEOUT).await else {
            complain(&format!("upgrade: process {pid} has taken over"));
            return Ok(());
        };
        complain(&format!("upgrade: process {pid} could not take over ({error}); this program is started once more"));
        let again = Successor::start(self.program.of_this_process(), inheritance(engine, self.spare)).await?;
        let pid = again.pid();
        notify::main_pid(pid);
        again.take_over(DISK_TIMEOUT).await.map_err(|error| Failure::new(format!("process {pid}: {error}")))?;
        complain(&format!("upgrade: process {pid} has taken over, with the program as it was"));
        Ok(())
    }
}

fn inheritance(engine: &dyn Engine, sockets: Vec<Socket>) -> Inheritance {
    let is_wanted = |key: &[u8]| matches!(MetaSpace::of(key), Some((MetaSpace::Entities | MetaSpace::Topology, _)));
    let metas = engine.metas().into_iter().filter(|(key, _)| is_wanted(key)).collect();
    Inheritance { metas, sockets }
}
