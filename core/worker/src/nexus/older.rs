//! Failures for callers that do not know Temporal's own: a text with its trace, and the whole failure as JSON in the details,
//! from which newer callers, and servers in between, make it again. A pure translation.

use outlast_proto::temporal::api::failure::v1::{Failure, failure::FailureInfo};
use outlast_proto::temporal::api::nexus::v1 as nexus;
use outlast_proto::temporal::api::nexus::v1::start_operation_response::Variant as Started;
use outlast_proto::temporal::api::nexus::v1::{HandlerError, Response, UnsuccessfulOperationError, response};

use super::json;

/// What the details are, for whoever makes the failure again.
pub(super) const TYPE: &str = "temporal.api.failure.v1.Failure";

/// A failure of the handler.
pub(crate) fn error(failure: Failure) -> HandlerError {
    let (error_type, retry_behavior) = match &failure.failure_info {
        Some(FailureInfo::NexusHandlerFailureInfo(info)) => (info.r#type.clone(), info.retry_behavior),
        Some(_) | None => ("INTERNAL".into(), 0),
    };
    HandlerError { error_type, failure: Some(text(failure)), retry_behavior }
}

/// An answer, in which an operation may have failed.
pub(crate) fn response(mut response: Response) -> Response {
    if let Some(response::Variant::StartOperation(start)) = &mut response.variant {
        start.variant = start.variant.take().map(|variant| match variant {
            Started::Failure(failure) => failed(failure),
            #[expect(deprecated, reason = "what such callers know")]
            Started::SyncSuccess(_) | Started::AsyncSuccess(_) | Started::OperationError(_) => variant,
        });
    }
    response
}

#[expect(deprecated, reason = "what such callers know")]
fn failed(failure: Failure) -> Started {
    let canceled = matches!(failure.failure_info, Some(FailureInfo::CanceledFailureInfo(_)));
    let operation_state = if canceled { "canceled" } else { "failed" }.to_owned();
    Started::OperationError(UnsuccessfulOperationError { operation_state, failure: Some(text(failure)) })
}

fn text(failure: Failure) -> nexus::Failure {
    let mut rest = failure;
    // The text stands beside the details, not in them; its trace does both.
    let message = std::mem::take(&mut rest.message);
    nexus::Failure {
        message,
        metadata: [("type".to_owned(), TYPE.to_owned())].into(),
        details: json::failure(&rest).to_string().into(),
        stack_trace: rest.stack_trace,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlast_proto::temporal::api::failure::v1::{
        ApplicationFailureInfo, CanceledFailureInfo, NexusHandlerFailureInfo,
    };
    use outlast_proto::temporal::api::nexus::v1::StartOperationResponse;

    fn application() -> Failure {
        let info = ApplicationFailureInfo { r#type: "Loss".into(), ..Default::default() };
        Failure {
            message: "lost".into(),
            stack_trace: "at home".into(),
            failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
            ..Default::default()
        }
    }

    fn details(of: &nexus::Failure) -> &str {
        assert_eq!(of.metadata["type"], TYPE);
        std::str::from_utf8(&of.details).expect("it is JSON")
    }

    #[test]
    fn a_handler_s_failure_comes_whole() {
        let info = NexusHandlerFailureInfo { r#type: "NOT_FOUND".into(), retry_behavior: 2 };
        let failure = Failure {
            message: "gone".into(),
            cause: Some(Box::new(application())),
            failure_info: Some(FailureInfo::NexusHandlerFailureInfo(info)),
            ..Default::default()
        };
        let error = error(failure);
        assert_eq!((error.error_type.as_str(), error.retry_behavior), ("NOT_FOUND", 2));
        let text = error.failure.unwrap();
        assert_eq!((text.message.as_str(), text.stack_trace.as_str()), ("gone", ""));
        let whole: serde_json::Value = serde_json::from_str(details(&text)).unwrap();
        assert_eq!(
            whole,
            serde_json::json!({
                "cause": {"message": "lost", "stackTrace": "at home", "applicationFailureInfo": {"type": "Loss"}},
                "nexusHandlerFailureInfo": {
                    "type": "NOT_FOUND",
                    "retryBehavior": "NEXUS_HANDLER_ERROR_RETRY_BEHAVIOR_NON_RETRYABLE",
                },
            })
        );
    }

    #[test]
    #[expect(deprecated, reason = "what such callers know")]
    fn an_operation_that_failed_says_so_in_the_older_words() {
        let canceled = Some(FailureInfo::CanceledFailureInfo(CanceledFailureInfo::default()));
        for (failure, state) in [
            (application(), "failed"),
            (Failure { failure_info: canceled, ..Default::default() }, "canceled"),
        ] {
            let start = StartOperationResponse { variant: Some(Started::Failure(failure.clone())) };
            let answer = response(Response { variant: Some(response::Variant::StartOperation(start)) });
            let Some(response::Variant::StartOperation(start)) = answer.variant else { panic!("{answer:?}") };
            let Some(Started::OperationError(error)) = start.variant else { panic!("{start:?}") };
            assert_eq!(error.operation_state, state);
            let text = error.failure.unwrap();
            assert_eq!(
                (text.message.as_str(), text.stack_trace.as_str()),
                (&*failure.message, &*failure.stack_trace)
            );
            assert!(!details(&text).contains("message"));
        }
    }
}
