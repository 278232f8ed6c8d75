//! The runtime that Python objects share: the core's threads, what goes with them, and the process they belong to.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use outlast_core::Runtime;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;

use crate::live::{Kind, Live};

/// Whatever must stay alive as long as a runtime is used, and ends when it is dropped.
pub type Attachment = Arc<dyn Send + Sync>;

/// A runtime, and the process that made it: threads do not follow a fork.
#[derive(Clone)]
pub struct Shared {
    pub core: Runtime,
    /// How often workers tell the server of themselves, if at all.
    pub heartbeat_interval: Option<Duration>,
    /// Whether workers tell the server what they run on.
    pub environment_told: bool,
    _attachments: Vec<Attachment>,
    pid: u32,
    _live: Arc<Live>,
}

impl Shared {
    pub fn new(core: Runtime, attachments: Vec<Attachment>) -> Self {
        Self {
            core,
            heartbeat_interval: None,
            environment_told: true,
            _attachments: attachments,
            pid: process::id(),
            _live: Arc::new(Live::new(Kind::Runtime)),
        }
    }

    /// Runs `f` on this thread; what it logs goes where this runtime's records go.
    pub fn with_logs<R>(&self, f: impl FnOnce() -> R) -> R {
        self.core.within(f)
    }

    /// Refuses to be used in a forked child, where it would wait for ever.
    pub fn assert_same_process(&self, action: &str) -> PyResult<()> {
        let (own, current) = (self.pid, process::id());
        if own == current {
            return Ok(());
        }
        let text =
            format!("Cannot {action} across forks (original runtime PID is {own}, current is {current})");
        Err(PyAssertionError::new_err(text))
    }
}
