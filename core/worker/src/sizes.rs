//! How large payloads may be: what is only large is warned of, what the namespace would refuse is not sent.

use bytes::Bytes;
use outlast_client::WarnSizes;
use outlast_machine::io::TaskCompletion;
use outlast_proto::lens::api::command::Attributes;
use outlast_proto::lens::api::{Memo, Payloads};
use outlast_proto::temporal::api::common::v1 as common;
use prost::Message as _;

/// What a namespace accepts; `None`: unknown, so nothing is refused here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SizeLimits {
    pub(crate) payload: Option<usize>,
    pub(crate) memo: Option<usize>,
    /// What is worth a warning is the client's setting.
    pub(crate) warn: WarnSizes,
}

/// Looks at all of an answer; the error says which is too large. Only an answer that is sent is warned of. Headers are not
/// counted: the namespace has no limit for them.
pub(crate) fn check(limits: SizeLimits, done: &TaskCompletion) -> Result<(), String> {
    let messages = done.messages.iter().filter_map(|message| message.body.as_ref());
    let messages = messages.map(|body| ("the answer to an update", body.encoded_len(), 0));
    let commands = done.commands.iter().filter_map(|command| command.attributes.as_ref());
    let measured: Vec<_> = messages.chain(commands.map(measure)).collect();
    for (what, payload, memo) in &measured {
        fits(what, "payloads", *payload, limits.payload)?;
        fits(what, "memo", *memo, limits.memo)?;
    }
    for (_, payload, memo) in measured {
        limits.warn.check_payloads(payload);
        limits.warn.check_memo(memo);
    }
    // Queries have no limit here: whoever asks hears from the server that the answer is too large.
    for answer in done.query_results.values() {
        limits.warn.check_payloads(all(&answer.answer));
    }
    Ok(())
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
    let some = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    match attributes {
        A::ScheduleActivityTaskCommandAttributes(a) => ("the input of an activity", all(&a.input), 0),
        A::CompleteWorkflowExecutionCommandAttributes(a) => ("the result of the workflow", all(&a.result), 0),
        A::FailWorkflowExecutionCommandAttributes(a) => ("the failure of the workflow", some(&a.failure), 0),
        A::CancelWorkflowExecutionCommandAttributes(a) => {
            ("the cancellation of the workflow", some(&a.details), 0)
        }
        A::RecordMarkerCommandAttributes(a) => {
            let details = a.details.iter().map(|(name, payloads)| name.len() + payloads.encoded_len());
            ("a marker, such as of a local activity", details.sum(), 0)
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
        A::ModifyWorkflowPropertiesCommandAttributes(a) => ("the memo", fields(&a.upserted_memo), 0),
        A::ScheduleNexusOperationCommandAttributes(a) => {
            ("the input of a Nexus operation", some(&a.input), 0)
        }
        A::UpsertWorkflowSearchAttributesCommandAttributes(a) => {
            ("the search attributes", fields(&a.search_attributes), 0)
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

/// Names and data of an encoded memo, or of search attributes, which are encoded alike. What cannot be read counts whole.
fn fields(encoded: &Option<Bytes>) -> usize {
    let Some(encoded) = encoded else { return 0 };
    let Ok(memo) = common::Memo::decode(encoded.clone()) else { return encoded.len() };
    memo.fields.iter().map(|(name, payload)| name.len() + payload.data.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlast_machine::io::Ticket;
    use outlast_proto::lens::api::{
        Any, Command, CompleteWorkflowExecutionCommandAttributes, Header, Message,
        ModifyWorkflowPropertiesCommandAttributes, RecordMarkerCommandAttributes,
        ScheduleActivityTaskCommandAttributes, UpsertWorkflowSearchAttributesCommandAttributes,
    };

    fn answer(attributes: Vec<Attributes>, messages: Vec<Message>) -> TaskCompletion {
        let command = |attributes| Command { attributes: Some(attributes), ..Default::default() };
        TaskCompletion {
            ticket: Ticket(0),
            token: Bytes::new(),
            commands: attributes.into_iter().map(command).collect(),
            messages,
            query_results: Default::default(),
            force_new_task: false,
            core_flags: vec![],
            lang_flags: vec![],
            write_sdk: false,
            nonfirst_local_attempts: 0,
            workflow_type: Bytes::new(),
            history_size_bytes: 0,
            versioning_behavior: 0,
            leaves: false,
            closes: false,
        }
    }

    fn said(attributes: Attributes) -> Result<(), String> {
        check(LIMITS, &answer(vec![attributes], vec![]))
    }

    /// A result of so many bytes.
    fn result(bytes: usize) -> Attributes {
        let payloads = Payloads { payloads: vec![vec![0; bytes - 2].into()] }; // two bytes say that and how long
        let attributes = CompleteWorkflowExecutionCommandAttributes { result: Some(payloads) };
        Attributes::CompleteWorkflowExecutionCommandAttributes(attributes)
    }

    /// An encoded memo of one field: a name of one byte, and its data.
    fn memo(data: usize) -> Option<Bytes> {
        let payload = common::Payload {
            data: vec![0; data].into(),
            metadata: [("encoding".to_owned(), b"json/plain".to_vec().into())].into(),
            ..Default::default()
        };
        Some(common::Memo { fields: [("k".to_owned(), payload)].into() }.encode_to_vec().into())
    }

    const WARN: WarnSizes = WarnSizes { payloads: 0, memo: 0 };
    const LIMITS: SizeLimits = SizeLimits { payload: Some(100), memo: Some(10), warn: WARN };

    #[test]
    fn what_the_namespace_would_refuse_is_refused_here() {
        let problem = check(LIMITS, &answer(vec![result(5), result(101)], vec![])).unwrap_err();
        assert_eq!(
            problem,
            "[TMPRL1103] Attempted to upload payloads with size that exceeded the error limit."
        );
    }

    #[test]
    fn the_limit_itself_is_accepted_and_without_one_everything() {
        assert_eq!(said(result(100)), Ok(()));
        assert_eq!(check(SizeLimits::default(), &answer(vec![result(10_000_000)], vec![])), Ok(()));
    }

    #[test]
    fn headers_count_for_nothing() {
        let header = Some(Header { fields: vec![vec![0; 500].into()] });
        let activity = ScheduleActivityTaskCommandAttributes { header, ..Default::default() };
        assert_eq!(said(Attributes::ScheduleActivityTaskCommandAttributes(Box::new(activity))), Ok(()));
    }

    #[test]
    fn upserts_count_by_names_and_data_as_payloads() {
        for (data, accepted) in [(99, true), (100, false)] {
            let upsert = ModifyWorkflowPropertiesCommandAttributes { upserted_memo: memo(data) };
            let upsert = said(Attributes::ModifyWorkflowPropertiesCommandAttributes(upsert));
            assert_eq!(upsert.is_ok(), accepted, "{data}");
            assert!(upsert.is_ok() || upsert.unwrap_err().contains("upload payloads"));
            let search = UpsertWorkflowSearchAttributesCommandAttributes { search_attributes: memo(data) };
            let search = said(Attributes::UpsertWorkflowSearchAttributesCommandAttributes(search));
            assert_eq!(search.is_ok(), accepted, "{data}");
        }
        assert_eq!(fields(&Some(vec![0xff; 7].into())), 7);
    }

    #[test]
    fn markers_count_by_names_and_details_without_the_failure() {
        for (data, accepted) in [(94, true), (95, false)] {
            let details = Payloads { payloads: vec![vec![0; data].into()] };
            let marker = RecordMarkerCommandAttributes {
                details: [("data".to_owned(), details)].into(),
                failure: Some(vec![0; 500].into()),
                ..Default::default()
            };
            assert_eq!(said(Attributes::RecordMarkerCommandAttributes(marker)).is_ok(), accepted, "{data}");
        }
    }

    #[test]
    fn answers_to_updates_count_with_their_type() {
        let update = |bytes: usize| {
            let body = Some(Any { type_url: "t".repeat(10), value: vec![0; bytes].into() });
            check(LIMITS, &answer(vec![], vec![Message { body, ..Default::default() }]))
        };
        assert_eq!(update(86), Ok(())); // and twice two bytes
        assert!(update(87).is_err());
    }
}
