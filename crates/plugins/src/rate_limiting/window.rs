//! Windows of the UTC calendar.

/// A period for which requests are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

const DAY_S: u64 = 86_400;

impl Period {
    /// From the shortest to the longest.
    pub(super) const ALL: [Self; 6] = [Self::Second, Self::Minute, Self::Hour, Self::Day, Self::Month, Self::Year];

    /// Its name in configurations.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// The end of the window that contains `now_s`, in seconds since the epoch: the start of the next one.
    pub(super) fn end_s(self, now_s: u64) -> u64 {
        match self {
            Self::Second => now_s + 1,
            Self::Minute => next_multiple(now_s, 60),
            Self::Hour => next_multiple(now_s, 3600),
            Self::Day => next_multiple(now_s, DAY_S),
            Self::Month => match date(now_s / DAY_S) {
                (year, 12) => days_before(year + 1, 1) * DAY_S,
                (year, month) => days_before(year, month + 1) * DAY_S,
            },
            Self::Year => days_before(date(now_s / DAY_S).0 + 1, 1) * DAY_S,
        }
    }
}

const fn next_multiple(now_s: u64, of: u64) -> u64 {
    (now_s / of + 1) * of
}

/// Days from 1970-01-01 to the first of a month, 1 to 12.
const fn days_before(year: u64, month: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let past = year - 1;
    let days = 365 * (year - 1970) + (past / 4 - past / 100 + past / 400) - 477;
    days + BEFORE[month as usize - 1] + (leap && month > 2) as u64
}

/// The year and month of a day counted from 1970-01-01.
fn date(day: u64) -> (u64, u64) {
    let mut year = 1970 + day / 366;
    while days_before(year + 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days_before(year, *month) <= day);
    (year, month.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_with_the_calendar() {
        // 2026-03-01 12:00:30 UTC
        let now = 1_772_366_430;
        let ends = Period::ALL.map(|period| period.end_s(now) - now);
        assert_eq!(ends, [1, 30, 3570, 43_170, 31 * DAY_S - 43_230, 306 * DAY_S - 43_230]);
        // 2024-02-29 00:00 and 1999-12-31 23:59:59
        assert_eq!(Period::Month.end_s(1_709_164_800), 1_709_164_800 + DAY_S);
        assert_eq!(Period::Year.end_s(946_684_799), 946_684_800);
        assert_eq!(Period::Month.end_s(946_684_799), 946_684_800);
        assert_eq!([Period::Month.end_s(0), Period::Year.end_s(0)], [31 * DAY_S, 365 * DAY_S]);
    }

    #[test]
    fn every_day_lies_before_the_end_of_its_month() {
        for day in 0..40_000 {
            let end = Period::Month.end_s(day * DAY_S) / DAY_S;
            assert!(end > day && end <= day + 31, "{day}");
        }
    }
}
