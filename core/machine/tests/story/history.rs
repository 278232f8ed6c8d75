//! The histories of a transcript, event by event. It knows how events are spelled, not when a server writes them.

use outlast_proto::lens::history::History;
use prost::Message as _;
use serde_json::{Value, json};

use super::text::{self, base64, encode, option, payload};

/// One run's history.
#[derive(Debug, Default)]
pub struct Record {
    pub events: Vec<bytes::Bytes>,
    /// How many were sent to the worker.
    pub sent: usize,
    /// The task that is open, if the history ends with one.
    pub started: i64,
    /// The last task that was completed.
    pub previous: i64,
}

impl Record {
    /// Events `from..to` as a page.
    pub fn page(&self, from: usize, to: usize) -> bytes::Bytes {
        History { events: self.events[from.min(to)..to].to_vec() }.encode_to_vec().into()
    }

    /// Takes events off the end.
    pub fn cut(&mut self, last: usize) {
        self.events.truncate(last);
        self.sent = self.sent.min(last);
        self.started = 0;
    }

    /// Adds an event, or one of the short names for common ones.
    pub fn add(&mut self, run: &str, words: &[String]) {
        let (name, rest) = words.split_first().unwrap();
        let mut fields = text::message(rest);
        let text = |key: &str| option(rest, key).unwrap_or_default();
        match name.as_str() {
            "start" => {
                fields["workflow_type"] = json!({ "name": "w" });
                fields["original_execution_run_id"] = json!(run);
                self.event("WorkflowExecutionStarted", fields);
            }
            "task" => {
                self.event("WorkflowTaskScheduled", json!({ "start_to_close_timeout": "10s" }));
                let scheduled = self.events.len().to_string();
                fields["scheduled_event_id"] = json!(scheduled);
                self.event("WorkflowTaskStarted", fields);
                self.started = self.events.len() as i64;
            }
            "done" => {
                let started = self.events.len().to_string();
                let flags = option(rest, "flags").map_or(json!([1, 2, 3]), text::value);
                let lang = option(rest, "lang_flags").map_or(json!([]), text::value);
                let name = option(rest, "sdk").unwrap_or("test");
                let version = option(rest, "version").unwrap_or("1");
                self.previous = self.events.len() as i64;
                let mut completed = json!({
                    "started_event_id": started,
                    "sdk_metadata": { "core_used_flags": flags, "lang_used_flags": lang, "sdk_name": name, "sdk_version": version },
                });
                if let Some(build) = option(rest, "build") {
                    completed["deployment_version"] = json!({ "deployment_name": "d", "build_id": build });
                }
                self.event("WorkflowTaskCompleted", completed);
            }
            "timer" => {
                self.event("TimerStarted", json!({ "timer_id": text("id"), "start_to_fire_timeout": "5s" }))
            }
            "fired" => {
                self.event("TimerFired", json!({ "timer_id": text("id"), "started_event_id": text("by") }));
            }
            "signal" => {
                self.event("WorkflowExecutionSignaled", json!({ "signal_name": text("name") }));
            }
            "activity" => {
                let kind = option(rest, "type").unwrap_or("act");
                self.event(
                    "ActivityTaskScheduled",
                    json!({ "activity_id": text("id"), "activity_type": { "name": kind } }),
                );
            }
            "patch" => {
                let data = json!({ "id": text("id"), "deprecated": text("deprecated") == "true" });
                let details = json!({ "patch-data": { "payloads": [payload(&data.to_string())] } });
                self.event("MarkerRecorded", json!({ "marker_name": "core_patch", "details": details }));
            }
            "versions" => {
                let ids: Vec<&str> = text("ids").split(',').collect();
                let mut list = payload(&json!(ids).to_string());
                list["metadata"]["type"] = json!(base64(b"KeywordList"));
                let fields = json!({ "indexed_fields": { "TemporalChangeVersion": list } });
                self.event("UpsertWorkflowSearchAttributes", json!({ "search_attributes": fields }));
            }
            "la" => self.local(rest),
            "damaged" => self.events.push(vec![0x0a, 0xff].into()),
            "admitted" => {
                let request = request(text("id"));
                self.event("WorkflowExecutionUpdateAdmitted", json!({ "request": request }));
            }
            "accepted" => {
                let id = text("id");
                let accepted = json!({
                    "protocol_instance_id": id,
                    "accepted_request_message_id": format!("{id}/request"),
                    "accepted_request_sequencing_event_id": option(rest, "seq").unwrap_or("0"),
                    "accepted_request": (text("bare") != "true").then(|| request(id)),
                });
                self.event("WorkflowExecutionUpdateAccepted", accepted);
            }
            "completed" => {
                let accepted = json!({ "accepted_event_id": text("by") });
                self.event("WorkflowExecutionUpdateCompleted", accepted);
            }
            other => self.event(other, fields),
        }
    }

    fn local(&mut self, rest: &[String]) {
        let seq: u32 = option(rest, "seq").unwrap().parse().unwrap();
        let time = |key: &str| {
            option(rest, key).map(|s| json!({ "seconds": s.parse::<i64>().unwrap(), "nanos": 0 }))
        };
        let data = json!({
            "seq": seq,
            "attempt": option(rest, "attempt").map_or(1, |n| n.parse().unwrap()),
            "activity_id": option(rest, "id").map_or(seq.to_string(), str::to_owned),
            "activity_type": option(rest, "type").unwrap_or("local"),
            "complete_time": time("time"),
            "backoff": time("backoff"),
            "original_schedule_time": time("scheduled"),
            "activation_index": option(rest, "index").map(|n| n.parse::<u64>().unwrap()),
        });
        let mut details = json!({ "data": { "payloads": [payload(&data.to_string())] } });
        if let Some(result) = option(rest, "result") {
            details["result"] = json!({ "payloads": [payload(result)] });
        }
        let failure = option(rest, "failure").map(text::value);
        let marker = json!({ "marker_name": "core_local_activity", "details": details, "failure": failure });
        self.event("MarkerRecorded", marker);
    }

    fn event(&mut self, name: &str, mut attributes: Value) {
        let id = self.events.len() as i64 + 1;
        let fields = attributes.as_object_mut().unwrap();
        fields.retain(|_, v| !v.is_null());
        let mut take = |key: &str| fields.remove(key);
        let number = take("event_id").map_or(json!(id.to_string()), |v| v);
        let kind = take("event_type").unwrap_or_else(|| json!(name));
        let kind = kind.as_str().and_then(|k| k.parse::<i32>().ok()).map_or(kind.clone(), |n| json!(n));
        let ignorable = take("worker_may_ignore").unwrap_or(json!(false));
        let at = take("at").unwrap_or_else(|| json!(text::time(id)));
        let mut event = json!({ "event_id": number, "event_time": at, "event_type": kind, "worker_may_ignore": ignorable });
        if name != "Unknown" {
            event[format!("{}_event_attributes", snake(name))] = attributes;
        }
        self.events.push(encode("temporal.api.history.v1.HistoryEvent", event));
        if name != "WorkflowTaskStarted" {
            self.started = 0;
        }
    }
}

/// An update's request.
pub fn request(id: &str) -> Value {
    json!({ "meta": { "update_id": id }, "input": { "name": "up", "args": { "payloads": [payload("1")] } } })
}

/// `TimerFired` as `timer_fired`.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    for (at, c) in name.char_indices() {
        if c.is_ascii_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
