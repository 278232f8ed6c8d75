//! JSON in both directions: histories that real servers and the `temporal` command wrote come back as they were.
//! The files in `data`: `cli_show.json` is what `temporal workflow show --output json` (1.9.1) printed; the others are
//! recordings from a Temporal server 1.32.0, and one of the reference core's activations for one of them.

use bytes::Bytes;
use outlast_proto::json::{JsonError, Names, from_json, history_from_json, parse, to_json};
use outlast_proto::temporal::api::common::v1::Payload;
use outlast_proto::temporal::api::history::v1::History;
use prost::Message;
use serde_json::{Value, json};

const HISTORY: &str = "temporal.api.history.v1.History";
const EVENT: &str = "temporal.api.history.v1.HistoryEvent";

fn data(file: &str) -> Value {
    let path = format!("{}/tests/data/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn recorded(file: &str) -> Value {
    data(file)["histories"]["main"].clone()
}

#[test]
fn a_history_comes_back_as_it_was() {
    let histories = [
        data("cli_show"),
        recorded("sdk_hello"),
        recorded("sdk_local_activity"),
        recorded("update_accept_complete"),
        recorded("activity_by_id"),
    ];
    for history in histories {
        let bytes = history_from_json(&history.to_string()).unwrap();
        assert_eq!(to_json(HISTORY, &bytes, Names::Json).unwrap(), history);
        let events = History::decode(bytes.clone()).unwrap().events;
        assert_eq!(events.len(), history["events"].as_array().unwrap().len());

        // The other spelling gives the same bytes, and so does a bare list of events.
        let proto = to_json(HISTORY, &bytes, Names::Proto).unwrap();
        assert!(proto["events"][0].get("event_id").is_some());
        assert_eq!(history_from_json(&proto.to_string()).unwrap(), bytes);
        assert_eq!(history_from_json(&history["events"].to_string()).unwrap(), bytes);
    }
}

/// The enum names and nothing else differ in what older tools wrote.
#[test]
fn the_old_names_of_enum_values_are_understood() {
    let history = recorded("activity_by_id");
    let text = history.to_string();
    let mut old = text.clone();
    let names = [
        ("EVENT_TYPE_WORKFLOW_EXECUTION_STARTED", "WorkflowExecutionStarted"),
        ("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED", "ActivityTaskScheduled"),
        ("EVENT_TYPE_ACTIVITY_TASK_FAILED", "ActivityTaskFailed"),
        ("TASK_QUEUE_KIND_NORMAL", "Normal"),
        ("RETRY_STATE_MAXIMUM_ATTEMPTS_REACHED", "MaximumAttemptsReached"),
    ];
    for (new, name) in names {
        assert!(old.contains(new), "the recording has no {new}");
        old = old.replace(new, name);
    }
    assert_eq!(history_from_json(&old), history_from_json(&text));
}

#[test]
fn enum_names_inside_lists_maps_and_any_are_understood() {
    let reasons = json!({ "suggestContinueAsNewReasons": ["HistorySizeTooLarge"] });
    let started = from_json("temporal.api.history.v1.WorkflowTaskStartedEventAttributes", reasons).unwrap();
    assert_eq!(started.as_ref(), [0x42, 1, 1]);

    let types = json!({ "indexedFields": {}, "customAttributes": { "k": "Keyword" } });
    let list = "temporal.api.operatorservice.v1.ListSearchAttributesResponse";
    let read = to_json(list, &from_json(list, types).unwrap(), Names::Json).unwrap();
    assert_eq!(read, json!({ "customAttributes": { "k": "INDEXED_VALUE_TYPE_KEYWORD" } }));

    let body = json!({ "body": { "@type": "type.googleapis.com/temporal.api.history.v1.HistoryEvent", "eventType": "TimerFired" } });
    let message = from_json("temporal.api.protocol.v1.Message", body).unwrap();
    let read = to_json("temporal.api.protocol.v1.Message", &message, Names::Json).unwrap();
    assert_eq!(read["body"]["eventType"], "EVENT_TYPE_TIMER_FIRED");
}

/// What the reference core's recordings hold is what comes out with the names of the `.proto` files.
#[test]
fn commands_and_history_of_a_recording_agree() {
    let recording = data("oracle_activity_by_id");
    let payload =
        parse("temporal.api.common.v1.Payload", &json!({ "data": recording["history_b64"] }).to_string());
    let history: Bytes = Payload::decode(payload.unwrap()).unwrap().data;
    let read = to_json(HISTORY, &history, Names::Json).unwrap();
    let expected = recorded("activity_by_id");
    assert_eq!(read["events"].as_array().unwrap().len(), expected["events"].as_array().unwrap().len());
    assert_eq!(read["events"][1], expected["events"][1]);

    let mut commands = 0;
    for command in recording["script"].as_object().unwrap().values().flat_map(|c| c.as_array().unwrap()) {
        let name = "coresdk.workflow_commands.WorkflowCommand";
        let bytes = from_json(name, command.clone()).unwrap();
        assert_eq!(&to_json(name, &bytes, Names::Proto).unwrap(), command);
        commands += 1;
    }
    assert!(commands >= 4);
}

#[test]
fn unknown_fields_are_skipped_and_unknown_values_are_named() {
    let event = json!({ "eventId": "3", "futureField": { "deep": [1] }, "timerFiredEventAttributes": { "timerId": "1", "x": 1 } });
    let known = json!({ "eventId": "3", "timerFiredEventAttributes": { "timerId": "1" } });
    assert_eq!(from_json(EVENT, event), from_json(EVENT, known));

    let error = from_json(EVENT, json!({ "eventType": "Sneezed" })).unwrap_err();
    assert_eq!(error.to_string(), "temporal.api.enums.v1.EventType has no value Sneezed");
}

#[test]
fn what_is_wrong_is_said() {
    assert_eq!(history_from_json("{}"), Err(JsonError::NotAHistory));
    assert_eq!(history_from_json("7"), Err(JsonError::NotAHistory));
    assert_eq!(history_from_json(r#"{"events": 7}"#), Err(JsonError::NotAHistory));
    assert!(matches!(history_from_json("{"), Err(JsonError::Json { .. })));
    assert!(matches!(history_from_json(r#"[{"eventId": "x"}]"#), Err(JsonError::Json { .. })));
    assert_eq!(parse("no.Such", "{}"), Err(JsonError::NoSuchMessage("no.Such".to_owned())));
    assert!(matches!(to_json(EVENT, &[0x08], Names::Json), Err(JsonError::Bytes { .. })));
}
