//! The servers of one run of the tool, all started before the first cell, and the measurement of a cell on either side.
//!
//! Those not being measured stay up and idle: starting them between runs would cost more than they disturb.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::gateway::{self, Gateways};
use super::{Cell, Plan, Side, broker, data};
use crate::error::{Error, Result};
use crate::figures::{Figure, Figures};
use crate::peers::rabbitmq::{self, RabbitMq};
use crate::peers::sluicegate::Sluicegate;
use crate::proc;

/// How long a server is left alone before its idle memory is read.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);
const MIB: f64 = 1024.0 * 1024.0;

/// The running servers.
pub(crate) struct Stage {
    dir: PathBuf,
    binary: PathBuf,
    ours: Option<Sluicegate>,
    rabbitmq: Option<RabbitMq>,
    /// RabbitMQ's memory before its first client, in octets.
    rabbitmq_idle_rss: u64,
    gateways: Option<Gateways>,
}

/// The Debian packages that `cells` need on the given sides and that are not installed.
pub(crate) fn missing_packages(cells: &[Cell], sides: &[Side]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if cells.iter().any(|cell| gateway::is_gateway(*cell)) {
        missing.extend(gateway::missing_packages(sides));
    }
    if needs_rabbitmq(cells, sides) && !rabbitmq::is_installed() {
        missing.push("rabbitmq-server");
    }
    missing
}

fn needs_rabbitmq(cells: &[Cell], sides: &[Side]) -> bool {
    sides.contains(&Side::Theirs) && cells.iter().any(|cell| !gateway::is_gateway(*cell) && !cell.is_ours_alone())
}

/// Whether a cell is run once more to count system calls.
pub(crate) fn counts(cell: Cell) -> bool {
    broker::counts_syncs(cell) || gateway::counts_calls(cell)
}

impl Stage {
    /// Starts what `cells` need on `sides`, with data under `dir`; ours is `binary`.
    pub(crate) fn set_up(dir: &Path, binary: &Path, cells: &[Cell], sides: &[Side]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut stage = Self {
            dir: dir.to_owned(),
            binary: binary.to_owned(),
            ours: None,
            rabbitmq: None,
            rabbitmq_idle_rss: 0,
            gateways: None,
        };
        if cells.iter().any(|cell| gateway::is_gateway(*cell)) {
            stage.gateways = Some(Gateways::set_up(dir, binary, sides, None)?);
        }
        if needs_rabbitmq(cells, sides) {
            eprintln!("starting RabbitMQ");
            let rabbitmq = RabbitMq::start(&dir.join("rabbitmq"))?;
            thread::sleep(SETTLE);
            stage.rabbitmq_idle_rss = proc::rss(rabbitmq.id())?;
            stage.rabbitmq = Some(rabbitmq);
        }
        if sides.contains(&Side::Ours) && cells.iter().any(|cell| !gateway::is_gateway(*cell)) {
            eprintln!("starting Sluicegate");
            stage.ours = Some(stage.start_ours("sluicegate")?);
        }
        Ok(stage)
    }

    fn start_ours(&self, name: &str) -> Result<Sluicegate> {
        Sluicegate::start(&self.binary, &self.dir.join(name))
    }

    /// Measures `cell` once on `side`.
    pub(crate) fn measure(&self, cell: Cell, side: Side, plan: &Plan) -> Result<Figures> {
        if let Some(load) = broker::load_of(cell) {
            let (address, pid) = self.broker(side)?;
            return broker::measure(address, pid, &load, plan.broker);
        }
        if gateway::is_gateway(cell) {
            return self.gateways()?.measure(cell, side, plan.window_of(cell));
        }
        match cell {
            Cell::Drain => self.measure_drain(side, plan.backlog),
            Cell::Recovery => data::measure_recovery(self.start_ours("sluicegate-recovery")?),
            Cell::Queues => data::measure_queues(self.start_ours("sluicegate-queues")?),
            Cell::Idle => self.measure_idle(side),
            _ => self.measure_ready(side),
        }
    }

    /// Counts system calls of `side` in `cell`: syncs per 1,000 confirms, or all per request. The cell is one that
    /// [`counts`].
    pub(crate) fn count(&self, cell: Cell, side: Side, plan: &Plan) -> Result<Figures> {
        let Some(load) = broker::load_of(cell) else {
            return self.gateways()?.count_calls(cell, side, plan.traced.window, &self.dir);
        };
        let (address, pid) = self.broker(side)?;
        let mut figures = Figures::default();
        figures.set(Figure::Syncs, broker::count_syncs(address, pid, &load, plan.traced, &self.dir)?);
        Ok(figures)
    }

    fn broker(&self, side: Side) -> Result<(std::net::SocketAddr, u32)> {
        let found = match side {
            Side::Ours => self.ours.as_ref().map(|ours| (ours.amqp, ours.id())),
            Side::Theirs => self.rabbitmq.as_ref().map(|rabbitmq| (rabbitmq.amqp, rabbitmq.id())),
        };
        found.ok_or_else(|| Error::new("the server was not started"))
    }

    /// Ours is started afresh, so that the memory of the other cells is not that of a backlog; RabbitMQ takes seconds to start.
    fn measure_drain(&self, side: Side, backlog: u64) -> Result<Figures> {
        if side == Side::Theirs {
            let (address, pid) = self.broker(side)?;
            return data::measure_drain(address, pid, backlog);
        }
        let fresh = self.start_ours("sluicegate-drain")?;
        let figures = data::measure_drain(fresh.amqp, fresh.id(), backlog)?;
        fresh.remove()?;
        Ok(figures)
    }

    fn gateways(&self) -> Result<&Gateways> {
        self.gateways.as_ref().ok_or_else(|| Error::new("the gateways were not started"))
    }

    /// Ours is started afresh; RabbitMQ's figure is of its one start.
    fn measure_idle(&self, side: Side) -> Result<Figures> {
        let octets = if side == Side::Ours {
            let fresh = self.start_ours("sluicegate-idle")?;
            thread::sleep(SETTLE);
            proc::rss(fresh.id())?
        } else {
            self.rabbitmq_idle_rss
        };
        let mut figures = Figures::default();
        figures.set(Figure::Rss, octets as f64 / MIB);
        Ok(figures)
    }

    /// Ours is started afresh; RabbitMQ's figure is of its one start.
    fn measure_ready(&self, side: Side) -> Result<Figures> {
        let ready_after = match side {
            Side::Ours => self.start_ours("sluicegate-ready")?.ready_after,
            Side::Theirs => self.rabbitmq.as_ref().map(|rabbitmq| rabbitmq.ready_after).unwrap_or_default(),
        };
        let mut figures = Figures::default();
        figures.set(Figure::Ready, ready_after.as_secs_f64() * 1e3);
        Ok(figures)
    }
}
