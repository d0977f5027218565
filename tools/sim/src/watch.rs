//! What the engine says, and whether it may.

use engine::{EngineEvents, Pressure, Ticket};
use model::QueueId;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Said {
    durable: Ticket,
    pub(crate) readable: BTreeSet<QueueId>,
    pub(crate) pressure: Pressure,
    failed: Option<String>,
    damaged: bool,
    wrong: Option<String>,
}

/// See the module.
pub(crate) struct Watch(Mutex<Said>);

impl Watch {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Said {
            durable: Ticket::NONE,
            readable: BTreeSet::new(),
            pressure: Pressure::None,
            failed: None,
            damaged: false,
            wrong: None,
        }))
    }

    pub(crate) fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks what was said since, and what the engine answers now; `faulty` if a call of the disk may have failed.
    pub(crate) fn check(&self, durable: Ticket, pressure: Pressure, faulty: bool) -> Result<(), String> {
        let mut said = self.said();
        if let Some(wrong) = said.wrong.take() {
            return Err(wrong);
        }
        if durable < said.durable {
            return Err(format!("ticket {} was durable and now only {}", said.durable.0, durable.0));
        }
        said.durable = durable;
        if let Some(why) = said.failed.as_ref().filter(|_| !faulty) {
            return Err(format!("the engine failed without a reason: {why}"));
        }
        if said.damaged {
            return Err("the engine found damage where there is none".to_owned());
        }
        if said.pressure == Pressure::Disk && pressure == Pressure::None {
            return Err("publishers were not told that they may go on".to_owned());
        }
        Ok(())
    }
}

impl EngineEvents for Watch {
    fn durable(&self, ticket: Ticket) {
        let mut said = self.said();
        if ticket <= said.durable {
            said.wrong = Some(format!("ticket {} was told after {}", ticket.0, said.durable.0));
        }
        said.durable = ticket;
    }

    fn readable(&self, queue: QueueId) {
        self.said().readable.insert(queue);
    }

    fn pressure(&self, pressure: Pressure) {
        self.said().pressure = pressure;
    }

    fn damaged(&self, _: &str) {
        self.said().damaged = true;
    }

    fn failed(&self, why: &str) {
        self.said().failed = Some(why.to_owned());
    }
}
