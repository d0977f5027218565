//! Runs `h2load`, the HTTP/2 load generator of nghttp2, and reads what it prints and logs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::cells::gateway::HttpReport;
use crate::error::{Context, Error, Result};
use crate::histogram::Histogram;
use crate::peers::find_program;
use crate::peers::process::bounded;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2, over TLS by ALPN, else by prior knowledge.
    Http2,
}

/// How the load is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// Connections kept open.
    pub(crate) connections: u32,
    /// Requests at a time on each.
    pub(crate) streams: u32,
    /// When requests are sent; as fast as it goes if none.
    pub(crate) pace: Option<Pace>,
}

/// A fixed rate, whatever the answers take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Requests a second over all connections, a multiple of their number and of 1,000.
    pub(crate) per_second: u32,
    /// When each connection has its turn.
    pub(crate) arrivals: Arrivals,
}

/// Each connection sends at the ticks of a timer of its own, which starts when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// All are opened at once, so all send at once, again and again.
    Together,
    /// They are opened one after the other at the rate of the requests, so that is how they send.
    InTurn,
}

/// How long a run may take beyond its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether h2load is installed.
pub(crate) fn is_installed() -> bool {
    find_program("h2load").is_some()
}

/// Applies the load for `seconds`; any failed request is an error.
pub(crate) fn run(url: &str, shape: Shape, header: &str, seconds: Duration) -> Result<HttpReport> {
    let log = LogFile::new();
    let mut command = bounded("h2load", seconds + PATIENCE);
    command.arg(format!("-c{}", shape.connections)).arg(format!("-m{}", shape.streams)).arg("-t1");
    command.args(duration(shape, seconds.as_secs().max(1))).arg("-H").arg(header);
    command.arg(format!("--log-file={}", log.0.display()));
    if shape.protocol == Protocol::Http1 {
        command.arg("--h1");
    }
    let output = command.arg(url).output().context("start h2load")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let counted = parse(&text).context(format_args!("{text}{}h2load", String::from_utf8_lossy(&output.stderr)))?;
    let latencies = latencies(&fs::read_to_string(&log.0).context("read h2load's log")?);
    let (requests, rate) = counted;
    let at = |quantile| latencies.quantile(quantile).unwrap_or_default().as_secs_f64() * 1e6;
    Ok(HttpReport { requests, rate, p50_us: at(0.5), p99_us: at(0.99) })
}

/// The options that say how long, and at which pace. h2load opens connections in turn only for a number of requests.
fn duration(shape: Shape, seconds: u64) -> Vec<String> {
    let Some(Pace { per_second, arrivals }) = shape.pace else { return vec![format!("-D{seconds}")] };
    let rps = format!("--rps={}", per_second / shape.connections);
    match arrivals {
        Arrivals::Together => vec![rps, format!("-D{seconds}")],
        Arrivals::InTurn => {
            let requests = format!("-n{}", u64::from(per_second) * seconds);
            vec![rps, requests, format!("-r{}", per_second / 1_000), "--rate-period=1ms".to_owned()]
        }
    }
}

/// One line a request, removed when no longer needed.
struct LogFile(PathBuf);

impl LogFile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("h2load-{}.tsv", std::process::id())))
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        // Left behind, it is a file in the folder for such.
        let _ = fs::remove_file(&self.0);
    }
}

/// Requests and their rate.
fn parse(text: &str) -> Result<(u64, f64)> {
    let line = |label: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(label));
        found.ok_or_else(|| Error::new(format!("did not print {label}")))
    };
    let number = |line: &str, word: &str| {
        let before = line.split(word).next().and_then(|text| text.split_ascii_whitespace().next_back());
        before.and_then(|text| text.parse::<f64>().ok()).ok_or_else(|| Error::new(format!("did not print {word}")))
    };
    let requests = line("requests:")?;
    for bad in ["failed", "errored", "timeout"] {
        if number(requests, bad)? > 0.0 {
            return Err(Error::new(format!("requests failed: {requests}")));
        }
    }
    let succeeded = number(line("status codes:")?, "2xx")?;
    let rate = number(line("finished in")?, "req/s")?;
    Ok((succeeded as u64, rate))
}

/// The third column: µs from sending a request to its end.
fn latencies(log: &str) -> Histogram {
    let mut latencies = Histogram::new();
    let micros = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse::<u64>().ok());
    micros.for_each(|micros| latencies.record(micros.saturating_mul(1_000)));
    latencies
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "starting benchmark...\n\nfinished in 5.00s, 12000.40 req/s, 13.00MB/s\n\
        requests: 60002 total, 60010 started, 60002 done, 60002 succeeded, 0 failed, 0 errored, 0 timeout\n\
        status codes: 60002 2xx, 0 3xx, 0 4xx, 0 5xx\n";

    #[test]
    fn the_figures_are_found() {
        assert_eq!(parse(TEXT).unwrap(), (60_002, 12_000.4));
        let median = latencies("1\t200\t30\n2\t200\t30\nnonsense\n").quantile(0.5).unwrap().as_micros();
        assert!((29..=31).contains(&median), "{median} µs");
    }

    #[test]
    fn connections_have_their_turns_within_the_tick_of_one() {
        let paced = |arrivals| {
            let pace = Some(Pace { per_second: 5_000, arrivals });
            duration(Shape { protocol: Protocol::Http1, connections: 50, streams: 1, pace }, 2)
        };
        assert_eq!(paced(Arrivals::Together), ["--rps=100", "-D2"]);
        // 50 connections, five a millisecond, are open after 10 ms, which is the tick of 100 requests a second.
        assert_eq!(paced(Arrivals::InTurn), ["--rps=100", "-n10000", "-r5", "--rate-period=1ms"]);
    }

    #[test]
    fn a_failed_request_fails_the_run() {
        assert!(parse(&TEXT.replace("0 failed", "3 failed")).is_err());
        assert!(parse(&TEXT.replace("0 errored", "1 errored")).is_err());
        assert!(parse("").is_err());
    }
}
