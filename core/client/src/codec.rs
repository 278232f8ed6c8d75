//! Bytes in, bytes out. An answer is handed over as the one slice it arrived in, so that the `bytes` fields of a
//! message decoded from it are slices of the network frame, too.

use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Buffers start small: what a poll brings may be kept for long, and a slice keeps its whole buffer.
const BUFFER: usize = 512;
/// tonic flushes a request body at this size; we send one message, so one flush.
const FLUSH: usize = 32 * 1024;

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER, FLUSH)
}

/// The identity codec.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, frame: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.reserve(message.len());
        frame.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, frame: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = frame.remaining();
        Ok(Some(frame.copy_to_bytes(len)))
    }

    fn buffer_settings(&self) -> BufferSettings {
        settings()
    }
}
