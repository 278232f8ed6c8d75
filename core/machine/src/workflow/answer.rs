//! From what the code asked for to the commands of the API. Built only when they go to a server.

use bytes::Bytes;
use outlast_proto::lens::api::command::Attributes as C;
use outlast_proto::lens::api::{self, Command};
use outlast_proto::lens::lang;
use prost::Message as _;

use super::Inherited;
use crate::config::Config;
use crate::marker;
use crate::queue::{Ask, Queue};

/// `temporal.api.enums.v1.CommandType`.
mod command_type {
    pub const SCHEDULE_ACTIVITY_TASK: i32 = 1;
    pub const REQUEST_CANCEL_ACTIVITY_TASK: i32 = 2;
    pub const START_TIMER: i32 = 3;
    pub const COMPLETE_WORKFLOW_EXECUTION: i32 = 4;
    pub const FAIL_WORKFLOW_EXECUTION: i32 = 5;
    pub const CANCEL_TIMER: i32 = 6;
    pub const CANCEL_WORKFLOW_EXECUTION: i32 = 7;
    pub const REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION: i32 = 8;
    pub const RECORD_MARKER: i32 = 9;
    pub const CONTINUE_AS_NEW_WORKFLOW_EXECUTION: i32 = 10;
    pub const START_CHILD_WORKFLOW_EXECUTION: i32 = 11;
    pub const SIGNAL_EXTERNAL_WORKFLOW_EXECUTION: i32 = 12;
    pub const UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: i32 = 13;
    pub const PROTOCOL_MESSAGE: i32 = 14;
    pub const MODIFY_WORKFLOW_PROPERTIES: i32 = 16;
    pub const SCHEDULE_NEXUS_OPERATION: i32 = 17;
    pub const REQUEST_CANCEL_NEXUS_OPERATION: i32 = 18;
}

/// `coresdk.common.VersioningIntent`.
const COMPATIBLE: i32 = 1;
/// The same.
const UNSPECIFIED: i32 = 0;
/// `temporal.api.enums.v1.TaskQueueKind`.
const NORMAL: i32 = 1;

/// Everything that waits to be sent.
pub(super) fn commands(queue: &mut Queue, inherited: &Inherited, config: &Config) -> Vec<Command> {
    queue
        .send()
        .filter_map(|(_, ask, extras)| {
            let (command_type, attributes) = attributes(ask, inherited, config)?;
            let extras = extras.map(|e| *e).unwrap_or_default();
            Some(Command {
                command_type,
                user_metadata: extras.user_metadata,
                event_group_markers: extras.event_group_markers,
                attributes: Some(attributes),
            })
        })
        .collect()
}

fn attributes(ask: Ask, inherited: &Inherited, config: &Config) -> Option<(i32, C)> {
    use command_type as t;
    Some(match ask {
        Ask::StartTimer(c) => {
            let timer = api::StartTimerCommandAttributes {
                timer_id: c.seq.to_string(),
                start_to_fire_timeout: c.start_to_fire_timeout,
            };
            (t::START_TIMER, C::StartTimerCommandAttributes(timer))
        }
        Ask::CancelTimer(seq) => {
            let timer = api::CancelTimerCommandAttributes { timer_id: seq.to_string() };
            (t::CANCEL_TIMER, C::CancelTimerCommandAttributes(timer))
        }
        Ask::ScheduleActivity(c) => (
            t::SCHEDULE_ACTIVITY_TASK,
            C::ScheduleActivityTaskCommandAttributes(Box::new(activity(*c, config))),
        ),
        Ask::CancelActivity { scheduled } => {
            let cancel = api::RequestCancelActivityTaskCommandAttributes { scheduled_event_id: scheduled.0 };
            (t::REQUEST_CANCEL_ACTIVITY_TASK, C::RequestCancelActivityTaskCommandAttributes(cancel))
        }
        Ask::StartChild(c) => {
            let child = Box::new(child(*c, config));
            (t::START_CHILD_WORKFLOW_EXECUTION, C::StartChildWorkflowExecutionCommandAttributes(child))
        }
        Ask::CancelExternal(c) => (
            t::REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
            C::RequestCancelExternalWorkflowExecutionCommandAttributes(*c),
        ),
        Ask::SignalExternal(c) => (
            t::SIGNAL_EXTERNAL_WORKFLOW_EXECUTION,
            C::SignalExternalWorkflowExecutionCommandAttributes(signal(*c, config)),
        ),
        Ask::ScheduleNexus(c) => {
            (t::SCHEDULE_NEXUS_OPERATION, C::ScheduleNexusOperationCommandAttributes(nexus(*c)))
        }
        Ask::CancelNexus { scheduled } => {
            let cancel =
                api::RequestCancelNexusOperationCommandAttributes { scheduled_event_id: scheduled.0 };
            (t::REQUEST_CANCEL_NEXUS_OPERATION, C::RequestCancelNexusOperationCommandAttributes(cancel))
        }
        Ask::Patch(c) => {
            (t::RECORD_MARKER, C::RecordMarkerCommandAttributes(marker::patch(&c.patch_id, c.deprecated)))
        }
        Ask::LocalMarker(c) => (t::RECORD_MARKER, C::RecordMarkerCommandAttributes(*c)),
        Ask::UpsertSearchAttributes(search_attributes) => {
            let upsert = api::UpsertWorkflowSearchAttributesCommandAttributes { search_attributes };
            (t::UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, C::UpsertWorkflowSearchAttributesCommandAttributes(upsert))
        }
        Ask::ModifyProperties(upserted_memo) => {
            let modify = api::ModifyWorkflowPropertiesCommandAttributes { upserted_memo };
            (t::MODIFY_WORKFLOW_PROPERTIES, C::ModifyWorkflowPropertiesCommandAttributes(modify))
        }
        Ask::AcceptUpdate { message } | Ask::CompleteUpdate { message } => {
            let named = api::ProtocolMessageCommandAttributes { message_id: message.into() };
            (t::PROTOCOL_MESSAGE, C::ProtocolMessageCommandAttributes(named))
        }
        Ask::CompleteWorkflow(c) => {
            let result = c.result.map(|payload| api::Payloads { payloads: vec![payload] });
            let complete = api::CompleteWorkflowExecutionCommandAttributes { result };
            (t::COMPLETE_WORKFLOW_EXECUTION, C::CompleteWorkflowExecutionCommandAttributes(complete))
        }
        Ask::FailWorkflow(c) => {
            let fail = api::FailWorkflowExecutionCommandAttributes { failure: c.failure };
            (t::FAIL_WORKFLOW_EXECUTION, C::FailWorkflowExecutionCommandAttributes(fail))
        }
        Ask::CancelWorkflow(c) => {
            let cancel = api::CancelWorkflowExecutionCommandAttributes { details: c.details };
            (t::CANCEL_WORKFLOW_EXECUTION, C::CancelWorkflowExecutionCommandAttributes(cancel))
        }
        Ask::ContinueAsNew(c) => {
            let next = Box::new(continue_as_new(*c, inherited, config));
            (t::CONTINUE_AS_NEW_WORKFLOW_EXECUTION, C::ContinueAsNewWorkflowExecutionCommandAttributes(next))
        }
        Ask::Sent => return None,
    })
}

fn activity(c: lang::ScheduleActivity, config: &Config) -> api::ScheduleActivityTaskCommandAttributes {
    let use_workflow_build_id = stays(c.versioning_intent, &c.task_queue, config);
    api::ScheduleActivityTaskCommandAttributes {
        activity_id: c.activity_id,
        activity_type: Some(api::ActivityType { name: c.activity_type }),
        task_queue: Some(task_queue(c.task_queue, config)),
        header: Some(api::Header { fields: c.headers }), // also if there are none, as the reference
        input: payloads(c.arguments),
        schedule_to_close_timeout: c.schedule_to_close_timeout,
        schedule_to_start_timeout: c.schedule_to_start_timeout,
        start_to_close_timeout: c.start_to_close_timeout,
        heartbeat_timeout: c.heartbeat_timeout,
        retry_policy: c.retry_policy,
        request_eager_execution: !c.do_not_eagerly_execute,
        use_workflow_build_id,
        priority: c.priority,
    }
}

fn child(
    c: lang::StartChildWorkflowExecution,
    config: &Config,
) -> api::StartChildWorkflowExecutionCommandAttributes {
    let inherit_build_id = stays(c.versioning_intent, &c.task_queue, config);
    api::StartChildWorkflowExecutionCommandAttributes {
        namespace: c.namespace,
        workflow_id: c.workflow_id,
        workflow_type: Some(api::WorkflowType { name: c.workflow_type }),
        task_queue: Some(task_queue(c.task_queue, config)),
        input: payloads(c.input),
        workflow_execution_timeout: c.workflow_execution_timeout,
        workflow_run_timeout: c.workflow_run_timeout,
        workflow_task_timeout: c.workflow_task_timeout,
        parent_close_policy: c.parent_close_policy,
        workflow_id_reuse_policy: c.workflow_id_reuse_policy,
        retry_policy: c.retry_policy,
        cron_schedule: c.cron_schedule,
        // Both also if there are none, as the reference.
        header: Some(api::Header { fields: c.headers }),
        memo: Some(api::Memo { fields: c.memo }),
        search_attributes: c.search_attributes,
        inherit_build_id,
        priority: c.priority,
        versioning_override: c.versioning_override,
    }
}

fn signal(
    c: lang::SignalExternalWorkflowExecution,
    config: &Config,
) -> api::SignalExternalWorkflowExecutionCommandAttributes {
    use lang::signal_external_workflow_execution::Target;
    let execution = |workflow_id, run_id| {
        let execution = outlast_proto::lens::history::WorkflowExecution { workflow_id, run_id };
        Some(execution.encode_to_vec().into())
    };
    let (namespace, execution, child_workflow_only) = match c.target {
        Some(Target::WorkflowExecution(w)) => (w.namespace, execution(w.workflow_id, w.run_id), false),
        Some(Target::ChildWorkflowId(id)) => (config.namespace.clone(), execution(id, Bytes::new()), true),
        None => (Bytes::new(), None, false),
    };
    api::SignalExternalWorkflowExecutionCommandAttributes {
        namespace,
        execution,
        signal_name: c.signal_name,
        input: payloads(c.args),
        child_workflow_only,
        header: header(c.headers),
    }
}

fn nexus(c: lang::ScheduleNexusOperation) -> api::ScheduleNexusOperationCommandAttributes {
    api::ScheduleNexusOperationCommandAttributes {
        endpoint: c.endpoint,
        service: c.service,
        operation: c.operation,
        input: c.input,
        schedule_to_close_timeout: c.schedule_to_close_timeout,
        nexus_header: c.nexus_header,
        schedule_to_start_timeout: c.schedule_to_start_timeout,
        start_to_close_timeout: c.start_to_close_timeout,
    }
}

/// What the language leaves out, the new run takes over: memo, retry policy, search attributes; nothing else.
fn continue_as_new(
    c: lang::ContinueAsNewWorkflowExecution,
    inherited: &Inherited,
    config: &Config,
) -> api::ContinueAsNewWorkflowExecutionCommandAttributes {
    let inherit_build_id = stays(c.versioning_intent, &c.task_queue, config);
    let memo = if c.memo.is_empty() {
        inherited.memo.clone()
    } else {
        Some(api::Memo { fields: c.memo }.encode_to_vec().into())
    };
    api::ContinueAsNewWorkflowExecutionCommandAttributes {
        workflow_type: Some(api::WorkflowType { name: c.workflow_type }),
        task_queue: Some(queue(c.task_queue)), // without a name the server takes the queue of this run
        input: payloads(c.arguments),
        workflow_run_timeout: c.workflow_run_timeout,
        workflow_task_timeout: c.workflow_task_timeout,
        backoff_start_interval: c.backoff_start_interval,
        retry_policy: c.retry_policy.or_else(|| inherited.retry_policy.clone()),
        header: header(c.headers),
        memo,
        search_attributes: c.search_attributes.or_else(|| inherited.search_attributes.clone()),
        inherit_build_id,
        initial_versioning_behavior: c.initial_versioning_behavior,
    }
}

fn task_queue(name: Bytes, config: &Config) -> api::TaskQueue {
    queue(if name.is_empty() { config.task_queue.clone() } else { name })
}

fn queue(name: Bytes) -> api::TaskQueue {
    api::TaskQueue { name, kind: NORMAL, normal_name: Bytes::new() }
}

/// Whether what is started stays on the build of this workflow.
fn stays(intent: i32, task_queue: &Bytes, config: &Config) -> bool {
    match intent {
        COMPATIBLE => true,
        UNSPECIFIED => task_queue.is_empty() || *task_queue == config.task_queue,
        _ => false,
    }
}

fn payloads(payloads: Vec<Bytes>) -> Option<api::Payloads> {
    (!payloads.is_empty()).then_some(api::Payloads { payloads })
}

fn header(fields: Vec<Bytes>) -> Option<api::Header> {
    (!fields.is_empty()).then_some(api::Header { fields })
}
