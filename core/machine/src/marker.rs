//! The markers that the core writes into history: of patches and of local activities. Their encodings are shared with
//! every other SDK that stands on a Temporal core, so that each can replay the histories of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use outlast_proto::lens::api::{Payloads, RecordMarkerCommandAttributes};
use outlast_proto::lens::history::{MarkerRecordedEventAttributes, Payload};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::event::EventId;
use crate::fault::Fault;
use crate::time::Time;

const PATCH: &str = "core_patch";
const LOCAL_ACTIVITY: &str = "core_local_activity";

/// A marker in history.
#[derive(Debug)]
pub(crate) enum Marker {
    Patch(Patch),
    Local(Box<LocalMarker>),
}

/// A patch marker: the code took the new way here.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Patch {
    pub id: String,
    #[serde(default)]
    pub deprecated: bool,
}

/// A local activity's marker: its result.
#[derive(Debug)]
pub(crate) struct LocalMarker {
    pub data: LocalData,
    /// The first payload of its result.
    pub result: Option<Bytes>,
    /// Why it has none.
    pub failure: Option<Bytes>,
}

impl LocalMarker {
    /// For people: what it records.
    pub fn words(&self) -> String {
        format!(
            "the marker of local activity {:?} of type {:?}",
            self.data.activity_id, self.data.activity_type
        )
    }
}

/// What a local activity's marker says of it, as JSON. Its field names and their order are part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LocalData {
    pub seq: u32,
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub activity_id: String,
    #[serde(default)]
    pub activity_type: String,
    #[serde(default)]
    pub complete_time: Option<Seconds>,
    #[serde(default)]
    pub backoff: Option<Seconds>,
    #[serde(default)]
    pub original_schedule_time: Option<Seconds>,
    #[serde(default)]
    pub activation_index: Option<u64>,
}

/// A timestamp or a duration in a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seconds {
    seconds: i64,
    nanos: i32,
}

impl From<Time> for Seconds {
    fn from(time: Time) -> Self {
        let t = time.timestamp();
        Self { seconds: t.seconds, nanos: t.nanos }
    }
}

impl From<Seconds> for Time {
    fn from(s: Seconds) -> Self {
        prost_types::Timestamp { seconds: s.seconds, nanos: s.nanos }.into()
    }
}

impl From<Duration> for Seconds {
    fn from(d: Duration) -> Self {
        let d = crate::time::wire(d);
        Self { seconds: d.seconds, nanos: d.nanos }
    }
}

/// A wait that is negative is over.
impl From<Seconds> for Duration {
    fn from(s: Seconds) -> Self {
        crate::time::limit(Some(prost_types::Duration { seconds: s.seconds, nanos: s.nanos }))
            .unwrap_or_default()
    }
}

/// Reads a marker. Markers of other makers are a fault: nothing here could have written them.
pub(crate) fn read(event: EventId, e: &MarkerRecordedEventAttributes) -> Result<Marker, Fault> {
    if e.marker_name == PATCH.as_bytes() {
        return Ok(Marker::Patch(json(event, e, "patch-data")?));
    }
    if e.marker_name == LOCAL_ACTIVITY.as_bytes() {
        let data = json(event, e, "data")?;
        let result = crate::failure::first_payload(e.details.get("result").cloned());
        return Ok(Marker::Local(Box::new(LocalMarker { data, result, failure: e.failure.clone() })));
    }
    let name = String::from_utf8_lossy(&e.marker_name).into_owned();
    let recorded = format!("MARKER_RECORDED of an unknown kind, {name:?}");
    Err(Fault::mismatch(event, recorded, None, Vec::new()))
}

fn json<T: for<'de> Deserialize<'de>>(
    event: EventId,
    e: &MarkerRecordedEventAttributes,
    key: &str,
) -> Result<T, Fault> {
    let bad = |why: &str| Fault::malformed(event, &format!("the detail {key:?} of its marker {why}"));
    let payload =
        crate::failure::first_payload(e.details.get(key).cloned()).ok_or_else(|| bad("is missing"))?;
    let payload = Payload::decode(payload).map_err(|e| bad(&e.to_string()))?;
    serde_json::from_slice(&payload.data).map_err(|e| bad(&format!("is not what it should be: {e}")))
}

/// The marker command of a patch.
pub(crate) fn patch(id: &str, deprecated: bool) -> RecordMarkerCommandAttributes {
    let data = Patch { id: id.to_owned(), deprecated };
    RecordMarkerCommandAttributes {
        marker_name: PATCH.to_owned(),
        details: BTreeMap::from([("patch-data".to_owned(), payloads(&data))]),
        failure: None,
    }
}

/// The marker command of a local activity.
pub(crate) fn local(
    data: &LocalData,
    result: Option<Bytes>,
    failure: Option<Bytes>,
    input: Option<Vec<Bytes>>,
) -> RecordMarkerCommandAttributes {
    let mut details = BTreeMap::from([("data".to_owned(), payloads(data))]);
    if let Some(result) = result {
        details.insert("result".to_owned(), Payloads { payloads: vec![result] });
    }
    if let Some(payloads) = input {
        details.insert("input".to_owned(), Payloads { payloads });
    }
    RecordMarkerCommandAttributes { marker_name: LOCAL_ACTIVITY.to_owned(), details, failure }
}

/// A JSON payload, encoded.
pub(crate) fn json_payload(data: Vec<u8>, kind: Option<&'static str>) -> Bytes {
    let mut metadata = BTreeMap::from([("encoding".to_owned(), Bytes::from_static(b"json/plain"))]);
    if let Some(kind) = kind {
        metadata.insert("type".to_owned(), Bytes::from_static(kind.as_bytes()));
    }
    Payload { metadata, data: data.into() }.encode_to_vec().into()
}

fn payloads(data: &impl Serialize) -> Payloads {
    // Plain structs of numbers and strings always have a JSON form.
    let json = serde_json::to_vec(data).unwrap_or_default();
    Payloads { payloads: vec![json_payload(json, None)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_activity_marker_reads_as_the_reference_writes_it() {
        let data = LocalData {
            seq: 1,
            attempt: 0,
            activity_id: "1".into(),
            activity_type: "slow".into(),
            complete_time: None,
            backoff: None,
            original_schedule_time: Some(Seconds { seconds: 1_795_334_821, nanos: 509_571_254 }),
            activation_index: Some(1),
        };
        let text = r#"{"seq":1,"attempt":0,"activity_id":"1","activity_type":"slow","complete_time":null,"backoff":null,"original_schedule_time":{"seconds":1795334821,"nanos":509571254},"activation_index":1}"#;
        assert_eq!(serde_json::to_string(&data).unwrap(), text);
        assert_eq!(serde_json::from_str::<LocalData>(text).unwrap(), data);
    }

    #[test]
    fn markers_without_newer_fields_are_read() {
        let data: LocalData = serde_json::from_str(r#"{"seq":7}"#).unwrap();
        assert_eq!((data.seq, data.activation_index), (7, None));
    }
}
