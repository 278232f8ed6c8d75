//! How large payloads may be: what is only large is warned of, what the namespace would refuse is not sent.

use outlast_client::WarnSizes;
use outlast_proto::lens::api::command::Attributes;
use outlast_proto::lens::api::{Command, Memo, Message, Payloads};
use prost::Message as _;

/// What a namespace accepts; `None`: unknown, so nothing is refused here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SizeLimits {
    pub(crate) payload: Option<usize>,
    pub(crate) memo: Option<usize>,
    /// What is worth a warning is the client's setting.
    pub(crate) warn: WarnSizes,
}

/// Looks at all commands and messages of an answer; the error says which is too large. Headers are not counted: the
/// namespace has no limit for them.
pub(crate) fn check(limits: SizeLimits, commands: &[Command], messages: &[Message]) -> Result<(), String> {
    for message in messages {
        let size = message.body.as_ref().map_or(0, |body| body.value.len());
        check_payload(limits, "the answer to an update", size)?;
    }
    commands.iter().try_for_each(|command| {
        let Some(attributes) = &command.attributes else { return Ok(()) };
        let (what, payload, memo) = measure(attributes);
        fits(what, "payloads", payload, limits.payload)?;
        fits(what, "memo", memo, limits.memo)?;
        limits.warn.check_payloads(payload);
        limits.warn.check_memo(memo);
        Ok(())
    })
}

/// Looks at payloads of this many bytes, encoded as a list.
pub(crate) fn check_payload(limits: SizeLimits, what: &str, bytes: usize) -> Result<(), String> {
    fits(what, "payloads", bytes, limits.payload)?;
    limits.warn.check_payloads(bytes);
    Ok(())
}

fn fits(what: &str, kind: &str, size: usize, limit: Option<usize>) -> Result<(), String> {
    match limit {
        Some(limit) if size > limit => {
            let rule =
                format!("[TMPRL1103] Attempted to upload {kind} with size that exceeded the error limit.");
            // The failure says which rule; sizes are told to those who run the worker.
            tracing::error!(what, size, limit, "{rule}");
            Err(rule)
        }
        Some(_) | None => Ok(()),
    }
}

/// What it is, and the bytes of its payloads and of its memo.
fn measure(attributes: &Attributes) -> (&'static str, usize, usize) {
    use Attributes as A;
    let some = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    match attributes {
        A::ScheduleActivityTaskCommandAttributes(a) => ("the input of an activity", all(&a.input), 0),
        A::CompleteWorkflowExecutionCommandAttributes(a) => ("the result of the workflow", all(&a.result), 0),
        A::FailWorkflowExecutionCommandAttributes(a) => ("the failure of the workflow", some(&a.failure), 0),
        A::CancelWorkflowExecutionCommandAttributes(a) => {
            ("the cancellation of the workflow", some(&a.details), 0)
        }
        A::RecordMarkerCommandAttributes(a) => {
            let details: usize = a.details.values().map(Payloads::encoded_len).sum();
            ("a marker, such as of a local activity", details + some(&a.failure), 0)
        }
        A::ContinueAsNewWorkflowExecutionCommandAttributes(a) => {
            ("the input of the workflow as new", all(&a.input), some(&a.memo))
        }
        A::StartChildWorkflowExecutionCommandAttributes(a) => {
            ("the input of a child workflow", all(&a.input), a.memo.as_ref().map_or(0, Memo::encoded_len))
        }
        A::SignalExternalWorkflowExecutionCommandAttributes(a) => {
            ("a signal to another workflow", all(&a.input), 0)
        }
        // What is upserted is held to the limit of payloads, not to that of the memo of a start.
        A::ModifyWorkflowPropertiesCommandAttributes(a) => ("the memo", some(&a.upserted_memo), 0),
        A::ScheduleNexusOperationCommandAttributes(a) => {
            ("the input of a Nexus operation", some(&a.input), 0)
        }
        A::UpsertWorkflowSearchAttributesCommandAttributes(a) => {
            ("the search attributes", some(&a.search_attributes), 0)
        }
        A::StartTimerCommandAttributes(_)
        | A::RequestCancelActivityTaskCommandAttributes(_)
        | A::CancelTimerCommandAttributes(_)
        | A::RequestCancelExternalWorkflowExecutionCommandAttributes(_)
        | A::ProtocolMessageCommandAttributes(_)
        | A::RequestCancelNexusOperationCommandAttributes(_) => ("a command", 0, 0),
    }
}

fn all(payloads: &Option<Payloads>) -> usize {
    payloads.as_ref().map_or(0, Payloads::encoded_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlast_proto::lens::api::CompleteWorkflowExecutionCommandAttributes;

    fn result(bytes: usize) -> Command {
        let payloads = Payloads { payloads: vec![vec![0; bytes - 2].into()] }; // two bytes say that and how long
        let attributes = CompleteWorkflowExecutionCommandAttributes { result: Some(payloads) };
        let attributes = Some(Attributes::CompleteWorkflowExecutionCommandAttributes(attributes));
        Command { attributes, ..Default::default() }
    }

    const WARN: WarnSizes = WarnSizes { payloads: 0, memo: 0 };
    const LIMITS: SizeLimits = SizeLimits { payload: Some(100), memo: Some(10), warn: WARN };

    #[test]
    fn what_the_namespace_would_refuse_is_refused_here() {
        let problem = check(LIMITS, &[result(5), result(101)], &[]).unwrap_err();
        assert_eq!(
            problem,
            "[TMPRL1103] Attempted to upload payloads with size that exceeded the error limit."
        );
    }

    #[test]
    fn the_limit_itself_is_accepted_and_without_one_everything() {
        assert_eq!(check(LIMITS, &[result(100)], &[]), Ok(()));
        assert_eq!(check(SizeLimits::default(), &[result(10_000_000)], &[]), Ok(()));
    }

    #[test]
    fn headers_count_for_nothing_and_upserted_memos_as_payloads() {
        use outlast_proto::lens::api::{
            Header, ModifyWorkflowPropertiesCommandAttributes, ScheduleActivityTaskCommandAttributes,
        };
        let command = |attributes| Command { attributes: Some(attributes), ..Default::default() };
        let header = Some(Header { fields: vec![vec![0; 500].into()] });
        let activity = ScheduleActivityTaskCommandAttributes { header, ..Default::default() };
        let activity = command(Attributes::ScheduleActivityTaskCommandAttributes(Box::new(activity)));
        assert_eq!(check(LIMITS, &[activity], &[]), Ok(()));
        let upsert = |bytes: usize| {
            let upserted_memo = Some(vec![0; bytes].into());
            let upsert = ModifyWorkflowPropertiesCommandAttributes { upserted_memo };
            command(Attributes::ModifyWorkflowPropertiesCommandAttributes(upsert))
        };
        assert_eq!(check(LIMITS, &[upsert(100)], &[]), Ok(()));
        assert!(check(LIMITS, &[upsert(101)], &[]).unwrap_err().contains("upload payloads"));
    }

    #[test]
    fn answers_to_updates_have_the_limit_of_payloads() {
        use outlast_proto::lens::api::Any;
        let answer = |bytes: usize| {
            let body = Some(Any { value: vec![0; bytes].into(), ..Default::default() });
            Message { body, ..Default::default() }
        };
        assert_eq!(check(LIMITS, &[], &[answer(100)]), Ok(()));
        assert!(check(LIMITS, &[], &[answer(5), answer(101)]).is_err());
    }
}
