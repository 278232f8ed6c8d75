//! The build a worker runs: each server hears of it where it looks for it.
#![expect(deprecated, reason = "what servers of the older versioning read")]

use outlast_proto::coresdk::workflow_completion::{
    Failure, WorkflowActivationCompletion, workflow_activation_completion::Status,
};
use outlast_proto::temporal::api::workflowservice::v1 as api;
use outlast_worker::{Versioning, Worker, WorkerConfig};

use crate::server::{Answer, Server};
use crate::workflows::{answer, cached, completed, first, timer};

/// How a build is told: as the checksum of a binary, or as a build, tasks going by it or not.
#[derive(Debug, PartialEq)]
struct Told {
    checksum: String,
    build: Option<(String, bool)>,
}

impl Told {
    fn as_checksum() -> Self {
        Told { checksum: "b1".into(), build: None }
    }

    fn as_build(use_versioning: bool) -> Self {
        Told { checksum: String::new(), build: Some(("b1".into(), use_versioning)) }
    }
}

/// What a server hears with a workflow poll, an answered task, a failed task, and an activity poll.
async fn told(versioning: Versioning, knows_builds: bool) -> [Told; 4] {
    let server = Server::new();
    let capabilities = api::get_system_info_response::Capabilities {
        build_id_based_versioning: knows_builds,
        ..Default::default()
    };
    let info = api::GetSystemInfoResponse { capabilities: Some(capabilities), ..Default::default() };
    server.answer("GetSystemInfo", Answer::is(&info));
    let client = server.client();
    client.system_info().await.unwrap();
    let worker = Worker::new(client, WorkerConfig { versioning, ..cached() }).unwrap();

    server.give("PollWorkflowTaskQueue", &first("r1"));
    answer(&worker, vec![timer()]).await;
    let (poll, done): (api::PollWorkflowTaskQueueRequest, _) =
        (server.heard("PollWorkflowTaskQueue").await, completed(&server).await);
    server.give("PollWorkflowTaskQueue", &first("r2"));
    let run_id = worker.poll_workflow_activation().await.unwrap().run_id;
    let status = Some(Status::Failed(Failure::default()));
    worker
        .complete_workflow_activation(WorkflowActivationCompletion { run_id, status, ..Default::default() })
        .unwrap();
    let failed: api::RespondWorkflowTaskFailedRequest = server.heard("RespondWorkflowTaskFailed").await;
    let task = api::PollActivityTaskQueueResponse { task_token: "a".into(), ..Default::default() };
    server.give("PollActivityTaskQueue", &task);
    worker.poll_activity_task().await.unwrap();
    let activity: api::PollActivityTaskQueueRequest = server.heard("PollActivityTaskQueue").await;
    [
        Told {
            checksum: poll.binary_checksum,
            build: poll.worker_version_capabilities.map(|can| (can.build_id, can.use_versioning)),
        },
        Told {
            checksum: done.binary_checksum,
            build: done.worker_version_stamp.map(|stamp| (stamp.build_id, stamp.use_versioning)),
        },
        Told {
            checksum: failed.binary_checksum,
            build: failed.worker_version.map(|stamp| (stamp.build_id, stamp.use_versioning)),
        },
        Told {
            checksum: String::new(), // activities have none
            build: activity.worker_version_capabilities.map(|can| (can.build_id, can.use_versioning)),
        },
    ]
}

fn each_kind() -> [(Versioning, bool); 3] {
    let build_id = || "b1".to_owned();
    let deployment = Versioning::Deployment {
        deployment_name: "shop".into(),
        build_id: build_id(),
        use_worker_versioning: true,
        default_behavior: 2,
    };
    let none = Versioning::None { build_id: build_id() };
    [(none, false), (deployment, false), (Versioning::LegacyBuildId { build_id: build_id() }, true)]
}

#[tokio::test(start_paused = true)]
async fn a_server_that_knows_builds_is_told_of_the_build() {
    for (versioning, by_build) in each_kind() {
        let heard = told(versioning, true).await;
        assert!(heard.iter().all(|told| *told == Told::as_build(by_build)), "{heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_server_is_told_of_it_as_the_checksum_of_a_binary() {
    for (versioning, _) in each_kind() {
        let [poll, done, failed, activity] = told(versioning, false).await;
        assert_eq!([poll, done, failed], [(); 3].map(|()| Told::as_checksum()));
        assert_eq!(activity, Told { checksum: String::new(), build: None });
    }
}
