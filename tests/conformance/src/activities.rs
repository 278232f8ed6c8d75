//! What activities do, by their type: a small catalogue that every scenario shares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outlast_core::proto::coresdk::activity_result::{
    ActivityExecutionResult, Cancellation, Failure, Success, WillCompleteAsync,
    activity_execution_result::Status,
};
use outlast_core::proto::coresdk::activity_task::{Start, activity_task::Variant};
use outlast_core::proto::coresdk::{ActivityHeartbeat, ActivityTaskCompletion};
use outlast_core::{PollError, Worker};
use tokio::sync::{Semaphore, watch};
use tokio::time::{interval, sleep};

use crate::journal::Journal;
use crate::words::{cancelled, failure, payload, texts};

/// Where activities and scenarios meet.
pub struct Meeting {
    /// A permit for each activity that has begun to wait.
    pub arrived: Semaphore,
    /// A permit lets one of them go on.
    pub gate: Semaphore,
    /// The tokens of those that will be completed from elsewhere.
    pub tokens: Mutex<Vec<Bytes>>,
    /// Why activities were asked to end.
    pub cancels: Mutex<Vec<String>>,
    /// What began, with its attempt.
    pub began: Mutex<Vec<String>>,
}

impl Default for Meeting {
    fn default() -> Self {
        Self {
            arrived: Semaphore::new(0),
            gate: Semaphore::new(0),
            tokens: Mutex::default(),
            cancels: Mutex::default(),
            began: Mutex::default(),
        }
    }
}

/// Performs activities until it is over.
pub async fn perform(worker: Worker, meeting: Arc<Meeting>, journal: Arc<Journal>) {
    let mut running: HashMap<Bytes, watch::Sender<bool>> = HashMap::new();
    loop {
        let task = match worker.poll_activity_task().await {
            Ok(task) => task,
            Err(PollError::ShutDown) => return,
            Err(other) => return journal.problem(format!("a poll for activities failed: {other}")),
        };
        match task.variant.unwrap() {
            Variant::Start(start) => {
                let (cancel, cancelled) = watch::channel(false);
                running.insert(task.task_token.clone(), cancel);
                meeting.began.lock().unwrap().push(format!("{} {}", start.activity_type, start.attempt));
                let (worker, meeting) = (worker.clone(), meeting.clone());
                let token = task.task_token;
                tokio::spawn(async move {
                    let Some(status) = result(&worker, &meeting, &token, start, cancelled).await else {
                        return;
                    };
                    let result = Some(ActivityExecutionResult { status: Some(status) });
                    // A worker that has been dropped takes no answers.
                    let _ =
                        worker.complete_activity_task(ActivityTaskCompletion { task_token: token, result });
                });
            }
            Variant::Cancel(cancel) => {
                meeting.cancels.lock().unwrap().push(cancel.reason().as_str_name().to_owned());
                if let Some(running) = running.remove(&task.task_token) {
                    running.send_replace(true);
                }
            }
        }
    }
}

fn completed(result: &str) -> Status {
    Status::Completed(Success { result: Some(payload(result)) })
}

fn fails(message: &str, retryable: bool) -> Status {
    Status::Failed(Failure { failure: Some(failure(message, retryable)), ..Default::default() })
}

/// What an activity comes to; nothing if its worker was killed, for then nobody hears of it.
async fn result(
    worker: &Worker,
    meeting: &Meeting,
    token: &Bytes,
    start: Start,
    mut cancel: watch::Receiver<bool>,
) -> Option<Status> {
    let input = texts(&start.input);
    let number = || input.parse::<u64>().unwrap();
    let end = || Some(Status::Cancelled(Cancellation { failure: Some(cancelled()) }));
    match start.activity_type.as_str() {
        "echo" => Some(completed(&input)),
        "fail" => Some(fails("failed", true)),
        "fatal" => Some(fails("fatal", false)),
        // Succeeds at the attempt that its input names.
        "flaky" if u64::from(start.attempt) < number() => Some(fails("not yet", true)),
        "flaky" => Some(completed(&format!("attempt {}", start.attempt))),
        // Takes as many milliseconds as its input says.
        "slow" => tokio::select! {
            () = sleep(Duration::from_millis(number())) => Some(completed("slow")),
            asked = cancel.wait_for(|it| *it) => asked.ok().and_then(|_| end()),
        },
        // Goes on when the scenario says so.
        "gate" => {
            meeting.arrived.add_permits(1);
            tokio::select! {
                permit = meeting.gate.acquire() => {
                    permit.unwrap().forget();
                    Some(completed("passed"))
                }
                asked = cancel.wait_for(|it| *it) => asked.ok().and_then(|_| end()),
            }
        }
        // Says that it is alive until it is asked to end; then its input says how.
        "beat" => {
            meeting.arrived.add_permits(1);
            let mut ticks = interval(Duration::from_millis(100));
            loop {
                tokio::select! {
                    _ = ticks.tick() => worker.record_activity_heartbeat(ActivityHeartbeat {
                        task_token: token.clone(),
                        details: vec![payload("alive")],
                    }),
                    asked = cancel.wait_for(|it| *it) => {
                        asked.ok()?;
                        break;
                    }
                }
            }
            match input.as_str() {
                "complete" => Some(completed("all the same")),
                "fail" => Some(fails("in the end", false)),
                _ => end(),
            }
        }
        // Fails once after a heartbeat, and finds its details at the next attempt.
        "resume" => {
            if start.attempt > 1 {
                return Some(completed(&format!("found {}", texts(&start.heartbeat_details))));
            }
            let details = vec![payload("half")];
            worker.record_activity_heartbeat(ActivityHeartbeat { task_token: token.clone(), details });
            Some(fails("halfway", true))
        }
        // Says nothing until it is asked to end.
        "silent" => {
            meeting.arrived.add_permits(1);
            cancel.wait_for(|it| *it).await.ok()?;
            end()
        }
        "async" => {
            meeting.tokens.lock().unwrap().push(token.clone());
            meeting.arrived.add_permits(1);
            Some(Status::WillCompleteAsync(WillCompleteAsync {}))
        }
        "big" => Some(completed(&"x".repeat(usize::try_from(number()).unwrap()))),
        other => panic!("no activity {other}"),
    }
}
