//! A stage for one scenario: a task queue of its own, workers with the scripted language, calls as a user makes them,
//! and at the end the replay of every history.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outlast_core::proto::coresdk::workflow_activation::WorkflowActivation;
use outlast_core::proto::temporal::api::common::v1::{WorkflowExecution, WorkflowType};
use outlast_core::proto::temporal::api::enums::v1::{
    EventType, HistoryEventFilterType, UpdateWorkflowExecutionLifecycleStage as Stage,
    WorkflowTaskFailedCause,
};
use outlast_core::proto::temporal::api::history::v1::history_event::Attributes;
use outlast_core::proto::temporal::api::history::v1::{History, HistoryEvent};
use outlast_core::proto::temporal::api::query::v1::WorkflowQuery;
use outlast_core::proto::temporal::api::taskqueue::v1::TaskQueue;
use outlast_core::proto::temporal::api::update::v1::{self as update, outcome};
use outlast_core::proto::temporal::api::workflowservice::v1::{self as api, workflow_service as path};
use outlast_core::{CallOptions, Client, Ending, Error, ReplayConfig, Replayer, Worker, WorkerConfig};
use prost::Message;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::activities::{self, Meeting};
use crate::journal::{Journal, Seen};
use crate::language::{Giver, Scripts, speak};
use crate::nexus;
use crate::server::Server;
use crate::words::{cause, payloads, texts};

/// How long a scenario may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Scene {
    pub client: Client,
    pub queue: String,
    pub meeting: Arc<Meeting>,
    pub journal: Arc<Journal>,
    pub scripts: Scripts,
    /// Failed workflow tasks that the scenario is about, by cause.
    pub expected: Vec<WorkflowTaskFailedCause>,
    /// Runs that a worker ended against the will of their code: nothing would replay so.
    pub unrepeatable: Vec<String>,
    numbered: AtomicUsize,
    workers: Vec<Running>,
}

/// One run of a workflow.
#[derive(Clone, Debug)]
pub struct Run {
    pub id: String,
    pub run_id: String,
}

/// A worker with its language.
pub struct Running {
    pub worker: Worker,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Ends it as a process ends that is killed: nothing is said any more.
    pub async fn kill(self) {
        for task in self.tasks {
            task.abort();
            // It was told to break off.
            let _ = task.await;
        }
    }

    /// Ends it as it should end.
    pub async fn stop(self) {
        assert_eq!(self.worker.shutdown().await, Ending::Clean);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Plays a scenario with one worker.
pub async fn story(scripts: Scripts, body: impl AsyncFnOnce(&mut Scene)) {
    play(scripts, async |scene| {
        scene.worker().await;
        body(scene).await;
    })
    .await;
}

/// Plays a scenario that starts its own workers.
pub async fn play(scripts: Scripts, body: impl AsyncFnOnce(&mut Scene)) {
    let Some(server) = Server::shared() else { return };
    play_on(server, scripts, body).await;
}

/// The same, on a server of one's own.
pub async fn play_on(server: &Server, scripts: Scripts, body: impl AsyncFnOnce(&mut Scene)) {
    let client = server.client().await;
    static PLAYED: AtomicUsize = AtomicUsize::new(0);
    let name = std::thread::current().name().unwrap_or("scenario").replace("scenarios::", "");
    let mut scene = Scene {
        client,
        queue: format!("{name}/{}", PLAYED.fetch_add(1, Ordering::Relaxed)),
        meeting: Arc::default(),
        journal: Arc::default(),
        scripts,
        expected: vec![],
        unrepeatable: vec![],
        numbered: AtomicUsize::new(0),
        workers: vec![],
    };
    let all = async {
        body(&mut scene).await;
        scene.close().await;
    };
    if timeout(PATIENCE, all).await.is_err() {
        panic!(
            "stuck; problems so far: {:?}, evictions: {:?}",
            scene.journal.problems(),
            scene.journal.evictions()
        );
    }
}

impl Scene {
    /// Starts a worker with a cache.
    pub async fn worker(&mut self) -> Worker {
        self.worker_with(|_| {}).await
    }

    pub async fn worker_with(&mut self, change: impl FnOnce(&mut WorkerConfig)) -> Worker {
        let running = self.run_worker(change).await;
        let worker = running.worker.clone();
        self.workers.push(running);
        worker
    }

    /// A worker that the scenario ends itself.
    pub async fn run_worker(&self, change: impl FnOnce(&mut WorkerConfig)) -> Running {
        self.run_worker_of(self.client.clone(), change).await
    }

    pub async fn run_worker_of(&self, client: Client, change: impl FnOnce(&mut WorkerConfig)) -> Running {
        let mut config = WorkerConfig {
            max_cached_workflows: 100,
            shutdown_limit: Duration::from_secs(20),
            sticky_queue_schedule_to_start_timeout: Duration::from_secs(2),
            local_timeout_buffer_for_activities: Duration::from_millis(500),
            // With a heartbeat, an activity hears that it is to end.
            max_heartbeat_throttle_interval: Duration::from_millis(100),
            ..WorkerConfig::new("default", &self.queue)
        };
        change(&mut config);
        self.speak_for(Worker::new(client, config).unwrap()).await
    }

    async fn speak_for(&self, worker: Worker) -> Running {
        worker.validate().await.unwrap();
        let types = worker.config().task_types;
        let (journal, meeting) = (&self.journal, &self.meeting);
        let behavior = match &worker.config().versioning {
            outlast_core::Versioning::Deployment { .. } => 1,
            outlast_core::Versioning::None { .. } | outlast_core::Versioning::LegacyBuildId { .. } => 0,
        };
        let mut tasks = Vec::new();
        if types.workflows {
            let giver = Giver::Worker(worker.clone());
            tasks.push(tokio::spawn(speak(giver, self.scripts.clone(), journal.clone(), behavior)));
        }
        if types.activities || types.local_activities {
            tasks.push(tokio::spawn(activities::perform(worker.clone(), meeting.clone(), journal.clone())));
        }
        if types.nexus {
            tasks.push(tokio::spawn(nexus::handle(worker.clone(), self.client.clone(), journal.clone())));
        }
        Running { worker, tasks }
    }

    pub fn workers(&self) -> Vec<Worker> {
        self.workers.iter().map(|running| running.worker.clone()).collect()
    }

    /// Waits until somebody polls the queue.
    pub async fn until_polled(&self) {
        let request = api::DescribeTaskQueueRequest {
            namespace: "default".into(),
            task_queue: self.task_queue(),
            task_queue_type: 1,
            ..Default::default()
        };
        loop {
            let described: api::DescribeTaskQueueResponse =
                self.call(path::DESCRIBE_TASK_QUEUE, &request).await.unwrap();
            if !described.pollers.is_empty() {
                return;
            }
        }
    }

    /// Ends the workers that the scenario did not end itself.
    pub async fn stop_workers(&mut self) {
        for running in self.workers.drain(..) {
            running.stop().await;
        }
    }

    async fn close(&mut self) {
        self.stop_workers().await;
        assert_eq!(self.journal.problems(), Vec::<String>::new());
        let runs = self.journal.runs();
        for (run_id, seen) in runs {
            let run = Run { id: seen.workflow_id, run_id };
            let history = self.history(&run).await;
            self.check_tasks(&history);
            if !self.unrepeatable.contains(&run.run_id) {
                let replayed = replay(self.scripts.clone(), &run, &history).await;
                compare(&run, &history, &seen.activations, &replayed);
            }
        }
    }

    /// No task may have failed, save those that the scenario is about.
    fn check_tasks(&self, history: &History) {
        for event in &history.events {
            if let Some(Attributes::WorkflowTaskFailedEventAttributes(failed)) = &event.attributes {
                // What happens to a run meanwhile: it is reset, closed from outside, or hears something when it ends.
                let from_outside = matches!(
                    failed.cause(),
                    WorkflowTaskFailedCause::ResetWorkflow
                        | WorkflowTaskFailedCause::ForceCloseCommand
                        | WorkflowTaskFailedCause::UnhandledCommand
                );
                assert!(
                    from_outside || self.expected.contains(&failed.cause()),
                    "a workflow task failed: {failed:?}"
                );
            }
        }
    }

    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<R, Error> {
        self.client.call(path, request, CallOptions::default()).await
    }

    /// A name that nobody else has.
    pub fn name(&self) -> String {
        format!("{}-{}", self.queue, self.numbered.fetch_add(1, Ordering::Relaxed))
    }

    pub fn task_queue(&self) -> Option<TaskQueue> {
        Some(TaskQueue { name: self.queue.clone(), ..Default::default() })
    }

    /// Starts the workflow `main`.
    pub async fn start(&self) -> Run {
        self.start_with(|_| {}).await
    }

    pub fn start_request(&self) -> api::StartWorkflowExecutionRequest {
        let id = self.name();
        api::StartWorkflowExecutionRequest {
            namespace: "default".into(),
            request_id: id.clone(),
            workflow_id: id,
            workflow_type: Some(WorkflowType { name: "main".into() }),
            task_queue: self.task_queue(),
            ..Default::default()
        }
    }

    pub async fn start_with(&self, change: impl FnOnce(&mut api::StartWorkflowExecutionRequest)) -> Run {
        let mut request = self.start_request();
        change(&mut request);
        let started: api::StartWorkflowExecutionResponse =
            self.call(path::START_WORKFLOW_EXECUTION, &request).await.unwrap();
        Run { id: request.workflow_id, run_id: started.run_id }
    }

    /// How the run ended, in words.
    pub async fn end(&self, run: &Run) -> String {
        self.events(run, true, |_| true).await;
        // Asked for the end alone, the server shows a run that is tried again as if it continued as new.
        end(self.history(run).await.events.last().unwrap())
    }

    /// The same, where calls may fail because the server is away.
    pub async fn end_despite_outage(&self, run: &Run) -> String {
        let request = api::GetWorkflowExecutionHistoryRequest {
            namespace: "default".into(),
            execution: execution(run),
            wait_new_event: true,
            history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
            ..Default::default()
        };
        loop {
            let page: Result<api::GetWorkflowExecutionHistoryResponse, Error> = self
                .client
                .call(path::GET_WORKFLOW_EXECUTION_HISTORY, &request, CallOptions::long_poll())
                .await;
            let events = page.ok().and_then(|page| page.history).unwrap_or_default().events;
            if let Some(closed) = events.last() {
                return end(closed);
            }
        }
    }

    /// The events of a run, long-polled for until they satisfy; only the closing one if asked.
    async fn events(
        &self,
        run: &Run,
        close: bool,
        enough: impl Fn(&[HistoryEvent]) -> bool,
    ) -> Vec<HistoryEvent> {
        let filter =
            if close { HistoryEventFilterType::CloseEvent } else { HistoryEventFilterType::AllEvent };
        let mut request = api::GetWorkflowExecutionHistoryRequest {
            namespace: "default".into(),
            execution: execution(run),
            wait_new_event: true,
            history_event_filter_type: filter.into(),
            ..Default::default()
        };
        let mut events = Vec::new();
        loop {
            let page: api::GetWorkflowExecutionHistoryResponse = self
                .client
                .call(path::GET_WORKFLOW_EXECUTION_HISTORY, &request, CallOptions::long_poll())
                .await
                .unwrap();
            events.extend(page.history.unwrap_or_default().events);
            if !events.is_empty() && enough(&events) {
                return events;
            }
            let over = page.next_page_token.is_empty();
            assert!(!over, "the run is over without what was waited for: {:?}", events.last());
            request.next_page_token = page.next_page_token;
        }
    }

    /// Waits until the history has this many events of a type.
    pub async fn until(&self, run: &Run, kind: EventType, count: usize) {
        self.events(run, false, |events| events.iter().filter(|it| it.event_type() == kind).count() >= count)
            .await;
    }

    /// All events of the run so far, all pages.
    pub async fn history(&self, run: &Run) -> History {
        let mut request = api::GetWorkflowExecutionHistoryRequest {
            namespace: "default".into(),
            execution: execution(run),
            ..Default::default()
        };
        let mut history = History::default();
        loop {
            let page: api::GetWorkflowExecutionHistoryResponse =
                self.call(path::GET_WORKFLOW_EXECUTION_HISTORY, &request).await.unwrap();
            history.events.extend(page.history.unwrap_or_default().events);
            if page.next_page_token.is_empty() {
                return history;
            }
            request.next_page_token = page.next_page_token;
        }
    }

    pub async fn count(&self, run: &Run, kind: EventType) -> usize {
        self.history(run).await.events.iter().filter(|event| event.event_type() == kind).count()
    }

    pub async fn signal(&self, run: &Run, name: &str, text: &str) {
        let request = api::SignalWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_execution: execution(run),
            signal_name: name.into(),
            input: payloads(text),
            ..Default::default()
        };
        let _: api::SignalWorkflowExecutionResponse =
            self.call(path::SIGNAL_WORKFLOW_EXECUTION, &request).await.unwrap();
    }

    pub async fn cancel(&self, run: &Run, reason: &str) {
        let request = api::RequestCancelWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_execution: execution(run),
            reason: reason.into(),
            ..Default::default()
        };
        let _: api::RequestCancelWorkflowExecutionResponse =
            self.call(path::REQUEST_CANCEL_WORKFLOW_EXECUTION, &request).await.unwrap();
    }

    pub async fn terminate(&self, run: &Run) {
        let request = api::TerminateWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_execution: execution(run),
            ..Default::default()
        };
        let _: api::TerminateWorkflowExecutionResponse =
            self.call(path::TERMINATE_WORKFLOW_EXECUTION, &request).await.unwrap();
    }

    /// Ends a run that nobody needs any more; it may have ended already.
    pub async fn terminate_if_open(&self, run: &Run) {
        let request = api::TerminateWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_execution: execution(run),
            ..Default::default()
        };
        let _: Result<api::TerminateWorkflowExecutionResponse, Error> =
            self.call(path::TERMINATE_WORKFLOW_EXECUTION, &request).await;
    }

    pub async fn query(&self, run: &Run, name: &str) -> Result<String, String> {
        let request = api::QueryWorkflowRequest {
            namespace: "default".into(),
            execution: execution(run),
            query: Some(WorkflowQuery { query_type: name.into(), ..Default::default() }),
            ..Default::default()
        };
        let answer: Result<api::QueryWorkflowResponse, Error> =
            self.call(path::QUERY_WORKFLOW, &request).await;
        answer.map(|answer| texts(&answer.query_result.unwrap().payloads)).map_err(|error| error.message)
    }

    /// Sends an update and waits until it is completed or rejected.
    pub async fn update(&self, run: &Run, name: &str, text: &str) -> Result<String, String> {
        let outcome = self.update_until(run, name, text, Stage::Completed).await.outcome.unwrap();
        match outcome.value.unwrap() {
            outcome::Value::Success(it) => Ok(texts(&it.payloads)),
            outcome::Value::Failure(failure) => Err(cause(&failure)),
        }
    }

    pub fn update_request(
        &self,
        run: &Run,
        name: &str,
        text: &str,
        stage: Stage,
    ) -> api::UpdateWorkflowExecutionRequest {
        let meta = update::Meta { update_id: self.name(), ..Default::default() };
        let input = update::Input { name: name.into(), args: payloads(text), ..Default::default() };
        api::UpdateWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_execution: execution(run),
            wait_policy: Some(update::WaitPolicy { lifecycle_stage: stage.into() }),
            request: Some(update::Request { meta: Some(meta), input: Some(input), ..Default::default() }),
            ..Default::default()
        }
    }

    /// Sends an update and waits until it is as far.
    pub async fn update_until(
        &self,
        run: &Run,
        name: &str,
        text: &str,
        stage: Stage,
    ) -> api::UpdateWorkflowExecutionResponse {
        let request = self.update_request(run, name, text, stage);
        loop {
            let answer: api::UpdateWorkflowExecutionResponse = self
                .client
                .call(path::UPDATE_WORKFLOW_EXECUTION, &request, CallOptions::long_poll())
                .await
                .unwrap();
            if answer.stage() >= stage {
                return answer;
            }
        }
    }

    /// Waits until so many activities have begun to wait since the last time.
    pub async fn arrived(&self, count: u32) {
        self.meeting.arrived.acquire_many(count).await.unwrap().forget();
    }

    /// Lets so many activities go on.
    pub fn open(&self, count: usize) {
        self.meeting.gate.add_permits(count);
    }
}

pub fn execution(run: &Run) -> Option<WorkflowExecution> {
    Some(WorkflowExecution { workflow_id: run.id.clone(), run_id: run.run_id.clone() })
}

/// The closing event in words.
#[expect(clippy::wildcard_enum_match_arm, reason = "sixty kinds of events, of which six close a run")]
fn end(event: &HistoryEvent) -> String {
    match event.attributes.as_ref().unwrap() {
        Attributes::WorkflowExecutionCompletedEventAttributes(it) => {
            texts(&it.result.clone().unwrap_or_default().payloads)
        }
        Attributes::WorkflowExecutionFailedEventAttributes(it) => {
            format!("failed: {}", cause(it.failure.as_ref().unwrap()))
        }
        Attributes::WorkflowExecutionCanceledEventAttributes(_) => "cancelled".into(),
        Attributes::WorkflowExecutionTerminatedEventAttributes(_) => "terminated".into(),
        Attributes::WorkflowExecutionTimedOutEventAttributes(_) => "timed out".into(),
        Attributes::WorkflowExecutionContinuedAsNewEventAttributes(it) => {
            format!("continued as {}", it.new_execution_run_id)
        }
        other => panic!("{other:?} closes no workflow"),
    }
}

/// Replays a history with the same code; what it was shown of the tasks that were completed. What is left after them,
/// in a run that is open or was closed from outside, was shown in another way or not at all.
async fn replay(scripts: Scripts, run: &Run, history: &History) -> Vec<WorkflowActivation> {
    let replayer = Replayer::new(ReplayConfig { lanes: Some(1), ..Default::default() });
    let journal = Arc::new(Journal::default());
    let language = tokio::spawn(speak(Giver::Replayer(replayer.clone()), scripts, journal.clone(), 0));
    let replay = replayer.replay(&run.id, history.encode_to_vec().into());
    assert_eq!(replay.result().await, Ok(()), "{run:?}");
    replayer.shutdown();
    language.await.unwrap();
    assert_eq!(journal.problems(), Vec::<String>::new());
    let of = |seen: Seen| seen.activations.into_iter().take(seen.replayed);
    let mut shown: Vec<_> = journal.runs().into_values().flat_map(of).collect();
    for activation in &mut shown {
        // History names the run that it began as, which a reset does not change.
        activation.run_id.clone_from(&run.run_id);
    }
    shown
}

/// Replay equals live. Only a task that never ended may have been seen and be forgotten: its run was closed from outside.
fn compare<T: PartialEq + std::fmt::Debug>(run: &Run, history: &History, live: &[T], replayed: &[T]) {
    let last = history.events.last().map(|event| event.event_type());
    let from_outside =
        matches!(last, Some(EventType::WorkflowExecutionTerminated | EventType::WorkflowExecutionTimedOut));
    for (at, (live, replayed)) in live.iter().zip(replayed).enumerate() {
        assert!(
            live == replayed,
            "{run:?}, activation {at} was\n{live:#?}\nbut is replayed as\n{replayed:#?}"
        );
    }
    let same = live.len() == replayed.len() || (from_outside && live.len() > replayed.len());
    let rest = (live.get(replayed.len()..), replayed.get(live.len()..));
    assert!(same, "{run:?}: {} activations were seen, {} replayed: {rest:#?}", live.len(), replayed.len());
}
