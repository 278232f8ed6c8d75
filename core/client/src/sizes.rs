//! Payloads and memos of requests that are larger than one would wish: the server may refuse them one day, and they make
//! histories slow. Requests that are small as a whole are not looked into.

use outlast_proto::services::Rpc;

use crate::raw::Wire;

/// From how many bytes on one is warned; 0: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarnSizes {
    /// Inputs, results, failures, each as a whole.
    pub payloads: usize,
    /// A memo as a whole.
    pub memo: usize,
}

impl Default for WarnSizes {
    fn default() -> Self {
        Self { payloads: 512 << 10, memo: 2 << 10 }
    }
}

impl WarnSizes {
    /// Warns of payloads that are too large.
    pub fn check_payloads(&self, bytes: usize) {
        warn("payloads", bytes, self.payloads);
    }

    /// Warns of a memo that is too large.
    pub fn check_memo(&self, bytes: usize) {
        warn("memo", bytes, self.memo);
    }

    /// Warns of what is too large in an encoded request.
    pub fn check(&self, rpc: &Rpc, request: &[u8]) {
        let limit = [self.payloads, self.memo].into_iter().filter(|limit| *limit > 0).min();
        if limit.is_some_and(|limit| request.len() > limit) {
            for (what, path) in paths(rpc.name) {
                find(request, path, &mut |found| match what {
                    What::Payloads => self.check_payloads(found.len()),
                    What::Memo => self.check_memo(found.len()),
                });
            }
        }
    }
}

fn warn(what: &str, size: usize, limit: usize) {
    if limit > 0 && size > limit {
        tracing::warn!(
            size,
            limit,
            "[TMPRL1103] Attempted to upload {what} with size that exceeded the warning limit."
        );
    }
}

#[derive(Clone, Copy)]
enum What {
    Payloads,
    Memo,
}

/// Where payloads are in what users send: the numbers of the fields that lead there.
fn paths(name: &str) -> &'static [(What, &'static [u32])] {
    use What::{Memo, Payloads};
    match name {
        "start_workflow_execution" => &[(Payloads, &[5]), (Memo, &[14])],
        "signal_with_start_workflow_execution" => &[(Payloads, &[5]), (Payloads, &[13]), (Memo, &[17])],
        "signal_workflow_execution" => &[(Payloads, &[4])],
        "query_workflow" => &[(Payloads, &[3, 2])],
        // The arguments of updates are not warned of here, but where the worker accepts them.
        "execute_multi_operation" => &[(Payloads, &[2, 1, 5]), (Memo, &[2, 1, 14])],
        "create_schedule" | "update_schedule" => &[(Payloads, &[3, 2, 1, 4]), (Memo, &[3, 2, 1, 11])],
        "record_activity_task_heartbeat"
        | "respond_activity_task_completed"
        | "respond_activity_task_canceled" => &[(Payloads, &[2])],
        "respond_activity_task_failed" => &[(Payloads, &[2]), (Payloads, &[5])],
        "record_activity_task_heartbeat_by_id"
        | "respond_activity_task_completed_by_id"
        | "respond_activity_task_canceled_by_id" => &[(Payloads, &[5])],
        "respond_activity_task_failed_by_id" => &[(Payloads, &[5]), (Payloads, &[7])],
        "start_activity_execution" => &[(Payloads, &[12])],
        "start_nexus_operation_execution" => &[(Payloads, &[11])],
        _ => &[],
    }
}

fn find(message: &[u8], path: &[u32], found: &mut impl FnMut(&[u8])) {
    let Some((field, rest)) = path.split_first() else { return found(message) };
    let mut wire = Wire::new(message);
    while let Some((number, value)) = wire.next_bytes() {
        if number == *field {
            find(value, rest, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use outlast_proto::temporal::api::common::v1::{Memo, Payload, Payloads};
    use outlast_proto::temporal::api::workflowservice::v1 as api;
    use outlast_proto::temporal::api::{query, schedule, update, workflow};
    use prost::Message;

    use super::*;

    fn payloads(size: usize) -> Option<Payloads> {
        let payload = Payload { data: vec![0; size].into(), ..Default::default() };
        Some(Payloads { payloads: vec![payload] })
    }

    fn memo(size: usize) -> Option<Memo> {
        let payload = Payload { data: vec![0; size].into(), ..Default::default() };
        Some(Memo { fields: [("k".to_owned(), payload)].into() })
    }

    /// The sizes of all payloads and of all memos.
    fn sizes(name: &str, request: impl Message) -> (Vec<usize>, Vec<usize>) {
        let (mut payloads, mut memos, bytes) = (Vec::new(), Vec::new(), request.encode_to_vec());
        for (what, path) in paths(name) {
            find(&bytes, path, &mut |found| match what {
                What::Payloads => payloads.push(found.len()),
                What::Memo => memos.push(found.len()),
            });
        }
        (payloads, memos)
    }

    fn start() -> api::StartWorkflowExecutionRequest {
        api::StartWorkflowExecutionRequest { input: payloads(200), memo: memo(300), ..Default::default() }
    }

    const INPUT: usize = 206;
    const MEMO: usize = 312;

    #[test]
    fn starts() {
        assert_eq!(sizes("start_workflow_execution", start()), (vec![INPUT], vec![MEMO]));
        let request = api::SignalWithStartWorkflowExecutionRequest {
            input: payloads(200),
            signal_input: payloads(201),
            memo: memo(300),
            ..Default::default()
        };
        assert_eq!(sizes("signal_with_start_workflow_execution", request), (vec![INPUT, 207], vec![MEMO]));
    }

    #[test]
    fn updates() {
        let update = api::UpdateWorkflowExecutionRequest {
            request: Some(update::v1::Request {
                input: Some(update::v1::Input { args: payloads(200), ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(sizes("update_workflow_execution", update.clone()), (vec![], vec![]));
        use api::execute_multi_operation_request::{Operation, operation::Operation as Of};
        let operations = [Of::StartWorkflow(start()), Of::UpdateWorkflow(update)];
        let operations = operations.map(|it| Operation { operation: Some(it) }).to_vec();
        let request = api::ExecuteMultiOperationRequest { operations, ..Default::default() };
        assert_eq!(sizes("execute_multi_operation", request), (vec![INPUT], vec![MEMO]));
    }

    #[test]
    fn schedules() {
        let workflow = workflow::v1::NewWorkflowExecutionInfo {
            input: payloads(200),
            memo: memo(300),
            ..Default::default()
        };
        let action = schedule::v1::schedule_action::Action::StartWorkflow(workflow);
        let action = Some(schedule::v1::ScheduleAction { action: Some(action) });
        let schedule = Some(schedule::v1::Schedule { action, ..Default::default() });
        let create = api::CreateScheduleRequest { schedule: schedule.clone(), ..Default::default() };
        let update = api::UpdateScheduleRequest { schedule, ..Default::default() };
        assert_eq!(sizes("create_schedule", create), (vec![INPUT], vec![MEMO]));
        assert_eq!(sizes("update_schedule", update), (vec![INPUT], vec![MEMO]));
    }

    #[test]
    fn all_else() {
        let input = payloads(200);
        let signal = api::SignalWorkflowExecutionRequest { input: input.clone(), ..Default::default() };
        assert_eq!(sizes("signal_workflow_execution", signal).0, [INPUT]);
        let query = query::v1::WorkflowQuery { query_args: input.clone(), ..Default::default() };
        let query = api::QueryWorkflowRequest { query: Some(query), ..Default::default() };
        assert_eq!(sizes("query_workflow", query).0, [INPUT]);
        let by_id =
            api::RespondActivityTaskCompletedByIdRequest { result: input.clone(), ..Default::default() };
        assert_eq!(sizes("respond_activity_task_completed_by_id", by_id).0, [INPUT]);
        let by_token =
            api::RespondActivityTaskCompletedRequest { result: input.clone(), ..Default::default() };
        assert_eq!(sizes("respond_activity_task_completed", by_token).0, [INPUT]);
        let failed = api::RespondActivityTaskFailedByIdRequest {
            failure: Some(Default::default()),
            last_heartbeat_details: input.clone(),
            ..Default::default()
        };
        assert_eq!(sizes("respond_activity_task_failed_by_id", failed).0, [0, INPUT]);
        let failed = api::RespondActivityTaskFailedRequest {
            failure: Some(Default::default()),
            last_heartbeat_details: input.clone(),
            ..Default::default()
        };
        assert_eq!(sizes("respond_activity_task_failed", failed).0, [0, INPUT]);
        let beat =
            api::RecordActivityTaskHeartbeatByIdRequest { details: input.clone(), ..Default::default() };
        assert_eq!(sizes("record_activity_task_heartbeat_by_id", beat).0, [INPUT]);
        let beat = api::RecordActivityTaskHeartbeatRequest { details: input.clone(), ..Default::default() };
        assert_eq!(sizes("record_activity_task_heartbeat", beat).0, [INPUT]);
        let canceled =
            api::RespondActivityTaskCanceledByIdRequest { details: input.clone(), ..Default::default() };
        assert_eq!(sizes("respond_activity_task_canceled_by_id", canceled).0, [INPUT]);
        let activity = api::StartActivityExecutionRequest { input, ..Default::default() };
        assert_eq!(sizes("start_activity_execution", activity).0, [INPUT]);
        assert_eq!(sizes("describe_namespace", api::DescribeNamespaceRequest::default()), (vec![], vec![]));
    }
}
