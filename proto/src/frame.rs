//! A reader of encoded bytes for prost: as cheap to advance as a plain slice, and still handing out `bytes` fields as slices
//! of the frame they came in. (Prost over [`Bytes`] itself pays a reference-counted buffer's bookkeeping on every varint.)

use bytes::{Buf, Bytes};

/// Reads a frame from its beginning.
///
/// ```
/// use bytes::Bytes;
/// use outlast_proto::{Frame, lens::history::Payloads};
/// use prost::Message;
///
/// let frame = Bytes::from(vec![0x0a, 2, b'h', b'i']);
/// let read = Payloads::decode(Frame::new(&frame)).unwrap();
/// assert_eq!(read.payloads, [Bytes::from("hi")]);
/// assert_eq!(read.payloads[0].as_ptr(), frame[2..].as_ptr(), "a slice of the frame, not a copy");
/// ```
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A reader at the beginning of `frame`.
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame }
    }

    /// A reader of a message that lies within `frame`.
    ///
    /// # Panics
    /// On handing out `bytes`, if `message` is not a part of `frame`.
    pub fn within(frame: &'a Bytes, message: &'a [u8]) -> Self {
        Self { frame, rest: message }
    }
}

impl Buf for Frame<'_> {
    #[inline]
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        self.rest
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }

    #[inline]
    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        self.frame.slice_ref(taken)
    }
}
