//! The jobs of the next activation, in the order the language must see them. It does not know where they come from.

use outlast_proto::lens::lang::WorkflowActivationJob;
use outlast_proto::lens::lang::workflow_activation_job::Variant;

/// Jobs as they arose. Most activations have one or two.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    jobs: Vec<WorkflowActivationJob>,
}

impl Jobs {
    /// Adds a job.
    pub fn push(&mut self, job: Variant) {
        self.jobs.push(WorkflowActivationJob { variant: Some(job) });
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// All jobs, bucket by bucket. Within one they keep the order in which they arose.
    pub fn take(&mut self) -> Vec<WorkflowActivationJob> {
        let mut jobs = std::mem::take(&mut self.jobs);
        jobs.sort_by_key(|job| job.variant.as_ref().map(bucket));
        jobs
    }
}

/// Signals and updates share a bucket: history's order holds between them. Results of local activities come last, since
/// live they can only arrive after everything that was there when the task began.
fn bucket(job: &Variant) -> u8 {
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
