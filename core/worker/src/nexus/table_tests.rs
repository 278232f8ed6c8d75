//! Stories of Nexus tasks: what the language and the clock did, and what came out.

use super::*;
use outlast_proto::temporal::api::failure::v1::{NexusHandlerFailureInfo, failure::FailureInfo};
use outlast_proto::temporal::api::nexus::v1::{CancelOperationResponse, StartOperationResponse};

fn at(seconds: u64) -> Time {
    Time::from_nanos(0) + Duration::from_secs(seconds)
}

fn token() -> Bytes {
    Bytes::from_static(b"t")
}

fn running(kind: Kind, failures: bool) -> Table {
    let mut table = Table::default();
    let deadline = Some(at(10));
    let started = Started { token: token(), kind, deadline, poller_group: "g".into(), failures };
    table.handle(at(0), Input::Started(started));
    table
}

fn out(table: &mut Table) -> Vec<Output> {
    std::iter::from_fn(|| table.poll()).collect()
}

fn start_response() -> Response {
    let variant = response::Variant::StartOperation(StartOperationResponse::default());
    Response { variant: Some(variant) }
}

fn completed(table: &mut Table, second: u64, status: Status) -> Vec<Output> {
    table.handle(at(second), Input::Completed(token(), Box::new(status)));
    out(table)
}

fn error(outputs: &[Output]) -> &HandlerError {
    match outputs {
        [Output::Report(_, Report::Error { error, .. })] => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_is_reported_and_then_the_slot_is_free() {
    let mut table = running(Kind::Start, true);
    let report =
        Report::Completed { response: Box::new(start_response()), poller_group: "g".into(), older: false };
    assert_eq!(
        completed(&mut table, 1, Status::Completed(start_response())),
        [Output::Report(token(), report)]
    );
    assert_eq!(table.deadline(), None, "an answer that was given cannot time out");
    table.handle(at(2), Input::Reported(token()));
    assert_eq!(out(&mut table), [Output::Done(token())]);
    assert!(table.is_empty());
}

#[test]
fn the_caller_s_deadline_cancels_once_and_an_acknowledgement_ends_it() {
    let mut table = running(Kind::Start, true);
    assert_eq!(table.deadline(), Some(at(10)));
    table.handle(at(10), Input::Tick);
    let cancel = CancelNexusTask { task_token: token(), reason: NexusTaskCancelReason::TimedOut.into() };
    assert_eq!(out(&mut table), [Output::Cancel(cancel)]);
    table.handle(at(11), Input::Tick);
    assert_eq!(out(&mut table), []);
    assert_eq!(completed(&mut table, 12, Status::AckCancel(true)), [Output::Done(token())]);
}

#[test]
fn shutdown_cancels_when_the_grace_is_over() {
    let mut table = running(Kind::Start, true);
    table.handle(at(1), Input::ShutDown(Some(Duration::from_secs(2))));
    assert_eq!(table.deadline(), Some(at(3)));
    table.handle(at(3), Input::Tick);
    let cancel =
        CancelNexusTask { task_token: token(), reason: NexusTaskCancelReason::WorkerShutdown.into() };
    assert_eq!(out(&mut table), [Output::Cancel(cancel)]);
}

#[test]
fn a_task_that_comes_after_the_grace_is_cancelled_at_once() {
    let mut table = Table::default();
    table.handle(at(0), Input::ShutDown(Some(Duration::ZERO)));
    table.handle(at(0), Input::Tick);
    let (kind, poller_group) = (Kind::Start, String::new());
    let started = Started { token: token(), kind, deadline: None, poller_group, failures: true };
    table.handle(at(1), Input::Started(started));
    let cancel =
        CancelNexusTask { task_token: token(), reason: NexusTaskCancelReason::WorkerShutdown.into() };
    assert_eq!(out(&mut table), [Output::Cancel(cancel)]);
}

#[test]
fn an_answer_of_the_wrong_kind_becomes_an_error() {
    let mut table = running(Kind::Start, true);
    let variant = response::Variant::CancelOperation(CancelOperationResponse {});
    let outputs = completed(&mut table, 1, Status::Completed(Response { variant: Some(variant) }));
    assert_eq!(error(&outputs).error_type, "INTERNAL");
}

#[test]
fn a_failure_takes_the_form_that_the_caller_understands() {
    let failure = || Failure {
        message: "no".into(),
        failure_info: Some(FailureInfo::NexusHandlerFailureInfo(NexusHandlerFailureInfo {
            r#type: "NOT_FOUND".into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    for understands in [true, false] {
        let mut table = running(Kind::Start, understands);
        let outputs = completed(&mut table, 1, Status::Failure(failure()));
        let (failure, poller_group) = (Box::new(failure()), "g".into());
        let report = Report::Failure { failure, poller_group, older: !understands };
        assert_eq!(outputs, [Output::Report(token(), report)]);
    }
}
