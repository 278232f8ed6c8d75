//! A proportional-integral-derivative controller: how far a measurement is from its target, as one number.
//!
//! Pure: one call a sample, no clock.

/// How strongly each part counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PidGains {
    pub proportional: f64,
    pub integral: f64,
    pub derivative: f64,
    /// Each part is held within plus and minus this.
    pub limit: f64,
}

/// The controller. Positive output: below the target, there is room.
///
/// ```
/// use outlast_worker::slots::{Pid, PidGains};
/// let mut pid = Pid::new(PidGains { proportional: 5.0, integral: 0.0, derivative: 1.0, limit: 100.0 });
/// assert!((pid.next(0.8, 0.7) - 0.5).abs() < 1e-9); // 5 x 0.1; no change known yet
/// assert!((pid.next(0.8, 0.75) - 0.2).abs() < 1e-9); // 5 x 0.05, less 0.05 of growth
/// ```
#[derive(Clone, Debug)]
pub struct Pid {
    gains: PidGains,
    integral: f64,
    previous: Option<f64>,
}

impl Pid {
    pub fn new(gains: PidGains) -> Self {
        Pid { gains, integral: 0.0, previous: None }
    }

    /// The output for the next sample.
    pub fn next(&mut self, target: f64, measured: f64) -> f64 {
        let PidGains { proportional, integral, derivative, limit } = self.gains;
        // Not `clamp`, which panics where the limit is no number; then there is none.
        let within = |part: f64| part.max(-limit.abs()).min(limit.abs());
        let error = target - measured;
        self.integral = within(self.integral + error * integral);
        // The change of the measurement, not of the error: a moved target must not kick.
        let growth = measured - self.previous.replace(measured).unwrap_or(measured);
        within(error * proportional) + self.integral + within(-growth * derivative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integral_is_bounded() {
        let mut pid = Pid::new(PidGains { proportional: 0.0, integral: 1.0, derivative: 0.0, limit: 2.0 });
        let outputs: Vec<f64> = (0..4).map(|_| pid.next(1.0, 0.0)).collect();
        assert_eq!(outputs, [1.0, 2.0, 2.0, 2.0]);
    }

    #[test]
    fn gains_that_make_no_sense_make_no_panic() {
        for (limit, output) in [(f64::NAN, 5.0), (-2.0, 2.0), (f64::INFINITY, 5.0), (0.0, 0.0)] {
            let mut pid = Pid::new(PidGains { proportional: 5.0, integral: 0.0, derivative: 1.0, limit });
            assert_eq!(pid.next(1.0, 0.0), output, "{limit}");
        }
    }

    #[test]
    fn growth_lowers_and_shrinking_raises() {
        let gains = PidGains { proportional: 0.0, integral: 0.0, derivative: 1.0, limit: 100.0 };
        let mut pid = Pid::new(gains);
        assert_eq!(pid.next(0.5, 0.25), 0.0);
        assert_eq!(pid.next(0.5, 0.75), -0.5);
        assert_eq!(pid.next(0.9, 0.25), 0.5);
    }
}
