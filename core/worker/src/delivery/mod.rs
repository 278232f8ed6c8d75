//! What a worker reports of its tasks, as the requests that carry it, and what is sent in the place of a report that the
//! server does not take: no task is left to its timeout because its report was too large or wrong. The calls are made by
//! [`Remote::deliver`](crate::remote::Remote::deliver). The completion of a workflow task is not here: what stands in
//! its place is the machine's decision, since a run that cannot answer leaves the cache.

mod nexus;
mod shorten;

use outlast_client::{Code, Error, Kind};
use outlast_proto::lens::api::WorkflowQueryResult;
use outlast_proto::temporal::api::common::v1::Payloads;
use outlast_proto::temporal::api::enums::v1::{
    ActivityTaskFailedCause, QueryResultType, WorkflowTaskFailedCause,
};
use outlast_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use prost::Message;

use crate::sizes::{self, SizeLimits};
use shorten::{KEPT_MAX, bare, may_stay, shortened};

/// What is too large for a message, in the words that users of other SDKs know.
pub(crate) const GRPC_TOO_LARGE: &str = "GRPC Message too large";

/// One report, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    ActivityCompleted(Box<api::RespondActivityTaskCompletedRequest>),
    ActivityFailed(Box<api::RespondActivityTaskFailedRequest>),
    ActivityCanceled(Box<api::RespondActivityTaskCanceledRequest>),
    /// `older`: failures take the older form when they are sent.
    NexusCompleted {
        request: Box<api::RespondNexusTaskCompletedRequest>,
        older: bool,
    },
    NexusFailed {
        request: Box<api::RespondNexusTaskFailedRequest>,
        older: bool,
    },
    QueryAnswered(Box<api::RespondQueryTaskCompletedRequest>),
    WorkflowTaskFailed(Box<api::RespondWorkflowTaskFailedRequest>),
}

/// Why a report is not taken as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its payloads break this rule of the namespace; it was not sent.
    Payloads(String),
    /// It is larger than the messages that the server takes, or something on the way.
    TooLarge { bytes: usize },
    /// The server finds it wrong.
    Invalid(String),
}

impl Refusal {
    /// Whether the server refused the report itself, of this many bytes. Other errors say nothing about it.
    pub(crate) fn of(error: &Error, bytes: usize) -> Option<Self> {
        match (error.kind, error.code) {
            (Kind::TooLarge, _) => Some(Self::TooLarge { bytes }),
            (Kind::Refused, Code::InvalidArgument) => Some(Self::Invalid(error.message.clone())),
            _ => None,
        }
    }

    /// What is said in the place of the report.
    fn text(&self, what: &str) -> String {
        match self {
            Self::Payloads(rule) => rule.clone(),
            Self::TooLarge { bytes } => format!("{GRPC_TOO_LARGE}: {what} takes {bytes} bytes"),
            Self::Invalid(said) => format!("The server refused {what}: {}", said.trim_end_matches('.')),
        }
    }

    /// A failure in the place of a report that was none.
    fn failure(&self, what: &str) -> Failure {
        let kind = match self {
            Self::Payloads(_) | Self::TooLarge { .. } => "PayloadsTooLarge",
            Self::Invalid(_) => "InvalidArgument",
        };
        let info = ApplicationFailureInfo { r#type: kind.into(), ..Default::default() };
        let failure_info = Some(FailureInfo::ApplicationFailureInfo(info));
        Failure { message: self.text(what), failure_info, ..Default::default() }
    }

    /// That an attempt failed because the details of its heartbeat are refused: the failure, and its cause for the server.
    pub(crate) fn of_heartbeat(&self) -> (Failure, i32) {
        (self.failure("a heartbeat"), self.activity_cause())
    }

    fn activity_cause(&self) -> i32 {
        match self {
            Self::Payloads(_) | Self::TooLarge { .. } => ActivityTaskFailedCause::PayloadsTooLarge.into(),
            Self::Invalid(_) => ActivityTaskFailedCause::ActivityWorkerUnhandledFailure.into(),
        }
    }

    /// The failure, in a form that is likely to be taken.
    fn mend(&self, failure: Failure, what: &str) -> Failure {
        match self {
            Self::Payloads(_) | Self::TooLarge { .. } => shortened(failure, &self.text(what)),
            Self::Invalid(_) => bare(failure, &self.text(what)),
        }
    }
}

impl Delivery {
    /// What it is, for people.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Self::ActivityCompleted(_) => "the result of an activity",
            Self::ActivityFailed(_) => "the failure of an activity",
            Self::ActivityCanceled(_) => "the cancellation of an activity",
            Self::NexusCompleted { .. } => "the answer of a Nexus task",
            Self::NexusFailed { .. } => "the failure of a Nexus task",
            Self::QueryAnswered(_) => "the answer to a query",
            Self::WorkflowTaskFailed(_) => "the failure of a workflow task",
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::ActivityCompleted(request) => request.encoded_len(),
            Self::ActivityFailed(request) => request.encoded_len(),
            Self::ActivityCanceled(request) => request.encoded_len(),
            Self::NexusCompleted { request, .. } => request.encoded_len(),
            Self::NexusFailed { request, .. } => request.encoded_len(),
            Self::QueryAnswered(request) => request.encoded_len(),
            Self::WorkflowTaskFailed(request) => request.encoded_len(),
        }
    }

    /// Holds it to the limits of the namespace, and warns of what is large. Failures have no limit: the server shortens
    /// them. So do queries: whoever asks hears from the server that the answer is too large.
    pub(crate) fn check(&self, limits: SizeLimits) -> Result<(), Refusal> {
        let warn = |size: Option<usize>| limits.warn.check_payloads(size.unwrap_or(0));
        match self {
            Self::ActivityCompleted(request) => {
                let size = request.result.as_ref().map_or(0, Payloads::encoded_len);
                return sizes::check_payload(limits, self.what(), size).map_err(Refusal::Payloads);
            }
            Self::ActivityFailed(request) => {
                warn(request.failure.as_ref().map(Failure::encoded_len));
                warn(request.last_heartbeat_details.as_ref().map(Payloads::encoded_len));
            }
            Self::QueryAnswered(request) => warn(request.query_result.as_ref().map(Payloads::encoded_len)),
            Self::WorkflowTaskFailed(request) => warn(request.failure.as_ref().map(Failure::encoded_len)),
            Self::ActivityCanceled(request) => warn(request.details.as_ref().map(Payloads::encoded_len)),
            Self::NexusFailed { request, .. } => warn(request.failure.as_ref().map(Failure::encoded_len)),
            Self::NexusCompleted { .. } => {}
        }
        Ok(())
    }

    /// What is sent in its place. It is small, whatever it was before.
    pub(crate) fn instead(self, refusal: &Refusal) -> Self {
        let what = self.what();
        match self {
            Self::ActivityCompleted(request) => Self::ActivityFailed(Box::new(no_result(*request, refusal))),
            Self::ActivityFailed(mut request) => {
                request.failure = request.failure.map(|failure| refusal.mend(failure, what));
                request.last_heartbeat_details = request.last_heartbeat_details.filter(may_stay);
                Self::ActivityFailed(request)
            }
            Self::ActivityCanceled(mut request) => match refusal {
                Refusal::Payloads(_) | Refusal::TooLarge { .. } => {
                    request.details = None;
                    Self::ActivityCanceled(request)
                }
                // Mostly nobody asked for it to be cancelled.
                Refusal::Invalid(_) => Self::ActivityFailed(Box::new(no_cancellation(*request, refusal))),
            },
            Self::NexusCompleted { request, older } => nexus::answer(*request, older, refusal),
            Self::NexusFailed { mut request, older } => {
                request.failure = request.failure.map(|failure| refusal.mend(failure, what));
                #[expect(deprecated, reason = "languages that answer in the older form")]
                if let Some(error) = &mut request.error {
                    error.failure =
                        error.failure.take().map(|text| nexus::shorter(text, &refusal.text(what)));
                }
                Self::NexusFailed { request, older }
            }
            Self::QueryAnswered(request) => Self::QueryAnswered(Box::new(no_answer(*request, refusal))),
            Self::WorkflowTaskFailed(mut request) => {
                request.failure = request.failure.map(|failure| refusal.mend(failure, what));
                Self::WorkflowTaskFailed(request)
            }
        }
    }
}

#[expect(deprecated, reason = "what servers of the older versioning read")]
fn no_result(
    request: api::RespondActivityTaskCompletedRequest,
    refusal: &Refusal,
) -> api::RespondActivityTaskFailedRequest {
    api::RespondActivityTaskFailedRequest {
        task_token: request.task_token,
        failure: Some(refusal.failure("the result of an activity")),
        identity: request.identity,
        namespace: request.namespace,
        resource_id: request.resource_id,
        last_heartbeat_details: None,
        worker_version: request.worker_version,
        deployment: request.deployment,
        deployment_options: request.deployment_options,
        cause: refusal.activity_cause(),
    }
}

#[expect(deprecated, reason = "what servers of the older versioning read")]
fn no_cancellation(
    request: api::RespondActivityTaskCanceledRequest,
    refusal: &Refusal,
) -> api::RespondActivityTaskFailedRequest {
    api::RespondActivityTaskFailedRequest {
        task_token: request.task_token,
        failure: Some(refusal.failure("the cancellation of an activity")),
        identity: request.identity,
        namespace: request.namespace,
        resource_id: request.resource_id,
        last_heartbeat_details: None,
        worker_version: request.worker_version,
        deployment: request.deployment,
        deployment_options: request.deployment_options,
        cause: refusal.activity_cause(),
    }
}

fn no_answer(
    request: api::RespondQueryTaskCompletedRequest,
    refusal: &Refusal,
) -> api::RespondQueryTaskCompletedRequest {
    let (message, cause) = match refusal {
        // What others say in this place: callers may look for it.
        Refusal::TooLarge { .. } => {
            (GRPC_TOO_LARGE.to_owned(), WorkflowTaskFailedCause::GrpcMessageTooLarge.into())
        }
        Refusal::Payloads(_) => (refusal.text(""), WorkflowTaskFailedCause::PayloadsTooLarge.into()),
        Refusal::Invalid(_) => (refusal.text("the answer to a query"), 0),
    };
    api::RespondQueryTaskCompletedRequest {
        task_token: request.task_token,
        completed_type: QueryResultType::Failed.into(),
        query_result: None,
        failure: Some(application(&message)),
        error_message: message,
        namespace: request.namespace,
        cause,
        poller_group_id: request.poller_group_id,
    }
}

/// Puts failures in the place of large answers to queries that go along with a workflow task. `false`: there are none.
pub(crate) fn shorten_answers<'a>(answers: impl Iterator<Item = &'a mut WorkflowQueryResult>) -> bool {
    let mut any = false;
    for answer in answers.filter(|answer| answer.encoded_len() > KEPT_MAX) {
        *answer = WorkflowQueryResult {
            result_type: QueryResultType::Failed.into(),
            answer: None,
            error_message: GRPC_TOO_LARGE.into(),
            failure: Some(application(GRPC_TOO_LARGE).encode_to_vec().into()),
        };
        any = true;
    }
    any
}

/// What one message can carry of a workflow task's answer, in bytes. Servers take four megabytes; what else is in it needs
/// little of them.
pub(crate) const PAGE: usize = 3_670_016;

/// The failure of a local activity goes into history with the answer of its workflow task, which must not be lost for it:
/// the server ends workflows whose answers are too large.
pub(crate) fn within_a_page(failure: Failure) -> Failure {
    const WHAT: &str = "the failure of a local activity";
    let bytes = failure.encoded_len();
    if bytes <= PAGE {
        return failure;
    }
    tracing::warn!(
        what = WHAT,
        bytes,
        limit = PAGE,
        "A failure is too large for its workflow task; it is shortened"
    );
    Refusal::TooLarge { bytes }.mend(failure, WHAT)
}

/// A failure of the ordinary kind that says this.
pub(crate) fn application(message: &str) -> Failure {
    Failure {
        message: message.to_owned(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo::default())),
        ..Default::default()
    }
}
