//! The one error of this crate. It carries facts (kind, code, details); how a language shows them is its own affair.

use std::error::Error as StdError;
use std::net::SocketAddr;

use bytes::Bytes;
use tonic::Code;

/// What went wrong, in the words a caller decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A setting or an argument is wrong: no call was made, and none will work until it is changed.
    Config,
    /// The server could not be reached, or the connection broke.
    Unreachable,
    /// The server answered, and the answer is an error: see the code and the details.
    Refused,
    /// The deadline passed.
    TimedOut,
    /// The request or the answer is larger than one side accepts. Never tried again.
    TooLarge,
    /// The answer is not the message it should be.
    Malformed,
}

/// Why a call failed.
///
/// ```
/// use outlast_client::{Code, Error, Kind, Target};
///
/// let error: Error = "memory:".parse::<Target>().unwrap_err();
/// assert_eq!((error.kind, error.code, error.retryable), (Kind::Config, Code::InvalidArgument, false));
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What to decide by.
    pub kind: Kind,
    /// The gRPC code: the server's if it answered, otherwise the nearest one.
    pub code: Code,
    /// One sentence for a human.
    pub message: String,
    /// The server's `google.rpc.Status`, encoded; empty if it sent none.
    pub details: Bytes,
    /// Whether the same call may succeed later. Retries that the client's own policy allows have been made already.
    pub retryable: bool,
    /// What lies beneath, if it was an error of a library.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A wrong setting: `message` names it and says what would be right.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, Code::InvalidArgument, message, false)
    }

    pub(crate) fn new(kind: Kind, code: Code, message: impl Into<String>, retryable: bool) -> Self {
        Self { kind, code, message: message.into(), details: Bytes::new(), retryable, source: None }
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    pub(crate) fn unreachable(what: &str, source: impl StdError + Send + Sync + 'static) -> Self {
        let message = format!("cannot reach {what}: {}", chain(&source));
        Self::new(Kind::Unreachable, Code::Unavailable, message, true).with_source(source)
    }

    /// An answer that is not the message it should be.
    pub fn malformed(path: &str, source: prost::DecodeError) -> Self {
        let message = format!("the answer to {path} cannot be decoded: {source}");
        Self::new(Kind::Malformed, Code::Internal, message, false).with_source(source)
    }

    /// The server's `google.rpc.Status`, if it sent one that can be read.
    pub fn status(&self) -> Option<outlast_proto::google::rpc::Status> {
        if self.details.is_empty() {
            return None;
        }
        prost::Message::decode(self.details.clone()).ok()
    }

    /// Whether the connection was closed with a GOAWAY: the server did not look at the request.
    pub(crate) fn is_goaway(&self) -> bool {
        self.beneath(|e| e.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_go_away))
    }

    /// Whether there was no connection to send on.
    pub(crate) fn is_connect(&self) -> bool {
        self.beneath(|e| e.is::<tonic::ConnectError>())
    }

    /// What went wrong at this address, in one line.
    pub(crate) fn at(&self, address: SocketAddr) -> String {
        let (place, why) =
            (address.to_string(), self.source.as_deref().map_or_else(String::new, |it| chain(it)));
        if why.contains(&place) { why } else { format!("{place}: {why}") }
    }

    fn beneath(&self, test: impl Fn(&(dyn StdError + 'static)) -> bool) -> bool {
        self.source.as_deref().is_some_and(|source| chain_any(source, test))
    }
}

/// An error of the transport. A status with a source was made on this side: the connection failed, whatever code the
/// library chose for that. A status without one was sent by the server, or says what is wrong with its answer.
pub(crate) fn from_tonic(target: &str, status: tonic::Status) -> Error {
    let expired = chain_any(&status, |e| e.is::<tonic::TimeoutExpired>());
    if expired {
        let error = Error::new(Kind::TimedOut, Code::DeadlineExceeded, "the deadline passed", false);
        return error.with_source(status);
    }
    if status.source().is_some() {
        return Error::unreachable(target, status);
    }
    let details = Bytes::copy_from_slice(status.details());
    refused(status.code(), status.message().to_owned(), details)
}

/// An answer that is an error. Sizes are told by their text, since gRPC has no code for them.
pub(crate) fn refused(code: Code, message: String, details: Bytes) -> Error {
    if is_too_large(code, &message) {
        let message = format!("message too large: {message}");
        return Error { details, ..Error::new(Kind::TooLarge, code, message, false) };
    }
    let kind = match code {
        Code::DeadlineExceeded => Kind::TimedOut,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Kind::Refused,
    };
    Error { details, ..Error::new(kind, code, message, crate::retry::is_retryable(code)) }
}

/// grpc-go's and grpc-java's words for a request that is too large, and tonic's for an answer that is.
fn is_too_large(code: Code, message: &str) -> bool {
    let says = |part: &str| message.contains(part);
    match code {
        Code::ResourceExhausted => {
            says("received message larger than max")
                || says("received message after decompression larger than max")
                || says("message larger than max")
                || says("exceeded while decompressing message")
        }
        Code::OutOfRange => {
            says("decoded message length too large") || says("encoded message length too large")
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// Whether any cause is such a one.
fn chain_any(error: &(dyn StdError + 'static), test: impl Fn(&(dyn StdError + 'static)) -> bool) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if test(error) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The innermost causes in one line: libraries put the useful words last.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<tonic::Status>() {
            Some(status) => status.message().to_owned(),
            None => error.to_string(),
        };
        if !text.is_empty() && !texts.iter().any(|earlier| earlier.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}
