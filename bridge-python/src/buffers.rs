//! Messages across the border: bytes of Python's that the core reads in place, and back.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// Below this a copy costs less than to hold on to the Python object, and to let it go on another thread.
const COPIED_MAX: usize = 16 << 10;

/// The same bytes for the core: small ones copied, large ones where Python has them.
pub fn taken(bytes: &Bound<'_, PyBytes>) -> Bytes {
    let slice = bytes.as_bytes();
    if slice.len() <= COPIED_MAX {
        return Bytes::copy_from_slice(slice);
    }
    Bytes::from_owner(PyBackedBytes::from(bytes.clone()))
}
