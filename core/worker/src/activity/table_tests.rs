//! Stories of activities: what the language, the server and the clock did, and what came out.

use std::sync::LazyLock;

use super::*;
use outlast_proto::coresdk::activity_result::{Cancellation, Failure as Failed, Success, WillCompleteAsync};

fn at(seconds: u64) -> Instant {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    *BEGAN + Duration::from_secs(seconds)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn token() -> Bytes {
    Bytes::from_static(b"t")
}

fn details(text: &'static str) -> Vec<Payload> {
    vec![Payload { data: Bytes::from_static(text.as_bytes()), ..Default::default() }]
}

fn table() -> Table {
    Table::new(Limits { heartbeat_max: seconds(60), heartbeat_default: seconds(30), buffer: seconds(5) })
}

fn running(start_to_close: Option<u64>, heartbeat: Option<u64>) -> Table {
    let mut table = table();
    let started = Started {
        token: token(),
        start_to_close: start_to_close.map(seconds),
        heartbeat: heartbeat.map(seconds),
    };
    table.handle(at(0), Input::Started(started));
    assert_eq!(out(&mut table), []);
    table
}

fn out(table: &mut Table) -> Vec<Output> {
    std::iter::from_fn(|| table.poll()).collect()
}

fn reason(output: &Output) -> Option<ActivityCancelReason> {
    match output {
        Output::Cancel(_, cancel) => Some(cancel.reason()),
        Output::Beat(..) | Output::Report(..) | Output::Done(_) => None,
    }
}

fn beat(table: &mut Table, second: u64, text: &'static str) -> Vec<Output> {
    table.handle(at(second), Input::Beat(token(), details(text)));
    out(table)
}

fn taken(table: &mut Table, second: u64, reply: BeatReply) -> Vec<Output> {
    table.handle(at(second), Input::BeatTaken(token(), reply));
    out(table)
}

fn cancelled() -> Status {
    Status::Cancelled(Cancellation::default())
}

#[test]
fn a_result_is_reported_and_then_the_slot_is_free() {
    let mut table = running(None, None);
    table.handle(at(1), Input::Completed(token(), Box::new(Status::Completed(Success { result: None }))));
    assert_eq!(out(&mut table), [Output::Report(token(), Report::Completed(None))]);
    assert!(!table.is_empty(), "until it is reported");
    table.handle(at(2), Input::Reported(token()));
    assert_eq!(out(&mut table), [Output::Done(token())]);
    assert!(table.is_empty());
    assert_eq!(table.deadline(), None);
}

#[test]
fn a_heartbeat_that_is_refused_ends_the_attempt_and_its_code_is_told_to_stop() {
    let mut table = running(None, Some(10));
    assert_eq!(beat(&mut table, 1, "much"), [Output::Beat(token(), details("much"))]);
    table.handle(at(2), Input::BeatRefused(token(), Refusal::TooLarge { bytes: 5 }));
    let outputs = out(&mut table);
    let [Output::Report(_, Report::Failed { failure: Some(failure), .. }), cancel] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(failure.message, "GRPC Message too large: a heartbeat takes 5 bytes");
    assert_eq!(reason(cancel), Some(ActivityCancelReason::Cancelled));
    table.handle(at(3), Input::Reported(token()));
    assert_eq!(out(&mut table), [], "the language is not done yet");
    assert_eq!(beat(&mut table, 4, "more"), []);
    table.handle(at(5), Input::Completed(token(), Box::new(cancelled())));
    assert_eq!(out(&mut table), [Output::Done(token())], "and what it says is not sent");
}

#[test]
fn code_that_stops_before_the_server_has_heard_of_the_refusal_waits_for_that() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "much");
    table.handle(at(2), Input::BeatRefused(token(), Refusal::TooLarge { bytes: 5 }));
    out(&mut table);
    table.handle(at(3), Input::Completed(token(), Box::new(cancelled())));
    assert_eq!((out(&mut table), table.is_empty()), (vec![], false));
    table.handle(at(4), Input::Reported(token()));
    assert_eq!(out(&mut table), [Output::Done(token())]);
}

#[test]
fn an_activity_that_is_cancelled_is_so_although_its_last_heartbeat_is_refused() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "a");
    beat(&mut table, 1, "much");
    taken(&mut table, 2, BeatReply { cancel_requested: true, ..BeatReply::default() });
    table.handle(at(3), Input::Completed(token(), Box::new(cancelled())));
    assert_eq!(out(&mut table), [Output::Beat(token(), details("much"))]);
    table.handle(at(4), Input::BeatRefused(token(), Refusal::TooLarge { bytes: 5 }));
    assert_eq!(out(&mut table), [Output::Report(token(), Report::Cancelled(None))]);
}

#[test]
fn the_first_heartbeat_goes_out_at_once_and_the_latest_after_the_interval() {
    let mut table = running(None, Some(10));
    assert_eq!(beat(&mut table, 1, "one"), [Output::Beat(token(), details("one"))]);
    assert_eq!(taken(&mut table, 1, BeatReply::default()), []);
    assert_eq!(beat(&mut table, 2, "two"), []);
    assert_eq!(beat(&mut table, 3, "three"), []);
    assert_eq!(table.deadline(), Some(at(9)), "0.8 of the timeout after the first");
    table.handle(at(9), Input::Tick);
    assert_eq!(out(&mut table), [Output::Beat(token(), details("three"))]);
}

#[test]
fn a_heartbeat_on_its_way_holds_back_the_next() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "one");
    beat(&mut table, 2, "two");
    table.handle(at(12), Input::Tick);
    assert_eq!(out(&mut table), []);
    assert_eq!(taken(&mut table, 13, BeatReply::default()), [Output::Beat(token(), details("two"))]);
}

#[test]
fn a_failure_carries_the_latest_details_whether_sent_or_not() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "one");
    beat(&mut table, 2, "two");
    table.handle(at(3), Input::Completed(token(), Box::new(Status::Failed(Failed::default()))));
    let report = Report::Failed { failure: None, cause: 0, details: Some(details("two")) };
    assert_eq!(out(&mut table), [Output::Report(token(), report)]);
}

#[test]
fn a_cancelled_activity_first_sends_the_heartbeat_that_waits() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "one");
    taken(&mut table, 1, BeatReply { cancel_requested: true, ..Default::default() });
    beat(&mut table, 2, "two");
    table.handle(at(3), Input::Completed(token(), Box::new(cancelled())));
    assert_eq!(out(&mut table), [Output::Beat(token(), details("two"))]);
    assert_eq!(
        taken(&mut table, 4, BeatReply::default()),
        [Output::Report(token(), Report::Cancelled(None))]
    );
}

#[test]
fn the_server_cancels_once_with_the_strongest_reason_and_all_flags() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "one");
    let reply = BeatReply { cancel_requested: true, paused: true, reset: true, not_found: false };
    let outputs = taken(&mut table, 1, reply);
    let [Output::Cancel(_, cancel)] = outputs.as_slice() else { panic!("{outputs:?}") };
    assert_eq!(cancel.reason(), ActivityCancelReason::Cancelled);
    let flags = cancel.details.unwrap();
    assert!(flags.is_cancelled && flags.is_paused && flags.is_reset && !flags.is_not_found);
    beat(&mut table, 20, "two");
    assert_eq!(taken(&mut table, 20, reply), [], "never twice");
}

#[test]
fn a_reset_is_stronger_than_a_pause() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "one");
    let outputs = taken(&mut table, 1, BeatReply { paused: true, reset: true, ..Default::default() });
    assert_eq!(reason(&outputs[0]), Some(ActivityCancelReason::Reset));
}

#[test]
fn an_activity_that_the_server_forgot_is_cancelled_and_its_result_swallowed() {
    let mut table = running(None, Some(10));
    beat(&mut table, 1, "one");
    let outputs = taken(&mut table, 1, BeatReply { not_found: true, ..Default::default() });
    assert_eq!(reason(&outputs[0]), Some(ActivityCancelReason::NotFound));
    table.handle(at(2), Input::Completed(token(), Box::new(Status::Completed(Success::default()))));
    assert_eq!(out(&mut table), [Output::Done(token())]);
}

#[test]
fn timeouts_cancel_after_a_buffer() {
    let mut table = running(Some(10), None);
    assert_eq!(table.deadline(), Some(at(15)));
    table.handle(at(14), Input::Tick);
    assert_eq!(out(&mut table), []);
    table.handle(at(15), Input::Tick);
    let outputs = out(&mut table);
    assert_eq!(reason(&outputs[0]), Some(ActivityCancelReason::TimedOut));
    assert_eq!(table.deadline(), None, "there is nothing left to wait for");
}

#[test]
fn each_heartbeat_moves_the_heartbeat_timeout() {
    let mut table = running(None, Some(10));
    beat(&mut table, 12, "one");
    taken(&mut table, 12, BeatReply::default());
    table.handle(at(26), Input::Tick);
    assert_eq!(out(&mut table), []);
    table.handle(at(27), Input::Tick);
    assert_eq!(reason(&out(&mut table)[0]), Some(ActivityCancelReason::TimedOut));
}

#[test]
fn heartbeats_that_cannot_go_out_do_not_keep_an_attempt_alive() {
    let mut table = running(None, Some(10));
    assert_eq!(beat(&mut table, 1, "sent"), [Output::Beat(token(), details("sent"))]);
    for second in 2..16 {
        assert_eq!(beat(&mut table, second, "the first one is not answered"), []);
    }
    assert_eq!(table.deadline(), Some(at(16)));
    table.handle(at(16), Input::Tick);
    assert_eq!(reason(&out(&mut table)[0]), Some(ActivityCancelReason::TimedOut));
}

#[test]
fn spans_beyond_all_time_are_no_limits() {
    let mut table = running(Some(i64::MAX as u64), Some(i64::MAX as u64));
    beat(&mut table, 1, "alive");
    table.handle(at(2), Input::ShutDown(Some(Duration::MAX)));
    taken(&mut table, 3, BeatReply::default());
    assert_eq!(table.deadline(), None);
}

#[test]
fn shutdown_cancels_when_the_grace_is_over_and_a_cancellation_is_then_a_failure() {
    let mut table = running(None, None);
    table.handle(at(1), Input::ShutDown(Some(seconds(10))));
    assert_eq!(table.deadline(), Some(at(11)));
    table.handle(at(11), Input::Tick);
    assert_eq!(reason(&out(&mut table)[0]), Some(ActivityCancelReason::WorkerShutdown));
    table.handle(at(12), Input::Completed(token(), Box::new(cancelled())));
    let outputs = out(&mut table);
    let [Output::Report(_, Report::Failed { failure: Some(failure), .. })] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(failure.cause, None);
}

#[test]
fn an_activity_that_starts_after_the_grace_is_cancelled_at_once() {
    let mut table = table();
    table.handle(at(1), Input::ShutDown(Some(seconds(0))));
    table.handle(at(1), Input::Tick);
    let started = Started { token: token(), start_to_close: None, heartbeat: None };
    table.handle(at(2), Input::Started(started));
    assert_eq!(reason(&out(&mut table)[0]), Some(ActivityCancelReason::WorkerShutdown));
}

#[test]
fn without_a_grace_nothing_is_cancelled() {
    let mut table = running(None, None);
    table.handle(at(1), Input::ShutDown(None));
    assert_eq!(table.deadline(), None);
}

#[test]
fn an_activity_that_somebody_else_completes_is_reported_by_nobody_here() {
    let mut table = running(None, None);
    table.handle(at(1), Input::Completed(token(), Box::new(Status::WillCompleteAsync(WillCompleteAsync {}))));
    assert_eq!(out(&mut table), [Output::Done(token())]);
}

#[test]
fn a_second_result_is_ignored() {
    let mut table = running(None, None);
    let done = || Input::Completed(token(), Box::new(Status::Completed(Success::default())));
    table.handle(at(1), done());
    out(&mut table);
    table.handle(at(1), done());
    assert_eq!(out(&mut table), []);
}
