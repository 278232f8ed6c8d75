//! Messages as short words: payloads that hold a text, failures and resolutions as scenarios compare them.

use outlast_core::proto::coresdk::activity_result::activity_resolution::Status as Activity;
use outlast_core::proto::coresdk::child_workflow::StartChildWorkflowExecutionFailedCause as StartCause;
use outlast_core::proto::coresdk::child_workflow::child_workflow_result::Status as Child;
use outlast_core::proto::coresdk::nexus::nexus_operation_result::Status as Nexus;
use outlast_core::proto::coresdk::workflow_activation::resolve_child_workflow_execution_start::Status as ChildStart;
use outlast_core::proto::coresdk::workflow_activation::resolve_nexus_operation_start::Status as NexusStart;
use outlast_core::proto::coresdk::workflow_activation::workflow_activation_job::Variant as Job;
use outlast_core::proto::temporal::api::common::v1::{Payload, Payloads, RetryPolicy};
use outlast_core::proto::temporal::api::enums::v1::TimeoutType;
use outlast_core::proto::temporal::api::failure::v1::failure::FailureInfo as Info;
use outlast_core::proto::temporal::api::failure::v1::{ApplicationFailureInfo, CanceledFailureInfo, Failure};
use prost_types::Duration;

/// A text as JSON, as every SDK and the UI can read it.
pub fn payload(text: &str) -> Payload {
    Payload {
        metadata: [("encoding".to_owned(), "json/plain".into())].into(),
        data: format!("\"{text}\"").into(),
        ..Default::default()
    }
}

pub fn payloads(text: &str) -> Option<Payloads> {
    Some(Payloads { payloads: vec![payload(text)] })
}

pub fn text(payload: &Payload) -> String {
    String::from_utf8_lossy(&payload.data).trim_matches('"').to_owned()
}

pub fn texts(payloads: &[Payload]) -> String {
    payloads.iter().map(text).collect::<Vec<_>>().join(",")
}

pub fn millis(millis: u64) -> Option<Duration> {
    Some(Duration {
        seconds: (millis / 1000).try_into().unwrap(),
        nanos: (millis % 1000 * 1_000_000).try_into().unwrap(),
    })
}

pub fn seconds(seconds: u64) -> Option<Duration> {
    millis(seconds * 1000)
}

/// At most this many attempts, a moment between them.
pub fn attempts(maximum_attempts: i32) -> Option<RetryPolicy> {
    Some(RetryPolicy {
        initial_interval: millis(50),
        backoff_coefficient: 1.0,
        maximum_attempts,
        ..Default::default()
    })
}

pub fn failure(message: &str, retryable: bool) -> Failure {
    let info = ApplicationFailureInfo { non_retryable: !retryable, ..Default::default() };
    Failure {
        message: message.to_owned(),
        failure_info: Some(Info::ApplicationFailureInfo(info)),
        ..Default::default()
    }
}

pub fn cancelled() -> Failure {
    let info = Info::CanceledFailureInfo(CanceledFailureInfo::default());
    Failure { message: "cancelled".into(), failure_info: Some(info), ..Default::default() }
}

/// What is at the bottom of a failure: its kind, and for an application's own failure the message.
pub fn cause(failure: &Failure) -> String {
    let below = || failure.cause.as_ref().map(|below| cause(below));
    match &failure.failure_info {
        Some(Info::ApplicationFailureInfo(_)) | None => failure.message.clone(),
        Some(Info::TimeoutFailureInfo(it)) => {
            let kind = TimeoutType::try_from(it.timeout_type).unwrap().as_str_name();
            format!("timeout {}", kind.trim_start_matches("TIMEOUT_TYPE_"))
        }
        Some(Info::CanceledFailureInfo(_)) => "cancelled".into(),
        Some(Info::TerminatedFailureInfo(_)) => "terminated".into(),
        Some(Info::ServerFailureInfo(_)) => format!("server: {}", failure.message),
        Some(Info::ResetWorkflowFailureInfo(_)) => "reset".into(),
        Some(Info::ActivityFailureInfo(_)) => format!("activity: {}", below().unwrap_or_default()),
        Some(Info::ChildWorkflowExecutionFailureInfo(_)) => format!("child: {}", below().unwrap_or_default()),
        Some(Info::NexusOperationExecutionFailureInfo(_)) => {
            format!("nexus: {}", below().unwrap_or_default())
        }
        Some(Info::NexusHandlerFailureInfo(_)) => format!("handler: {}", below().unwrap_or_default()),
    }
}

fn caused(failure: &Option<Failure>) -> String {
    failure.as_ref().map(cause).unwrap_or_default()
}

fn start_cause(cause: StartCause) -> &'static str {
    match cause {
        StartCause::Unspecified => "nobody knows why",
        StartCause::WorkflowAlreadyExists => "already exists",
        StartCause::NamespaceNotFound => "no such namespace",
        StartCause::InvalidVersioningOverride => "no such version",
    }
}

/// What a job says of the operation that it resolves.
pub fn said(job: &Job) -> String {
    match job {
        Job::FireTimer(_) => "fired".into(),
        Job::ResolveActivity(it) => match it.result.as_ref().unwrap().status.as_ref().unwrap() {
            Activity::Completed(it) => it.result.as_ref().map(text).unwrap_or_default(),
            Activity::Failed(it) => format!("failed: {}", caused(&it.failure)),
            Activity::Cancelled(it) => format!("cancelled: {}", caused(&it.failure)),
            Activity::Backoff(it) => format!("backoff before {}", it.attempt),
        },
        Job::ResolveChildWorkflowExecutionStart(it) => match it.status.as_ref().unwrap() {
            ChildStart::Succeeded(_) => "started".into(),
            ChildStart::Failed(it) => format!("not started: {}", start_cause(it.cause())),
            ChildStart::Cancelled(it) => format!("not started: {}", caused(&it.failure)),
        },
        Job::ResolveChildWorkflowExecution(it) => {
            match it.result.as_ref().unwrap().status.as_ref().unwrap() {
                Child::Completed(it) => it.result.as_ref().map(text).unwrap_or_default(),
                Child::Failed(it) => format!("failed: {}", caused(&it.failure)),
                Child::Cancelled(it) => format!("cancelled: {}", caused(&it.failure)),
            }
        }
        Job::ResolveSignalExternalWorkflow(it) => match &it.failure {
            None => "signalled".into(),
            Some(failure) => format!("not signalled: {}", cause(failure)),
        },
        Job::ResolveRequestCancelExternalWorkflow(it) => match &it.failure {
            None => "requested".into(),
            Some(failure) => format!("not requested: {}", cause(failure)),
        },
        Job::ResolveNexusOperationStart(it) => match it.status.as_ref().unwrap() {
            NexusStart::OperationToken(_) => "started".into(),
            NexusStart::StartedSync(_) => "started at once".into(),
            NexusStart::Failed(failure) => format!("not started: {}", cause(failure)),
        },
        Job::ResolveNexusOperation(it) => match it.result.as_ref().unwrap().status.as_ref().unwrap() {
            Nexus::Completed(it) => text(it),
            Nexus::Failed(failure) => format!("failed: {}", cause(failure)),
            Nexus::Cancelled(failure) => format!("cancelled: {}", cause(failure)),
            Nexus::TimedOut(failure) => format!("timed out: {}", cause(failure)),
        },
        Job::InitializeWorkflow(_)
        | Job::UpdateRandomSeed(_)
        | Job::QueryWorkflow(_)
        | Job::CancelWorkflow(_)
        | Job::SignalWorkflow(_)
        | Job::NotifyHasPatch(_)
        | Job::DoUpdate(_)
        | Job::RemoveFromCache(_) => panic!("this job resolves nothing: {job:?}"),
    }
}
