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

/// A message's duration, `None` if it is absent or negative.
pub(crate) fn duration(d: Option<WireDuration>) -> Option<Duration> {
    d.and_then(|d| Duration::try_from(d).ok())
}

/// A duration in the form that messages carry.
pub(crate) fn wire(d: Duration) -> WireDuration {
    WireDuration {
        seconds: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        nanos: d.subsec_nanos().try_into().unwrap_or_default(),
    }
}
