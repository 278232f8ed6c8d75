//! How often a server that says no is asked, by kind of poll and by code, beside the reference core. Time is virtual; the
//! reference's counts were taken at a server that answers every poll with the code (decision 043).

use std::time::Duration;

use outlast_client::{Code, retry::EVERY};
use outlast_proto::temporal::api::enums::v1::TaskQueueKind;
use outlast_proto::temporal::api::workflowservice::v1::PollWorkflowTaskQueueRequest;
use outlast_worker::pollers::PollerBehavior;
use outlast_worker::{PollError, TaskTypes, Worker, WorkerConfig};
use tokio::time::timeout;

use crate::server::{Answer, Server};
use crate::{NONE, config};

const WORKFLOW: &str = "PollWorkflowTaskQueue";
const ACTIVITY: &str = "PollActivityTaskQueue";
const NEXUS: &str = "PollNexusTaskQueue";

/// Calls by workflow pollers (one of five), sticky pollers (four), activity pollers and Nexus pollers (five each).
type Counts = [usize; 4];

/// What the reference asks within 4 s and within 9.9 s.
fn reference(code: Code) -> [Counts; 2] {
    match code {
        Code::ResourceExhausted => [[3, 12, 15, 15], [4, 16, 20, 20]],
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => [[5, 20, 25, 25], [6, 24, 30, 30]],
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Unauthenticated => [[1, 4, 5, 5], [1, 4, 5, 5]],
    }
}

/// What we ask: all pollers of a queue once, then one poller for all of them, as often as one of the reference's.
fn ours(code: Code) -> [Counts; 2] {
    let first: Counts = [1, 4, 5, 5];
    reference(code).map(|counts| first.map(|polls| polls + counts[0] - 1))
}

fn worker(server: &std::sync::Arc<Server>) -> Worker {
    let types = TaskTypes { workflows: true, activities: true, nexus: true, ..NONE };
    let five = PollerBehavior::SimpleMaximum(5);
    let config = WorkerConfig {
        max_cached_workflows: 10,
        workflow_pollers: five,
        activity_pollers: five,
        nexus_pollers: five,
        ..config(types)
    };
    Worker::new(server.client(), config).unwrap()
}

/// Lets the language wait for tasks of all kinds for so long.
async fn wait(worker: &Worker, time: Duration) {
    let all = async {
        tokio::join!(worker.poll_workflow_activation(), worker.poll_activity_task(), worker.poll_nexus_task())
    };
    assert!(timeout(time, all).await.is_err(), "no task, no error");
}

async fn counted(server: &Server, so_far: Counts) -> Counts {
    let [mut normal, mut sticky, ..] = so_far;
    for _ in 0..server.unheard(WORKFLOW) {
        let poll: PollWorkflowTaskQueueRequest = server.heard(WORKFLOW).await;
        match poll.task_queue.unwrap().kind() {
            TaskQueueKind::Sticky => sticky += 1,
            TaskQueueKind::Normal | TaskQueueKind::Unspecified | TaskQueueKind::WorkerCommands => normal += 1,
        }
    }
    [normal, sticky, server.unheard(ACTIVITY), server.unheard(NEXUS)]
}

#[tokio::test(start_paused = true)]
async fn no_code_is_asked_for_more_often_than_by_the_reference() {
    for code in EVERY.iter().copied() {
        let server = Server::new();
        for poll in [WORKFLOW, ACTIVITY, NEXUS] {
            server.answer(poll, Answer::FailsLater(code, "no"));
        }
        let worker = worker(&server);
        wait(&worker, Duration::from_millis(4_000)).await;
        let soon = counted(&server, [0; 4]).await;
        wait(&worker, Duration::from_millis(5_900)).await;
        let later = counted(&server, soon).await;
        assert_eq!([soon, later], ours(code), "{code:?}");
        for (ours, theirs) in [soon, later].iter().zip(reference(code)) {
            assert!(ours.iter().zip(theirs).all(|(ours, theirs)| *ours <= theirs), "{code:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_lasts_a_minute_is_an_error_and_a_failure_that_may_end_is_none() {
    for code in EVERY.iter().copied() {
        let server = Server::new();
        server.answer(ACTIVITY, Answer::FailsLater(code, "no"));
        let worker = worker(&server);
        let told = timeout(Duration::from_secs(59), worker.poll_activity_task()).await;
        assert!(told.is_err(), "{code:?}");
        let told = timeout(Duration::from_secs(14), worker.poll_activity_task()).await;
        match reference(code)[0][0] {
            1 => assert!(matches!(told, Ok(Err(PollError::Fatal(_)))), "{code:?} {told:?}"),
            _ => assert!(told.is_err(), "{code:?}"),
        }
        assert!(server.unheard(ACTIVITY) <= 5 + 13, "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_client_is_asked_at_once() {
    let (before, after) = (Server::new(), Server::new());
    before.answer(ACTIVITY, Answer::FailsLater(Code::PermissionDenied, "no"));
    let worker = worker(&before);
    wait(&worker, Duration::from_secs(1)).await;
    worker.replace_client(after.client());
    wait(&worker, Duration::from_millis(1)).await;
    assert_eq!((before.unheard(ACTIVITY), after.unheard(ACTIVITY)), (5, 5));
}
