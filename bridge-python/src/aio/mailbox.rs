//! The mailbox of one event loop: futures that wait, and outcomes on their way to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use pyo3::PyTraverseError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use tokio::task::AbortHandle;

use super::Outcome;
use super::signal::Signal;
use crate::error::Failure;
use crate::live::{Kind, Live};

type Ticket = u64;

/// One loop's futures. Native threads only touch `letters` and `signal`; the rest belongs to the loop's thread.
pub struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    waiting: Mutex<HashMap<Ticket, Waiting>>,
    signal: OnceLock<Signal>,
    /// Taken when the loop is closed.
    create_future: Mutex<Option<Py<PyAny>>>,
    next: AtomicU64,
    _live: Live,
}

/// What comes to the loop.
enum Letter {
    Outcome(Ticket, Outcome),
    /// There will be no outcome: the runtime is gone, and with it everybody who could have asked.
    Forget(Ticket),
    Run(Box<dyn FnOnce(Python<'_>) + Send>),
}

struct Waiting {
    future: Py<PyAny>,
    /// The future's done-callback, by which a cancellation is heard of.
    on_done: Option<Py<OnDone>>,
    task: Option<AbortHandle>,
    _live: Live,
}

impl Mailbox {
    fn waiting(&self) -> MutexGuard<'_, HashMap<Ticket, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn letters(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new future of this loop that waits.
    pub fn open<'py>(&self, py: Python<'py>) -> PyResult<(Ticket, Bound<'py, PyAny>)> {
        let future = self.future(py)?;
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting {
            future: future.clone().unbind(),
            on_done: None,
            task: None,
            _live: Live::new(Kind::Future),
        };
        self.waiting().insert(ticket, waiting);
        Ok((ticket, future))
    }

    fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let create = self.create_future.lock().unwrap_or_else(PoisonError::into_inner);
        let create = create.as_ref().map(|create| create.clone_ref(py));
        create.ok_or_else(|| Failure::Runtime("the event loop is closed".into()))?.into_bound(py).call0()
    }

    /// A new future of this loop with its outcome.
    pub fn ready<'py>(&self, py: Python<'py>, outcome: Outcome) -> PyResult<Bound<'py, PyAny>> {
        let future = self.future(py)?;
        resolve(&future, outcome.into_object(py))?;
        Ok(future)
    }

    /// The work that a future waits for: aborted when the future is cancelled.
    pub fn attach_task(self: &Arc<Self>, py: Python<'_>, ticket: Ticket, task: AbortHandle) -> PyResult<()> {
        let on_done = Py::new(py, OnDone { mailbox: Arc::downgrade(self), ticket })?;
        let future = match self.waiting().get_mut(&ticket) {
            Some(waiting) => {
                waiting.task = Some(task);
                waiting.on_done = Some(on_done.clone_ref(py));
                waiting.future.clone_ref(py)
            }
            None => return Ok(()),
        };
        future.bind(py).call_method1(intern!(py, "add_done_callback"), (on_done,))?;
        Ok(())
    }

    /// Has `f` run on the loop, if it is still there. From any thread.
    pub fn run_soon(&self, f: impl FnOnce(Python<'_>) + Send + 'static) {
        self.post(Letter::Run(Box::new(f)));
    }

    fn post(&self, letter: Letter) {
        let mut letters = self.letters();
        letters.push(letter);
        let first = letters.len() == 1;
        drop(letters);
        if let (true, Some(signal)) = (first, self.signal.get()) {
            signal.wake();
        }
    }

    /// On the loop: resolves every future whose outcome has come.
    fn deliver(&self, py: Python<'_>) {
        if let Some(signal) = self.signal.get() {
            signal.clear();
        }
        let letters = std::mem::take(&mut *self.letters());
        for letter in letters {
            let (ticket, outcome) = match letter {
                Letter::Outcome(ticket, outcome) => (ticket, outcome),
                Letter::Forget(ticket) => {
                    // Let go of outside of the lock: what Python runs then may need it.
                    let gone = self.waiting().remove(&ticket);
                    drop(gone);
                    continue;
                }
                Letter::Run(f) => {
                    f(py);
                    continue;
                }
            };
            let Some(waiting) = self.waiting().remove(&ticket) else { continue };
            if let Err(error) = waiting.end(py, outcome) {
                error.write_unraisable(py, Some(waiting.future.bind(py)));
            }
        }
    }

    /// Nobody will ask any more: the work is aborted, the futures let go.
    fn abandon(&self) {
        let waiting = std::mem::take(&mut *self.waiting());
        for task in waiting.values().filter_map(|waiting| waiting.task.as_ref()) {
            task.abort();
        }
        drop(waiting);
        self.letters().clear();
        drop(self.create_future.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Waiting {
    /// Resolves the future, unless it was cancelled and its callback has not been called yet.
    #[expect(deprecated, reason = "what replaces `get_refcnt` is unsafe code, which the workspace forbids")]
    fn end(&self, py: Python<'_>, outcome: Outcome) -> PyResult<()> {
        // Ours is the only reference: nobody will ever look, and asyncio would complain of an exception that nobody did.
        if self.future.get_refcnt(py) == 1 {
            return Ok(());
        }
        let future = self.future.bind(py);
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        if let Some(on_done) = &self.on_done {
            // Scheduled with the result it would cost another turn of the loop.
            future.call_method1(intern!(py, "remove_done_callback"), (on_done,))?;
        }
        resolve(future, outcome.into_object(py))
    }
}

fn resolve(future: &Bound<'_, PyAny>, result: PyResult<Py<PyAny>>) -> PyResult<()> {
    let py = future.py();
    match result {
        Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
        Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
    };
    Ok(())
}

/// Posts exactly one letter: with the outcome that is sent, or that there is none.
pub struct Reply(Option<(Arc<Mailbox>, Ticket)>);

impl Reply {
    pub fn new(mailbox: Arc<Mailbox>, ticket: Ticket) -> Self {
        Self(Some((mailbox, ticket)))
    }

    pub fn send(mut self, outcome: Outcome) {
        if let Some((mailbox, ticket)) = self.0.take() {
            mailbox.post(Letter::Outcome(ticket, outcome));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let Some((mailbox, ticket)) = self.0.take() else { return };
        let panicked = || Failure::Panic("native code panicked; its message is on stderr".into());
        mailbox.post(match std::thread::panicking() {
            true => Letter::Outcome(ticket, Outcome::Failed(panicked())),
            false => Letter::Forget(ticket),
        });
    }
}

/// A future's done-callback: hears of its cancellation.
#[pyclass(frozen, module = "outlast._native")]
struct OnDone {
    mailbox: Weak<Mailbox>,
    ticket: Ticket,
}

#[pymethods]
impl OnDone {
    fn __call__(&self, _future: &Bound<'_, PyAny>) {
        let Some(mailbox) = self.mailbox.upgrade() else { return };
        let waiting = mailbox.waiting().remove(&self.ticket);
        if let Some(task) = waiting.and_then(|waiting| waiting.task) {
            task.abort();
        }
    }
}

/// What the loop calls when it was woken, and how it owns its mailbox.
#[pyclass(frozen, module = "outlast._native")]
struct Deliver(Arc<Mailbox>);

#[pymethods]
impl Deliver {
    fn __call__(&self, py: Python<'_>) {
        self.0.deliver(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Held by another thread at this moment: the collector will be back.
        let (Ok(create), Ok(waiting)) = (self.0.create_future.try_lock(), self.0.waiting.try_lock()) else {
            return Ok(());
        };
        visit.call(&*create)?;
        for waiting in waiting.values() {
            visit.call(&waiting.future)?;
            visit.call(&waiting.on_done)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.0.abandon();
    }
}

impl Drop for Deliver {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Mailboxes by the address of their loop; the weak reference tells whether it is still that loop.
static MAILBOXES: Mutex<Option<HashMap<usize, Known>>> = Mutex::new(None);

type Known = (Py<PyWeakrefReference>, Weak<Mailbox>);

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0()
}

/// The mailbox of the loop that runs on this thread.
pub fn of_running_loop(py: Python<'_>) -> PyResult<Arc<Mailbox>> {
    let event_loop = running_loop(py)?;
    if let Some(mailbox) = known(&event_loop) {
        return Ok(mailbox);
    }
    let mailbox = make(&event_loop)?;
    let reference = PyWeakrefReference::new(&event_loop)?.unbind();
    let mut mailboxes = MAILBOXES.lock().unwrap_or_else(PoisonError::into_inner);
    let mailboxes = mailboxes.get_or_insert_default();
    mailboxes.retain(|_, (_, mailbox)| mailbox.strong_count() > 0);
    mailboxes.insert(event_loop.as_ptr() as usize, (reference, Arc::downgrade(&mailbox)));
    Ok(mailbox)
}

fn known(event_loop: &Bound<'_, PyAny>) -> Option<Arc<Mailbox>> {
    let mailboxes = MAILBOXES.lock().unwrap_or_else(PoisonError::into_inner);
    let (reference, mailbox) = mailboxes.as_ref()?.get(&(event_loop.as_ptr() as usize))?;
    let same = reference.bind(event_loop.py()).upgrade().is_some_and(|known| known.is(event_loop));
    if same { mailbox.upgrade() } else { None }
}

fn make(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Mailbox>> {
    let py = event_loop.py();
    let mailbox = Arc::new(Mailbox {
        letters: Mutex::default(),
        waiting: Mutex::default(),
        signal: OnceLock::new(),
        create_future: Mutex::new(Some(event_loop.getattr("create_future")?.unbind())),
        next: AtomicU64::new(0),
        _live: Live::new(Kind::Loop),
    });
    let deliver = Bound::new(py, Deliver(mailbox.clone()))?;
    let signal = Signal::new(event_loop, deliver.as_any())?;
    // It was empty: this is the only place that fills it.
    let _ = mailbox.signal.set(signal);
    Ok(mailbox)
}
