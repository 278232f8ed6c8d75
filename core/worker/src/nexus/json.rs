//! A failure as proto3 JSON. By hand, since the one message would otherwise bring the descriptors of all into each program; a
//! test compares it with what they say.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use outlast_proto::temporal::api::common::v1::{Payload, Payloads};
use outlast_proto::temporal::api::enums::v1::{
    ApplicationErrorCategory, NexusHandlerErrorRetryBehavior, RetryState, TimeoutType,
};
use outlast_proto::temporal::api::failure::v1::{Failure, failure::FailureInfo};
use serde_json::{Map, Value};

/// An object, without the fields that are as they are by default.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn with(mut self, name: &str, value: Option<Value>) -> Self {
        if let Some(value) = value {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        self.with(name, (!text.is_empty()).then(|| text.into()))
    }

    fn flag(self, name: &str, flag: bool) -> Self {
        self.with(name, flag.then_some(Value::Bool(true)))
    }

    /// Numbers of 64 bits are strings.
    fn number(self, name: &str, number: i64) -> Self {
        self.with(name, (number != 0).then(|| number.to_string().into()))
    }

    /// An enum's value by its name; by its number if it is newer than this code.
    fn choice(self, name: &str, number: i32, known: Option<&str>) -> Self {
        self.with(name, (number != 0).then(|| known.map_or_else(|| number.into(), Value::from)))
    }

    fn payloads(self, name: &str, payloads: Option<&Payloads>) -> Self {
        self.with(
            name,
            payloads.map(|it| {
                let all: Vec<Value> = it.payloads.iter().map(payload).collect();
                Object::default().with("payloads", (!all.is_empty()).then_some(Value::Array(all))).into()
            }),
        )
    }

    fn named(self, name: &str, text: Option<&str>) -> Self {
        self.with(name, text.map(|text| Object::default().text("name", text).into()))
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Value::Object(object.0)
    }
}

pub(super) fn failure(failure: &Failure) -> Value {
    let Failure { message, source, stack_trace, encoded_attributes, cause, failure_info } = failure;
    let object = Object::default()
        .text("message", message)
        .text("source", source)
        .text("stackTrace", stack_trace)
        .with("encodedAttributes", encoded_attributes.as_ref().map(payload))
        .with("cause", cause.as_deref().map(self::failure));
    let Some(failure_info) = failure_info else { return object.into() };
    let (name, info) = info(failure_info);
    object.with(name, Some(info.into())).into()
}

fn info(info: &FailureInfo) -> (&'static str, Object) {
    let object = Object::default();
    match info {
        FailureInfo::ApplicationFailureInfo(it) => {
            let category = ApplicationErrorCategory::try_from(it.category).ok();
            let object = object
                .text("type", &it.r#type)
                .flag("nonRetryable", it.non_retryable)
                .payloads("details", it.details.as_ref())
                .with("nextRetryDelay", it.next_retry_delay.map(|delay| delay.to_string().into()))
                .choice("category", it.category, category.map(|it| it.as_str_name()));
            ("applicationFailureInfo", object)
        }
        FailureInfo::TimeoutFailureInfo(it) => {
            let kind = TimeoutType::try_from(it.timeout_type).ok();
            let object = object
                .choice("timeoutType", it.timeout_type, kind.map(|it| it.as_str_name()))
                .payloads("lastHeartbeatDetails", it.last_heartbeat_details.as_ref());
            ("timeoutFailureInfo", object)
        }
        FailureInfo::CanceledFailureInfo(it) => (
            "canceledFailureInfo",
            object.payloads("details", it.details.as_ref()).text("identity", &it.identity),
        ),
        FailureInfo::TerminatedFailureInfo(it) => {
            ("terminatedFailureInfo", object.text("identity", &it.identity))
        }
        FailureInfo::ServerFailureInfo(it) => {
            ("serverFailureInfo", object.flag("nonRetryable", it.non_retryable))
        }
        FailureInfo::ResetWorkflowFailureInfo(it) => {
            let details = it.last_heartbeat_details.as_ref();
            ("resetWorkflowFailureInfo", object.payloads("lastHeartbeatDetails", details))
        }
        FailureInfo::ActivityFailureInfo(it) => {
            let object = object
                .number("scheduledEventId", it.scheduled_event_id)
                .number("startedEventId", it.started_event_id)
                .text("identity", &it.identity)
                .named("activityType", it.activity_type.as_ref().map(|it| &*it.name))
                .text("activityId", &it.activity_id);
            ("activityFailureInfo", retry_state(object, it.retry_state))
        }
        FailureInfo::ChildWorkflowExecutionFailureInfo(it) => {
            let execution = it.workflow_execution.as_ref().map(|it| {
                Object::default().text("workflowId", &it.workflow_id).text("runId", &it.run_id).into()
            });
            let object = object
                .text("namespace", &it.namespace)
                .with("workflowExecution", execution)
                .named("workflowType", it.workflow_type.as_ref().map(|it| &*it.name))
                .number("initiatedEventId", it.initiated_event_id)
                .number("startedEventId", it.started_event_id);
            ("childWorkflowExecutionFailureInfo", retry_state(object, it.retry_state))
        }
        FailureInfo::NexusOperationExecutionFailureInfo(it) => {
            #[expect(deprecated, reason = "it is passed on if somebody set it")]
            let id = &it.operation_id;
            let object = object
                .number("scheduledEventId", it.scheduled_event_id)
                .text("endpoint", &it.endpoint)
                .text("service", &it.service)
                .text("operation", &it.operation)
                .text("operationId", id)
                .text("operationToken", &it.operation_token);
            ("nexusOperationExecutionFailureInfo", object)
        }
        FailureInfo::NexusHandlerFailureInfo(it) => {
            let behavior = NexusHandlerErrorRetryBehavior::try_from(it.retry_behavior).ok();
            let object = object.text("type", &it.r#type).choice(
                "retryBehavior",
                it.retry_behavior,
                behavior.map(|it| it.as_str_name()),
            );
            ("nexusHandlerFailureInfo", object)
        }
    }
}

fn retry_state(object: Object, state: i32) -> Object {
    object.choice("retryState", state, RetryState::try_from(state).ok().map(|it| it.as_str_name()))
}

fn payload(payload: &Payload) -> Value {
    let metadata: Map<String, Value> =
        payload.metadata.iter().map(|(name, value)| (name.clone(), base64(value))).collect();
    let external = payload.external_payloads.iter();
    let external: Vec<Value> =
        external.map(|it| Object::default().number("sizeBytes", it.size_bytes).into()).collect();
    Object::default()
        .with("metadata", (!metadata.is_empty()).then_some(Value::Object(metadata)))
        .with("data", (!payload.data.is_empty()).then(|| base64(&payload.data)))
        .with("externalPayloads", (!external.is_empty()).then_some(Value::Array(external)))
        .into()
}

fn base64(bytes: &[u8]) -> Value {
    BASE64_STANDARD.encode(bytes).into()
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use super::*;
    use outlast_proto::json::{Names, to_json};
    use outlast_proto::temporal::api::common::v1::payload::ExternalPayloadDetails;
    use outlast_proto::temporal::api::common::v1::{ActivityType, WorkflowExecution, WorkflowType};
    use outlast_proto::temporal::api::failure::v1::*;
    use prost::Message;

    fn payloads() -> Option<Payloads> {
        let one = Payload {
            metadata: [("encoding".to_owned(), "json/plain".into())].into(),
            data: vec![0, 255, 62, 63].into(),
            external_payloads: vec![ExternalPayloadDetails { size_bytes: 1 << 40 }],
        };
        Some(Payloads { payloads: vec![one, Payload::default()] })
    }

    /// Each kind with every field, and with none.
    #[expect(deprecated, reason = "every field")]
    fn kinds() -> Vec<FailureInfo> {
        let text = |text: &str| text.to_owned();
        let delay = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
        vec![
            FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
                r#type: text("Loss"),
                non_retryable: true,
                details: payloads(),
                next_retry_delay: delay,
                category: 1,
            }),
            FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo {
                category: 77,
                ..Default::default()
            }),
            FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo {
                timeout_type: 3,
                last_heartbeat_details: payloads(),
            }),
            FailureInfo::TimeoutFailureInfo(TimeoutFailureInfo::default()),
            FailureInfo::CanceledFailureInfo(CanceledFailureInfo {
                details: payloads(),
                identity: text("me"),
            }),
            FailureInfo::CanceledFailureInfo(CanceledFailureInfo {
                details: Some(Payloads::default()),
                ..Default::default()
            }),
            FailureInfo::TerminatedFailureInfo(TerminatedFailureInfo { identity: text("me") }),
            FailureInfo::ServerFailureInfo(ServerFailureInfo { non_retryable: true }),
            FailureInfo::ResetWorkflowFailureInfo(ResetWorkflowFailureInfo {
                last_heartbeat_details: payloads(),
            }),
            FailureInfo::ActivityFailureInfo(ActivityFailureInfo {
                scheduled_event_id: 5,
                started_event_id: 6,
                identity: text("me"),
                activity_type: Some(ActivityType { name: text("charge") }),
                activity_id: text("1"),
                retry_state: 2,
            }),
            FailureInfo::ActivityFailureInfo(ActivityFailureInfo::default()),
            FailureInfo::ChildWorkflowExecutionFailureInfo(ChildWorkflowExecutionFailureInfo {
                namespace: text("ns"),
                workflow_execution: Some(WorkflowExecution { workflow_id: text("w"), run_id: text("r") }),
                workflow_type: Some(WorkflowType { name: text("order") }),
                initiated_event_id: 7,
                started_event_id: 8,
                retry_state: 99,
            }),
            FailureInfo::NexusOperationExecutionFailureInfo(NexusOperationFailureInfo {
                scheduled_event_id: 9,
                endpoint: text("e"),
                service: text("s"),
                operation: text("o"),
                operation_id: text("i"),
                operation_token: text("t"),
            }),
            FailureInfo::NexusHandlerFailureInfo(NexusHandlerFailureInfo {
                r#type: text("NOT_FOUND"),
                retry_behavior: 2,
            }),
        ]
    }

    #[test]
    fn it_is_what_the_descriptors_say() {
        for kind in kinds() {
            let cause = Failure { failure_info: Some(kind), ..Default::default() };
            let whole = Failure {
                message: "lost".into(),
                source: "here".into(),
                stack_trace: "at home".into(),
                encoded_attributes: payloads().map(|mut it| it.payloads.remove(0)),
                cause: Some(Box::new(cause)),
                failure_info: None,
            };
            let expected = to_json(super::super::older::TYPE, &whole.encode_to_vec(), Names::Json).unwrap();
            assert_eq!(failure(&whole), expected);
        }
    }
}
