//! The language's side of a worker or a replayer: polls, keeps an instance for each cached run, answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use outlast_core::proto::coresdk::workflow_activation::{
    WorkflowActivation, workflow_activation_job::Variant as Job,
};
use outlast_core::proto::coresdk::workflow_completion::{
    Failure, Success, WorkflowActivationCompletion, workflow_activation_completion::Status,
};
use outlast_core::{CompleteError, PollError, Replayer, Worker};

use crate::flow::{Flow, Instance, Script, Waiting};
use crate::journal::Journal;
use crate::words::failure;
use outlast_core::proto::coresdk::workflow_commands::workflow_command::Variant as Command;

/// Workflows by type.
#[derive(Clone, Default)]
pub struct Scripts(BTreeMap<String, Script>);

impl Scripts {
    /// With one more type.
    pub fn and<F>(mut self, name: &str, script: impl Fn(Flow) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Command> + Send + 'static,
    {
        let script = move |flow| -> Waiting<Command> { Box::pin(script(flow)) };
        self.0.insert(name.to_owned(), Arc::new(script));
        self
    }

    fn of(&self, name: &str) -> Script {
        self.0.get(name).unwrap_or_else(|| panic!("no script for {name}")).clone()
    }
}

/// One type, called "main".
pub fn main<F>(script: impl Fn(Flow) -> F + Send + Sync + 'static) -> Scripts
where
    F: Future<Output = Command> + Send + 'static,
{
    Scripts::default().and("main", script)
}

/// Who gives activations.
#[derive(Clone)]
pub enum Giver {
    Worker(Worker),
    Replayer(Replayer),
}

impl Giver {
    async fn poll(&self) -> Result<WorkflowActivation, PollError> {
        match self {
            Giver::Worker(worker) => worker.poll_workflow_activation().await,
            Giver::Replayer(replayer) => replayer.poll_workflow_activation().await,
        }
    }

    fn complete(&self, completion: WorkflowActivationCompletion) -> Result<(), CompleteError> {
        match self {
            Giver::Worker(worker) => worker.complete_workflow_activation(completion),
            Giver::Replayer(replayer) => replayer.complete_workflow_activation(completion),
        }
    }
}

struct Cached {
    instance: Instance,
    /// How many activations it has seen.
    seen: usize,
}

/// Answers activations until it is over.
pub async fn speak(giver: Giver, scripts: Scripts, journal: Arc<Journal>, versioning_behavior: i32) {
    let mut cache: HashMap<String, Cached> = HashMap::new();
    loop {
        let activation = match giver.poll().await {
            Ok(activation) => activation,
            Err(PollError::ShutDown) => {
                if !cache.is_empty() && matches!(giver, Giver::Worker(_)) {
                    journal.problem(format!("{} runs were never evicted", cache.len()));
                }
                return;
            }
            Err(other) => return journal.problem(format!("a poll failed: {other}")),
        };
        let run_id = activation.run_id.clone();
        let status = answer(&mut cache, &scripts, &journal, &activation, versioning_behavior);
        let completion = WorkflowActivationCompletion { run_id, status: Some(status), ..Default::default() };
        if let Err(error) = giver.complete(completion) {
            journal.problem(format!("a completion was not taken: {error}"));
        }
    }
}

fn answer(
    cache: &mut HashMap<String, Cached>,
    scripts: &Scripts,
    journal: &Journal,
    activation: &WorkflowActivation,
    versioning_behavior: i32,
) -> Status {
    let nothing = Status::Successful(Success::default());
    for job in activation.jobs.iter().filter_map(|job| job.variant.as_ref()) {
        if let Job::InitializeWorkflow(start) = job {
            journal.begin(&activation.run_id, &start.workflow_id);
            let instance = Instance::new(&scripts.of(&start.workflow_type), start.clone());
            cache.insert(activation.run_id.clone(), Cached { instance, seen: 0 });
        }
        if let Job::RemoveFromCache(eviction) = job {
            journal.evicted(eviction.reason().as_str_name(), &eviction.message);
            if activation.jobs.len() != 1 {
                journal.problem(format!("an eviction came with other jobs: {activation:?}"));
            }
            if cache.remove(&activation.run_id).is_none() {
                journal.problem(format!("an unknown run was evicted: {activation:?}"));
            }
            return nothing;
        }
    }
    let Some(cached) = cache.get_mut(&activation.run_id) else {
        journal.problem(format!("an activation of an unknown run: {activation:?}"));
        return nothing;
    };
    match cached.instance.apply(activation) {
        Ok(commands) => {
            journal.note(activation, &commands, &mut cached.seen);
            Status::Successful(Success { commands, versioning_behavior, ..Default::default() })
        }
        Err(message) => {
            Status::Failed(Failure { failure: Some(failure(&message, true)), ..Default::default() })
        }
    }
}
