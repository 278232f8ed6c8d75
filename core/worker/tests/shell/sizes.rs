//! Answers that are large: refused here, or sent in pages.

use outlast_proto::coresdk::workflow_commands::{
    CompleteWorkflowExecution, ScheduleActivity, workflow_command::Variant as Command,
};
use outlast_proto::temporal::api::common::v1::Payload;
use outlast_proto::temporal::api::enums::v1::WorkflowTaskFailedCause;
use outlast_proto::temporal::api::namespace::v1::{NamespaceInfo, namespace_info};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{Worker, WorkerConfig};

use crate::server::{Answer, Server};
use crate::workflows::{COMPLETED, FAILED, POLL, answer, cached, completed, first, schedule, worker};

pub fn describe(limit: i64) -> api::DescribeNamespaceResponse {
    let limits = namespace_info::Limits { blob_size_limit_error: limit, ..Default::default() };
    let can = namespace_info::Capabilities { worker_heartbeats: true, ..Default::default() };
    namespace(NamespaceInfo { limits: Some(limits), capabilities: Some(can), ..Default::default() })
}

fn namespace(info: NamespaceInfo) -> api::DescribeNamespaceResponse {
    api::DescribeNamespaceResponse { namespace_info: Some(info), ..Default::default() }
}

pub fn result(bytes: usize) -> Command {
    let payload = Payload { data: vec![0; bytes].into(), ..Default::default() };
    Command::CompleteWorkflowExecution(CompleteWorkflowExecution { result: Some(payload) })
}

/// An activity whose input is of this many bytes.
fn bulky(seq: u32, bytes: usize) -> Command {
    let Command::ScheduleActivity(activity) = schedule(seq) else { unreachable!() };
    let arguments = vec![Payload { data: vec![0; bytes].into(), ..Default::default() }];
    Command::ScheduleActivity(ScheduleActivity { arguments, ..activity })
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_large_for_one_message_goes_in_pages_where_the_server_takes_them() {
    let server = Server::new();
    let can =
        namespace_info::Capabilities { workflow_task_completion_pagination: true, ..Default::default() };
    let info = NamespaceInfo { capabilities: Some(can), ..Default::default() };
    server.answer("DescribeNamespace", Answer::is(&namespace(info)));
    let worker = worker(&server);
    worker.validate().await.unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, (1..=3).map(|seq| bulky(seq, 1_500_000)).collect()).await;
    let mut pages = Vec::new();
    for _ in 0..3 {
        let page = completed(&server).await;
        assert_eq!((page.task_token.as_ref(), page.namespace.as_str()), (&b"t1"[..], "default"));
        assert_eq!(page.sticky_attributes.is_some(), !page.intermediate_page, "the rest is in the last one");
        pages.push((page.page_number, page.intermediate_page, page.commands.len()));
    }
    assert_eq!(pages, [(0, true, 2), (1, true, 1), (2, false, 0)]);
    server.give(POLL, &first("r2"));
    answer(&worker, vec![bulky(1, 100)]).await;
    let small = completed(&server).await;
    assert_eq!((small.page_number, small.intermediate_page, small.commands.len()), (0, false, 1));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_the_namespace_would_refuse_fails_the_task_here() {
    let server = Server::new();
    server.answer("DescribeNamespace", Answer::is(&describe(100)));
    let worker = worker(&server);
    assert_eq!(worker.validate().await.unwrap().limits.unwrap().blob_size_limit_error, 100);
    server.give(POLL, &first("r1"));
    answer(&worker, vec![result(101)]).await;
    let said: api::RespondWorkflowTaskFailedRequest = server.heard(FAILED).await;
    assert_eq!(said.cause(), WorkflowTaskFailedCause::PayloadsTooLarge);
    assert!(said.failure.unwrap().message.contains("[TMPRL1103]"));
    assert_eq!(server.unheard(COMPLETED), 0);
}

#[tokio::test(start_paused = true)]
async fn the_check_of_sizes_can_be_left_to_the_server() {
    let server = Server::new();
    server.answer("DescribeNamespace", Answer::is(&describe(100)));
    let worker = Worker::new(server.client(), WorkerConfig { payload_limits: false, ..cached() }).unwrap();
    worker.validate().await.unwrap();
    server.give(POLL, &first("r1"));
    answer(&worker, vec![result(101)]).await;
    completed(&server).await;
}
