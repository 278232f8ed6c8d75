//! Wire types: the Temporal API, the lang protocol, and the lens. Generated from the `.proto` files beside this crate
//! and committed (`tests/generated.rs` writes and checks them). No logic lives here.
//! Decode from a [`Frame`]: it costs least and copies no payload.
//!
//! - [`temporal`], [`coresdk`], [`google`]: every field, for clients, servers and users (feature `api`, on by default).
//! - `json`: every message as proto3 JSON and back, by name (feature `json`).
//! - [`services`]: every RPC by name.
//! - [`lens`]: only the fields a worker reads; everything that is merely carried is a closed [`bytes::Bytes`].
//!
//! ```
//! use outlast_proto::lens::lang;
//! use prost::Message;
//!
//! let job = lang::FireTimer { seq: 7 };
//! assert_eq!(job.encode_to_vec(), [8, 7]);
//! ```

#[cfg(feature = "api")]
include!("gen/api/api.rs");

mod frame;
#[cfg(feature = "json")]
pub mod json;
pub mod services;
pub use frame::Frame;

/// The fields a worker reads, under the numbers they have in the full messages.
pub mod lens {
    mod generated {
        include!("gen/lens/lens.rs");
    }
    pub use generated::outlast::{api, history, lang};
}

/// A message from bytes, for those who pass it on without depending on prost.
pub fn decode<M: prost::Message + Default>(bytes: bytes::Bytes) -> Result<M, prost::DecodeError> {
    M::decode(bytes)
}

/// A message as bytes, for those who pass it on without depending on prost.
pub fn encode(message: &impl prost::Message) -> bytes::Bytes {
    message.encode_to_vec().into()
}

/// Whether these bytes are such a message; the text says what is wrong with them.
pub fn check<M: prost::Message + Default>(bytes: &bytes::Bytes) -> Result<(), String> {
    M::decode(Frame::new(bytes)).map(drop).map_err(|problem| problem.to_string())
}
