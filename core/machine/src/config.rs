//! What a shard must know of its worker and server.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use outlast_proto::lens::lang;

/// Settings of a shard. They hold for all its runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many runs may stay in the cache after a task; 0: each leaves at once.
    pub cache_runs: usize,
    /// How many bytes the cached runs may hold, by estimate. The least recently used leave first.
    pub cache_bytes: usize,
    /// The worker's namespace.
    pub namespace: Bytes,
    /// The worker's task queue: where commands go that name none.
    pub task_queue: Bytes,
    /// The worker's deployment version: live activations carry it.
    pub deployment: Option<Arc<lang::WorkerDeploymentVersion>>,
    /// The name of the SDK, as history keeps it.
    pub sdk_name: String,
    /// The version of the SDK.
    pub sdk_version: String,
    /// Whether the server keeps flags in history.
    pub sdk_metadata: bool,
    /// What nondeterminism does.
    pub nondeterminism: Nondeterminism,
    /// `temporal.api.enums.v1.VersioningBehavior` where the language leaves it unspecified.
    pub default_versioning_behavior: i32,
}

/// What is failed when code and history part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nondeterminism {
    /// The task: it is tried again, and goes on once the code is right.
    #[default]
    FailTask,
    /// The workflow.
    FailWorkflow,
    /// The workflow, if its type is one of these; else the task.
    FailWorkflowTypes(BTreeSet<Bytes>),
}

impl Nondeterminism {
    pub(crate) fn fails_workflow(&self, workflow_type: &Bytes) -> bool {
        match self {
            Self::FailTask => false,
            Self::FailWorkflow => true,
            Self::FailWorkflowTypes(types) => types.contains(workflow_type),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_runs: 1000,
            cache_bytes: usize::MAX,
            namespace: Bytes::from_static(b"default"),
            task_queue: Bytes::new(),
            deployment: None,
            sdk_name: "outlast".to_owned(),
            sdk_version: env!("CARGO_PKG_VERSION").to_owned(),
            sdk_metadata: true,
            nondeterminism: Nondeterminism::FailTask,
            default_versioning_behavior: 0,
        }
    }
}
