//! What is sent in the place of the answer of a Nexus task that the server does not take.

use outlast_proto::temporal::api::enums::v1::NexusHandlerErrorRetryBehavior;
use outlast_proto::temporal::api::failure::v1::{Failure, NexusHandlerFailureInfo, failure::FailureInfo};
use outlast_proto::temporal::api::nexus::v1 as nexus;
use outlast_proto::temporal::api::nexus::v1::start_operation_response::Variant as Started;
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;

use super::shorten::{KEPT_MAX, short};
use super::{Delivery, Refusal};

/// An operation that failed still fails, with less to say. A result becomes an error that is not retried: the next try would
/// have the same one.
pub(super) fn answer(
    mut request: api::RespondNexusTaskCompletedRequest,
    older: bool,
    refusal: &Refusal,
) -> Delivery {
    const WHAT: &str = "the answer of a Nexus task";
    let started = match &mut request.response {
        Some(nexus::Response { variant: Some(nexus::response::Variant::StartOperation(start)) }) => {
            start.variant.as_mut()
        }
        Some(_) | None => None,
    };
    match started {
        Some(Started::Failure(failure)) => *failure = refusal.mend(std::mem::take(failure), WHAT),
        #[expect(deprecated, reason = "languages that answer in the older form")]
        Some(Started::OperationError(error)) => {
            error.failure = error.failure.take().map(|text| shorter(text, &refusal.text(WHAT)));
        }
        Some(Started::SyncSuccess(_) | Started::AsyncSuccess(_)) | None => {
            let info = NexusHandlerFailureInfo {
                r#type: "INTERNAL".into(),
                retry_behavior: NexusHandlerErrorRetryBehavior::NonRetryable.into(),
            };
            let failure = Failure {
                message: refusal.text(WHAT),
                failure_info: Some(FailureInfo::NexusHandlerFailureInfo(info)),
                ..Default::default()
            };
            let failed = failed(request, failure);
            return Delivery::NexusFailed { request: Box::new(failed), older };
        }
    }
    Delivery::NexusCompleted { request: Box::new(request), older }
}

#[expect(deprecated, reason = "the older form of failures has a field of its own")]
fn failed(
    request: api::RespondNexusTaskCompletedRequest,
    failure: Failure,
) -> api::RespondNexusTaskFailedRequest {
    api::RespondNexusTaskFailedRequest {
        namespace: request.namespace,
        identity: request.identity,
        task_token: request.task_token,
        error: None,
        failure: Some(failure),
        poller_group_id: request.poller_group_id,
    }
}

/// The older form is a text with its trace, and details that are encoded as the language likes: they stay whole or go.
pub(super) fn shorter(text: nexus::Failure, why: &str) -> nexus::Failure {
    let cut = |text: String| short(&text).unwrap_or(text);
    let message = format!("{why}. The message was: {}", cut(text.message));
    let text = nexus::Failure { message, stack_trace: cut(text.stack_trace), ..text };
    match text.encoded_len() <= KEPT_MAX {
        true => text,
        false => {
            nexus::Failure { message: text.message, stack_trace: text.stack_trace, ..Default::default() }
        }
    }
}
