//! CPU time and memory of a server, read from /proc: its root process and all descendants, every thread of them.
//!
//! Linux keeps utime + stime of a process to the nanosecond and shows it in ticks of 10 ms, so a window of seconds is
//! exact to a fraction of a percent.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The part of /proc/PID/stat that is needed (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// utime + stime, in clock ticks, of all threads that live or lived.
    ticks: u64,
    /// The same of children that ended and were waited for.
    ticks_of_ended_children: u64,
}

/// CPU time of `root` and its descendants so far, ended children included.
pub(crate) fn cpu(root: u32) -> Result<Duration> {
    let ticks = tree(root)?.into_values().map(|stat| stat.ticks + stat.ticks_of_ended_children).sum();
    Ok(duration(ticks))
}

/// CPU time of this process and of its children that ended.
pub(crate) fn cpu_of_this() -> Result<Duration> {
    let me = std::process::id();
    read_stat(me).map(|stat| duration(stat.ticks + stat.ticks_of_ended_children)).ok_or_else(|| gone(me))
}

/// CPU time of all CPUs that was not idle, waiting for a disk, or stolen.
fn cpu_of_machine() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    parse_machine(&text).map(duration).ok_or_else(|| Error::new("/proc/stat has changed"))
}

/// user, nice, system, irq and softirq of the line `cpu`.
fn parse_machine(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().map(|at| fields.get(*at).copied()).sum()
}

/// Measures CPU time from its start on.
pub(crate) struct Meter {
    server: u32,
    helper: Option<u32>,
    before: Reading,
}

/// CPU times at a moment, or between two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    at: Instant,
    /// Of the server's processes.
    pub(crate) server: Duration,
    /// Of the process that helps to measure: an upstream.
    pub(crate) helper: Duration,
    /// Of this process, and of load generators it ran to their end.
    pub(crate) generator: Duration,
    machine: Duration,
    /// How long the measurement took.
    pub(crate) elapsed: Duration,
}

impl Meter {
    /// Starts measuring `server`, and `helper` beside it.
    pub(crate) fn start(server: u32, helper: Option<u32>) -> Result<Self> {
        Ok(Self { server, helper, before: Reading::now(server, helper)? })
    }

    /// How long it has been measuring.
    pub(crate) fn elapsed(&self) -> Duration {
        self.before.at.elapsed()
    }

    /// What was used since the start.
    pub(crate) fn finish(self) -> Result<Reading> {
        let (after, before) = (Reading::now(self.server, self.helper)?, self.before);
        Ok(Reading {
            at: after.at,
            server: after.server.saturating_sub(before.server),
            helper: after.helper.saturating_sub(before.helper),
            generator: after.generator.saturating_sub(before.generator),
            machine: after.machine.saturating_sub(before.machine),
            elapsed: after.at - before.at,
        })
    }
}

impl Reading {
    fn now(server: u32, helper: Option<u32>) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server: cpu(server)?,
            helper: helper.map(cpu).transpose()?.unwrap_or_default(),
            generator: cpu_of_this()?,
            machine: cpu_of_machine()?,
            elapsed: Duration::ZERO,
        })
    }

    /// The share of the machine, 0 to 1, that nothing measured here has used: the kernel's own threads, and strangers.
    pub(crate) fn foreign_share(&self) -> f64 {
        let ours = self.server + self.helper + self.generator;
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let all = self.elapsed.as_secs_f64() * cpus;
        if all > 0.0 { self.machine.saturating_sub(ours).as_secs_f64() / all } else { 0.0 }
    }
}

/// Resident memory of `root` and its descendants, in octets; pages they share count in each.
pub(crate) fn rss(root: u32) -> Result<u64> {
    Ok(tree(root)?.into_keys().filter_map(read_rss).sum())
}

/// Files that the process `pid` has open, sockets included.
pub(crate) fn open_files(pid: u32) -> Result<u64> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// The process ids of `root` and its descendants.
pub(crate) fn pids(root: u32) -> Result<Vec<u32>> {
    Ok(tree(root)?.into_keys().collect())
}

fn duration(ticks: u64) -> Duration {
    Duration::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

fn gone(pid: u32) -> Error {
    Error::new(format!("process {pid} is gone; see its log"))
}

fn tree(root: u32) -> Result<HashMap<u32, Stat>> {
    let mut all: HashMap<u32, Stat> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok())
            && let Some(stat) = read_stat(pid)
        {
            all.insert(pid, stat);
        }
    }
    let mut found = HashMap::from([(root, *all.get(&root).ok_or_else(|| gone(root))?)]);
    loop {
        let before = found.len();
        for (pid, stat) in &all {
            if found.contains_key(&stat.parent) {
                found.insert(*pid, *stat);
            }
        }
        if found.len() == before {
            return Ok(found);
        }
    }
}

fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command, in parentheses, may contain anything, so fields count from the last closing one.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)?,
        ticks_of_ended_children: number(13)? + number(14)?,
    })
}

fn read_rss(pid: u32) -> Option<u64> {
    parse_rss(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_hostile_command() {
        let line = "77 (a) b 9 (c) S 12 77 77 0 -1 4194560 1 2 3 4 250 50 7 3 20 0 4 0 100 1000 200 0\n";
        assert_eq!(parse_stat(line), Some(Stat { parent: 12, ticks: 300, ticks_of_ended_children: 10 }));
        assert_eq!(parse_stat("77 (a) S 12"), None);
    }

    #[test]
    fn idle_time_is_not_work() {
        let text = "cpu  10 1 20 9999 500 2 3 77 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(parse_machine(text), Some(36));
    }

    #[test]
    fn rss_is_in_octets() {
        assert_eq!(parse_rss("Name:\tx\nVmRSS:\t    2048 kB\nThreads: 1\n"), Some(2 * 1024 * 1024));
        assert_eq!(parse_rss("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_burns_cpu() {
        let me = std::process::id();
        assert!(rss(me).unwrap() > 100_000);
        assert!(pids(me).unwrap().contains(&me));
        let meter = Meter::start(me, None).unwrap();
        let before = cpu_of_this().unwrap();
        let mut x = 1u64;
        while cpu_of_this().unwrap() < before + Duration::from_millis(20) {
            (0..100_000).for_each(|i| x = x.wrapping_mul(i | 1));
        }
        assert_ne!(x, 0);
        let used = meter.finish().unwrap();
        assert!(used.server >= Duration::from_millis(20) && used.generator >= Duration::from_millis(20));
    }
}
