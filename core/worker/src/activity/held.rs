//! The activities that the language holds, as the shell sees them: their slots, and what is measured of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use outlast_machine::time::Time;
use outlast_proto::coresdk::activity_result::activity_execution_result::Status;
use outlast_proto::coresdk::activity_task::Start;
use outlast_proto::temporal::api::enums::v1::ApplicationErrorCategory;
use outlast_proto::temporal::api::failure::v1::{Failure, failure::FailureInfo};

use crate::counts::Counts;
use crate::permits::Permit;
use crate::recent::Of;
use crate::slots::SlotUse;
use crate::telemetry::{ActivityMetrics, LocalActivityMetrics, WorkerMetrics};

/// What the language holds, by token.
pub(super) struct Held {
    metrics: Arc<WorkerMetrics>,
    counts: Arc<Counts>,
    tasks: BTreeMap<Bytes, Entry>,
}

struct Entry {
    _permit: Option<Permit>,
    since: Time,
    /// When the workflow asked for it.
    wanted: Time,
    of_type: Measured,
    /// The workflow that waits for it at the server.
    run: Bytes,
}

enum Measured {
    Remote(Arc<ActivityMetrics>),
    Local(Arc<LocalActivityMetrics>),
}

impl Held {
    pub(super) fn new(metrics: Arc<WorkerMetrics>, counts: Arc<Counts>) -> Self {
        Self { metrics, counts, tasks: BTreeMap::new() }
    }

    pub(super) fn remote(&mut self, now: Time, token: Bytes, start: &Start, mut permit: Permit, eager: bool) {
        let of_type = self.metrics.activities.of(&start.workflow_type).of(&start.activity_type);
        let received = if eager { &of_type.received_eagerly } else { &of_type.received };
        received.add(1);
        let asked = start.current_attempt_scheduled_time.or(start.scheduled_time);
        if let (Some(asked), Some(started)) = (asked, start.started_time) {
            let waited = Time::from(started).since(Time::from(asked));
            self.metrics.activity_schedule_to_start.observe(waited);
        }
        permit.mark_used(SlotUse::Activity { activity_type: start.activity_type.clone() });
        let wanted = start.scheduled_time.map_or(now, Time::from);
        let run = start.workflow_execution.as_ref().map_or("", |execution| &execution.run_id);
        let run = Bytes::copy_from_slice(run.as_bytes());
        let of_type = Measured::Remote(of_type);
        self.tasks.insert(token, Entry { _permit: Some(permit), since: now, wanted, of_type, run });
    }

    pub(super) fn local(&mut self, now: Time, token: Bytes, start: &Start, mut permit: Option<Permit>) {
        let of_type = self.metrics.local_activities.of(&start.workflow_type).of(&start.activity_type);
        of_type.total.add(1);
        if let Some(permit) = &mut permit {
            permit.mark_used(SlotUse::LocalActivity { activity_type: start.activity_type.clone() });
        }
        let wanted = start.scheduled_time.map_or(now, Time::from);
        let of_type = Measured::Local(of_type);
        self.tasks.insert(token, Entry { _permit: permit, since: now, wanted, of_type, run: Bytes::new() });
    }

    /// The language is done with it. The slot stays until [`Held::done`].
    pub(super) fn completed(&self, now: Time, token: &Bytes, status: &Status) {
        let Some(entry) = self.tasks.get(token) else { return };
        let (ran, whole) = (now.since(entry.since), now.since(entry.wanted));
        let failed = match status {
            Status::Failed(failed) => !failed.failure.as_ref().is_some_and(is_benign),
            Status::Completed(_) | Status::Cancelled(_) | Status::WillCompleteAsync(_) => false,
        };
        let counts = match &entry.of_type {
            Measured::Remote(of_type) => {
                if !matches!(status, Status::WillCompleteAsync(_)) {
                    self.counts.recent.told(now, Of::Run(entry.run.clone()));
                }
                of_type.execution.observe(ran);
                match status {
                    Status::Completed(_) => of_type.succeeded.observe(whole),
                    Status::Failed(_) if failed => of_type.failed.add(1),
                    Status::Failed(_) | Status::Cancelled(_) | Status::WillCompleteAsync(_) => {}
                }
                &self.counts.activities
            }
            Measured::Local(of_type) => {
                of_type.execution.observe(ran);
                match status {
                    Status::Completed(_) => of_type.succeeded.observe(whole),
                    Status::Cancelled(_) => of_type.cancelled.add(1),
                    Status::Failed(_) if failed => of_type.failed.add(1),
                    Status::Failed(_) | Status::WillCompleteAsync(_) => {}
                }
                &self.counts.local_activities
            }
        };
        if failed { counts.failed() } else { counts.processed() }
    }

    pub(super) fn done(&mut self, token: &Bytes) {
        self.tasks.remove(token);
    }
}

/// A failure that the user calls expected: nobody is to be woken for it.
fn is_benign(failure: &Failure) -> bool {
    match &failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            info.category() == ApplicationErrorCategory::Benign
        }
        Some(_) | None => false,
    }
}
