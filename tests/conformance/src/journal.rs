//! What each run was shown, activation by activation, and the comparison with what a replay shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use outlast_core::proto::coresdk::workflow_activation::{
    WorkflowActivation, workflow_activation_job::Variant as Job,
};
use outlast_core::proto::coresdk::workflow_commands::{
    WorkflowCommand, update_response::Response, workflow_command::Variant as Command,
};

/// Runs by id. Replays on the way, after an eviction, are compared at once.
#[derive(Default)]
pub struct Journal(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    runs: BTreeMap<String, Seen>,
    problems: Vec<String>,
    evictions: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Seen {
    pub workflow_id: String,
    pub activations: Vec<WorkflowActivation>,
}

impl Journal {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub fn begin(&self, run_id: &str, workflow_id: &str) {
        self.inner().runs.entry(run_id.to_owned()).or_default().workflow_id = workflow_id.to_owned();
    }

    /// Notes an activation that was answered with these commands; `at` is how many this instance has seen before.
    pub fn note(&self, activation: &WorkflowActivation, commands: &[WorkflowCommand], at: &mut usize) {
        let replaying = activation.is_replaying;
        let Some(kept) = essence(activation, commands) else { return };
        let mut inner = self.inner();
        let seen = inner.runs.entry(activation.run_id.clone()).or_default();
        let before = seen.activations.get(*at).cloned();
        match before {
            Some(before) if replaying && before != kept => {
                let problem =
                    format!("replayed on the way, activation {at} is\n{kept:#?}\nbut was\n{before:#?}");
                inner.problems.push(problem);
            }
            Some(_) if replaying => {}
            // What was answered before here did not count: the task was lost, and whatever followed.
            Some(_) | None => {
                seen.activations.truncate(*at);
                seen.activations.push(kept);
            }
        }
        *at += 1;
    }

    pub fn evicted(&self, reason: &str, message: &str) {
        self.inner().evictions.push(format!("{reason}: {message}"));
    }

    pub fn problem(&self, problem: String) {
        self.inner().problems.push(problem);
    }

    pub fn problems(&self) -> Vec<String> {
        self.inner().problems.clone()
    }

    pub fn evictions(&self) -> Vec<String> {
        self.inner().evictions.clone()
    }

    pub fn runs(&self) -> BTreeMap<String, Seen> {
        self.inner().runs.clone()
    }
}

/// What must be seen again: not queries and evictions, nor whether it is a replay, nor which patches are known early,
/// nor updates that were rejected, for history knows nothing of them. The SDK's version stands in the completion of the
/// task itself: in its replay it is known, as in the reference, when it ran it was not.
fn essence(activation: &WorkflowActivation, commands: &[WorkflowCommand]) -> Option<WorkflowActivation> {
    let rejected: BTreeSet<&str> = commands
        .iter()
        .filter_map(|command| match &command.variant {
            Some(Command::UpdateResponse(it)) if matches!(it.response, Some(Response::Rejected(_))) => {
                Some(it.protocol_instance_id.as_str())
            }
            _ => None,
        })
        .collect();
    let mut kept = activation.clone();
    kept.is_replaying = false;
    kept.last_sdk_version.clear();
    kept.jobs.retain(|job| match job.variant.as_ref().unwrap() {
        Job::QueryWorkflow(_) | Job::RemoveFromCache(_) | Job::NotifyHasPatch(_) => false,
        Job::DoUpdate(it) => !rejected.contains(it.protocol_instance_id.as_str()),
        Job::InitializeWorkflow(_)
        | Job::FireTimer(_)
        | Job::UpdateRandomSeed(_)
        | Job::CancelWorkflow(_)
        | Job::SignalWorkflow(_)
        | Job::ResolveActivity(_)
        | Job::ResolveChildWorkflowExecutionStart(_)
        | Job::ResolveChildWorkflowExecution(_)
        | Job::ResolveSignalExternalWorkflow(_)
        | Job::ResolveRequestCancelExternalWorkflow(_)
        | Job::ResolveNexusOperationStart(_)
        | Job::ResolveNexusOperation(_) => true,
    });
    for job in &mut kept.jobs {
        if let Some(Job::DoUpdate(update)) = &mut job.variant {
            // A validator runs once.
            update.run_validator = false;
        }
    }
    (!kept.jobs.is_empty()).then_some(kept)
}
