//! Tasks as polls bring them: read, or refused where they cannot be read.

use bytes::Bytes;
use outlast_client::Error;
use prost::Message;

/// A task as a poll gave it.
#[derive(Debug)]
pub(crate) enum Got<T> {
    Task(Box<T>),
    /// A message that cannot be read, but for its token.
    Unreadable {
        token: Bytes,
        problem: String,
    },
}

/// Only the token of a task, which all kinds have in the same place.
#[derive(Clone, PartialEq, Message)]
struct TokenOnly {
    #[prost(bytes = "bytes", tag = "1")]
    token: Bytes,
}

/// Reads the answer of a poll. Fails if there is not even a token: then nobody can be told.
pub(super) fn read<T: Message + Default>(path: &str, answer: Bytes) -> Result<Got<T>, Error> {
    let problem = match T::decode(answer.clone()) {
        Ok(task) => return Ok(Got::Task(Box::new(task))),
        Err(problem) => problem,
    };
    // The token comes first. What comes after it may be damaged to the last byte.
    let mut known = TokenOnly::default();
    let rest = known.merge(answer);
    match known.token {
        token if !token.is_empty() => Ok(Got::Unreadable { token, problem: problem.to_string() }),
        _ => Err(Error::malformed(path, rest.err().unwrap_or(problem))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outlast_client::Kind;
    use outlast_proto::temporal::api::workflowservice::v1::PollActivityTaskQueueResponse as Task;

    fn read(answer: &'static [u8]) -> Result<Got<Task>, Error> {
        super::read("/a/Poll", Bytes::from_static(answer))
    }

    #[test]
    fn a_task_is_read_and_so_is_none() {
        assert!(matches!(read(b"\x0a\x02t1"), Ok(Got::Task(task)) if task.task_token == "t1"));
        assert!(matches!(read(b""), Ok(Got::Task(task)) if task.task_token.is_empty()));
    }

    #[test]
    fn of_a_task_that_is_damaged_the_token_is_read() {
        // In a message within, and in the middle of a field of its own.
        for damaged in [&b"\x0a\x02t1\x1a\x03\x0a\x7fx"[..], b"\x0a\x02t1\x1a\x7fx"] {
            assert!(matches!(read(damaged), Ok(Got::Unreadable { token, .. }) if token == "t1"));
        }
    }

    #[test]
    fn without_a_token_it_is_an_error() {
        assert_eq!(read(b"\xff\xff").unwrap_err().kind, Kind::Malformed);
    }
}
