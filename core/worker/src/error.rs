//! What can go wrong between a worker and its caller, as values.

/// Why a poll gave no task.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PollError {
    /// The worker is shut down and everything is handed out: polling is over.
    #[error("the worker is shut down")]
    ShutDown,
    /// This worker was configured without tasks of this kind.
    #[error("this worker was configured without {0}")]
    NotConfigured(&'static str),
    /// A part of the worker panicked: a bug, whose message is in the logs and on stderr. Make another worker.
    #[error("the worker broke off: a part of it panicked; make another worker, and report this")]
    Broken,
    /// The connection is refused for good: a wrong address of the namespace, no permission.
    #[error("polling failed for good: {0}")]
    Fatal(String),
}

/// Why an answer of the language was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompleteError {
    /// It cannot be decoded.
    #[error("unreadable completion: {0}")]
    Unreadable(String),
    /// It lacks what it must have.
    #[error("{0}")]
    Malformed(String),
    /// This worker was configured without tasks of this kind.
    #[error("this worker was configured without {0}")]
    NotConfigured(&'static str),
    /// The worker has ended: the answer came after the deadline of its shutdown.
    #[error("the worker has ended")]
    Ended,
}

/// A wrong setting: its name, and what would be right.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("worker setting `{field}`: {problem}")]
pub struct ConfigError {
    /// The field of [`WorkerConfig`](crate::WorkerConfig).
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}
