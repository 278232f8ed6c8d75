//! A failure in fewer bytes: its large parts are left out, and its message says which they were and how large. A pure
//! function; why it must be shorter is given to it as a text.

use outlast_proto::temporal::api::common::v1::{Payload, Payloads};
use outlast_proto::temporal::api::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use prost::Message;

/// So many bytes of a text stay, half of them from its beginning and half from its end.
const TEXT_MAX: usize = 8 << 10;
/// Payloads, and whatever else cannot be cut, that are larger are left out.
pub(super) const KEPT_MAX: usize = 32 << 10;
/// Causes below the one that comes to this many bytes, counted from the top, are left out.
const CHAIN_MAX: usize = 256 << 10;
/// The message names so many parts, and how many more there were.
const NAMED_MAX: usize = 5;

/// The failure without its large parts. Type, retryability and the delay of the next try stay, and so do causes as far as
/// they fit. `why` opens the message.
pub(crate) fn shortened(mut failure: Failure, why: &str) -> Failure {
    let mut cuts = Cuts::default();
    cuts.chain(&mut failure);
    let parts = cuts.named();
    let left_out = if parts.is_empty() { String::new() } else { format!("; left out of it: {parts}") };
    if failure.encoded_attributes.is_some() {
        // Readers take the message from there: what is said here would not be seen.
        let failure_info = failure.failure_info.clone().map(without_payloads);
        let (message, source) = (format!("{why}{left_out}"), failure.source.clone());
        return Failure {
            message,
            source,
            failure_info,
            cause: Some(Box::new(failure)),
            ..Default::default()
        };
    }
    let said = Some(failure.message).filter(|said| !said.is_empty());
    failure.message = match said {
        Some(said) => format!("{why}{left_out}. The message was: {said}"),
        None => format!("{why}{left_out}"),
    };
    failure
}

/// Only what a failure says, and how it is retried: for a server that finds something wrong with the rest. It takes the
/// ordinary kind from everybody, and errors of handlers from those.
pub(crate) fn bare(failure: Failure, why: &str) -> Failure {
    let failure_info = match failure.failure_info {
        Some(FailureInfo::ApplicationFailureInfo(info)) => {
            let info = ApplicationFailureInfo { details: None, next_retry_delay: None, ..info };
            FailureInfo::ApplicationFailureInfo(info)
        }
        Some(FailureInfo::NexusHandlerFailureInfo(info)) => FailureInfo::NexusHandlerFailureInfo(info),
        Some(_) | None => FailureInfo::ApplicationFailureInfo(ApplicationFailureInfo::default()),
    };
    let failure =
        Failure { message: failure.message, failure_info: Some(failure_info), ..Default::default() };
    shortened(failure, why)
}

/// Whether payloads are small enough to stay.
pub(crate) fn may_stay(payloads: &Payloads) -> bool {
    payloads.encoded_len() <= KEPT_MAX
}

/// A text without its middle, if it is long.
pub(crate) fn short(text: &str) -> Option<String> {
    if text.len() <= TEXT_MAX {
        return None;
    }
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let head = (0..=TEXT_MAX / 2).rev().find(boundary)?;
    let tail = (text.len() - TEXT_MAX / 2..text.len()).find(boundary)?;
    Some(format!("{} [... {} bytes left out ...] {}", &text[..head], tail - head, &text[tail..]))
}

/// What was left out so far.
#[derive(Default)]
struct Cuts {
    /// How many causes deep.
    depth: usize,
    all: Vec<(&'static str, usize, usize)>,
}

impl Cuts {
    fn chain(&mut self, failure: &mut Failure) {
        let (mut at, mut total) = (failure, 0);
        loop {
            self.parts(at);
            let Some(cause) = at.cause.take() else { return };
            total += at.encoded_len();
            self.depth += 1;
            if total > CHAIN_MAX {
                self.note("everything", cause.encoded_len());
                return;
            }
            at = at.cause.insert(cause);
        }
    }

    /// All but the cause.
    fn parts(&mut self, failure: &mut Failure) {
        self.text("message", &mut failure.message);
        self.text("stack trace", &mut failure.stack_trace);
        self.text("source", &mut failure.source);
        self.payload("encoded attributes", &mut failure.encoded_attributes);
        if let Some(info) = &mut failure.failure_info {
            self.info(info);
        }
    }

    fn info(&mut self, info: &mut FailureInfo) {
        use FailureInfo as I;
        match info {
            I::ApplicationFailureInfo(info) => {
                self.text("type", &mut info.r#type);
                self.payloads("details", &mut info.details);
            }
            I::TimeoutFailureInfo(info) => {
                self.payloads("heartbeat details", &mut info.last_heartbeat_details);
            }
            I::CanceledFailureInfo(info) => {
                self.text("identity", &mut info.identity);
                self.payloads("details", &mut info.details);
            }
            I::TerminatedFailureInfo(info) => self.text("identity", &mut info.identity),
            I::ServerFailureInfo(_) => {}
            I::ResetWorkflowFailureInfo(info) => {
                self.payloads("heartbeat details", &mut info.last_heartbeat_details);
            }
            I::ActivityFailureInfo(info) => {
                self.text("identity", &mut info.identity);
                self.text("activity id", &mut info.activity_id);
                info.activity_type.iter_mut().for_each(|it| self.text("activity type", &mut it.name));
            }
            I::ChildWorkflowExecutionFailureInfo(info) => {
                self.text("namespace", &mut info.namespace);
                info.workflow_type.iter_mut().for_each(|it| self.text("workflow type", &mut it.name));
                info.workflow_execution.iter_mut().for_each(|it| {
                    self.text("workflow id", &mut it.workflow_id);
                    self.text("run id", &mut it.run_id);
                });
            }
            I::NexusOperationExecutionFailureInfo(info) => {
                self.text("endpoint", &mut info.endpoint);
                self.text("service", &mut info.service);
                self.text("operation", &mut info.operation);
                self.text("operation token", &mut info.operation_token);
                #[expect(deprecated, reason = "what older servers write")]
                self.text("operation id", &mut info.operation_id);
            }
            I::NexusHandlerFailureInfo(info) => self.text("type", &mut info.r#type),
        }
    }

    fn text(&mut self, part: &'static str, text: &mut String) {
        if let Some(short) = short(text) {
            self.note(part, text.len());
            *text = short;
        }
    }

    fn payloads(&mut self, part: &'static str, payloads: &mut Option<Payloads>) {
        if let Some(large) = payloads.take_if(|it| !may_stay(it)) {
            self.note(part, large.encoded_len());
        }
    }

    fn payload(&mut self, part: &'static str, payload: &mut Option<Payload>) {
        if let Some(large) = payload.take_if(|it| it.encoded_len() > KEPT_MAX) {
            self.note(part, large.encoded_len());
        }
    }

    fn note(&mut self, part: &'static str, bytes: usize) {
        self.all.push((part, self.depth, bytes));
    }

    fn named(&self) -> String {
        let name = |(part, depth, bytes): &(&str, usize, usize)| match (*part, depth) {
            ("everything", depth) => format!("causes from the {depth}. on ({bytes} bytes)"),
            (part, 0) => format!("{part} ({bytes} bytes)"),
            (part, depth) => format!("{part} of the {depth}. cause ({bytes} bytes)"),
        };
        let mut names: Vec<String> = self.all.iter().take(NAMED_MAX).map(name).collect();
        if let Some(more @ 1..) = self.all.len().checked_sub(NAMED_MAX) {
            names.push(format!("{more} other parts"));
        }
        names.join(", ")
    }
}

fn without_payloads(mut info: FailureInfo) -> FailureInfo {
    match &mut info {
        FailureInfo::ApplicationFailureInfo(info) => info.details = None,
        FailureInfo::TimeoutFailureInfo(info) => info.last_heartbeat_details = None,
        FailureInfo::CanceledFailureInfo(info) => info.details = None,
        FailureInfo::ResetWorkflowFailureInfo(info) => info.last_heartbeat_details = None,
        FailureInfo::TerminatedFailureInfo(_)
        | FailureInfo::ServerFailureInfo(_)
        | FailureInfo::ActivityFailureInfo(_)
        | FailureInfo::ChildWorkflowExecutionFailureInfo(_)
        | FailureInfo::NexusOperationExecutionFailureInfo(_)
        | FailureInfo::NexusHandlerFailureInfo(_) => {}
    }
    info
}

#[cfg(test)]
#[path = "shorten_tests.rs"]
mod tests;
