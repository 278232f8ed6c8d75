//! Replays recorded histories against the language's workflow code: without a server, on all cores, each on its own.
//!
//! Histories wait in one queue; a lane takes the next, shows it to the language run by run through the same pair of
//! poll and complete that a worker has, and tells how it went.

mod lane;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use outlast_machine::Config;
use outlast_machine::io::{Page, RunId};
use outlast_proto::coresdk::workflow_activation::WorkflowActivation;
use outlast_proto::coresdk::workflow_completion::WorkflowActivationCompletion;
use outlast_proto::lens::history::{HistoryEvent, history_event::Attributes};
use outlast_proto::lens::{history, lang};
use prost::Message;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::handout::Handout;
use crate::{CompleteError, ConfigError, PollError, WorkerConfig};

/// How to replay.
#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// The namespace that workflows are told they run in.
    pub namespace: String,
    /// The task queue that they are told.
    pub task_queue: String,
    /// How many histories are replayed at a time. `None`: one for each CPU.
    pub lanes: Option<usize>,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self { namespace: "default".into(), task_queue: "replay".into(), lanes: None }
    }
}

/// How one replay went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The code asks for something else than history says. The text shows where and how.
    #[error("{0}")]
    Nondeterminism(String),
    /// The language failed an activation.
    #[error("the workflow code failed: {0}")]
    Language(String),
    /// It is no history of a workflow, or cannot be read.
    #[error("not a history that can be replayed: {0}")]
    History(String),
    /// The replayer ended first.
    #[error("the replayer was shut down")]
    ShutDown,
}

/// The rest of a history that is read in pieces. Each page is an encoded `temporal.api.history.v1.History`.
pub type Pages = mpsc::Receiver<Bytes>;

/// A result that comes when the history has been replayed. Dropping it does not stop the replay.
#[derive(Debug)]
pub struct Replay(oneshot::Receiver<Result<(), ReplayError>>);

impl Replay {
    /// Waits for it.
    pub async fn result(self) -> Result<(), ReplayError> {
        self.0.await.unwrap_or(Err(ReplayError::ShutDown))
    }
}

/// Replays histories. Clones are the same replayer.
///
/// ```
/// use outlast_worker::{PollError, ReplayConfig, ReplayError, Replayer};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let replayer = Replayer::new(ReplayConfig::default());
/// let replay = replayer.replay("order-7", bytes::Bytes::from_static(b"not a history"));
/// assert!(matches!(replay.result().await, Err(ReplayError::History(_))));
/// replayer.shutdown();
/// assert_eq!(replayer.poll_workflow_activation().await.unwrap_err(), PollError::ShutDown);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Replayer {
    shared: Arc<Shared>,
    _lanes: Arc<Lanes>,
}

#[derive(Debug)]
struct Lanes(Vec<AbortHandle>);

impl Drop for Lanes {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// What the lanes and the caller share.
#[derive(Debug)]
struct Shared {
    work: Mutex<Work>,
    /// Something to take, or the end.
    changed: Notify,
    activations: Handout<lang::WorkflowActivation>,
    lanes: usize,
    /// Also of histories that show nothing, the language hears the end: as an eviction.
    tells_every_end: bool,
}

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<Item>,
    /// Which lane replays which run.
    active: HashMap<RunId, mpsc::UnboundedSender<lang::WorkflowActivationCompletion>>,
    closed: bool,
}

/// One history that waits.
#[derive(Debug)]
struct Item {
    run: RunId,
    workflow_id: String,
    workflow_type: Bytes,
    first: Page,
    rest: Option<Pages>,
    /// Why it cannot be replayed, where that is seen without replaying it.
    damage: Option<String>,
    tell: oneshot::Sender<Result<(), ReplayError>>,
}

impl Replayer {
    /// A replayer with its lanes. Must be called within a tokio runtime.
    pub fn new(config: ReplayConfig) -> Self {
        let machine = Config {
            namespace: Bytes::from(config.namespace),
            task_queue: Bytes::from(config.task_queue),
            ..Config::default()
        };
        Self::start(config.lanes, machine, false)
    }

    /// A replayer that shows histories as a worker with this configuration would: its version, what nondeterminism
    /// does. Nothing else of it matters here. The language hears the end of every history by an eviction, also of one
    /// that is damaged before it shows anything.
    pub fn like_worker(config: &WorkerConfig, lanes: Option<usize>) -> Result<Self, ConfigError> {
        config.check()?;
        Ok(Self::start(lanes, crate::worker::machine_config(config, true, 1), true))
    }

    fn start(lanes: Option<usize>, machine: Config, tells_every_end: bool) -> Self {
        let lanes = lanes.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let machine = Config { cache_runs: 1, cache_bytes: usize::MAX, ..machine };
        let shared = Arc::new(Shared {
            work: Mutex::default(),
            changed: Notify::new(),
            activations: Handout::new(),
            lanes: lanes.max(1),
            tells_every_end,
        });
        let lanes = (0..lanes.max(1))
            .map(|_| tokio::spawn(lane::run(shared.clone(), machine.clone())).abort_handle())
            .collect();
        Self { shared, _lanes: Arc::new(Lanes(lanes)) }
    }

    /// Replays a whole history: an encoded `temporal.api.history.v1.History`.
    pub fn replay(&self, workflow_id: &str, history: Bytes) -> Replay {
        self.add(workflow_id, history, None)
    }

    /// Replays a history that comes page by page; the channel ends after the last.
    pub fn replay_pages(&self, workflow_id: &str, first: Bytes, rest: Pages) -> Replay {
        self.add(workflow_id, first, Some(rest))
    }

    /// Replays a history in the JSON that `temporal workflow show --output json` prints.
    #[cfg(feature = "json")]
    pub fn replay_json(&self, workflow_id: &str, history: &str) -> Replay {
        match outlast_proto::json::history_from_json(history) {
            Ok(history) => self.replay(workflow_id, history),
            Err(error) => told(Err(ReplayError::History(error.to_string()))),
        }
    }

    fn add(&self, workflow_id: &str, first: Bytes, rest: Option<Pages>) -> Replay {
        let opened = history::History::decode(first.clone()).map_err(|e| e.to_string());
        let opened = opened.and_then(|history| Ok((beginning(&history.events)?, history.events)));
        let ((run, workflow_type), events) = match opened {
            Ok(known) => known,
            Err(problem) => return told(Err(ReplayError::History(problem))),
        };
        let damage = if rest.is_none() { damage(&events) } else { None };
        let (tell, told) = oneshot::channel();
        let next_page = if rest.is_some() { MORE } else { Bytes::new() };
        let first = Page { history: first, next_page };
        let item =
            Item { run, workflow_id: workflow_id.to_owned(), workflow_type, first, rest, damage, tell };
        let mut work = self.shared.lock();
        if !work.closed {
            work.waiting.push_back(item);
        }
        drop(work);
        self.shared.changed.notify_one();
        Replay(told)
    }

    /// The next activation, encoded: a `coresdk.workflow_activation.WorkflowActivation`.
    pub async fn poll_workflow_activation_bytes(&self) -> Result<Bytes, PollError> {
        Ok(self.shared.activations.next().await?.encode_to_vec().into())
    }

    /// The next activation, with every field. It must be answered.
    pub async fn poll_workflow_activation(&self) -> Result<WorkflowActivation, PollError> {
        let encoded = self.poll_workflow_activation_bytes().await?;
        WorkflowActivation::decode(encoded)
            .map_err(|e| PollError::Fatal(format!("an activation is damaged: {e}")))
    }

    /// Takes the answer to an activation: an encoded `coresdk.workflow_completion.WorkflowActivationCompletion`.
    pub fn complete_workflow_activation_bytes(&self, completion: Bytes) -> Result<(), CompleteError> {
        let completion = crate::worker::read_completion(completion)?;
        let run = RunId::from(completion.run_id.clone());
        let work = self.shared.lock();
        let lane = work.active.get(&run).ok_or(CompleteError::Ended)?;
        lane.send(completion).map_err(|_| CompleteError::Ended)
    }

    /// The same, with every field.
    pub fn complete_workflow_activation(
        &self,
        completion: WorkflowActivationCompletion,
    ) -> Result<(), CompleteError> {
        self.complete_workflow_activation_bytes(completion.encode_to_vec().into())
    }

    /// No history is taken any more. When those that were taken are done, polls say [`PollError::ShutDown`].
    pub fn close(&self) {
        self.shared.change(|work| work.closed = true);
    }

    /// No history is begun any more; those that wait end with [`ReplayError::ShutDown`]. When the ones that were begun
    /// are done, polls say [`PollError::ShutDown`].
    pub fn shutdown(&self) {
        self.shared.change(|work| {
            work.closed = true;
            work.waiting.clear();
        });
    }

    /// How many histories are replayed at a time.
    pub fn lanes(&self) -> usize {
        self.shared.lanes
    }
}

/// What the machine is given as the token of pages that we have ourselves.
const MORE: Bytes = Bytes::from_static(b"more");

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a history whose run is not being replayed already.
    async fn take(&self, inbox: &mpsc::UnboundedSender<lang::WorkflowActivationCompletion>) -> Item {
        loop {
            if let Some(item) = self.lock().take(inbox) {
                // One notification wakes one lane; whoever was served wakes the next.
                self.changed.notify_one();
                return item;
            }
            self.changed.notified().await;
        }
    }

    fn finished(&self, run: &RunId) {
        self.change(|work| drop(work.active.remove(run)));
        self.changed.notify_one();
    }

    /// Changes what there is to do; when that was the last of it, polls end.
    fn change(&self, how: impl FnOnce(&mut Work)) {
        let mut work = self.lock();
        how(&mut work);
        let over = work.is_over();
        drop(work);
        if over {
            self.activations.close(false);
        }
    }
}

impl Work {
    fn is_over(&self) -> bool {
        self.closed && self.active.is_empty() && self.waiting.is_empty()
    }

    fn take(&mut self, inbox: &mpsc::UnboundedSender<lang::WorkflowActivationCompletion>) -> Option<Item> {
        let at = self.waiting.iter().position(|item| !self.active.contains_key(&item.run))?;
        let item = self.waiting.remove(at)?;
        self.active.insert(item.run.clone(), inbox.clone());
        Some(item)
    }
}

fn told(result: Result<(), ReplayError>) -> Replay {
    let (tell, told) = oneshot::channel();
    // The other end is in our hand.
    let _ = tell.send(result);
    Replay(told)
}

/// What is wrong with a whole history that the machine would not notice: servers send some events twice at the joins of
/// pages, and skip what they do not know, but no recorded history has such events.
fn damage(events: &[Bytes]) -> Option<String> {
    let mut last = 0;
    for event in events {
        let event = HistoryEvent::decode(event.clone()).ok()?;
        if event.event_id <= last {
            return Some(format!(
                "History is out of order. Last processed event: {last}, event id: {}",
                event.event_id
            ));
        }
        if event.event_type == 0 {
            return Some(format!("event {} of the history has no type", event.event_id));
        }
        last = event.event_id;
    }
    None
}

/// The run and the type of a workflow, from its first event.
fn beginning(events: &[Bytes]) -> Result<(RunId, Bytes), String> {
    let first = events.first().ok_or("it has no events")?;
    let first = HistoryEvent::decode(first.clone()).map_err(|e| e.to_string())?;
    match first.attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(started)) => {
            let run = started.original_execution_run_id;
            if run.is_empty() {
                return Err("its first event names no run".into());
            }
            Ok((RunId::from(run), started.workflow_type.unwrap_or_default().name))
        }
        _ => Err("its first event is not the start of a workflow".into()),
    }
}
