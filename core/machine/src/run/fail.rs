//! What happens when a run cannot go on: the task fails if that may be told, and the run leaves the cache.

use bytes::Bytes;
use outlast_proto::lens::lang::remove_from_cache::EvictionReason as Reason;
use outlast_proto::lens::{api, lang};

use super::{Phase, Run, Sent};
use crate::config::Config;
use crate::failure;
use crate::fault::Fault;
use crate::io::{
    Eviction, FetchFailed, Note, Output, QueryResult, Reply, Source, TaskCompletion, TaskFailure,
};

/// `temporal.api.enums.v1.WorkflowTaskFailedCause`.
pub(super) mod cause {
    pub const WORKFLOW_WORKER_UNHANDLED_FAILURE: i32 = 14;
    pub const NON_DETERMINISTIC_ERROR: i32 = 24;
    pub const GRPC_MESSAGE_TOO_LARGE: i32 = 36;
    pub const PAYLOADS_TOO_LARGE: i32 = 37;
}

/// `temporal.api.enums.v1.CommandType`.
const FAIL_WORKFLOW_EXECUTION: i32 = 5;

impl Run {
    /// Code and history part, or one of them is not usable.
    pub(super) fn fault(&mut self, fault: Fault, config: &Config) {
        let message = fault.to_string();
        let (reason, cause) = match &fault {
            Fault::Nondeterminism(_) => (Reason::Nondeterminism, cause::NON_DETERMINISTIC_ERROR),
            Fault::Malformed { .. } | Fault::Misuse { .. } | Fault::Invalid(_) => {
                (Reason::Fatal, cause::WORKFLOW_WORKER_UNHANDLED_FAILURE)
            }
        };
        self.evict(Eviction { reason, message: message.clone() });
        self.fail_task_or_workflow(cause, failure::application(&message, ""), message, config);
    }

    /// The language failed an activation.
    pub(super) fn lang_failed(&mut self, failed: lang::WorkflowCompletionFailure, config: &Config) {
        let failure = failed.failure.unwrap_or_default();
        let message = failure::message(&failure);
        self.evict(Eviction {
            reason: Reason::LangFail,
            message: format!("The activation failed: {}", failure::chain(&failure)),
        });
        let cause = match failed.force_cause {
            0 => cause::WORKFLOW_WORKER_UNHANDLED_FAILURE,
            forced => forced,
        };
        self.fail_task_or_workflow(cause, failure, message, config);
    }

    /// Fails the task, or for nondeterminism the workflow, if that is what the worker wants.
    fn fail_task_or_workflow(&mut self, cause: i32, failure: Bytes, message: String, config: &Config) {
        if cause == cause::NON_DETERMINISTIC_ERROR && self.may_fail_workflow(config) {
            self.fail_workflow(failure);
        } else {
            self.fail(cause, failure, message);
        }
        self.evict_if_done();
    }

    /// History could not be fetched. A query may be answered by another worker; a task is failed, so that it comes back at
    /// once and not after its time-out.
    pub(super) fn fetch_failed(&mut self, failed: FetchFailed) {
        let message = format!("The history could not be fetched: {}", failed.message);
        self.evict(Eviction { reason: Reason::PaginationOrHistoryFetch, message: message.clone() });
        if self.task.as_ref().is_some_and(|t| t.is_query()) {
            self.done();
        } else {
            let failure = failure::application(&message, "");
            self.fail(cause::WORKFLOW_WORKER_UNHANDLED_FAILURE, failure, message);
        }
        self.evict_if_done();
    }

    /// The server did not take the completion: what is cached may not be what the server has.
    pub(super) fn refused(&mut self, reply: Reply) {
        let (reason, message) = match reply {
            Reply::NotFound => {
                (Reason::TaskNotFound, "The server does not know the task any more".to_owned())
            }
            Reply::UnhandledCommand => (
                Reason::UnhandledCommand,
                "Something happened to the workflow before it could close".to_owned(),
            ),
            Reply::TooLarge { message } => {
                return self.undeliverable(cause::GRPC_MESSAGE_TOO_LARGE, "", message);
            }
            Reply::PayloadsTooLarge { message } => {
                return self.undeliverable(cause::PAYLOADS_TOO_LARGE, "PayloadsTooLarge", message);
            }
            Reply::Invalid { message } => {
                let message = format!("The server refused the completion of the workflow task: {message}");
                return self.undeliverable(cause::WORKFLOW_WORKER_UNHANDLED_FAILURE, "", message);
            }
            Reply::Failed { message } => (Reason::Fatal, message),
            Reply::Accepted { .. } => (Reason::Unspecified, String::new()),
        };
        self.evict(Eviction { reason, message });
        self.done();
        self.evict_if_done();
    }

    /// The answer is not taken and never will be: the task fails, so that people see why. Code that says something else may
    /// mend it.
    fn undeliverable(&mut self, cause: i32, kind: &str, message: String) {
        self.evict(Eviction { reason: Reason::Fatal, message: message.clone() });
        self.fail(cause, failure::application(&message, kind), message);
        self.evict_if_done();
    }

    /// Reports that the task failed. Only a first attempt is reported: the server then slows down further ones. That of a replay
    /// has nobody to report to.
    fn fail(&mut self, cause: i32, failure: Bytes, message: String) {
        self.playing = None;
        let Some(held) = &self.task else { return };
        let replayed = held.source == Source::Replay;
        if held.is_query() && !replayed {
            self.answer_legacy(QueryResult::Failed { failure, cause });
            return;
        }
        if replayed || held.attempt > 1 {
            let note = Note::FailureHeldBack { attempt: held.attempt, cause, message };
            self.out.push_back(Output::Note(self.id.clone(), note));
            self.done();
            return;
        }
        let report = TaskFailure {
            ticket: held.ticket,
            token: held.token.clone(),
            cause,
            failure,
            workflow_type: self.workflow.workflow_type.clone(),
            history_size_bytes: self.workflow.history_size_bytes(),
        };
        self.phase = Phase::Reporting(Sent::Failure);
        self.out.push_back(Output::Fail(self.id.clone(), report));
    }

    fn may_fail_workflow(&self, config: &Config) -> bool {
        self.task.as_ref().is_some_and(|t| t.source == Source::Server && !t.is_query())
            && config.nondeterminism.fails_workflow(&self.workflow.workflow_type)
    }

    /// Answers the task with the failure of the workflow itself.
    fn fail_workflow(&mut self, failure: Bytes) {
        self.playing = None;
        let Some(held) = &self.task else { return };
        let fail = api::FailWorkflowExecutionCommandAttributes { failure: Some(failure) };
        let command = api::Command {
            command_type: FAIL_WORKFLOW_EXECUTION,
            attributes: Some(api::command::Attributes::FailWorkflowExecutionCommandAttributes(fail)),
            ..Default::default()
        };
        let completion = TaskCompletion {
            ticket: held.ticket,
            token: held.token.clone(),
            commands: vec![command],
            messages: Vec::new(),
            query_results: Default::default(),
            force_new_task: false,
            core_flags: Vec::new(),
            lang_flags: Vec::new(),
            write_sdk: false,
            versioning_behavior: 0,
            nonfirst_local_attempts: 0,
            workflow_type: self.workflow.workflow_type.clone(),
            closes: true,
            leaves: true,
            history_size_bytes: self.workflow.history_size_bytes(),
        };
        self.phase = Phase::Reporting(Sent::WorkflowFailure);
        self.out.push_back(Output::Complete(self.id.clone(), Box::new(completion)));
    }

    /// Leaves, if nothing is awaited any more.
    fn evict_if_done(&mut self) {
        if self.task.is_none() && matches!(self.phase, Phase::Idle | Phase::Locals { .. }) {
            self.phase = Phase::Idle;
            self.evict_if_asked();
        }
    }
}
