//! Proto3 JSON of every message, in both directions, by name. It works on descriptors, so it costs no generated code; it
//! knows nothing of what a message means, except where a history begins.
//!
//! What comes in may be written by anybody: both spellings of field names, fields this version does not know, and the enum
//! names of older tools (`TimerFired` for `EVENT_TYPE_TIMER_FIRED`). What goes out is canonical.
//!
//! ```
//! use outlast_proto::json::{self, Names};
//!
//! let timer = json::parse("coresdk.workflow_activation.FireTimer", r#"{"seq": 7}"#)?;
//! assert_eq!(timer.as_ref(), [8, 7]);
//! let back = json::to_json("coresdk.workflow_activation.FireTimer", &timer, Names::Proto)?;
//! assert_eq!(back.to_string(), r#"{"seq":7}"#);
//! # Ok::<(), json::JsonError>(())
//! ```

#![deny(clippy::unwrap_used, clippy::wildcard_enum_match_arm, clippy::allow_attributes)]

use std::fmt;
use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, ReflectMessage, SerializeOptions, Value as Held,
};
use serde_json::Value;

/// How the fields of a message are spelled in JSON that goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `eventId`: what the `temporal` command prints.
    Json,
    /// `event_id`: as in the `.proto` files.
    Proto,
}

/// Why a message could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonError {
    /// There is no message of this name.
    NoSuchMessage(String),
    /// The bytes are not a message of this type, or hold an `Any` of an unknown type.
    Bytes {
        /// The message's full name.
        message: String,
        /// What the decoder says.
        reason: String,
    },
    /// The text is not JSON, or not JSON of this message.
    Json {
        /// The message's full name.
        message: String,
        /// What the parser says, with its place in the text where it has one.
        reason: String,
    },
    /// An enum has no value of this name, in the new spelling or the old.
    NoSuchValue {
        /// The enum's full name.
        of: String,
        /// The name that was found.
        value: String,
    },
    /// The JSON is neither an object with `events` nor a list of events.
    NotAHistory,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchMessage(name) => write!(f, "there is no message {name}"),
            Self::Bytes { message, reason } => write!(f, "these bytes are no {message}: {reason}"),
            Self::Json { message, reason } => write!(f, "this JSON is no {message}: {reason}"),
            Self::NoSuchValue { of, value } => write!(f, "{of} has no value {value}"),
            Self::NotAHistory => f.write_str("this JSON is no history: it has no list of events"),
        }
    }
}

impl std::error::Error for JsonError {}

/// The JSON of an encoded message. Fields at their default are left out.
///
/// ```
/// use outlast_proto::json::{Names, to_json};
/// let timer = to_json("temporal.api.history.v1.TimerFiredEventAttributes", &[0x0a, 1, b'1', 0x10, 5], Names::Json)?;
/// assert_eq!(timer.to_string(), r#"{"startedEventId":"5","timerId":"1"}"#);
/// # Ok::<(), outlast_proto::json::JsonError>(())
/// ```
pub fn to_json(message: &str, bytes: &[u8], names: Names) -> Result<Value, JsonError> {
    let wrong = |reason: String| JsonError::Bytes { message: message.to_owned(), reason };
    let read = DynamicMessage::decode(descriptor(message)?, bytes).map_err(|e| wrong(e.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(names == Names::Proto);
    read.serialize_with_options(serde_json::value::Serializer, &options).map_err(|e| wrong(e.to_string()))
}

/// The encoded message that a JSON value describes.
///
/// ```
/// let event = serde_json::json!({ "eventId": "1", "event_type": "TimerFired", "from_the_future": true });
/// let bytes = outlast_proto::json::from_json("temporal.api.history.v1.HistoryEvent", event)?;
/// assert_eq!(bytes.as_ref(), [0x08, 1, 0x18, 18]);
/// # Ok::<(), outlast_proto::json::JsonError>(())
/// ```
pub fn from_json(message: &str, mut json: Value) -> Result<Bytes, JsonError> {
    let descriptor = descriptor(message)?;
    modernise(&mut json, &descriptor)?;
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let read = DynamicMessage::deserialize_with_options(descriptor, json, &options)
        .map_err(|e| JsonError::Json { message: message.to_owned(), reason: e.to_string() })?;
    Ok(encode(&read).into())
}

/// [`from_json`] of a text.
pub fn parse(message: &str, json: &str) -> Result<Bytes, JsonError> {
    from_json(message, value(message, json)?)
}

/// The encoded `temporal.api.history.v1.History` of what `temporal workflow show --output json` prints: an object with
/// `events`. A bare list of events, which older tools wrote, is taken too.
pub fn history_from_json(json: &str) -> Result<Bytes, JsonError> {
    const HISTORY: &str = "temporal.api.history.v1.History";
    let history = match value(HISTORY, json)? {
        Value::Array(events) => {
            Value::Object([("events".to_owned(), Value::Array(events))].into_iter().collect())
        }
        Value::Object(fields) if fields.get("events").is_some_and(Value::is_array) => Value::Object(fields),
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(JsonError::NotAHistory);
        }
    };
    from_json(HISTORY, history)
}

/// Encodes with the entries of maps in order of their keys: `DynamicMessage` keeps them in a hash map, and the same JSON
/// must always give the same bytes.
fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut out = Vec::new();
    for (field, value) in message.fields() {
        let mut nested = |m: &DynamicMessage| {
            encode_key(field.number(), WireType::LengthDelimited, &mut out);
            let bytes = encode(m);
            encode_varint(bytes.len() as u64, &mut out);
            out.extend(bytes);
        };
        match (value, field.kind()) {
            (Held::Message(m), _) => nested(m),
            (Held::List(items), Kind::Message(_)) => {
                items.iter().filter_map(Held::as_message).for_each(nested)
            }
            (Held::Map(entries), Kind::Message(entry)) => {
                let mut entries: Vec<(&MapKey, &Held)> = entries.iter().collect();
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                for (key, value) in entries {
                    let mut one = DynamicMessage::new(entry.clone());
                    one.set_field(&entry.map_entry_key_field(), key.clone().into());
                    one.set_field(&entry.map_entry_value_field(), value.clone());
                    nested(&one);
                }
            }
            (scalar, _) => {
                let mut one = DynamicMessage::new(message.descriptor());
                one.set_field(&field, scalar.clone());
                out.extend(one.encode_to_vec());
            }
        }
    }
    out
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!("gen/api/api.bin").as_slice())
        .expect("committed descriptors are sound")
});

fn descriptor(message: &str) -> Result<MessageDescriptor, JsonError> {
    POOL.get_message_by_name(message).ok_or_else(|| JsonError::NoSuchMessage(message.to_owned()))
}

fn value(message: &str, json: &str) -> Result<Value, JsonError> {
    serde_json::from_str(json)
        .map_err(|e| JsonError::Json { message: message.to_owned(), reason: e.to_string() })
}

/// Puts the names of enum values that older tools wrote into the form of today, throughout.
fn modernise(json: &mut Value, message: &MessageDescriptor) -> Result<(), JsonError> {
    let Value::Object(fields) = json else { return Ok(()) };
    let message = if message.full_name() == "google.protobuf.Any" {
        let held = fields.get("@type").and_then(Value::as_str).and_then(|url| url.rsplit('/').next());
        match held.and_then(|name| POOL.get_message_by_name(name)) {
            Some(held) => held,
            None => return Ok(()), // the deserializer says what is wrong with it
        }
    } else {
        message.clone()
    };
    for (name, value) in fields {
        if let Some(field) = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
        {
            modernise_field(value, &field)?;
        }
    }
    Ok(())
}

fn modernise_field(value: &mut Value, field: &FieldDescriptor) -> Result<(), JsonError> {
    let kind = field.kind();
    if let (true, Kind::Message(entry), Value::Object(entries)) = (field.is_map(), &kind, &mut *value) {
        let held = entry.map_entry_value_field();
        return entries.values_mut().try_for_each(|v| modernise_field(v, &held));
    }
    if let Value::Array(items) = value {
        return items.iter_mut().try_for_each(|v| modernise_one(v, &kind));
    }
    modernise_one(value, &kind)
}

fn modernise_one(value: &mut Value, kind: &Kind) -> Result<(), JsonError> {
    if let Kind::Message(message) = kind {
        return modernise(value, message);
    }
    if let (Kind::Enum(of), Value::String(name)) = (kind, value) {
        *name = known_name(of, name)?;
    }
    Ok(())
}

/// The name of today for an enum value: `EventType` and `TimerFired` give `EVENT_TYPE_TIMER_FIRED`.
fn known_name(of: &EnumDescriptor, name: &str) -> Result<String, JsonError> {
    if of.get_value_by_name(name).is_some() {
        return Ok(name.to_owned());
    }
    let today = format!("{}_{}", screaming(of.name()), screaming(name));
    match of.get_value_by_name(&today) {
        Some(_) => Ok(today),
        None => Err(JsonError::NoSuchValue { of: of.full_name().to_owned(), value: name.to_owned() }),
    }
}

/// `TimerFired` as `TIMER_FIRED`.
fn screaming(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for (i, c) in name.char_indices() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}
