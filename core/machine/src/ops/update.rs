//! An update. The language accepts or rejects it, and later completes it; live, each step is a message to the server, and
//! in history acceptance and completion are events.

use bytes::Bytes;
use outlast_proto::lens::api::{self, outcome};
use outlast_proto::lens::lang::update_response::Response;
use prost::Message;

use super::{Out, Then, unexpected};
use crate::event::EventId;
use crate::fault::Fault;
use crate::queue::{Ask, Extras, Kind};

#[derive(Debug)]
pub(crate) struct Update {
    /// What the language and history call it.
    pub protocol_instance: Box<str>,
    /// The message that asked for it: its answers are named after it.
    pub message: Box<str>,
    pub sequencing: i64,
    /// The request, until it is answered live. `None` in replay: its answers are not sent.
    pub request: Option<Bytes>,
    /// The encoded `Meta` of the request.
    pub meta: Option<Bytes>,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The language has it.
    Requested,
    /// Accepted; whether that is in history, and whether its outcome is known too.
    Accepted { recorded: bool, completed: bool },
}

/// What history says of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Accepted,
    Completed,
}

impl Update {
    pub fn on(&mut self, id: EventId, event: Event) -> Result<Then, Fault> {
        match (self.state, event) {
            (State::Accepted { recorded: false, completed }, Event::Accepted) => {
                self.state = State::Accepted { recorded: true, completed };
                Ok(Then::Stays)
            }
            (State::Accepted { recorded: true, completed: true }, Event::Completed) => Ok(Then::Ends),
            (State::Requested | State::Accepted { .. }, Event::Accepted | Event::Completed) => {
                Err(unexpected(id, "an update's event", &self.state))
            }
        }
    }

    /// The language answers. Live, messages go with it. An update that is rejected leaves no trace.
    pub fn respond(
        &mut self,
        response: Response,
        extras: Option<Box<Extras>>,
        messages: &mut Vec<api::Message>,
        out: &mut Out<'_>,
    ) -> Result<Then, Fault> {
        match (self.state, response) {
            (State::Requested, Response::Accepted(_)) => {
                self.accept(extras, messages, out);
                Ok(Then::Stays)
            }
            (State::Requested, Response::Rejected(failure)) => {
                self.reject(failure, messages);
                Ok(Then::Ends)
            }
            (State::Requested, Response::Completed(_)) => Err(Fault::mismatch(
                EventId(self.sequencing),
                format!("the request for update {:?}", self.protocol_instance),
                Some("its completion, before its acceptance".to_owned()),
                Vec::new(),
            )),
            (
                State::Accepted { recorded, completed: false },
                response @ (Response::Completed(_) | Response::Rejected(_)),
            ) => {
                self.state = State::Accepted { recorded, completed: true };
                self.complete(response, extras, messages, out);
                Ok(Then::Stays)
            }
            (State::Accepted { completed: false, .. }, Response::Accepted(_)) => {
                Err(self.misuse("accepted twice"))
            }
            (State::Accepted { completed: true, .. }, _) => Err(self.misuse("answered after its completion")),
        }
    }

    fn accept(&mut self, extras: Option<Box<Extras>>, messages: &mut Vec<api::Message>, out: &mut Out<'_>) {
        let name = format!("{}/accept", self.message);
        if let Some(request) = self.request.take() {
            let acceptance = api::Acceptance {
                accepted_request_message_id: self.message.to_string(),
                accepted_request_sequencing_event_id: self.sequencing,
                accepted_request: Some(request),
            };
            self.send(&name, "Acceptance", acceptance.encode_to_vec(), messages);
        }
        self.state = State::Accepted { recorded: false, completed: false };
        out.ask(Kind::AcceptUpdate, Ask::AcceptUpdate { message: name.into() }, extras);
    }

    fn complete(
        &mut self,
        response: Response,
        extras: Option<Box<Extras>>,
        messages: &mut Vec<api::Message>,
        out: &mut Out<'_>,
    ) {
        let name = format!("{}/complete", self.message);
        let value = match response {
            Response::Completed(payload) => {
                outcome::Value::Success(api::Payloads { payloads: vec![payload] })
            }
            Response::Rejected(failure) => outcome::Value::Failure(failure),
            Response::Accepted(_) => return,
        };
        let outcome = Some(api::Outcome { value: Some(value) });
        let message = api::Response { meta: self.meta.take(), outcome };
        self.send(&name, "Response", message.encode_to_vec(), messages);
        out.ask(Kind::CompleteUpdate, Ask::CompleteUpdate { message: name.into() }, extras);
    }

    fn reject(&mut self, failure: Bytes, messages: &mut Vec<api::Message>) {
        let rejection = api::Rejection {
            rejected_request_message_id: self.message.to_string(),
            rejected_request_sequencing_event_id: self.sequencing,
            rejected_request: self.request.take(),
            failure: Some(failure),
        };
        self.send(&format!("{}/reject", self.message), "Rejection", rejection.encode_to_vec(), messages);
    }

    fn send(&self, id: &str, kind: &str, body: Vec<u8>, messages: &mut Vec<api::Message>) {
        messages.push(api::Message {
            id: id.to_owned(),
            protocol_instance_id: self.protocol_instance.to_string(),
            sequencing_id: None,
            body: Some(api::Any {
                type_url: format!("type.googleapis.com/temporal.api.update.v1.{kind}"),
                value: body.into(),
            }),
        });
    }

    fn misuse(&self, what: &str) -> Fault {
        Fault::misuse(format!("update {:?} was {what}; answer each update once", self.protocol_instance))
    }
}
