//! Queries: asked when the run is caught up and nothing else is to be told, never together with anything else.

use outlast_proto::lens::api::{self, WorkflowQueryResult};
use outlast_proto::lens::lang;
use outlast_proto::lens::lang::query_result::Variant as Answer;
use outlast_proto::lens::lang::workflow_command::Variant as Command;

use super::task::{LEGACY_QUERY, job};
use super::{Asked, Phase, Run, Sent};
use crate::config::Config;
use crate::event::EventId;
use crate::failure;
use crate::fault::Fault;
use crate::io::{Output, QueryAnswer, QueryResult};
use crate::time::Time;

/// `temporal.api.enums.v1.QueryResultType`.
const ANSWERED: i32 = 1;
/// The same.
const FAILED: i32 = 2;

impl Run {
    /// Asks the language the queries of a task.
    pub(super) fn ask_queries(&mut self, queries: Vec<(String, api::WorkflowQuery)>) {
        let jobs = queries.into_iter().map(|(id, query)| job(id, query)).collect();
        let activation = self.workflow.activation_with(jobs, true);
        self.known_to_lang = true;
        self.phase = Phase::Activated(Asked::Queries);
        self.out.push_back(Output::Activate(activation));
    }

    /// The task is a query, and history is at its end: it is asked. What is cached may be newer than when it was
    /// dispatched: whoever asks wants to know how things stand.
    pub(super) fn caught_up(&mut self) {
        let Some(held) = &mut self.task else { return };
        if self.workflow.history_length() == EventId(0) {
            let message = "the workflow has not run yet; ask again";
            self.answer_legacy(QueryResult::Failed { failure: failure::application(message, ""), cause: 0 });
            return;
        }
        let Some(query) = held.legacy.clone() else { return };
        self.workflow.reached(self.feed.last_read());
        let jobs = vec![job(LEGACY_QUERY.to_owned(), query)];
        let activation = self.workflow.activation_with(jobs, true);
        self.known_to_lang = true;
        self.phase = Phase::Activated(Asked::LegacyQuery);
        self.out.push_back(Output::Activate(activation));
    }

    pub(super) fn queries_answered(
        &mut self,
        now: Time,
        success: lang::WorkflowCompletionSuccess,
        config: &Config,
    ) {
        let Some(held) = &mut self.task else { return };
        for command in success.commands {
            let Some(Command::RespondToQuery(answer)) = command.variant else {
                let fault =
                    Fault::misuse("a command in answer to a query; queries must not change the workflow");
                self.fault(fault, config);
                return;
            };
            let result = match answer.variant {
                Some(Answer::Succeeded(ok)) => WorkflowQueryResult {
                    result_type: ANSWERED,
                    answer: Some(api::Payloads { payloads: ok.response.into_iter().collect() }),
                    ..Default::default()
                },
                Some(Answer::Failed(failure)) => failed(failure),
                None => failed(failure::application("the query was answered with nothing", "")),
            };
            held.results.insert(answer.query_id, result);
        }
        self.advance(now, config);
    }

    pub(super) fn legacy_answered(&mut self, success: lang::WorkflowCompletionSuccess, config: &Config) {
        let mut answers = success.commands.into_iter().map(|c| c.variant);
        let (Some(Some(Command::RespondToQuery(answer))), None) = (answers.next(), answers.next()) else {
            self.fault(Fault::misuse("a query must be answered by exactly one query result"), config);
            return;
        };
        self.answer_legacy(match answer.variant {
            Some(Answer::Succeeded(ok)) => QueryResult::Answered(ok.response),
            Some(Answer::Failed(failure)) => QueryResult::Failed { failure, cause: 0 },
            None => {
                let failure = failure::application("the query was answered with nothing", "");
                QueryResult::Failed { failure, cause: 0 }
            }
        });
    }

    pub(super) fn answer_legacy(&mut self, result: QueryResult) {
        let Some(held) = &self.task else { return };
        let answer = QueryAnswer { ticket: held.ticket, token: held.token.clone(), result };
        self.phase = Phase::Reporting(Sent::Answer);
        self.out.push_back(Output::Answer(self.id.clone(), answer));
    }
}

fn failed(failure: bytes::Bytes) -> WorkflowQueryResult {
    let error_message = failure::message(&failure);
    WorkflowQueryResult { result_type: FAILED, answer: None, error_message, failure: Some(failure) }
}
