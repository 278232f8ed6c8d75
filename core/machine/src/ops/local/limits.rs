//! How long a local activity may take, read once from what the workflow asked for. No server ever sees these limits, so
//! what is wrong with them is found here. It does not know what time it is, nor who keeps to the limits.

use std::time::Duration;

use outlast_proto::lens::lang::ScheduleLocalActivity;

use crate::fault::{Fault, Invalid};
use crate::time::{Negative, duration};

/// Time limits. One of zero is over at once; only one that was not given is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// From the first request to the end of the last attempt.
    pub schedule_to_close: Option<Duration>,
    /// How long an attempt may wait for a slot.
    pub schedule_to_start: Option<Duration>,
    /// How long an attempt may run.
    pub start_to_close: Option<Duration>,
}

impl Limits {
    pub fn of(asked: &ScheduleLocalActivity) -> Result<Self, Fault> {
        let read = |field, given| duration(given).map_err(|given| refused(asked, field, given));
        Ok(Self {
            schedule_to_close: read("schedule_to_close_timeout", asked.schedule_to_close_timeout)?,
            schedule_to_start: read("schedule_to_start_timeout", asked.schedule_to_start_timeout)?,
            start_to_close: read("start_to_close_timeout", asked.start_to_close_timeout)?,
        })
    }

    /// A limit of one attempt, which is never longer than that of the whole.
    pub fn of_attempt(&self, limit: Option<Duration>) -> Option<Duration> {
        limit.map(|limit| limit.min(self.schedule_to_close.unwrap_or(Duration::MAX)))
    }
}

fn refused(asked: &ScheduleLocalActivity, field: &'static str, given: Negative) -> Fault {
    Fault::Invalid(Box::new(Invalid {
        request: "schedule local activity",
        seq: asked.seq,
        subject: format!(
            "activity {:?} of type {:?}",
            String::from_utf8_lossy(&asked.activity_id),
            String::from_utf8_lossy(&asked.activity_type)
        ),
        field,
        given: given.to_string(),
        allowed: "zero or more, or nothing for no limit",
    }))
}
