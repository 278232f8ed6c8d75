//! The half of a worker that runs activities, remote and local: one loop that owns the pure tables, makes their calls
//! and hands tasks to the language.

mod held;
mod local;
mod start;
mod table;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{Code, Error};
use outlast_machine::io::{self, LocalName, LocalTask, RunId};
use outlast_machine::time::{Time, duration};
use outlast_proto::coresdk::activity_result::activity_execution_result::Status;
use outlast_proto::coresdk::activity_task::{ActivityTask, Cancel, activity_task::Variant};
use outlast_proto::temporal::api::common::v1::Payload;
use outlast_proto::temporal::api::workflowservice::v1::PollActivityTaskQueueResponse;
use tokio::sync::{mpsc, oneshot};

pub(crate) use table::{BeatReply, Report};

use crate::calls::{Broken, Calls};
use crate::clock::{Clock, instant, until};
use crate::config::WorkerConfig;
use crate::counts::Counts;
use crate::delivery::Refusal;
use crate::handout::Handout;
use crate::permits::{Permit, Permits};
use crate::remote::Remote;
use crate::sizes::SizeLimits;
use crate::telemetry::WorkerMetrics;
use crate::worker::{NamespaceFacts, facts};
use table::Started;

/// Something for the loop to take in.
pub(crate) enum Arrival {
    /// A task that was polled, or given with the answer to a workflow task.
    Task { task: Box<PollActivityTaskQueueResponse>, permit: Permit, eager: bool },
    /// The language is done with a task, remote or local.
    Completed(Bytes, Box<Status>),
    /// The language says that a task is alive.
    Beat(Bytes, Vec<Payload>),
    /// The language asked for the first time.
    Open,
    /// A run wants a local activity.
    StartLocal(RunId, LocalTask),
    /// A run wants it no longer.
    CancelLocal(RunId, LocalName),
    /// The worker ends: the grace begins.
    ShutDown(Option<Duration>),
    /// Say so when nothing is held any more.
    WhenIdle(oneshot::Sender<()>),
}

/// Where reports of local activities go.
pub(crate) type LocalReports = Arc<dyn Fn(RunId, io::LocalReport) + Send + Sync>;

/// What the loop needs from its surroundings.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) remote: Arc<Remote>,
    pub(crate) tasks: Arc<Handout<ActivityTask>>,
    pub(crate) local_permits: Permits,
    /// Whether there may be local activities at all.
    pub(crate) local_activities: bool,
    pub(crate) reports: LocalReports,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) namespace: Arc<Mutex<NamespaceFacts>>,
}

/// What a call of the loop came to.
enum Done {
    BeatTaken(Bytes, Result<BeatReply, Refusal>),
    Reported(Bytes, Result<(), Error>),
    LocalSlot(Option<Permit>),
}

struct Loop {
    around: Surroundings,
    namespace: String,
    table: table::Table,
    locals: local::Locals,
    held: held::Held,
    calls: Calls<Done>,
    /// A slot for the next local activity is kept ready, as there is one for each poll: between the first question of the
    /// language and the worker's end. Otherwise one is asked for when it is needed.
    ready: bool,
    /// It is being waited for.
    reserving: bool,
    spare: Option<Permit>,
    idle: Option<oneshot::Sender<()>>,
}

/// Runs until the other side of the inbox is gone.
pub(crate) async fn run(
    around: Surroundings,
    config: &WorkerConfig,
    mut inbox: mpsc::UnboundedReceiver<Arrival>,
) {
    let limits = table::Limits {
        heartbeat_max: config.max_heartbeat_throttle_interval,
        heartbeat_default: config.default_heartbeat_throttle_interval,
        buffer: config.local_timeout_buffer_for_activities,
    };
    let clock = around.clock;
    let held = held::Held::new(around.metrics.clone(), around.counts.clone());
    let mut it = Loop {
        around,
        held,
        namespace: config.namespace.clone(),
        table: table::Table::new(limits),
        locals: local::Locals::default(),
        calls: Calls::new(),
        ready: false,
        reserving: false,
        spare: None,
        idle: None,
    };
    loop {
        it.act();
        tokio::select! {
            arrival = inbox.recv() => match arrival {
                Some(arrival) => it.take(clock.now(), arrival),
                None => return,
            },
            done = it.calls.next() => it.done(clock.now(), done),
            () = until(it.table.deadline()) => it.table.handle(instant(), table::Input::Tick),
            () = clock.until(it.locals.deadline()) => it.locals.handle(clock.now(), local::Input::Tick),
        }
    }
}

impl Loop {
    fn take(&mut self, now: Time, arrival: Arrival) {
        match arrival {
            Arrival::Task { task, permit, eager } => self.start(now, *task, permit, eager),
            Arrival::Completed(token, status) if self.locals.holds(&token) => {
                self.held.completed(now, &token, &status);
                self.locals.handle(now, local::Input::Completed(token, status));
            }
            Arrival::Completed(token, status) => {
                if !self.table.holds(&token) {
                    tracing::warn!(?token, "the language completed an activity that it does not hold");
                }
                self.held.completed(now, &token, &status);
                self.table.handle(instant(), table::Input::Completed(token, status));
            }
            Arrival::Beat(token, details) => self.table.handle(instant(), table::Input::Beat(token, details)),
            Arrival::Open => self.ready = self.around.local_activities,
            Arrival::StartLocal(run, task) => {
                self.locals.handle(now, local::Input::Start(run, task));
                if self.spare.is_some() {
                    self.locals.handle(now, local::Input::Slot);
                }
            }
            Arrival::CancelLocal(run, name) => self.locals.handle(now, local::Input::Cancel(run, name)),
            Arrival::ShutDown(grace) => {
                self.ready = false;
                self.spare = None;
                self.table.handle(instant(), table::Input::ShutDown(grace));
            }
            Arrival::WhenIdle(tell) => self.idle = Some(tell),
        }
    }

    fn done(&mut self, now: Time, done: Result<Done, Broken>) {
        match done {
            Ok(Done::BeatTaken(token, Ok(reply))) => {
                self.table.handle(instant(), table::Input::BeatTaken(token, reply));
            }
            Ok(Done::BeatTaken(token, Err(refusal))) => {
                self.table.handle(instant(), table::Input::BeatRefused(token, refusal));
            }
            Ok(Done::Reported(token, result)) => {
                match result {
                    Ok(()) => {}
                    Err(error) if error.code == Code::NotFound => {
                        tracing::warn!(task_token = ?token, details = %error, "an activity was over before its result came");
                    }
                    Err(error) => {
                        tracing::warn!(task_token = ?token, details = %error, "the result of an activity did not reach the server")
                    }
                }
                self.table.handle(instant(), table::Input::Reported(token));
            }
            Ok(Done::LocalSlot(permit)) => {
                self.reserving = false;
                // Once slots are no longer dealt, what waits is served all the same.
                self.ready &= permit.is_some();
                self.spare = permit;
                if self.locals.waiting() > 0 {
                    self.locals.handle(now, local::Input::Slot);
                } else if !self.ready {
                    self.spare = None;
                }
            }
            Err(error) => tracing::error!("{error}"),
        }
    }

    /// Drains the tables and acts on what they say.
    fn act(&mut self) {
        while let Some(output) = self.table.poll() {
            self.act_remote(output);
        }
        while let Some(output) = self.locals.poll() {
            self.act_local(output);
        }
        if (self.ready || self.locals.waiting() > 0) && self.spare.is_none() && !self.reserving {
            self.reserving = true;
            let permits = self.around.local_permits.clone();
            self.calls.start(async move { Done::LocalSlot(permits.reserve().await.ok()) });
        }
        if self.table.is_empty()
            && self.locals.is_empty()
            && let Some(tell) = self.idle.take()
        {
            // Whoever asked may have stopped waiting.
            let _ = tell.send(());
        }
    }

    fn act_remote(&mut self, output: table::Output) {
        let remote = self.around.remote.clone();
        match output {
            table::Output::Cancel(token, cancel) => self.cancel(token, cancel),
            table::Output::Beat(token, details) => {
                let limits = self.limits();
                self.calls.start(async move {
                    let reply = remote.beat(token.clone(), details, limits).await;
                    Done::BeatTaken(token, reply)
                });
            }
            table::Output::Report(token, report) => {
                let limits = self.limits();
                self.calls.start(async move {
                    let result = remote.report_activity(token.clone(), report, limits).await;
                    Done::Reported(token, result)
                });
            }
            table::Output::Done(token) => self.held.done(&token),
        }
    }

    fn limits(&self) -> SizeLimits {
        facts(&self.around.namespace).sizes
    }

    fn act_local(&mut self, output: local::Output) {
        match output {
            local::Output::Give(token, run, task) => {
                let now = self.around.clock.now();
                let start = start::local(&self.namespace, &run, task, now);
                self.held.local(now, token.clone(), &start, self.spare.take());
                let variant = Some(Variant::Start(start));
                self.around.tasks.push(token.clone(), ActivityTask { task_token: token, variant });
            }
            local::Output::Cancel(token, cancel) => self.cancel(token, cancel),
            local::Output::Report(run, report) => (self.around.reports)(run, report),
            local::Output::Done(token) => self.held.done(&token),
        }
    }

    fn cancel(&self, token: Bytes, cancel: Cancel) {
        let variant = Some(Variant::Cancel(cancel));
        self.around.tasks.push_cancel(token.clone(), ActivityTask { task_token: token, variant });
    }

    fn start(&mut self, now: Time, task: PollActivityTaskQueueResponse, permit: Permit, eager: bool) {
        let token = task.task_token.clone();
        let start = start::remote(task);
        self.held.remote(now, token.clone(), &start, permit, eager);
        let started = Started {
            token: token.clone(),
            start_to_close: server_limit(start.start_to_close_timeout),
            heartbeat: server_limit(start.heartbeat_timeout),
        };
        let variant = Some(Variant::Start(start));
        self.around.tasks.push(token.clone(), ActivityTask { task_token: token, variant });
        self.table.handle(instant(), table::Input::Started(started));
    }
}

/// A time limit of the server's, for which none and zero are the same. One that is negative is over, not absent.
fn server_limit(given: Option<prost_types::Duration>) -> Option<Duration> {
    duration(given).map_or(Some(Duration::ZERO), |limit| limit.filter(|limit| !limit.is_zero()))
}
