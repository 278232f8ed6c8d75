//! Workflow tasks: polled, their histories fetched, answered.

use bytes::Bytes;
use outlast_client::{CallOptions, Code, Error, Kind};
use outlast_machine::io::{Fetch, FetchFailed, Page, QueryAnswer, QueryResult, TaskCompletion, TaskFailure};
use outlast_proto::lens::api as lens;
use outlast_proto::temporal::api::common::v1::{Payload, Payloads, WorkflowExecution};
use outlast_proto::temporal::api::enums::v1::{QueryResultType, TaskQueueKind, WorkflowTaskFailedCause};
use outlast_proto::temporal::api::failure::v1::Failure;
use outlast_proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use prost::Message;

use super::tasks::{Got, read};
use super::{Remote, queue, wire};
use crate::delivery::{Delivery, PAGE, Refusal, application, shorten_answers};
use crate::pollers::Polled;
use crate::sizes::SizeLimits;

/// Commands in their order, in lists that fit a message. One that fits none is alone: the server will say so.
fn in_pages(commands: Vec<lens::Command>) -> Vec<Vec<lens::Command>> {
    let mut pages: Vec<Vec<lens::Command>> = Vec::new();
    let mut room = 0;
    for command in commands {
        let size = prost::encoding::message::encoded_len(2, &command);
        match pages.last_mut().filter(|_| size <= room) {
            Some(page) => page.push(command),
            None => {
                pages.push(vec![command]);
                room = PAGE;
            }
        }
        room = room.saturating_sub(size);
    }
    pages
}

type WorkflowPoll = Got<lens::PollWorkflowTaskQueueResponse>;

/// What the server gave with its reply to a completed task.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) task: Option<Box<lens::PollWorkflowTaskQueueResponse>>,
    pub(crate) activities: Vec<api::PollActivityTaskQueueResponse>,
    pub(crate) reset_history_event_id: i64,
}

impl Remote {
    pub(crate) async fn poll_workflow(
        &self,
        sticky: bool,
        options: CallOptions,
    ) -> Result<Polled<WorkflowPoll>, Error> {
        let normal = self.config.task_queue.clone();
        let task_queue = match self.sticky.as_ref().filter(|_| sticky) {
            Some(name) => queue(name.clone(), TaskQueueKind::Sticky, normal),
            None => queue(normal, TaskQueueKind::Normal, String::new()),
        };
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::PollWorkflowTaskQueueRequest {
            namespace: self.namespace(),
            task_queue: Some(task_queue),
            identity: self.identity(),
            worker_instance_key: self.instance_key.clone(),
            binary_checksum: self.checksum(),
            worker_version_capabilities: self.capabilities(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        let answer = self.poll(path::POLL_WORKFLOW_TASK_QUEUE, &request, options).await?;
        let polled = read_poll(answer)?;
        match &polled.task {
            Some(_) => self.metrics.workflow_polls_succeeded.add(1),
            None => self.metrics.workflow_polls_empty.add(1),
        }
        Ok(polled)
    }

    pub(crate) async fn fetch(&self, fetch: Fetch) -> Result<Page, FetchFailed> {
        let request = api::GetWorkflowExecutionHistoryRequest {
            namespace: self.namespace(),
            execution: Some(WorkflowExecution {
                workflow_id: fetch.workflow_id,
                run_id: fetch.run.to_string(),
            }),
            next_page_token: fetch.page,
            ..Default::default()
        };
        let answer = self.client().get_workflow_execution_history(&request, CallOptions::default()).await;
        match answer {
            Ok(page) => {
                Ok(Page { history: page.history.unwrap_or_default(), next_page: page.next_page_token })
            }
            Err(error) => Err(FetchFailed { message: error.to_string() }),
        }
    }

    /// Answers a workflow task. Commands are moved; payloads in them stay closed. `stays`: the run does in the cache, so
    /// that the server may answer with its next task, or put it on the sticky queue. `pages`: the server takes what is
    /// too large for one message in several.
    pub(crate) async fn complete(
        &self,
        done: TaskCompletion,
        stays: bool,
        pages: bool,
    ) -> Result<Accepted, Error> {
        let mut request = self.completion(done, stays);
        if pages && request.encoded_len() > PAGE {
            self.commands_ahead(&mut request).await?;
        }
        let answer = self.send_completion(&mut request).await?;
        let mut activities = Vec::with_capacity(answer.activity_tasks.len());
        for task in answer.activity_tasks {
            match read::<api::PollActivityTaskQueueResponse>(path::RESPOND_WORKFLOW_TASK_COMPLETED, task) {
                Ok(Got::Task(task)) => activities.push(*task),
                Ok(Got::Unreadable { token, problem }) => self.refuse_activity(token, &problem).await,
                Err(error) => {
                    tracing::error!(%error, "an eager activity task cannot be read; it will time out")
                }
            }
        }
        let task = match answer.workflow_task.map(read_poll).transpose() {
            Ok(polled) => match polled.and_then(|polled| polled.task) {
                Some(Got::Task(task)) => Some(task),
                Some(Got::Unreadable { token, problem }) => {
                    self.refuse(token, &problem).await;
                    None
                }
                None => None,
            },
            Err(error) => {
                tracing::error!(%error, "the next workflow task of a run cannot be read; it will time out");
                None
            }
        };
        Ok(Accepted { task, activities, reset_history_event_id: answer.reset_history_event_id })
    }

    /// Sends a completion. One that is too large goes again without its large answers to queries: those who asked hear that
    /// they were too large, and the workflow, which is not to blame, goes on.
    async fn send_completion(
        &self,
        request: &mut lens::RespondWorkflowTaskCompletedRequest,
    ) -> Result<lens::RespondWorkflowTaskCompletedResponse, Error> {
        let client = self.client();
        let error = match client.respond_workflow_task_completed(request, CallOptions::default()).await {
            Err(error) if error.kind == Kind::TooLarge => error,
            answer => return answer,
        };
        let bytes = request.encoded_len();
        if !shorten_answers(request.query_results.values_mut()) {
            return Err(error);
        }
        tracing::warn!(bytes, %error, "The answers to queries of a workflow task are too large; failures that say so go in their place");
        client.respond_workflow_task_completed(request, CallOptions::default()).await
    }

    /// Sends the commands of an answer in pages of their own. What is left is the last page, with everything else.
    async fn commands_ahead(
        &self,
        request: &mut lens::RespondWorkflowTaskCompletedRequest,
    ) -> Result<(), Error> {
        for commands in in_pages(std::mem::take(&mut request.commands)) {
            let page = lens::RespondWorkflowTaskCompletedRequest {
                task_token: request.task_token.clone(),
                identity: request.identity.clone(),
                namespace: request.namespace.clone(),
                commands,
                page_number: request.page_number,
                intermediate_page: true,
                ..Default::default()
            };
            self.client().respond_workflow_task_completed(&page, CallOptions::default()).await?;
            request.page_number += 1;
        }
        Ok(())
    }

    fn completion(&self, done: TaskCompletion, stays: bool) -> lens::RespondWorkflowTaskCompletedRequest {
        let sticky_attributes =
            self.sticky.as_ref().filter(|_| stays).map(|name| lens::StickyExecutionAttributes {
                worker_task_queue: Some(lens::TaskQueue {
                    name: Bytes::copy_from_slice(name.as_bytes()),
                    kind: TaskQueueKind::Sticky.into(),
                    normal_name: Bytes::copy_from_slice(self.config.task_queue.as_bytes()),
                }),
                schedule_to_start_timeout: wire(self.config.sticky_queue_schedule_to_start_timeout),
            });
        let (sdk_name, sdk_version) = match done.write_sdk {
            true => (self.config.sdk.name.clone(), self.config.sdk.version.clone()),
            false => Default::default(),
        };
        lens::RespondWorkflowTaskCompletedRequest {
            task_token: done.token,
            commands: done.commands,
            messages: done.messages,
            query_results: done.query_results,
            identity: self.identity(),
            namespace: self.namespace(),
            return_new_workflow_task: sticky_attributes.is_some(),
            sticky_attributes,
            force_create_new_workflow_task: done.force_new_task,
            binary_checksum: self.checksum(),
            worker_version_stamp: self.stamp().map(|stamp| stamp.encode_to_vec().into()),
            sdk_metadata: Some(lens::WorkflowTaskCompletedMetadata {
                core_used_flags: done.core_flags,
                lang_used_flags: done.lang_flags,
                sdk_name,
                sdk_version,
            }),
            metering_metadata: Some(lens::MeteringMetadata {
                nonfirst_local_activity_execution_attempts: done.nonfirst_local_attempts,
            }),
            capabilities: Some(lens::respond_workflow_task_completed_request::Capabilities {
                discard_speculative_workflow_task_with_events: true,
            }),
            versioning_behavior: done.versioning_behavior,
            deployment_options: self.deployment().map(|options| options.encode_to_vec().into()),
            worker_instance_key: self.instance_key.clone(),
            ..Default::default()
        }
    }

    /// Fails a workflow task.
    pub(crate) async fn fail(&self, failed: TaskFailure, limits: SizeLimits) -> Result<(), Error> {
        let failure = Failure::decode(failed.failure).unwrap_or_else(|problem| {
            application(&format!("a workflow task failed, and its failure cannot be read: {problem}"))
        });
        #[expect(deprecated, reason = "what servers of the older versioning read")]
        let request = api::RespondWorkflowTaskFailedRequest {
            task_token: failed.token,
            cause: failed.cause,
            failure: Some(failure),
            identity: self.identity(),
            namespace: self.namespace(),
            binary_checksum: self.checksum(),
            worker_version: self.stamp(),
            deployment_options: self.deployment(),
            ..Default::default()
        };
        self.deliver(Delivery::WorkflowTaskFailed(Box::new(request)), limits).await
    }

    /// Fails a task that cannot be read, so that people see why, instead of a timeout.
    pub(crate) async fn refuse(&self, token: Bytes, problem: &str) {
        tracing::error!(problem, "a workflow task cannot be read");
        let failed = TaskFailure {
            ticket: outlast_machine::io::Ticket(0),
            token: token.clone(),
            cause: WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure.into(),
            failure: application(&format!("the workflow task cannot be read: {problem}"))
                .encode_to_vec()
                .into(),
            workflow_type: Bytes::new(),
            history_size_bytes: 0,
        };
        let Err(error) = self.fail(failed, SizeLimits::default()).await else { return };
        // The server knows the token of a query by another name. What of the message says so may be what is damaged.
        let failure = application(&format!("the query cannot be read: {problem}")).encode_to_vec().into();
        let request = self.query_answer(token, QueryResult::Failed { failure, cause: 0 });
        let answer = Delivery::QueryAnswered(Box::new(request));
        if Refusal::of(&error, 0).is_none() && error.code != Code::NotFound {
            tracing::warn!(%error, "that a workflow task cannot be read did not reach the server");
        } else if let Err(error) = self.deliver(answer, SizeLimits::default()).await {
            tracing::warn!(%error, "the server knows the token of what cannot be read neither as a task's nor as a query's");
        }
    }

    /// Answers a legacy query.
    pub(crate) async fn answer(&self, answer: QueryAnswer, limits: SizeLimits) -> Result<(), Error> {
        let QueryAnswer { token, result, .. } = answer;
        let request = self.query_answer(token, result);
        self.deliver(Delivery::QueryAnswered(Box::new(request)), limits).await
    }

    fn query_answer(&self, task_token: Bytes, result: QueryResult) -> api::RespondQueryTaskCompletedRequest {
        let base = api::RespondQueryTaskCompletedRequest {
            task_token,
            namespace: self.namespace(),
            ..Default::default()
        };
        let failed = |failure: Failure, cause| api::RespondQueryTaskCompletedRequest {
            completed_type: QueryResultType::Failed.into(),
            error_message: failure.message.clone(),
            failure: Some(failure),
            cause,
            ..base.clone()
        };
        let unreadable = |problem| application(&format!("the query's answer cannot be read: {problem}"));
        match result {
            QueryResult::Answered(payload) => match payload.map(Payload::decode).transpose() {
                Ok(payload) => api::RespondQueryTaskCompletedRequest {
                    completed_type: QueryResultType::Answered.into(),
                    query_result: Some(Payloads { payloads: payload.into_iter().collect() }),
                    ..base
                },
                Err(problem) => failed(unreadable(problem), 0),
            },
            QueryResult::Failed { failure, cause } => {
                failed(Failure::decode(failure).unwrap_or_else(unreadable), cause)
            }
        }
    }
}

fn read_poll(answer: Bytes) -> Result<Polled<WorkflowPoll>, Error> {
    let got: WorkflowPoll = read(path::POLL_WORKFLOW_TASK_QUEUE, answer)?;
    let Got::Task(task) = got else {
        return Ok(Polled { task: Some(got), suggestion: None, backlog: None });
    };
    let suggestion = task.poller_scaling_decision.map(|decision| decision.poll_request_delta_suggestion);
    let backlog = u64::try_from(task.backlog_count_hint).ok();
    let task = (!task.task_token.is_empty()).then_some(Got::Task(task));
    Ok(Polled { task, suggestion, backlog })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_the_order_and_fit() {
        let command =
            |bytes: usize| lens::Command { user_metadata: Some(vec![0; bytes].into()), ..Default::default() };
        let sizes = [1, PAGE, 2, PAGE / 2, PAGE / 3, PAGE / 3, 3];
        let pages = in_pages(sizes.map(command).into());
        let of = |page: &Vec<lens::Command>| {
            page.iter().map(|c| c.user_metadata.as_ref().unwrap().len()).collect()
        };
        let found: Vec<Vec<usize>> = pages.iter().map(of).collect();
        assert_eq!(found, [vec![1], vec![PAGE], vec![2, PAGE / 2, PAGE / 3], vec![PAGE / 3, 3]]);
        assert_eq!(in_pages(Vec::new()), Vec::<Vec<lens::Command>>::new());
    }
}
