//! A token bucket: tokens come at a rate, a few may be saved, each admits one.

use std::time::{Duration, Instant};

/// Admits so many per second. It saves up a tenth of a second's worth (at least one), so that any one second sees at most
/// the rate and a tenth more.
///
/// ```
/// use outlast_worker::throttle::TokenBucket;
/// use std::time::{Duration, Instant};
/// let began = Instant::now();
/// let mut bucket = TokenBucket::new(2.0, began).unwrap();
/// bucket.take(began);
/// assert_eq!(bucket.available(began), 0);
/// assert_eq!(bucket.when(1, began), Some(began + Duration::from_millis(500)));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBucket {
    per_second: f64,
    saved_max: f64,
    tokens: f64,
    counted: Instant,
}

impl TokenBucket {
    /// A full bucket; none if the rate is no rate (zero, negative, infinite).
    pub fn new(per_second: f64, now: Instant) -> Option<Self> {
        let saved_max = (per_second / 10.0).max(1.0);
        let is_rate = per_second.is_finite() && per_second > 0.0;
        is_rate.then_some(TokenBucket { per_second, saved_max, tokens: saved_max, counted: now })
    }

    /// Whole tokens there are now.
    pub fn available(&self, now: Instant) -> usize {
        // A hair more than the float says: a token due exactly now must not be missed to rounding.
        (self.at(now) + 1e-6) as usize
    }

    /// Takes one, whether there or not: what is taken ahead of time is missing later.
    pub fn take(&mut self, now: Instant) {
        self.tokens = self.at(now) - 1.0;
        self.counted = self.counted.max(now);
    }

    /// When there will be so many; none if the bucket never holds so many.
    pub fn when(&self, count: usize, now: Instant) -> Option<Instant> {
        let missing = count as f64 - self.at(now);
        if count as f64 > self.saved_max {
            return None;
        }
        // Beyond a century's wait the rate is as good as zero.
        Some(now + Duration::from_secs_f64((missing / self.per_second).clamp(0.0, 3e9)))
    }

    fn at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        (self.tokens + passed * self.per_second).min(self.saved_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_second_sees_at_most_the_rate_and_a_tenth() {
        let began = Instant::now();
        let mut bucket = TokenBucket::new(20.0, began).unwrap();
        let mut taken = Vec::new();
        for millisecond in 0..5000u64 {
            let now = began + Duration::from_millis(millisecond);
            // Idle for the third second, greedy in all others.
            if !(2000..3000).contains(&millisecond) && bucket.available(now) > 0 {
                bucket.take(now);
                taken.push(millisecond);
            }
        }
        for from in 0..4000 {
            let within = taken.iter().filter(|at| (from..from + 1000).contains(*at)).count();
            assert!(within <= 22, "{within} from {from}");
        }
        assert!(taken.len() >= 78, "{}", taken.len());
    }

    #[test]
    fn what_is_no_rate_makes_no_bucket() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(TokenBucket::new(rate, Instant::now()), None);
        }
    }

    #[test]
    fn a_token_is_there_when_it_was_said_to_be() {
        let began = Instant::now();
        for rate in [0.1, 0.3, 1.0, 3.0, 7.0, 1e5] {
            let mut bucket = TokenBucket::new(rate, began).unwrap();
            let mut now = began;
            for _ in 0..100 {
                while bucket.available(now) > 0 {
                    bucket.take(now);
                }
                now = bucket.when(1, now).unwrap();
                assert!(bucket.available(now) >= 1, "rate {rate}");
            }
        }
    }
}
