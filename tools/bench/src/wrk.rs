//! Runs `wrk`, the HTTP load generator of Debian, and reads what it prints.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cells::gateway::HttpReport;
use crate::error::{Context, Error, Result};
use crate::peers::find_program;
use crate::peers::process::guarded;

/// Longer than anything measured here.
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Whether wrk is installed.
pub(crate) fn is_installed() -> bool {
    find_program("wrk").is_some()
}

/// `wrk -t2 -c{connections} -d{seconds} --latency {url}`; any failed request is an error.
pub(crate) fn run(url: &str, connections: u32, headers: &[&str], seconds: Duration) -> Result<HttpReport> {
    let output = command(url, connections, headers, seconds).output().context("start wrk")?;
    read(&output)
}

/// wrk at work, until it is told to stop.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it.
    pub(crate) fn start(url: &str, connections: u32, headers: &[&str]) -> Result<Self> {
        let mut command = command(url, connections, headers, FOREVER);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map(Self).context("start wrk")
    }

    /// Stops it; any failed request is an error.
    pub(crate) fn finish(self) -> Result<HttpReport> {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT).context("stop wrk")?;
        }
        read(&self.0.wait_with_output()?)
    }
}

fn command(url: &str, connections: u32, headers: &[&str], seconds: Duration) -> Command {
    let mut command = guarded("wrk");
    command.args(["-t2", "--latency"]).arg(format!("-c{connections}"));
    command.arg(format!("-d{}", seconds.as_secs().max(1)));
    for header in headers {
        command.arg("-H").arg(header);
    }
    command.arg(url);
    command
}

fn read(output: &Output) -> Result<HttpReport> {
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).context(format_args!("{text}{}wrk", String::from_utf8_lossy(&output.stderr)))
}

fn parse(text: &str) -> Result<HttpReport> {
    let lines = || text.lines().map(str::trim);
    if let Some(bad) = lines().find(|line| line.starts_with("Socket errors") || line.starts_with("Non-2xx")) {
        return Err(Error::new(format!("requests failed: {bad}")));
    }
    let after = |label: &str| {
        let found = lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
        found.ok_or_else(|| Error::new(format!("did not print {label}")))
    };
    let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok());
    Ok(HttpReport {
        requests: requests.ok_or_else(|| Error::new("did not print the number of requests"))?,
        rate: after("Requests/sec:")?.parse().context("rate")?,
        p50_us: micros(after("50%")?)?,
        p99_us: micros(after("99%")?)?,
    })
}

fn micros(text: &str) -> Result<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let found = units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor));
    found.ok_or_else(|| Error::new(format!("not a latency: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Running 5s test @ http://127.0.0.1:1/\n  2 threads and 64 connections\n  \
        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency     1.05ms  420.00us  12.00ms   90.00%\n  \
        Latency Distribution\n     50%  980.00us\n     75%    1.10ms\n     90%    1.30ms\n     99%    2.50ms\n  \
        305000 requests in 5.00s, 350.00MB read\nRequests/sec:  61000.25\nTransfer/sec:     70.00MB\n";

    #[test]
    fn the_figures_are_found() {
        let expected = HttpReport { requests: 305_000, rate: 61_000.25, p50_us: 980.0, p99_us: 2500.0 };
        assert_eq!(parse(TEXT).unwrap(), expected);
    }

    #[test]
    fn a_failed_request_fails_the_run() {
        assert!(parse(&format!("{TEXT}  Non-2xx or 3xx responses: 3\n")).is_err());
        assert!(parse(&format!("{TEXT}  Socket errors: connect 0, read 1, write 0, timeout 0\n")).is_err());
        assert!(parse("").is_err());
    }
}
