//! The servers of one run of the tool, all started before the first cell, and the measurement of a cell on either side.
//!
//! Those not being measured stay up and idle: starting them between runs would cost more than they disturb.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{Cell, Plan, Side, broker, data, proxy};
use crate::error::{Error, Result};
use crate::figures::{Figure, Figures};
use crate::peers::nginx::Nginx;
use crate::peers::rabbitmq::RabbitMq;
use crate::peers::sluicegate::{self, Sluicegate};
use crate::peers::{free_address, nginx, rabbitmq};
use crate::{proc, syncs, wrk};

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
    nginx: Option<Nginx>,
    upstream: Option<Nginx>,
}

/// The Debian packages that `cells` need on the given sides and that are not installed.
pub(crate) fn missing_packages(cells: &[Cell], sides: &[Side]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    if cells.contains(&Cell::Proxy) {
        missing.extend((!nginx::is_installed()).then_some("nginx"));
        missing.extend((!wrk::is_installed()).then_some("wrk"));
    }
    if needs_rabbitmq(cells, sides) && !rabbitmq::is_installed() {
        missing.push("rabbitmq-server");
    }
    missing
}

fn needs_rabbitmq(cells: &[Cell], sides: &[Side]) -> bool {
    sides.contains(&Side::Theirs) && cells.iter().any(|cell| *cell != Cell::Proxy && !cell.is_ours_alone())
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
            nginx: None,
            upstream: None,
        };
        if cells.contains(&Cell::Proxy) {
            eprintln!("starting nginx");
            let upstream = Nginx::start_upstream(&dir.join("nginx-upstream"))?;
            if sides.contains(&Side::Theirs) {
                stage.nginx = Some(Nginx::start_proxy(&dir.join("nginx-proxy"), upstream.http)?);
            }
            stage.upstream = Some(upstream);
        }
        if needs_rabbitmq(cells, sides) {
            eprintln!("starting RabbitMQ");
            let rabbitmq = RabbitMq::start(&dir.join("rabbitmq"))?;
            thread::sleep(SETTLE);
            stage.rabbitmq_idle_rss = proc::rss(rabbitmq.id())?;
            stage.rabbitmq = Some(rabbitmq);
        }
        if sides.contains(&Side::Ours) {
            eprintln!("starting Sluicegate");
            stage.ours = Some(stage.start_ours("sluicegate")?);
        }
        Ok(stage)
    }

    fn start_ours(&self, name: &str) -> Result<Sluicegate> {
        let upstream = self.upstream.as_ref().map_or_else(free_address, |upstream| Ok(upstream.http))?;
        Sluicegate::start(&self.binary, &self.dir.join(name), upstream)
    }

    /// Measures `cell` once on `side`.
    pub(crate) fn measure(&self, cell: Cell, side: Side, plan: &Plan) -> Result<Figures> {
        if let Some(load) = broker::load_of(cell) {
            let (address, pid) = self.broker(side)?;
            return broker::measure(address, pid, &load, plan.broker);
        }
        match cell {
            Cell::Drain => self.measure_drain(side, plan.backlog),
            Cell::Recovery => data::measure_recovery(self.start_ours("sluicegate-recovery")?),
            Cell::Queues => data::measure_queues(self.start_ours("sluicegate-queues")?),
            Cell::Proxy => self.measure_proxy(side, plan.proxy),
            Cell::Idle => self.measure_idle(side),
            _ => self.measure_ready(side),
        }
    }

    /// Counts syncs per 1,000 confirms in `cell` on `side`; none where there is nothing to count or no strace.
    pub(crate) fn count_syncs(&self, cell: Cell, side: Side, plan: &Plan) -> Result<Option<Figures>> {
        let Some(load) = broker::load_of(cell).filter(|_| broker::counts_syncs(cell) && syncs::is_installed()) else {
            return Ok(None);
        };
        let (address, pid) = self.broker(side)?;
        let mut figures = Figures::default();
        figures.set(Figure::Syncs, broker::count_syncs(address, pid, &load, plan.traced, &self.dir)?);
        Ok(Some(figures))
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

    fn measure_proxy(&self, side: Side, duration: Duration) -> Result<Figures> {
        let found = match side {
            Side::Ours => self.ours.as_ref().map(|ours| (ours.http, ours.id(), sluicegate::PATH)),
            Side::Theirs => self.nginx.as_ref().map(|nginx| (nginx.http, nginx.id(), sluicegate::PATH)),
        };
        let (Some((address, pid, path)), Some(upstream)) = (found, &self.upstream) else {
            return Err(Error::new("the proxy was not started"));
        };
        proxy::measure(address, pid, upstream.id(), path, duration)
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
