//! Tells of workflow tasks that take long, with what is known of why. Does not know what made them slow.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use outlast_machine::io::RunId;
use outlast_machine::time;
use outlast_proto::coresdk::common::ExternalStorageMetrics;
use outlast_proto::lens::{api, lang};
use prost::Message;

/// What a warning of a task says, should there be one.
pub(super) struct Facts {
    workflow_type: String,
    /// The event that the task's completion becomes.
    event_id: i64,
    attempt: i32,
    downloads: Transfers,
    uploads: Transfers,
}

/// Payloads that the language kept outside of history during one task.
#[derive(Debug, Default, PartialEq, Eq)]
struct Transfers {
    count: u64,
    bytes: u64,
    took: Duration,
    drivers: BTreeSet<String>,
}

impl Facts {
    pub(super) fn new(workflow_type: String, poll: &api::PollWorkflowTaskQueueResponse) -> Self {
        Self {
            workflow_type,
            event_id: poll.started_event_id.saturating_add(1),
            attempt: poll.attempt,
            downloads: Transfers::default(),
            uploads: Transfers::default(),
        }
    }

    /// The next task of the same run.
    pub(super) fn next(&mut self, poll: &api::PollWorkflowTaskQueueResponse) {
        *self = Self::new(std::mem::take(&mut self.workflow_type), poll);
    }

    /// The language answered one activation of the task.
    pub(super) fn answered(&mut self, completion: &lang::WorkflowActivationCompletion) {
        self.downloads.add(completion.payload_download_metrics.as_deref());
        self.uploads.add(completion.payload_upload_metrics.as_deref());
    }

    /// The task is answered: warns if that took long.
    pub(super) fn ended(&self, run: &RunId, took: Duration, history_size_bytes: u64) {
        if took <= limit() {
            return;
        }
        let (downloads, uploads) = (&self.downloads, &self.uploads);
        let (event_id, attempt) = (self.event_id, self.attempt);
        tracing::warn!(
            workflow_type = self.workflow_type,
            event_id,
            attempt,
            workflow_task_duration = millis(took),
            workflow_history_size = history_size_bytes,
            payload_download_count = downloads.count,
            payload_download_size = downloads.bytes,
            payload_download_duration = millis(downloads.took),
            payload_download_drivers = ?downloads.drivers.iter().collect::<Vec<_>>(),
            payload_upload_count = uploads.count,
            payload_upload_size = uploads.bytes,
            payload_upload_duration = millis(uploads.took),
            payload_upload_drivers = ?uploads.drivers.iter().collect::<Vec<_>>(),
            "[TMPRL1104] {run}:{event_id}:{attempt} Workflow task duration exceeded {} seconds.",
            limit().as_secs_f64()
        );
    }
}

impl Transfers {
    /// `more`: an encoded `coresdk.common.ExternalStorageMetrics`. A damaged one is as good as none: it is only told.
    fn add(&mut self, more: Option<&[u8]>) {
        let Some(more) = more.and_then(|encoded| ExternalStorageMetrics::decode(encoded).ok()) else {
            return;
        };
        self.count = self.count.saturating_add(more.payload_count);
        self.bytes = self.bytes.saturating_add(more.total_size_bytes);
        let took = time::limit(more.total_duration);
        self.took = self.took.saturating_add(took.unwrap_or_default());
        self.drivers.extend(more.driver_names);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Longer tasks are warned of; seconds in the environment variable of the reference, which is read once.
fn limit() -> Duration {
    static LIMIT: OnceLock<Duration> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let variable = std::env::var("TEMPORAL_WORKFLOW_TASK_DURATION_WARN_SECONDS").ok();
        let seconds = variable.and_then(|text| text.trim().parse::<f64>().ok());
        seconds.and_then(|it| Duration::try_from_secs_f64(it).ok()).unwrap_or(Duration::from_secs(5))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_of_one_task_add_up() {
        let metrics = |count, seconds, drivers: &[&str]| {
            let it = ExternalStorageMetrics {
                payload_count: count,
                total_size_bytes: 100 * count,
                total_duration: Some(prost_types::Duration { seconds, nanos: 0 }),
                driver_names: drivers.iter().map(|&name| name.to_owned()).collect(),
            };
            it.encode_to_vec()
        };
        let mut transfers = Transfers::default();
        transfers.add(Some(&metrics(1, 2, &["disk"])));
        transfers.add(None);
        transfers.add(Some(b"\xff"));
        transfers.add(Some(&metrics(3, 4, &["bucket", "disk"])));
        let drivers = ["bucket", "disk"].map(str::to_owned).into();
        assert_eq!(transfers, Transfers { count: 4, bytes: 400, took: Duration::from_secs(6), drivers });
    }
}
