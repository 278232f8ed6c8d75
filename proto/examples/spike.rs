//! What reading a history costs: the full types against the lens. `docs/decisions/001-lens.md` has the command and figures.
//!
//! `spike MODE TIMES` decodes a history of 10,002 events TIMES times, event by event as a worker does, and prints the time of
//! the quickest. Instructions and allocations per event are the differences between runs with different TIMES.
//! Modes: `none` builds the history only; `copy` gives the full types with payloads copied (as with `Vec<u8>`); `full` gives
//! the full types with payloads as slices of the frame; `lens` gives the lens. `full-frame` and `lens-frame` do so with
//! [`Frame`] under prost instead of `Bytes`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outlast_proto::Frame;
use outlast_proto::lens::history as lens;
use outlast_proto::temporal::api::common::v1::{ActivityType, Payload, Payloads, WorkflowType};
use outlast_proto::temporal::api::enums::v1::EventType;
use outlast_proto::temporal::api::history::v1 as full;
use outlast_proto::temporal::api::history::v1::history_event::Attributes;
use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
use prost::Message;

/// Sequential activities: three events each, and three for the workflow task that asks for the next one.
const ACTIVITIES: i64 = 1_666;
const EVENTS: i64 = ACTIVITIES * 6 + 6;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (mode, times) = match args.as_slice() {
        [_, mode, times] => (mode.as_str(), times.parse().expect("TIMES is a number")),
        _ => ("lens", 20),
    };
    let decode: fn(&Bytes) = match mode {
        "none" => |_| {},
        "copy" => |e| drop(black_box(full::HistoryEvent::decode(e.as_ref()).expect("an event"))),
        "full" => |e| drop(black_box(full::HistoryEvent::decode(e.clone()).expect("an event"))),
        "lens" => |e| drop(black_box(lens::HistoryEvent::decode(e.clone()).expect("an event"))),
        "full-frame" => |e| drop(black_box(full::HistoryEvent::decode(Frame::new(e)).expect("an event"))),
        "lens-frame" => |e| drop(black_box(lens::HistoryEvent::decode(Frame::new(e)).expect("an event"))),
        other => panic!("no mode {other}: none, copy, full, lens, full-frame, lens-frame"),
    };
    let frame = history();
    let mut quickest = Duration::MAX;
    for _ in 0..times {
        let start = Instant::now();
        let events = lens::History::decode(Frame::new(&frame)).expect("a history").events;
        assert_eq!(events.len() as i64, EVENTS);
        events.iter().for_each(decode);
        quickest = quickest.min(start.elapsed());
    }
    println!(
        "{mode}: {} bytes an event, {} ns an event",
        frame.len() as i64 / EVENTS,
        quickest.as_nanos() as i64 / EVENTS
    );
}

fn history() -> Bytes {
    let mut history = Builder::default();
    history.add(
        EventType::WorkflowExecutionStarted,
        Attributes::WorkflowExecutionStartedEventAttributes(full::WorkflowExecutionStartedEventAttributes {
            workflow_type: Some(WorkflowType { name: "Orders".into() }),
            task_queue: queue(),
            input: payloads(),
            workflow_task_timeout: seconds(10),
            original_execution_run_id: RUN.into(),
            first_execution_run_id: RUN.into(),
            identity: "4711@client".into(),
            attempt: 1,
            workflow_id: "order-1".into(),
            ..Default::default()
        }),
    );
    history.workflow_task();
    for _ in 0..ACTIVITIES {
        history.activity();
        history.workflow_task();
    }
    history.add(EventType::WorkflowExecutionSignaled, {
        Attributes::WorkflowExecutionSignaledEventAttributes(full::WorkflowExecutionSignaledEventAttributes {
            signal_name: "done".into(),
            input: payloads(),
            ..Default::default()
        })
    });
    history.add(EventType::WorkflowExecutionCompleted, {
        Attributes::WorkflowExecutionCompletedEventAttributes(
            full::WorkflowExecutionCompletedEventAttributes {
                result: payloads(),
                workflow_task_completed_event_id: history.id,
                ..Default::default()
            },
        )
    });
    Bytes::from(full::History { events: history.events }.encode_to_vec())
}

const RUN: &str = "01a20264-3e7a-701c-8fb5-3fd97724cf90";

#[derive(Default)]
struct Builder {
    id: i64,
    events: Vec<full::HistoryEvent>,
}

impl Builder {
    fn add(&mut self, kind: EventType, attributes: Attributes) -> i64 {
        self.id += 1;
        self.events.push(full::HistoryEvent {
            event_id: self.id,
            event_time: Some(prost_types::Timestamp { seconds: 1_795_000_000 + self.id, nanos: 754_008_490 }),
            event_type: kind as i32,
            task_id: 1_048_576 + self.id,
            attributes: Some(attributes),
            ..Default::default()
        });
        self.id
    }

    fn workflow_task(&mut self) {
        let scheduled = self.add(EventType::WorkflowTaskScheduled, {
            Attributes::WorkflowTaskScheduledEventAttributes(full::WorkflowTaskScheduledEventAttributes {
                task_queue: queue(),
                start_to_close_timeout: seconds(10),
                attempt: 1,
            })
        });
        let started = self.add(EventType::WorkflowTaskStarted, {
            Attributes::WorkflowTaskStartedEventAttributes(full::WorkflowTaskStartedEventAttributes {
                scheduled_event_id: scheduled,
                identity: "4711@worker".into(),
                request_id: RUN.into(),
                history_size_bytes: 100 * scheduled,
                ..Default::default()
            })
        });
        self.add(EventType::WorkflowTaskCompleted, {
            Attributes::WorkflowTaskCompletedEventAttributes(full::WorkflowTaskCompletedEventAttributes {
                scheduled_event_id: scheduled,
                started_event_id: started,
                identity: "4711@worker".into(),
                ..Default::default()
            })
        });
    }

    fn activity(&mut self) {
        let workflow_task_completed_event_id = self.id;
        let scheduled = self.add(EventType::ActivityTaskScheduled, {
            Attributes::ActivityTaskScheduledEventAttributes(full::ActivityTaskScheduledEventAttributes {
                activity_id: self.id.to_string(),
                activity_type: Some(ActivityType { name: "charge".into() }),
                task_queue: queue(),
                input: payloads(),
                start_to_close_timeout: seconds(60),
                workflow_task_completed_event_id,
                ..Default::default()
            })
        });
        let started = self.add(EventType::ActivityTaskStarted, {
            Attributes::ActivityTaskStartedEventAttributes(full::ActivityTaskStartedEventAttributes {
                scheduled_event_id: scheduled,
                identity: "4711@worker".into(),
                request_id: RUN.into(),
                attempt: 1,
                ..Default::default()
            })
        });
        self.add(EventType::ActivityTaskCompleted, {
            Attributes::ActivityTaskCompletedEventAttributes(full::ActivityTaskCompletedEventAttributes {
                result: payloads(),
                scheduled_event_id: scheduled,
                started_event_id: started,
                identity: "4711@worker".into(),
                ..Default::default()
            })
        });
    }
}

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: "orders".into(), kind: 1, ..Default::default() })
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn payloads() -> Option<Payloads> {
    let metadata = [("encoding".to_owned(), Bytes::from_static(b"json/plain"))].into_iter().collect();
    let data = Bytes::from_static(b"{\"order\":\"0815\",\"cents\":4200,\"currency\":\"EUR\"}");
    Some(Payloads { payloads: vec![Payload { metadata, data, ..Default::default() }] })
}
