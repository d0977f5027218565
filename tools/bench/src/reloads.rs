//! The reloads: a gateway whose configuration changes again and again under full load. Its memory must stay flat, and no
//! request may fail.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cells::gateway::HttpReport;
use crate::error::{Context, Error, Result};
use crate::histogram::Histogram;
use crate::peers::certificate::Certificate;
use crate::peers::nginx::Nginx;
use crate::peers::sluicegate::{API_KEY, PATH, Sluicegate};
use crate::proc;
use crate::trend::Trend;
use crate::wrk::Running;

/// Connections of the load.
const CONNECTIONS: u32 = 64;
/// How long a reload may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks whether a reload took effect.
const POLL: Duration = Duration::from_millis(2);
/// Reloads whose memory is averaged before a line is laid through it.
const PERIOD: usize = 10;
const MIB: f64 = 1024.0 * 1024.0;

/// What was seen after a reload.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Since the first reload.
    at: Duration,
    rss: u64,
    /// From the signal to the first request that was routed by the new configuration.
    took: Duration,
}

/// What the reloads did.
pub(crate) struct Reloaded {
    samples: Vec<Sample>,
    load: HttpReport,
    machine: String,
}

/// Changes the configuration of the server `binary` so many `times` under load.
pub(crate) fn run(binary: &Path, dir: &Path, times: usize, machine: String) -> Result<Reloaded> {
    eprintln!("starting nginx and Sluicegate");
    let upstream = Nginx::start_upstream(&dir.join("nginx-upstream"))?;
    let certificate = Certificate::make(&dir.join("certificate"))?;
    let server = Sluicegate::start_gateway(binary, &dir.join("sluicegate-reloads"), upstream.http, &certificate, None)?;
    let proxy = server.proxy();
    let load = Running::start(&proxy.url(false, PATH), CONNECTIONS, &[&format!("apikey: {API_KEY}")])?;
    let mut samples = Vec::with_capacity(times);
    let start = Instant::now();
    for generation in 1..=times {
        let signalled = Instant::now();
        server.reload_gateway(upstream.http, generation)?;
        wait_routed(proxy.http, generation)?;
        let took = signalled.elapsed();
        samples.push(Sample { at: start.elapsed(), rss: proc::rss(proxy.pid)?, took });
        if generation.is_multiple_of(100) {
            eprintln!("{generation} reloads, RSS {:.1} MiB", samples[generation - 1].rss as f64 / MIB);
        }
    }
    let load = load.finish()?;
    server.remove()?;
    Ok(Reloaded { samples, load, machine })
}

/// Waits until the route that only this generation has answers.
fn wait_routed(http: SocketAddr, generation: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while status(http, &format!("/generation-{generation}"))? != 200 {
        if Instant::now() > deadline {
            return Err(Error::new(format!("reload {generation} has no effect after {PATIENCE:?}")));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// One request on a connection of its own.
fn status(http: SocketAddr, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {http}\r\napikey: {API_KEY}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read an answer")?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    status.ok_or_else(|| Error::new(format!("not an answer: {answer}")))
}

impl Reloaded {
    fn trend(&self) -> Trend {
        let points: Vec<(f64, f64)> =
            self.samples.iter().map(|sample| (sample.at.as_secs_f64(), sample.rss as f64 / MIB)).collect();
        Trend::of_last_two_thirds(&points, PERIOD, 0.0)
    }

    fn took(&self) -> Histogram {
        let mut took = Histogram::new();
        for sample in &self.samples {
            took.record(u64::try_from(sample.took.as_nanos()).unwrap_or(u64::MAX));
        }
        took
    }

    /// Whether memory stayed flat. A failed request was an error before.
    pub(crate) fn is_flat(&self) -> bool {
        self.trend().is_flat()
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let took = self.took();
        let ms = |quantile| took.quantile(quantile).unwrap_or_default().as_secs_f64() * 1e3;
        format!(
            "{} reloads of 1,000 routes in {:.0} s; from the signal to the first request routed by it p50 {:.0} ms, p99 {:.0} ms\n\
             {} requests meanwhile, none failed, {:.0}/s, p99 {:.1} ms\n{}\n{}\n",
            self.samples.len(),
            self.samples.last().map_or(0.0, |last| last.at.as_secs_f64()),
            ms(0.5),
            ms(0.99),
            self.load.requests,
            self.load.rate,
            self.load.p99_us / 1e3,
            self.trend().to_text("RSS MiB"),
            self.machine,
        )
    }

    /// All samples.
    pub(crate) fn to_json(&self) -> Value {
        let samples = self.samples.iter().map(|sample| {
            json!({
                "seconds": sample.at.as_secs_f64(),
                "rss_bytes": sample.rss,
                "took_ms": sample.took.as_secs_f64() * 1e3,
            })
        });
        json!({
            "machine": self.machine,
            "requests": self.load.requests,
            "rate_per_s": self.load.rate,
            "p99_us": self.load.p99_us,
            "trends": [self.trend().to_json("RSS MiB")],
            "samples": samples.collect::<Vec<_>>(),
        })
    }
}
