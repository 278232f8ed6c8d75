//! Activities in the form that the language takes, whether the server or a run of ours wants them.

use std::collections::BTreeMap;

use bytes::Bytes;
use outlast_machine::io::{LocalTask, RunId};
use outlast_machine::time::Time;
use outlast_proto::coresdk::activity_task::Start;
use outlast_proto::lens::api;
use outlast_proto::temporal::api::common::v1::{Payload, RetryPolicy, WorkflowExecution};
use outlast_proto::temporal::api::workflowservice::v1::PollActivityTaskQueueResponse;
use prost::Message;

use crate::remote::wire;

/// The server's task in the language's form.
pub(super) fn remote(task: PollActivityTaskQueueResponse) -> Start {
    Start {
        workflow_namespace: task.workflow_namespace,
        workflow_type: task.workflow_type.unwrap_or_default().name,
        workflow_execution: task.workflow_execution,
        activity_id: task.activity_id,
        activity_type: task.activity_type.unwrap_or_default().name,
        header_fields: task.header.unwrap_or_default().fields,
        input: task.input.unwrap_or_default().payloads,
        heartbeat_details: task.heartbeat_details.unwrap_or_default().payloads,
        scheduled_time: task.scheduled_time,
        current_attempt_scheduled_time: task.current_attempt_scheduled_time,
        started_time: task.started_time,
        attempt: u32::try_from(task.attempt).unwrap_or_default(),
        schedule_to_close_timeout: task.schedule_to_close_timeout,
        start_to_close_timeout: task.start_to_close_timeout,
        heartbeat_timeout: task.heartbeat_timeout,
        retry_policy: task.retry_policy,
        priority: task.priority,
        is_local: false,
        run_id: task.activity_run_id,
    }
}

/// A local activity in the same form.
pub(super) fn local(namespace: &str, run: &RunId, task: LocalTask, now: Time) -> Start {
    let command = *task.command;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let whole = task.schedule_to_close.and_then(wire);
    Start {
        workflow_namespace: namespace.to_owned(),
        workflow_type: text(&task.workflow_type),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: task.workflow_id,
            run_id: run.to_string(),
        }),
        activity_id: text(&command.activity_id),
        activity_type: text(&command.activity_type),
        header_fields: headers(command.headers),
        input: command.arguments.into_iter().filter_map(readable::<Payload>).collect(),
        scheduled_time: Some(task.original_schedule_time.timestamp()),
        current_attempt_scheduled_time: Some(task.schedule_time.timestamp()),
        started_time: Some(now.timestamp()),
        attempt: task.attempt,
        schedule_to_close_timeout: whole,
        start_to_close_timeout: task.start_to_close.and_then(wire).or(whole),
        retry_policy: Some(policy(*task.retry_policy)),
        is_local: true,
        ..Default::default()
    }
}

fn policy(it: api::RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        initial_interval: it.initial_interval,
        backoff_coefficient: it.backoff_coefficient,
        maximum_interval: it.maximum_interval,
        maximum_attempts: it.maximum_attempts,
        non_retryable_error_types: it.non_retryable_error_types,
    }
}

/// One entry of an encoded map from text to payloads.
#[derive(Clone, PartialEq, Message)]
struct HeaderEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Payload>,
}

fn headers(entries: Vec<Bytes>) -> BTreeMap<String, Payload> {
    let entries = entries.into_iter().filter_map(readable::<HeaderEntry>);
    entries.map(|entry| (entry.key, entry.value.unwrap_or_default())).collect()
}

/// What the language itself wrote and sent to us; it can be read unless the language is broken.
fn readable<M: Message + Default>(encoded: Bytes) -> Option<M> {
    M::decode(encoded)
        .inspect_err(|error| tracing::error!(%error, "the language sent a damaged message"))
        .ok()
}
