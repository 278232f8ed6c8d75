//! Which queue the next poll is for.

/// What one lane (a queue that is polled) has and wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneLoad {
    pub in_flight: usize,
    pub target: usize,
    /// Tasks the server last said are waiting.
    pub backlog: u64,
}

/// How many of `max` polls are for the normal queue and how many for the sticky one; at least one each.
///
/// ```
/// use outlast_worker::pollers::split;
/// assert_eq!(split(5, 0.2), (1, 4));
/// assert_eq!(split(10, 0.5), (5, 5));
/// assert_eq!(split(2, 1.0), (2, 1));
/// ```
pub fn split(max: usize, normal_ratio: f64) -> (usize, usize) {
    let normal = ((max as f64 * normal_ratio).floor() as usize).clamp(1, max.max(1));
    (normal, max.saturating_sub(normal).max(1))
}

/// The lane that most needs one more poll; none if all have what they want. Put the normal queue first: it is served first
/// when no lane has any, for new workflows come by it.
///
/// A lane without any poll comes first; then the one with the most tasks waiting for each poll; then the emptiest.
pub fn pick(lanes: impl IntoIterator<Item = LaneLoad>) -> Option<usize> {
    let open = lanes.into_iter().enumerate().filter(|(_, lane)| lane.in_flight < lane.target);
    open.reduce(|best, lane| if lane.1.before(&best.1) { lane } else { best }).map(|(index, _)| index)
}

impl LaneLoad {
    pub(super) fn starves(&self) -> bool {
        self.in_flight == 0
    }

    fn before(&self, other: &LaneLoad) -> bool {
        if self.starves() || other.starves() {
            return self.starves() && !other.starves();
        }
        // Fractions compared by cross multiplication.
        let times = |a: u64, b: usize| u128::from(a) * b as u128;
        let waiting = (times(self.backlog, other.in_flight), times(other.backlog, self.in_flight));
        if waiting.0 != waiting.1 {
            return waiting.0 > waiting.1;
        }
        times(self.in_flight as u64, other.target) < times(other.in_flight as u64, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(in_flight: usize, target: usize, backlog: u64) -> LaneLoad {
        LaneLoad { in_flight, target, backlog }
    }

    #[test]
    fn no_split_leaves_a_queue_without_polls() {
        for max in 0..20 {
            for ratio in [-1.0, 0.0, 0.1, 0.5, 1.0, 7.0, f64::NAN] {
                let (normal, sticky) = split(max, ratio);
                assert!(normal >= 1 && sticky >= 1);
                assert!(normal + sticky <= max.max(2) + 1);
            }
        }
    }

    #[test]
    fn a_lane_without_polls_comes_first_and_the_normal_one_before_all() {
        assert_eq!(pick([lane(0, 1, 0), lane(0, 4, 9)]), Some(0));
        assert_eq!(pick([lane(1, 5, 100), lane(0, 4, 0)]), Some(1));
    }

    #[test]
    fn then_backlog_for_each_poll_then_emptiness() {
        assert_eq!(pick([lane(1, 5, 3), lane(2, 5, 4)]), Some(0));
        assert_eq!(pick([lane(1, 5, 3), lane(2, 5, 8)]), Some(1));
        assert_eq!(pick([lane(1, 2, 0), lane(1, 5, 0)]), Some(1));
        assert_eq!(pick([lane(2, 2, 9), lane(1, 5, 0)]), Some(1), "a full lane gets no more");
        assert_eq!(pick([lane(2, 2, 9), lane(5, 5, 0)]), None);
        assert_eq!(pick([]), None);
    }

    #[test]
    fn filled_one_by_one_the_lanes_reach_their_targets() {
        let mut lanes = [lane(0, 1, 0), lane(0, 4, 0)];
        let mut order = Vec::new();
        while let Some(index) = pick(lanes) {
            lanes[index].in_flight += 1;
            order.push(index);
        }
        assert_eq!(order, [0, 1, 1, 1, 1]);
    }
}
