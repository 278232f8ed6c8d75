//! Points in time as numbers. Nothing here knows what time it is.

use std::time::Duration;

use prost_types::{Duration as WireDuration, Timestamp};

/// Nanoseconds since the Unix epoch: wall-clock time as the caller tells it.
///
/// ```
/// use outlast_machine::time::Time;
/// use std::time::Duration;
///
/// let start = Time::from_nanos(1_000);
/// assert_eq!(start + Duration::from_nanos(5), Time::from_nanos(1_005));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The point `nanos` after the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to this, zero if it is not earlier.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This time in the form that messages carry.
    pub fn timestamp(self) -> Timestamp {
        Timestamp { seconds: self.0.div_euclid(NANOS), nanos: self.0.rem_euclid(NANOS) as i32 }
    }
}

const NANOS: i64 = 1_000_000_000;

impl From<Timestamp> for Time {
    fn from(t: Timestamp) -> Self {
        Self(t.seconds.saturating_mul(NANOS).saturating_add(i64::from(t.nanos)))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// A duration of a message that is less than nothing, normalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negative(WireDuration);

impl std::fmt::Display for Negative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "-{}", self.0.seconds.unsigned_abs())?;
        if self.0.nanos != 0 {
            let digits = format!("{:09}", self.0.nanos.unsigned_abs());
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        write!(f, "s")
    }
}

/// A message's duration, `None` if the message has none. A negative one is an error and never `None`: a limit that is
/// already over would otherwise read as no limit. Whoever reads a duration decides which of the two it is there.
pub fn duration(given: Option<WireDuration>) -> Result<Option<Duration>, Negative> {
    let Some(given) = given.map(|given| given.normalized()) else { return Ok(None) };
    // Not by the conversion of prost: the least of all durations overflows there.
    match (u64::try_from(given.seconds), u32::try_from(given.nanos)) {
        (Ok(seconds), Ok(nanos)) => Ok(Some(Duration::new(seconds, nanos))),
        (Err(_), _) | (_, Err(_)) => Err(Negative(given)),
    }
}

/// A message's time limit that is over at once where it is negative.
pub fn limit(given: Option<WireDuration>) -> Option<Duration> {
    duration(given).unwrap_or(Some(Duration::ZERO))
}

/// A duration in the form that messages carry.
pub(crate) fn wire(d: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        nanos: d.subsec_nanos().try_into().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_negative_is_never_absent() {
        let of = |seconds, nanos| duration(Some(WireDuration { seconds, nanos }));
        let negative = |seconds, nanos| Err(Negative(WireDuration { seconds, nanos }));
        assert_eq!(duration(None), Ok(None));
        assert_eq!(of(0, 0), Ok(Some(Duration::ZERO)));
        assert_eq!(of(1, -1), Ok(Some(Duration::from_nanos(999_999_999))), "signs are mixed");
        assert_eq!(of(0, 2_000_000_001), Ok(Some(Duration::new(2, 1))), "more nanoseconds than a second has");
        assert_eq!(of(i64::MAX, i32::MAX), Ok(Some(Duration::new(i64::MAX as u64, 999_999_999))));
        assert_eq!(of(0, -1), negative(0, -1));
        assert_eq!(of(-1, 1), negative(0, -999_999_999));
        assert_eq!(of(1, -2_000_000_000), negative(-1, 0));
        assert_eq!(of(i64::MIN, i32::MIN), negative(i64::MIN, -999_999_999));
    }

    #[test]
    fn what_is_negative_has_a_text() {
        let text = |seconds, nanos| Negative(WireDuration { seconds, nanos }).to_string();
        assert_eq!(text(-5, 0), "-5s");
        assert_eq!(text(0, -1_000), "-0.000001s");
        assert_eq!(text(-1, -500_000_000), "-1.5s");
        assert_eq!(text(i64::MIN, -1), "-9223372036854775808.000000001s");
    }

    #[test]
    fn a_limit_that_is_negative_is_over() {
        let of = |seconds| limit(Some(WireDuration { seconds, nanos: 0 }));
        assert_eq!((limit(None), of(-5), of(0)), (None, Some(Duration::ZERO), Some(Duration::ZERO)));
    }
}
