//! What is measured: named figures, their medians, and the floors they are held to.

use std::collections::BTreeMap;

/// One kind of number. The order is that of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Operations per second.
    Rate,
    /// CPU µs of the server per operation.
    Cpu,
    /// CPU of the proxy as a multiple of the upstream's in the same run.
    CpuToUpstream,
    /// CPU µs of the load generator per operation.
    ClientCpu,
    /// Median latency, µs.
    P50,
    /// 99th percentile of latency, µs.
    P99,
    /// The median through the proxy less the median without it, µs.
    AddedP50,
    /// The 99th percentile through the proxy less that without it, µs.
    AddedP99,
    /// Resident memory of the server, MiB.
    Rss,
    /// Octets of resident memory per idle queue.
    QueueBytes,
    /// Milliseconds from exec to ready.
    Ready,
    /// Syncs to disk per 1,000 confirms.
    Syncs,
    /// System calls of the server per request.
    Calls,
    /// Instructions the server runs in user mode, per request.
    Instructions,
    /// Percent of the machine's CPU used by none of those measured.
    Foreign,
}

impl Figure {
    /// All figures, in order.
    pub(crate) const ALL: [Self; 15] = [
        Self::Rate,
        Self::Cpu,
        Self::CpuToUpstream,
        Self::ClientCpu,
        Self::P50,
        Self::P99,
        Self::AddedP50,
        Self::AddedP99,
        Self::Rss,
        Self::QueueBytes,
        Self::Ready,
        Self::Syncs,
        Self::Calls,
        Self::Instructions,
        Self::Foreign,
    ];

    /// Heading of its column.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Rate => "rate /s",
            Self::Cpu => "CPU µs/op",
            Self::CpuToUpstream => "CPU ÷ upstream",
            Self::ClientCpu => "client µs/op",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::AddedP50 => "added p50",
            Self::AddedP99 => "added p99",
            Self::Rss => "RSS MiB",
            Self::QueueBytes => "B/queue",
            Self::Ready => "ready ms",
            Self::Syncs => "syncs/1,000",
            Self::Calls => "syscalls/op",
            Self::Instructions => "instr/op",
            Self::Foreign => "other CPU %",
        }
    }

    /// Name for machines.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Rate => "rate_per_s",
            Self::Cpu => "cpu_us_per_op",
            Self::CpuToUpstream => "cpu_to_upstream",
            Self::ClientCpu => "client_cpu_us_per_op",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::AddedP50 => "added_p50_us",
            Self::AddedP99 => "added_p99_us",
            Self::Rss => "rss_mib",
            Self::QueueBytes => "bytes_per_queue",
            Self::Ready => "ready_ms",
            Self::Syncs => "syncs_per_1000",
            Self::Calls => "syscalls_per_op",
            Self::Instructions => "instructions_per_op",
            Self::Foreign => "foreign_cpu_percent",
        }
    }

    /// Whether ours ÷ theirs says something about the servers. A difference can be nothing, and then says nothing as a ratio.
    pub(crate) fn is_compared(self) -> bool {
        !matches!(self, Self::ClientCpu | Self::AddedP50 | Self::AddedP99 | Self::Foreign)
    }
}

/// The figures of one run, or the medians of several.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures(BTreeMap<Figure, f64>);

impl Figures {
    /// Adds a figure.
    pub(crate) fn set(&mut self, figure: Figure, value: f64) -> &mut Self {
        self.0.insert(figure, value);
        self
    }

    /// The value of a figure, if it was measured.
    pub(crate) fn get(&self, figure: Figure) -> Option<f64> {
        self.0.get(&figure).copied()
    }

    /// All that was measured, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Figure, f64)> {
        self.0.iter().map(|(figure, value)| (*figure, *value))
    }

    /// The median of each figure over the rounds in which it was measured; none without rounds.
    pub(crate) fn median(rounds: &[Self]) -> Option<Self> {
        let mut medians = Self::default();
        for figure in Figure::ALL {
            if let Some(value) = median(rounds.iter().filter_map(|round| round.get(figure))) {
                medians.set(figure, value);
            }
        }
        (!rounds.is_empty()).then_some(medians)
    }

    /// The median over the rounds of ours ÷ theirs, each of the same round: of the two a machine that is slow for a while
    /// slows both. `None` if no round has both.
    pub(crate) fn ratio(ours: &[Self], theirs: &[Self], figure: Figure) -> Option<f64> {
        let ratio = |(ours, theirs): (&Self, &Self)| Some(ours.get(figure)? / theirs.get(figure)?);
        median(ours.iter().zip(theirs).filter_map(ratio).filter(|ratio| ratio.is_finite()))
    }
}

/// The middle value, or that between the two in the middle; none of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some(f64::midpoint(*values.get(values.len().saturating_sub(1) / 2)?, *values.get(values.len() / 2)?))
}

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Floor {
    /// The figure.
    pub(crate) figure: Figure,
    /// Its bound.
    pub(crate) bound: Bound,
}

/// A bound on a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    /// Ours ÷ theirs is at least this.
    RatioAtLeast(f64),
    /// Ours ÷ theirs is at most this.
    RatioAtMost(f64),
    /// Ours is at most this.
    AtMost(f64),
}

impl Floor {
    /// The value the bound is about, of ours and ours ÷ theirs, and whether it holds; none if it was not measured.
    pub(crate) fn check(&self, own: Option<f64>, ratio: Option<f64>) -> Option<(f64, bool)> {
        Some(match self.bound {
            Bound::RatioAtLeast(bound) => ratio.map(|ratio| (ratio, ratio >= bound))?,
            Bound::RatioAtMost(bound) => ratio.map(|ratio| (ratio, ratio <= bound))?,
            Bound::AtMost(bound) => own.map(|own| (own, own <= bound))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(value: f64) -> Figures {
        let mut figures = Figures::default();
        figures.set(Figure::Rate, value);
        figures
    }

    #[test]
    fn the_median_ignores_an_outlier_and_missing_figures() {
        let rounds = [figures(10.0), figures(1000.0), figures(12.0), Figures::default()];
        let median = Figures::median(&rounds).unwrap();
        assert_eq!(median.get(Figure::Rate), Some(12.0));
        assert_eq!(median.get(Figure::Cpu), None);
        assert_eq!(Figures::median(&[figures(1.0), figures(2.0)]).unwrap().get(Figure::Rate), Some(1.5));
        assert_eq!(Figures::median(&[]), None);
    }

    #[test]
    fn a_ratio_is_that_of_the_middle_round() {
        let ours = [figures(10.0), figures(30.0), Figures::default(), figures(8.0)];
        let theirs = [figures(5.0), figures(10.0), figures(1.0), figures(8.0)];
        assert_eq!(Figures::ratio(&ours, &theirs, Figure::Rate), Some(2.0), "of 2, 3 and 1");
        assert_eq!(Figures::ratio(&ours, &[figures(0.0)], Figure::Rate), None);
        assert_eq!(Figures::ratio(&ours, &theirs, Figure::Cpu), None);
    }

    #[test]
    fn floors_are_inclusive_and_unknown_without_figures() {
        let check = |bound| Floor { figure: Figure::Rate, bound }.check(Some(50.0), Some(5.0));
        assert_eq!(check(Bound::RatioAtLeast(5.0)), Some((5.0, true)));
        assert_eq!(check(Bound::RatioAtLeast(5.1)), Some((5.0, false)));
        assert_eq!(check(Bound::RatioAtMost(4.9)), Some((5.0, false)));
        assert_eq!(check(Bound::AtMost(50.0)), Some((50.0, true)));
        assert_eq!(check(Bound::AtMost(49.0)), Some((50.0, false)));
        let floor = Floor { figure: Figure::Rate, bound: Bound::RatioAtLeast(1.0) };
        assert_eq!(floor.check(Some(50.0), None), None);
        let floor = Floor { figure: Figure::Rate, bound: Bound::AtMost(1.0) };
        assert_eq!(floor.check(None, Some(5.0)), None);
    }
}
