//! The cells about data at rest: draining a backlog, recovering a log, and what idle queues cost.

use std::net::SocketAddr;
use std::thread;

use super::broker::MANUAL;
use super::{PATIENCE, stage};
use crate::client::backlog::Backlog;
use crate::client::connection::Connection;
use crate::client::lane::Queues;
use crate::client::run;
use crate::error::Result;
use crate::figures::{Figure, Figures};
use crate::peers::sluicegate::Sluicegate;
use crate::proc;

/// Messages of 1 KiB in the log that is recovered: 1 GiB.
const RECOVERED_MESSAGES: u64 = 1 << 20;
/// Queues that lie idle.
const IDLE_QUEUES: u64 = 100_000;
const MIB: f64 = 1024.0 * 1024.0;

/// Publishes a backlog of `messages` and drains it; only the draining counts, but for the memory, which is the peak of both.
pub(crate) fn measure_drain(address: SocketAddr, pid: u32, messages: u64) -> Result<Figures> {
    let (rss, drained) =
        run::with_peak_rss(pid, || Backlog::publish(address, messages, MANUAL, PATIENCE)?.drain(address, pid))?;
    let messages = drained.messages.max(1) as f64;
    let mut figures = Figures::default();
    figures
        .set(Figure::Rate, messages / drained.used.elapsed.as_secs_f64())
        .set(Figure::Cpu, drained.used.server.as_secs_f64() * 1e6 / messages)
        .set(Figure::ClientCpu, drained.used.generator.as_secs_f64() * 1e6 / messages)
        .set(Figure::Rss, rss as f64 / MIB)
        .set(Figure::Foreign, drained.used.foreign_share() * 100.0);
    Ok(figures)
}

/// Fills the log of `server`, kills it, and measures its next start; then takes every message out, to see that all are there.
pub(crate) fn measure_recovery(server: Sluicegate) -> Result<Figures> {
    let backlog = Backlog::publish(server.amqp, RECOVERED_MESSAGES, MANUAL, PATIENCE)?;
    let server = server.crash_and_restart()?;
    let mut figures = Figures::default();
    figures.set(Figure::Ready, ready_ms(&server)).set(Figure::Rss, proc::rss(server.id())? as f64 / MIB);
    backlog.verify(server.amqp)?;
    backlog.drain(server.amqp, server.id())?;
    server.remove()?;
    Ok(figures)
}

/// Declares durable queues and measures how much `server` grows; then kills it and measures its next start with them.
pub(crate) fn measure_queues(server: Sluicegate) -> Result<Figures> {
    let queues = Queues::new("bench-idle", IDLE_QUEUES);
    let mut connection = Connection::open(server.amqp)?;
    thread::sleep(stage::SETTLE);
    let before = proc::rss(server.id())?;
    queues.declare(&mut connection, true)?;
    thread::sleep(stage::SETTLE);
    let grown = proc::rss(server.id())?.saturating_sub(before);
    connection.close()?;
    let server = server.crash_and_restart()?;
    let mut figures = Figures::default();
    figures
        .set(Figure::QueueBytes, grown as f64 / IDLE_QUEUES as f64)
        .set(Figure::Ready, ready_ms(&server))
        .set(Figure::Rss, proc::rss(server.id())? as f64 / MIB);
    queues.verify(&mut Connection::open(server.amqp)?)?;
    server.remove()?;
    Ok(figures)
}

fn ready_ms(server: &Sluicegate) -> f64 {
    server.ready_after.as_secs_f64() * 1e3
}
