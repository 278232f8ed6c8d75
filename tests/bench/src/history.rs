//! Histories as a server would have written them, of a given shape and size, encoded. The events, their order and their texts
//! are like those the reference was measured with. This module does not know who reads them.

use std::str::FromStr;

use bytes::Bytes;
use outlast_proto::temporal::api::common::v1::{ActivityType, Payload, Payloads, WorkflowType};
use outlast_proto::temporal::api::enums::v1::EventType;
use outlast_proto::temporal::api::history::v1::history_event::Attributes as A;
use outlast_proto::temporal::api::history::v1::*;
use outlast_proto::temporal::api::sdk::v1::WorkflowTaskCompletedMetadata;
use outlast_proto::temporal::api::taskqueue::v1::TaskQueue;
use prost::Message;
use prost_types::{Duration, Timestamp};

/// What a workflow does K times. Each resolution comes in a workflow task of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// K timers, one after the other.
    Timers,
    /// K activities, one after the other.
    Activities,
    /// K activities at once.
    Fanout,
    /// K signals.
    Signals,
    /// K activities, one after the other, then a timer that stays open. Not replayed: for measuring memory.
    Idle,
}

impl Shape {
    /// The shapes whose replay is measured.
    pub const REPLAYED: [Self; 4] = [Self::Timers, Self::Activities, Self::Fanout, Self::Signals];

    /// Its name, and the type of its workflow.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timers => "timers",
            Self::Activities => "activities",
            Self::Fanout => "fanout",
            Self::Signals => "signals",
            Self::Idle => "idle",
        }
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Timers, Self::Activities, Self::Fanout, Self::Signals, Self::Idle];
        all.into_iter().find(|s| s.name() == name).ok_or_else(|| format!("no shape {name}"))
    }
}

/// The run that every history belongs to.
pub const RUN: &str = "0b9f7a52-7d0b-4c7e-8f7d-5a3a7d6f9c11";
/// The type of every activity.
pub const ACTIVITY: &str = "echo";
/// The task queue of everything.
pub const QUEUE: &str = "bench";
/// The input of every activity, in JSON.
pub const INPUT: &str = "\"hello\"";

/// A history.
pub struct Written {
    events: Vec<HistoryEvent>,
}

impl Written {
    /// How many events it has.
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// All of it, encoded.
    pub fn encode(&self) -> Bytes {
        History { events: self.events.clone() }.encode_to_vec().into()
    }

    /// As a worker with a cache gets it: each part ends where a workflow task starts.
    pub fn tasks(&self) -> Vec<Bytes> {
        let is_start = |e: &HistoryEvent| e.event_type == EventType::WorkflowTaskStarted as i32;
        let parts = self.events.split_inclusive(is_start).filter(|p| p.last().is_some_and(is_start));
        parts.map(|p| History { events: p.to_vec() }.encode_to_vec().into()).collect()
    }
}

/// The history of a workflow that does `shape` `k` times; signals and results are `payload` characters of JSON.
pub fn write(shape: Shape, k: u32, payload: usize) -> Written {
    let mut w = Writer {
        events: Vec::new(),
        seconds: 1_700_000_000,
        completed: 0,
        payload: json(format!("\"{}\"", "x".repeat(payload))),
    };
    w.started(shape, k);
    w.task();
    match shape {
        Shape::Timers => (1..=k).for_each(|n| w.timer(n)),
        Shape::Activities | Shape::Idle => (1..=k).for_each(|n| {
            let scheduled = w.activity(n);
            w.activity_done(scheduled);
            w.task();
        }),
        Shape::Fanout => {
            let scheduled: Vec<i64> = (1..=k).map(|n| w.activity(n)).collect();
            scheduled.into_iter().for_each(|scheduled| {
                w.activity_done(scheduled);
                w.task();
            });
        }
        Shape::Signals => (1..=k).for_each(|_| w.signal()),
    }
    if shape != Shape::Idle {
        w.completed();
    }
    Written { events: w.events }
}

/// A JSON payload.
pub fn json(text: impl Into<String>) -> Payload {
    let metadata = [("encoding".to_owned(), Bytes::from_static(b"json/plain"))].into_iter().collect();
    Payload { metadata, data: text.into().into(), ..Default::default() }
}

struct Writer {
    events: Vec<HistoryEvent>,
    seconds: i64,
    /// The event that completed the last workflow task.
    completed: i64,
    payload: Payload,
}

impl Writer {
    fn add(&mut self, kind: EventType, attributes: A) -> i64 {
        let event_id = self.events.len() as i64 + 1;
        let nanos = ((event_id % 1000) * 1_000_000) as i32;
        self.events.push(HistoryEvent {
            event_id,
            event_time: Some(Timestamp { seconds: self.seconds, nanos }),
            event_type: kind as i32,
            task_id: 1_048_576 + event_id,
            attributes: Some(attributes),
            ..Default::default()
        });
        event_id
    }

    fn started(&mut self, shape: Shape, k: u32) {
        let attributes = WorkflowExecutionStartedEventAttributes {
            workflow_type: Some(WorkflowType { name: shape.name().into() }),
            task_queue: queue(),
            input: payloads(json(k.to_string())),
            original_execution_run_id: RUN.into(),
            first_execution_run_id: RUN.into(),
            identity: WHO.into(),
            attempt: 1,
            workflow_task_timeout: seconds(10),
            workflow_id: "bench".into(),
            ..Default::default()
        };
        self.add(EventType::WorkflowExecutionStarted, A::WorkflowExecutionStartedEventAttributes(attributes));
    }

    /// A workflow task, scheduled, started and completed.
    fn task(&mut self) {
        self.seconds += 1;
        let scheduled = WorkflowTaskScheduledEventAttributes {
            task_queue: queue(),
            start_to_close_timeout: seconds(10),
            attempt: 1,
        };
        let scheduled_event_id =
            self.add(EventType::WorkflowTaskScheduled, A::WorkflowTaskScheduledEventAttributes(scheduled));
        let started = WorkflowTaskStartedEventAttributes {
            scheduled_event_id,
            identity: WHO.into(),
            request_id: format!("request-{scheduled_event_id}"),
            history_size_bytes: self.events.len() as i64 * 120,
            ..Default::default()
        };
        let started_event_id =
            self.add(EventType::WorkflowTaskStarted, A::WorkflowTaskStartedEventAttributes(started));
        // The first task of a run says which SDK works on it, and which flags it uses.
        let sdk_metadata = (self.completed == 0).then(|| WorkflowTaskCompletedMetadata {
            core_used_flags: vec![1, 2, 3],
            sdk_name: "outlast".into(),
            sdk_version: "1.0.0".into(),
            ..Default::default()
        });
        let completed = WorkflowTaskCompletedEventAttributes {
            scheduled_event_id,
            started_event_id,
            identity: WHO.into(),
            sdk_metadata,
            ..Default::default()
        };
        self.completed =
            self.add(EventType::WorkflowTaskCompleted, A::WorkflowTaskCompletedEventAttributes(completed));
    }

    fn timer(&mut self, n: u32) {
        let started = TimerStartedEventAttributes {
            timer_id: n.to_string(),
            start_to_fire_timeout: seconds(1),
            workflow_task_completed_event_id: self.completed,
        };
        let started_event_id = self.add(EventType::TimerStarted, A::TimerStartedEventAttributes(started));
        self.seconds += 1;
        let fired = TimerFiredEventAttributes { timer_id: n.to_string(), started_event_id };
        self.add(EventType::TimerFired, A::TimerFiredEventAttributes(fired));
        self.task();
    }

    fn activity(&mut self, n: u32) -> i64 {
        let attributes = ActivityTaskScheduledEventAttributes {
            activity_id: n.to_string(),
            activity_type: Some(ActivityType { name: ACTIVITY.into() }),
            task_queue: queue(),
            input: payloads(json(INPUT)),
            start_to_close_timeout: seconds(60),
            workflow_task_completed_event_id: self.completed,
            ..Default::default()
        };
        self.add(EventType::ActivityTaskScheduled, A::ActivityTaskScheduledEventAttributes(attributes))
    }

    fn activity_done(&mut self, scheduled_event_id: i64) {
        let started = ActivityTaskStartedEventAttributes {
            scheduled_event_id,
            identity: WHO.into(),
            request_id: format!("request-{scheduled_event_id}"),
            attempt: 1,
            ..Default::default()
        };
        let started_event_id =
            self.add(EventType::ActivityTaskStarted, A::ActivityTaskStartedEventAttributes(started));
        let completed = ActivityTaskCompletedEventAttributes {
            result: payloads(self.payload.clone()),
            scheduled_event_id,
            started_event_id,
            identity: WHO.into(),
            ..Default::default()
        };
        self.add(EventType::ActivityTaskCompleted, A::ActivityTaskCompletedEventAttributes(completed));
    }

    fn signal(&mut self) {
        let attributes = WorkflowExecutionSignaledEventAttributes {
            signal_name: "go".into(),
            input: payloads(self.payload.clone()),
            identity: WHO.into(),
            ..Default::default()
        };
        self.add(
            EventType::WorkflowExecutionSignaled,
            A::WorkflowExecutionSignaledEventAttributes(attributes),
        );
        self.task();
    }

    fn completed(&mut self) {
        let attributes = WorkflowExecutionCompletedEventAttributes {
            result: payloads(json("\"done\"")),
            workflow_task_completed_event_id: self.completed,
            ..Default::default()
        };
        self.add(
            EventType::WorkflowExecutionCompleted,
            A::WorkflowExecutionCompletedEventAttributes(attributes),
        );
    }
}

const WHO: &str = "bench@localhost";

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: QUEUE.into(), kind: 1, ..Default::default() })
}

fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn payloads(payload: Payload) -> Option<Payloads> {
    Some(Payloads { payloads: vec![payload] })
}
