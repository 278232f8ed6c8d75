//! Metadata as Python gives it: of every call, each half replaced as a whole, and of one call.

use std::collections::HashMap;

use outlast_core::{Error, Metadata};
use pyo3::prelude::*;

#[derive(FromPyObject)]
pub enum RpcMetadataValue {
    #[pyo3(transparent, annotation = "str")]
    Str(String),
    #[pyo3(transparent, annotation = "bytes")]
    Bytes(Vec<u8>),
}

/// What the user wants sent with every call.
#[derive(Clone, Default)]
pub struct Headers {
    pub ascii: HashMap<String, String>,
    pub binary: HashMap<String, Vec<u8>>,
}

const BAD_KEY: &str = "invalid gRPC metadata key name";
const BAD_VALUE: &str = "failed to parse metadata value";

/// What is wrong with a pair.
enum Wrong {
    Key,
    Value,
}

impl Headers {
    pub fn split(metadata: HashMap<String, RpcMetadataValue>) -> Self {
        let mut headers = Self::default();
        for (key, value) in metadata {
            match value {
                RpcMetadataValue::Str(text) => drop(headers.ascii.insert(key, text)),
                RpcMetadataValue::Bytes(bytes) => drop(headers.binary.insert(key, bytes)),
            }
        }
        headers
    }

    pub fn metadata(&self) -> Result<Metadata, String> {
        let mut metadata = Metadata::default();
        for (key, value) in &self.ascii {
            set(&mut metadata, &key.to_ascii_lowercase(), value).map_err(|wrong| match wrong {
                Wrong::Key => format!("Invalid ASCII header key '{key}': {BAD_KEY}"),
                Wrong::Value => format!("Invalid ASCII header value for key '{key}': {BAD_VALUE}"),
            })?;
        }
        for (key, value) in &self.binary {
            let set = metadata.set_binary_lenient(&key.to_ascii_lowercase(), value);
            set.map_err(|_| format!("Invalid binary header key '{key}': {BAD_KEY}"))?;
        }
        Ok(metadata)
    }
}

/// The metadata of one call.
pub fn of_call(values: HashMap<String, RpcMetadataValue>) -> Result<Metadata, String> {
    let mut metadata = Metadata::default();
    for (key, value) in values {
        let lower = key.to_ascii_lowercase();
        match (value, lower.ends_with("-bin")) {
            (RpcMetadataValue::Str(text), false) => {
                set(&mut metadata, &lower, &text).map_err(|wrong| match wrong {
                    Wrong::Key => format!("Invalid metadata key: {BAD_KEY}"),
                    Wrong::Value => format!("Invalid metadata value: {BAD_VALUE}"),
                })?;
            }
            (RpcMetadataValue::Bytes(bytes), true) => {
                let set = metadata.set_binary_lenient(&lower, &bytes);
                set.map_err(|_: Error| format!("Invalid metadata key: {BAD_KEY}"))?;
            }
            (RpcMetadataValue::Str(_), true) => {
                return Err(format!("Invalid metadata value for binary key {key}: expected bytes"));
            }
            (RpcMetadataValue::Bytes(_), false) => {
                return Err(format!("Invalid metadata value for ASCII key {key}: expected str"));
            }
        }
    }
    Ok(metadata)
}

fn set(metadata: &mut Metadata, key: &str, value: &str) -> Result<(), Wrong> {
    metadata.set_lenient(key, value).map_err(|_| match metadata.set_lenient(key, "") {
        Ok(()) => Wrong::Value,
        Err(_) => Wrong::Key,
    })
}

/// The API key to send. Without one that a header can carry none is sent, as the package does it; we say so.
pub fn api_key(given: Option<String>) -> Option<String> {
    let key = given.filter(|key| !key.trim().is_empty())?;
    if key.trim().contains(unsendable) {
        tracing::warn!("the API key is not sent: it has control characters, which no header can carry");
        return None;
    }
    Some(key)
}

/// The text, or nothing if no header can carry it.
pub fn sendable(text: String) -> String {
    if text.contains(unsendable) { String::new() } else { text }
}

fn unsendable(c: char) -> bool {
    c.is_ascii_control() && c != '\t'
}
