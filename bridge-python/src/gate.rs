//! The one way for native threads to reach Python: through a gate that closes before the interpreter ends.
//!
//! A thread that asks for the interpreter while it is being torn down is killed by it, in the middle of our frames. So an
//! exit handler, which runs before that, closes the gate and waits for those inside.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyCFunction;

struct Gate {
    inside: usize,
    closed: bool,
}

static GATE: Mutex<Gate> = Mutex::new(Gate { inside: 0, closed: false });
static LEFT: Condvar = Condvar::new();

/// A callback that blocks for longer loses its right to finish.
const PATIENCE: Duration = Duration::from_secs(5);

fn gate() -> MutexGuard<'static, Gate> {
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Inside;

impl Inside {
    fn enter() -> Option<Self> {
        let mut gate = gate();
        if gate.closed {
            return None;
        }
        gate.inside += 1;
        Some(Self)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        gate().inside -= 1;
        LEFT.notify_all();
    }
}

/// Runs `f` with the interpreter attached to this native thread; `None` when the interpreter is about to end. Other tasks
/// of the runtime go on meanwhile, on another thread.
pub fn attach<R>(f: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let _inside = Inside::enter()?;
    tokio::task::block_in_place(|| Python::try_attach(f))
}

fn close() {
    let mut gate = gate();
    gate.closed = true;
    let until = Instant::now() + PATIENCE;
    while gate.inside > 0 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        gate = LEFT.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Registers the exit handler. In a forked child the count of those inside is of threads that do not exist there.
pub fn close_at_exit(py: Python<'_>) -> PyResult<()> {
    let at_exit = PyCFunction::new_closure(py, None, None, |args, _| args.py().detach(close))?;
    py.import("atexit")?.call_method1("register", (at_exit,))?;
    let after_fork = PyCFunction::new_closure(py, None, None, |_, _| gate().inside = 0)?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        let options = pyo3::types::PyDict::new(py);
        options.set_item("after_in_child", after_fork)?;
        os.call_method("register_at_fork", (), Some(&options))?;
    }
    Ok(())
}
