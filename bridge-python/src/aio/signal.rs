//! How a native thread wakes an event loop: a byte through a socket pair that the loop watches, so that no native
//! thread waits for the interpreter. Loops that cannot watch sockets are called through `call_soon_threadsafe`.

use pyo3::exceptions::{PyAttributeError, PyNotImplementedError};
use pyo3::prelude::*;

use crate::gate;

/// Wakes one loop.
pub enum Signal {
    #[cfg(unix)]
    Socket { here: std::os::unix::net::UnixStream, there: std::os::unix::net::UnixStream },
    /// `call_soon_threadsafe` of the loop, and what it shall call.
    Call { call_soon: Py<PyAny>, callback: Py<PyAny> },
}

impl Signal {
    /// Has `callback` called on the loop whenever [`Self::wake`] was.
    pub fn new(event_loop: &Bound<'_, PyAny>, callback: &Bound<'_, PyAny>) -> PyResult<Self> {
        #[cfg(unix)]
        {
            use std::os::fd::AsRawFd;
            let (here, there) = std::os::unix::net::UnixStream::pair()?;
            here.set_nonblocking(true)?;
            there.set_nonblocking(true)?;
            match event_loop.call_method1("add_reader", (here.as_raw_fd(), callback)) {
                Ok(_) => return Ok(Self::Socket { here, there }),
                Err(error) => {
                    let py = event_loop.py();
                    let unable = error.is_instance_of::<PyNotImplementedError>(py)
                        || error.is_instance_of::<PyAttributeError>(py);
                    if !unable {
                        return Err(error);
                    }
                }
            }
        }
        let call_soon = event_loop.getattr("call_soon_threadsafe")?.unbind();
        Ok(Self::Call { call_soon, callback: callback.clone().unbind() })
    }

    /// From any thread. What fails here fails because the loop is gone, and then nobody waits.
    pub fn wake(&self) {
        match self {
            #[cfg(unix)]
            Self::Socket { there, .. } => {
                let _ = std::io::Write::write(&mut &*there, &[1]);
            }
            Self::Call { call_soon, callback } => {
                gate::attach(|py| call_soon.call1(py, (callback,)).map(|_| ()));
            }
        }
    }

    /// On the loop, before what came is looked at: a later wake must be seen again.
    pub fn clear(&self) {
        match self {
            #[cfg(unix)]
            Self::Socket { here, .. } => {
                let mut sink = [0_u8; 64];
                while matches!(std::io::Read::read(&mut &*here, &mut sink), Ok(n) if n == sink.len()) {}
            }
            Self::Call { .. } => {}
        }
    }
}
