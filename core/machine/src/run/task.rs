//! The task that a run holds, until it is answered. It does not know how.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use outlast_proto::lens::{api, lang};

use crate::event::EventId;
use crate::io::{Source, Task, Ticket};
use crate::time::Time;

/// The id under which the language sees a legacy query, and answers it.
pub(super) const LEGACY_QUERY: &str = "legacy_query";

/// How much of a task's time may pass before its answer must be given, with local activities still running.
const HEARTBEAT_AFTER: f64 = 0.8;
/// A task's time, where history does not say.
const TASK_TIMEOUT: Duration = Duration::from_secs(10);

/// A task in hand.
#[derive(Debug)]
pub(super) struct Held {
    pub ticket: Ticket,
    pub token: Bytes,
    pub attempt: u32,
    pub started: EventId,
    pub source: Source,
    pub received: Time,
    /// What fetches the page after the last one that was read.
    pub next_page: Bytes,
    /// The page that came with the task, kept while the whole history is fetched: it may end with events that are
    /// not in the store yet.
    pub tail: Option<Bytes>,
    pub messages: Vec<api::Message>,
    /// Queries that the language has not seen yet.
    pub queries: Vec<(String, api::WorkflowQuery)>,
    pub legacy: Option<api::WorkflowQuery>,
    pub results: BTreeMap<String, api::WorkflowQueryResult>,
    /// A replay came before the first live activation.
    pub replayed: bool,
}

impl Held {
    pub fn new(task: Task, received: Time) -> (Self, Bytes) {
        let poll = task.poll;
        let held = Self {
            ticket: task.ticket,
            token: poll.task_token,
            attempt: u32::try_from(poll.attempt).unwrap_or(0),
            started: EventId(poll.started_event_id),
            source: task.source,
            received,
            next_page: poll.next_page_token,
            tail: None,
            messages: poll.messages,
            queries: poll.queries.into_iter().collect(),
            legacy: poll.query,
            results: BTreeMap::new(),
            replayed: false,
        };
        (held, poll.history.unwrap_or_default())
    }

    /// Whether it is a query by itself, with nothing to be done in the workflow.
    pub fn is_query(&self) -> bool {
        self.legacy.is_some()
    }

    /// When it must be answered, with local activities still running.
    pub fn heartbeat(&self, timeout: Option<Duration>) -> Time {
        self.received + timeout.unwrap_or(TASK_TIMEOUT).mul_f64(HEARTBEAT_AFTER)
    }
}

/// The job that asks the language.
pub(super) fn job(id: String, query: api::WorkflowQuery) -> lang::WorkflowActivationJob {
    let query = lang::QueryWorkflow {
        query_id: id,
        query_type: query.query_type,
        arguments: query.query_args.unwrap_or_default().payloads,
        headers: query.header.unwrap_or_default().fields,
    };
    lang::WorkflowActivationJob {
        variant: Some(lang::workflow_activation_job::Variant::QueryWorkflow(query)),
    }
}
