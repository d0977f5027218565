//! The process: CPU, memory, descriptors, in the names every Prometheus client library uses.

use super::Page;
use std::fmt;
use std::time::SystemTime;

pub(super) fn encode(page: &mut Page<'_>, started_at: SystemTime) -> fmt::Result {
    let figures = Figures::read();
    // `_total` is the encoder's to add; a counter with a fraction of seconds.
    page.encoder
        .encode_descriptor(
            "process_cpu_seconds",
            "User and system CPU time",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?
        .encode_counter::<prometheus_client::encoding::NoLabelSet, _, u64>(&figures.cpu_seconds, None)?;
    page.gauge("process_resident_memory_bytes", "Resident memory", figures.rss_bytes)?;
    page.gauge("process_open_fds", "Open descriptors", figures.open_fds)?;
    let started = started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    page.gauge_f64("process_start_time_seconds", "Start since the epoch", started.as_secs_f64())
}

/// What the system says of this process; zeros where it says nothing.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: i64,
    pub(crate) open_fds: i64,
}

impl Figures {
    pub(crate) fn read() -> Self {
        let open_fds = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            cpu_seconds: cpu_seconds().unwrap_or_default(),
            rss_bytes: rss_bytes().unwrap_or_default(),
            // The directory being read is one of them.
            open_fds: i64::try_from(open_fds.saturating_sub(1)).unwrap_or_default(),
        }
    }
}

fn rss_bytes() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * i64::try_from(rustix::param::page_size()).ok()?)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold spaces; what follows it does not.
    let mut fields = stat.rsplit(')').next()?.split_ascii_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let per_second = f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).ok()?);
    Some((user + system) / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_something() {
        let figures = Figures::read();
        assert!(figures.rss_bytes > 1 << 20 && figures.open_fds >= 3 && figures.cpu_seconds >= 0.0);
    }
}
