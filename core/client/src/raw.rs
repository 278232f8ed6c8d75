//! Calls whose messages others have encoded: what must be read of a request to send it well, and nothing more.

use std::fmt;

use outlast_proto::services::Rpc;

/// What a request says of its own call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// For [`CallOptions::namespace`](crate::CallOptions::namespace); `None` where this RPC is about no namespace.
    pub namespace: Option<&'a str>,
    /// For [`CallOptions::task_queue`](crate::CallOptions::task_queue).
    pub task_queue: Option<&'a str>,
    /// A user waits for something to happen: the deadline is that of a long poll.
    pub waits: bool,
}

/// The bytes are not an encoded message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The message, where the problem is within a field that is read here.
    request: Option<&'static str>,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Varint,
    Key(u64),
    TagZero,
    WireType(u64),
    UnexpectedWireType(u64),
    Underflow,
    EndGroup,
    Depth,
    Utf8,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KINDS: [&str; 6] =
            ["Varint", "SixtyFourBit", "LengthDelimited", "StartGroup", "EndGroup", "ThirtyTwoBit"];
        if let Some(request) = self.request {
            write!(f, "{request}.namespace: ")?;
        }
        match self.problem {
            Problem::Varint => f.write_str("invalid varint"),
            Problem::Key(key) => write!(f, "invalid key value: {key}"),
            Problem::TagZero => f.write_str("invalid tag value: 0"),
            Problem::WireType(kind) => write!(f, "invalid wire type value: {kind}"),
            Problem::UnexpectedWireType(kind) => {
                let kind = usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind)).unwrap_or(&"?");
                write!(f, "invalid wire type: {kind} (expected LengthDelimited)")
            }
            Problem::Underflow => f.write_str("buffer underflow"),
            Problem::EndGroup => f.write_str("unexpected end group tag"),
            Problem::Depth => f.write_str("recursion limit reached"),
            Problem::Utf8 => f.write_str("invalid string value: data is not UTF-8 encoded"),
        }
    }
}

impl std::error::Error for Malformed {}

/// `GetWorkflowExecutionHistoryRequest.wait_new_event`
const WAIT_NEW_EVENT: u32 = 5;
/// Groups within groups: nobody sends any.
const DEPTH_MAX: u32 = 100;

/// Reads what must be known of a request, skipping all else; so much is checked: it is a sequence of fields.
///
/// ```
/// use outlast_client::raw;
/// use outlast_proto::services::find;
///
/// let rpc = find("temporal.api.workflowservice.v1.WorkflowService", "describe_namespace").unwrap();
/// assert_eq!(raw::read(rpc, b"\x0a\x07default").unwrap().namespace, Some("default"));
/// assert_eq!(raw::read(rpc, b"\xff").unwrap_err().to_string(), "invalid varint");
/// ```
pub fn read<'a>(rpc: &Rpc, request: &'a [u8]) -> Result<Facts<'a>, Malformed> {
    let at_top = |problem| Malformed { request: None, problem };
    let within = |problem| Malformed { request: Some(rpc.request), problem };
    let mut facts = Facts { namespace: rpc.namespace.map(|_| ""), ..Facts::default() };
    let (mut wire, mut awaited) = (Wire(request), false);
    while !wire.0.is_empty() {
        let (field, kind) = wire.key().map_err(at_top)?;
        if rpc.namespace == Some(field) {
            let text = wire.text(kind).map_err(within)?;
            facts.namespace = Some(text);
        } else if let Some((&first, rest)) = rpc.task_queue.split_first()
            && (field, kind) == (first, 2)
        {
            let within = wire.bytes().map_err(at_top)?;
            facts.task_queue = text_at(within, rest).or(facts.task_queue);
        } else if field == WAIT_NEW_EVENT && kind == 0 {
            awaited = wire.varint().map_err(at_top)? != 0;
        } else {
            wire.skip(kind, field, DEPTH_MAX).map_err(at_top)?;
        }
    }
    facts.waits = match rpc.name {
        "get_workflow_execution_history" => awaited,
        name => matches!(
            name,
            "update_workflow_execution" | "execute_multi_operation" | "poll_workflow_execution_time_skipping"
        ),
    };
    Ok(facts)
}

/// The text to which these fields lead, each within the one before.
fn text_at<'a>(bytes: &'a [u8], path: &[u32]) -> Option<&'a str> {
    let Some((field, rest)) = path.split_first() else { return std::str::from_utf8(bytes).ok() };
    let mut wire = Wire(bytes);
    loop {
        let (number, within) = wire.next_bytes()?;
        if number == *field {
            return text_at(within, rest);
        }
    }
}

/// Whether this flag of a message is set.
pub fn flag(message: &[u8], field: u32) -> bool {
    let (mut wire, mut set) = (Wire(message), false);
    while let Ok((number, kind)) = wire.key() {
        if number == field && kind == 0 {
            set = wire.varint().is_ok_and(|value| value != 0);
        } else if wire.skip(kind, number, DEPTH_MAX).is_err() {
            break;
        }
    }
    set
}

/// What is left of a message.
pub(crate) struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0_u64;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                // The tenth byte has room for one bit.
                let fits = i < 9 || *byte < 2;
                self.0 = self.0.get(i + 1..).unwrap_or_default();
                return if fits { Ok(value) } else { Err(Problem::Varint) };
            }
        }
        Err(Problem::Varint)
    }

    /// The number of a field, and how it is encoded.
    fn key(&mut self) -> Result<(u32, u64), Problem> {
        let key = self.varint()?;
        let short = u32::try_from(key).map_err(|_| Problem::Key(key))?;
        match (short >> 3, key & 7) {
            (_, kind @ 6..) => Err(Problem::WireType(kind)),
            (0, _) => Err(Problem::TagZero),
            (field, kind) => Ok((field, kind)),
        }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Problem> {
        let length = usize::try_from(length).map_err(|_| Problem::Underflow)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Problem::Underflow)?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self, kind: u64) -> Result<&'a str, Problem> {
        if kind != 2 {
            return Err(Problem::UnexpectedWireType(kind));
        }
        std::str::from_utf8(self.bytes()?).map_err(|_| Problem::Utf8)
    }

    /// What stands behind a key of kind 2.
    fn bytes(&mut self) -> Result<&'a [u8], Problem> {
        let length = self.varint()?;
        self.take(length)
    }

    fn skip(&mut self, kind: u64, field: u32, depth: u32) -> Result<(), Problem> {
        match kind {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.bytes().map(drop),
            3 if depth == 0 => Err(Problem::Depth),
            3 => loop {
                match self.key()? {
                    (inner, 4) if inner == field => return Ok(()),
                    (inner, kind) => self.skip(kind, inner, depth - 1)?,
                }
            },
            4 => Err(Problem::EndGroup),
            5 => self.take(4).map(drop),
            kind => Err(Problem::WireType(kind)),
        }
    }

    /// The next field that holds bytes, with its number; fields of other kinds are passed over. `None`: no more, or
    /// no message.
    pub(crate) fn next_bytes(&mut self) -> Option<(u32, &'a [u8])> {
        while !self.0.is_empty() {
            let (field, kind) = self.key().ok()?;
            if kind == 2 {
                return Some((field, self.bytes().ok()?));
            }
            self.skip(kind, field, DEPTH_MAX).ok()?;
        }
        None
    }

    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }
}

#[cfg(test)]
mod tests {
    use outlast_proto::services::find;
    use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
    use outlast_proto::temporal::api::workflowservice::v1 as api;
    use outlast_proto::temporal::api::workflowservice::v1::execute_multi_operation_request::{
        Operation, operation as either,
    };
    use prost::Message;

    use super::*;

    fn rpc(name: &str) -> &'static Rpc {
        find("temporal.api.workflowservice.v1.WorkflowService", name).unwrap()
    }

    #[test]
    fn a_namespace_is_read_wherever_it_is() {
        let request = api::RespondActivityTaskCompletedRequest {
            task_token: vec![1; 300].into(),
            namespace: "here".into(),
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(read(rpc("respond_activity_task_completed"), &bytes).unwrap().namespace, Some("here"));
        assert_eq!(read(rpc("describe_namespace"), b"").unwrap().namespace, Some(""), "a header, if empty");
        assert_eq!(read(rpc("get_system_info"), b"").unwrap().namespace, None);
        let twice = b"\x0a\x01a\x0a\x01b";
        assert_eq!(
            read(rpc("describe_namespace"), twice).unwrap().namespace,
            Some("b"),
            "the last one counts"
        );
    }

    #[test]
    fn a_task_queue_is_read_where_the_request_has_it() {
        let queue = |name: &str| Some(TaskQueue { name: name.into(), ..Default::default() });
        let start = api::StartWorkflowExecutionRequest {
            namespace: "here".into(),
            task_queue: queue("orders"),
            ..Default::default()
        };
        let bytes = start.encode_to_vec();
        let facts = read(rpc("start_workflow_execution"), &bytes).unwrap();
        assert_eq!((facts.namespace, facts.task_queue), (Some("here"), Some("orders")));

        let operation = |operation| Operation { operation: Some(operation) };
        let both = api::ExecuteMultiOperationRequest {
            operations: vec![
                operation(either::Operation::StartWorkflow(start)),
                operation(either::Operation::UpdateWorkflow(Default::default())),
            ],
            ..Default::default()
        };
        let bytes = both.encode_to_vec();
        assert_eq!(read(rpc("execute_multi_operation"), &bytes).unwrap().task_queue, Some("orders"));

        assert_eq!(read(rpc("start_workflow_execution"), b"").unwrap().task_queue, None);
        assert_eq!(read(rpc("start_workflow_execution"), b"\x22\x02\x0a\x09").unwrap().task_queue, None);
    }

    #[test]
    fn who_waits() {
        let request = api::GetWorkflowExecutionHistoryRequest { wait_new_event: true, ..Default::default() };
        let history = rpc("get_workflow_execution_history");
        assert!(read(history, &request.encode_to_vec()).unwrap().waits);
        assert!(!read(history, b"").unwrap().waits);
        assert!(read(rpc("update_workflow_execution"), b"").unwrap().waits);
        assert!(!read(rpc("describe_namespace"), b"\x28\x01").unwrap().waits);
    }

    #[test]
    fn what_is_no_message_is_told_as_prost_does() {
        for bytes in [
            &b"\xff"[..],
            b"\x0a",
            b"\x0a\x05a",
            b"\x00",
            b"\x0a\x01\xff",
            b"\x09",
            b"\x0e",
            b"\x4c",
            b"\x4b\x08\x01",
            b"\xff\xff\xff\xff\xff\x01",
            b"\x48\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            b"\x9d\x3e\x00",
        ] {
            let expected = api::DescribeNamespaceRequest::decode(bytes).unwrap_err().to_string();
            let found = read(rpc("describe_namespace"), bytes).unwrap_err().to_string();
            assert_eq!(
                expected.trim_start_matches("failed to decode Protobuf message: "),
                found,
                "{bytes:?}"
            );
        }
        assert!(read(rpc("describe_namespace"), b"\xa3\x3e\x08\x01\xa4\x3e").is_ok(), "an unknown group");
    }
}
