//! The changes: a gateway with many routes whose Admin API is written to many times a second. Requests must not be slower
//! for it.
//!
//! In turns the load runs alone and beside the writes, many times each: what is looked for is less than a machine that others
//! share varies by. Every writer upserts a route of its own, so that
//! each write changes what requests are routed by.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cells::gateway::HttpReport;
use crate::error::{Context, Error, Result};
use crate::figures;
use crate::h2load::{self, Arrivals, Pace, Protocol};
use crate::peers::certificate::Certificate;
use crate::peers::nginx::Nginx;
use crate::peers::sluicegate::{API_KEY, PATH, Sluicegate};

/// Routes of the gateway.
const ROUTES: usize = 10_000;
/// Writers, and between two writes of one: 50 writes a second together.
const WRITERS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// How long the load runs each time.
const WINDOW: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(2);
const ROUNDS: usize = 15;
/// How long a write may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much slower the slowest hundredth of requests may be beside the writes.
const SLOWER_MAX: f64 = 1.1;
/// The load, at a rate the machine does not notice.
const SHAPE: h2load::Shape = h2load::Shape {
    protocol: Protocol::Http1,
    connections: 50,
    streams: 1,
    pace: Some(Pace { per_second: 5_000, arrivals: Arrivals::Together }),
};

/// What the load saw.
pub(crate) struct Changed {
    alone: Vec<HttpReport>,
    beside: Vec<HttpReport>,
    /// Writes a second that were answered.
    writes: Vec<f64>,
    machine: String,
}

/// Measures the server `binary`.
pub(crate) fn run(binary: &Path, dir: &Path, machine: String) -> Result<Changed> {
    eprintln!("starting nginx and Sluicegate");
    let upstream = Nginx::start_upstream(&dir.join("nginx-upstream"))?;
    let certificate = Certificate::make(&dir.join("certificate"))?;
    let dir = dir.join("sluicegate-changes");
    let server = Sluicegate::start_gateway_of(ROUTES, binary, &dir, upstream.http, &certificate)?;
    put(server.admin(), "/services/changing", &json!({"url": format!("http://{}", upstream.http)}))?;
    let url = server.proxy().url(false, PATH);
    let load = |window| h2load::run(&url, SHAPE, &format!("apikey: {API_KEY}"), window);
    load(WARM_UP)?;
    let mut changed = Changed { alone: Vec::new(), beside: Vec::new(), writes: Vec::new(), machine };
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        changed.alone.push(load(WINDOW)?);
        let (report, writes) = beside_writes(server.admin(), || load(WINDOW))?;
        changed.beside.push(report);
        changed.writes.push(writes);
    }
    server.remove()?;
    Ok(changed)
}

/// Runs `work` while the writers write; its result, and the writes a second.
fn beside_writes<T>(admin: SocketAddr, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let (stop, n_writes, start) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        let (stop, n_writes) = (&stop, &n_writes);
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write_until(admin, writer, stop, n_writes))).collect();
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let rate = n_writes.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
        for writer in writers {
            writer.join().map_err(|_| Error::new("a writer panicked"))??;
        }
        Ok((done?, rate))
    })
}

fn write_until(admin: SocketAddr, writer: u32, stop: &AtomicBool, n_writes: &AtomicU64) -> Result<()> {
    let mut due = Instant::now() + PAUSE * writer / WRITERS;
    for generation in 0.. {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let paths = [format!("/changing-{writer}-{generation}")];
        put(admin, &format!("/routes/changing-{writer}"), &json!({"paths": paths, "service": {"name": "changing"}}))?;
        n_writes.fetch_add(1, Ordering::Relaxed);
        due += PAUSE;
    }
    Ok(())
}

/// Upserts an entity on a connection of its own.
fn put(admin: SocketAddr, path: &str, entity: &Value) -> Result<()> {
    let body = entity.to_string();
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "PUT {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read what the Admin API answers")?;
    match answer.get(9..12) {
        Some("200" | "201") => Ok(()),
        _ => Err(Error::new(format!("PUT {path}: {answer}"))),
    }
}

/// Of rounds, of which there are some.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    figures::median(values).unwrap_or(f64::NAN)
}

impl Changed {
    /// By which factor the p99 is higher beside the writes, in the middle round.
    fn slower(&self) -> f64 {
        median(self.beside.iter().zip(&self.alone).map(|(beside, alone)| beside.p99_us / alone.p99_us))
    }

    /// Whether the writes are not felt.
    pub(crate) fn is_unnoticed(&self) -> bool {
        self.slower() <= SLOWER_MAX
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let row = |reports: &[HttpReport]| {
            let at = |of: fn(&HttpReport) -> f64| median(reports.iter().map(of));
            format!("p50 {:.0} µs, p99 {:.0} µs", at(|report| report.p50_us), at(|report| report.p99_us))
        };
        let verdict = if self.is_unnoticed() { "met" } else { "MISSED" };
        format!(
            "{ROUTES} routes, 5,000 requests/s, medians of {ROUNDS} rounds\nalone: {}\nbeside {:.0} writes/s: {}\n\
             p99 {:.2}× in the middle round (floor ≤ {SLOWER_MAX}×: {verdict})\n{}\n",
            row(&self.alone),
            median(self.writes.iter().copied()),
            row(&self.beside),
            self.slower(),
            self.machine,
        )
    }

    /// Every round.
    pub(crate) fn to_json(&self) -> Value {
        let rows = |reports: &[HttpReport]| -> Vec<Value> {
            reports.iter().map(|report| json!({"p50_us": report.p50_us, "p99_us": report.p99_us})).collect()
        };
        json!({
            "machine": self.machine,
            "routes": ROUTES,
            "writes_per_s": self.writes,
            "alone": rows(&self.alone),
            "beside": rows(&self.beside),
        })
    }
}
