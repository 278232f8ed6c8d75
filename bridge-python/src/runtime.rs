//! The runtime that Python objects share: the core's threads, and the process they belong to.

use std::process;
use std::sync::Arc;

use outlast_core::Runtime;
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;

use crate::live::{Kind, Live};

/// A runtime, and the process that made it: threads do not follow a fork.
#[derive(Clone, Debug)]
pub struct Shared {
    pub core: Runtime,
    pid: u32,
    _live: Arc<Live>,
}

impl Shared {
    pub fn new(core: Runtime) -> Self {
        Self { core, pid: process::id(), _live: Arc::new(Live::new(Kind::Runtime)) }
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
