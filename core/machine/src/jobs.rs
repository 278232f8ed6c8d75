//! The jobs of the next activation, in the order the language must see them. It does not know where they come from.

use outlast_proto::lens::lang::WorkflowActivationJob;
use outlast_proto::lens::lang::workflow_activation_job::Variant;

/// Buckets in the order of delivery. Within one, jobs keep the order in which they arose.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    buckets: [Vec<WorkflowActivationJob>; BUCKETS],
}

const BUCKETS: usize = 6;

impl Jobs {
    /// Adds a job.
    pub fn push(&mut self, job: Variant) {
        self.buckets[bucket(&job)].push(WorkflowActivationJob { variant: Some(job) });
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(Vec::is_empty)
    }

    /// All jobs, in order. A lone bucket is handed over as it is.
    pub fn take(&mut self) -> Vec<WorkflowActivationJob> {
        let mut filled = self.buckets.iter_mut().filter(|b| !b.is_empty());
        let Some(first) = filled.next() else { return Vec::new() };
        let mut jobs = std::mem::take(first);
        for bucket in filled {
            jobs.append(bucket);
        }
        jobs
    }
}

/// Signals and updates share a bucket: history's order holds between them. Results of local activities come last, since
/// live they can only arrive after everything that was there when the task began.
fn bucket(job: &Variant) -> usize {
    match job {
        Variant::InitializeWorkflow(_) => 0,
        Variant::NotifyHasPatch(_) => 1,
        Variant::UpdateRandomSeed(_) => 2,
        Variant::SignalWorkflow(_) | Variant::DoUpdate(_) => 3,
        Variant::ResolveActivity(r) if r.is_local => 5,
        Variant::FireTimer(_)
        | Variant::QueryWorkflow(_)
        | Variant::CancelWorkflow(_)
        | Variant::ResolveActivity(_)
        | Variant::ResolveChildWorkflowExecutionStart(_)
        | Variant::ResolveChildWorkflowExecution(_)
        | Variant::ResolveSignalExternalWorkflow(_)
        | Variant::ResolveRequestCancelExternalWorkflow(_)
        | Variant::ResolveNexusOperationStart(_)
        | Variant::ResolveNexusOperation(_)
        | Variant::RemoveFromCache(_) => 4,
    }
}
