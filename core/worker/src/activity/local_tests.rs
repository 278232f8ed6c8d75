//! Stories of local activities: what the run, the language and the clock did, and what came out.

use super::*;
use outlast_proto::coresdk::activity_result::{Cancellation, Failure as Failed, Success, WillCompleteAsync};
use outlast_proto::lens::lang;
use std::time::Duration;

fn at(seconds: u64) -> Time {
    Time::from_nanos(0) + Duration::from_secs(seconds)
}

fn task(seq: u32) -> LocalTask {
    LocalTask {
        name: LocalName { seq, execution: 1 },
        workflow_id: "w".into(),
        workflow_type: Bytes::new(),
        attempt: 1,
        original_schedule_time: at(0),
        schedule_time: at(0),
        schedule_to_close: None,
        schedule_to_start: None,
        start_to_close: None,
        schedule_to_close_deadline: None,
        retry_policy: Default::default(),
        command: Box::new(lang::ScheduleLocalActivity::default()),
    }
}

fn run() -> RunId {
    RunId::from("r")
}

fn out(locals: &mut Locals) -> Vec<Output> {
    std::iter::from_fn(|| locals.poll()).collect()
}

/// Starts it in a slot; its token.
fn started(locals: &mut Locals, second: u64, task: LocalTask) -> Bytes {
    locals.handle(at(second), Input::Start(run(), task));
    locals.handle(at(second), Input::Slot);
    match out(locals).as_slice() {
        [Output::Give(token, ..)] => token.clone(),
        other => panic!("{other:?}"),
    }
}

fn results(outputs: &[Output]) -> Vec<(LocalResult, Duration)> {
    let result = |output: &Output| match output {
        Output::Report(_, report) => Some((report.result.clone(), report.took)),
        Output::Give(..) | Output::Cancel(..) | Output::Done(_) => None,
    };
    outputs.iter().filter_map(result).collect()
}

fn reasons(outputs: &[Output]) -> Vec<ActivityCancelReason> {
    let reason = |output: &Output| match output {
        Output::Cancel(_, cancel) => Some(cancel.reason()),
        Output::Give(..) | Output::Report(..) | Output::Done(_) => None,
    };
    outputs.iter().filter_map(reason).collect()
}

#[test]
fn a_result_is_reported_with_the_time_it_took() {
    let mut locals = Locals::default();
    let token = started(&mut locals, 1, task(1));
    locals.handle(at(4), Input::Completed(token, Box::new(Status::Completed(Success::default()))));
    let outputs = out(&mut locals);
    assert_eq!(results(&outputs), [(LocalResult::Completed(None), Duration::from_secs(3))]);
    assert!(matches!(outputs[0], Output::Done(_)));
    assert!(locals.is_empty());
}

#[test]
fn they_start_in_order_and_a_slot_for_nobody_starts_nothing() {
    let mut locals = Locals::default();
    for seq in [1, 2] {
        locals.handle(at(0), Input::Start(run(), task(seq)));
    }
    for _ in 0..3 {
        locals.handle(at(0), Input::Slot);
    }
    let outputs = out(&mut locals);
    let [Output::Give(_, _, first), Output::Give(_, _, second)] = outputs.as_slice() else {
        panic!("{outputs:?}")
    };
    assert_eq!((first.name.seq, second.name.seq), (1, 2));
}

#[test]
fn one_that_waits_too_long_for_a_slot_never_starts() {
    let mut locals = Locals::default();
    locals.handle(
        at(0),
        Input::Start(run(), LocalTask { schedule_to_start: Some(Duration::from_secs(2)), ..task(1) }),
    );
    assert_eq!(locals.deadline(), Some(at(2)));
    locals.handle(at(2), Input::Tick);
    assert_eq!(
        results(&out(&mut locals)),
        [(LocalResult::TimedOut(LocalTimeout::ScheduleToStart), Duration::ZERO)]
    );
    locals.handle(at(3), Input::Slot);
    assert!(out(&mut locals).is_empty());
}

#[test]
fn one_that_runs_too_long_is_reported_and_cancelled_and_its_result_dropped() {
    let mut locals = Locals::default();
    let limit = Some(Duration::from_secs(5));
    let token = started(&mut locals, 1, LocalTask { start_to_close: limit, ..task(1) });
    assert_eq!(locals.deadline(), Some(at(6)));
    locals.handle(at(6), Input::Tick);
    let outputs = out(&mut locals);
    assert_eq!(
        results(&outputs),
        [(LocalResult::TimedOut(LocalTimeout::StartToClose), Duration::from_secs(5))]
    );
    assert_eq!(reasons(&outputs), [ActivityCancelReason::TimedOut]);
    locals.handle(at(7), Input::Completed(token, Box::new(Status::Completed(Success::default()))));
    let outputs = out(&mut locals);
    assert!(matches!(outputs[..], [Output::Done(_)]), "the slot was held until now: {outputs:?}");
}

#[test]
fn the_deadline_of_the_whole_counts_before_and_during_an_attempt() {
    let mut locals = Locals::default();
    let whole = || LocalTask {
        schedule_to_close_deadline: Some(at(3)),
        start_to_close: Some(Duration::from_secs(60)),
        ..task(1)
    };
    locals.handle(at(0), Input::Start(run(), whole()));
    locals.handle(at(3), Input::Tick);
    let too_late = LocalResult::TimedOut(LocalTimeout::ScheduleToClose);
    assert_eq!(results(&out(&mut locals)), [(too_late.clone(), Duration::ZERO)]);
    started(&mut locals, 1, whole());
    locals.handle(at(3), Input::Tick);
    assert_eq!(results(&out(&mut locals)), [(too_late, Duration::from_secs(2))]);
}

#[test]
fn cancelling_one_that_waits_ends_it() {
    let mut locals = Locals::default();
    locals.handle(at(0), Input::Start(run(), task(1)));
    locals.handle(at(0), Input::Cancel(run(), task(1).name));
    assert!(matches!(results(&out(&mut locals))[..], [(LocalResult::Cancelled(None), _)]));
    assert!(locals.is_empty());
}

#[test]
fn cancelling_one_that_runs_asks_it_once_and_waits_for_its_answer() {
    let mut locals = Locals::default();
    let token = started(&mut locals, 0, task(1));
    for _ in 0..2 {
        locals.handle(at(0), Input::Cancel(run(), task(1).name));
    }
    let outputs = out(&mut locals);
    assert_eq!((reasons(&outputs).len(), results(&outputs).len()), (1, 0));
    locals.handle(at(1), Input::Completed(token, Box::new(Status::Cancelled(Cancellation::default()))));
    assert!(matches!(results(&out(&mut locals))[..], [(LocalResult::Cancelled(None), _)]));
}

#[test]
fn cancelling_an_unknown_one_is_ignored() {
    let mut locals = Locals::default();
    locals.handle(at(0), Input::Cancel(run(), task(1).name));
    assert!(out(&mut locals).is_empty());
}

#[test]
fn a_failure_is_carried_and_async_completion_is_one() {
    let mut locals = Locals::default();
    let token = started(&mut locals, 0, task(1));
    let failure = Failure { message: "no".into(), ..Default::default() };
    let failed = Failed { failure: Some(failure.clone()), ..Default::default() };
    locals.handle(at(0), Input::Completed(token, Box::new(Status::Failed(failed))));
    let encoded = Bytes::from(failure.encode_to_vec());
    assert_eq!(results(&out(&mut locals)), [(LocalResult::Failed(Some(encoded)), Duration::ZERO)]);

    let token = started(&mut locals, 0, task(2));
    locals.handle(at(0), Input::Completed(token, Box::new(Status::WillCompleteAsync(WillCompleteAsync {}))));
    assert!(matches!(results(&out(&mut locals))[..], [(LocalResult::Failed(Some(_)), _)]));
}
