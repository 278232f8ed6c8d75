//! Chance with a seed, and what it makes: damaged histories, and commands that no sane language gives. It does not know
//! what a shard makes of them.

use std::time::Duration;

use bytes::Bytes;
use outlast_machine::io::{LocalResult, LocalTimeout};
use outlast_proto::lens::history::History;
use outlast_proto::lens::lang;
use outlast_proto::lens::lang::workflow_command::Variant as C;
use prost::Message as _;

/// A generator of numbers: splitmix64.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1))
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Less than `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Damages encoded bytes.
pub fn damage(bytes: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len());
        match chance.below(6) {
            0 => bytes.truncate(at),
            1 => {
                let to = (at + chance.below(64)).min(bytes.len());
                bytes.drain(at..to);
            }
            2 => {
                let from = chance.below(other.len());
                let to = (from + chance.below(256)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                for _ in 0..=chance.below(4) {
                    let at = chance.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = if chance.one_in(2) {
                            chance.number() as u8
                        } else {
                            *byte ^ 1 << chance.below(8)
                        };
                    }
                }
            }
        }
    }
    bytes
}

/// Moves, doubles, drops and exchanges whole events, and numbers them again, so that the damage is not seen from the numbers.
pub fn shuffle(history: &Bytes, other: &Bytes, chance: &mut Chance) -> Vec<u8> {
    let decode = |h: &Bytes| History::decode(h.clone()).unwrap().events;
    let (mut events, other) = (decode(history), decode(other));
    for _ in 0..=chance.below(4) {
        let (a, b) = (chance.below(events.len()), chance.below(events.len()));
        if events.is_empty() {
            break;
        }
        match chance.below(5) {
            0 => events.swap(a, b),
            1 => drop(events.remove(a)),
            2 => events.insert(a, events[b].clone()),
            3 => events[a] = chance.pick(&other).clone(),
            _ => events[a] = damage(&events[a], &events[b], chance).into(),
        }
    }
    let numbered = events.into_iter().zip(1..).map(|(event, id)| {
        let mut event = event.to_vec();
        event.push(0x08); // the last number of an event counts
        prost::encoding::encode_varint(id, &mut event);
        event.into()
    });
    History { events: numbered.collect() }.encode_to_vec()
}

/// A sequence number: mostly small, sometimes absurd.
pub fn seq(chance: &mut Chance) -> u32 {
    match chance.below(12) {
        0 => *chance.pick(&[0, 63, 64, 65, 66, 130, 1000, u32::MAX - 1, u32::MAX]),
        _ => 1 + chance.below(5) as u32,
    }
}

/// Anything that a language may ask for, whether it makes sense or not.
pub fn command(chance: &mut Chance) -> lang::WorkflowCommand {
    let n = seq(chance);
    let how = chance.below(5) as i32;
    let text = |chance: &mut Chance| Bytes::copy_from_slice(chance.pick(&["a", "b", "", "1"]).as_bytes());
    let soon = Some(prost_types::Duration { seconds: chance.below(90) as i64 - 1, nanos: 0 });
    let update = |response| {
        C::UpdateResponse(lang::UpdateResponse { protocol_instance_id: "u".into(), response: Some(response) })
    };
    use lang::update_response::Response as U;
    let variant = match chance.below(24) {
        0 | 1 => C::StartTimer(lang::StartTimer { seq: n, start_to_fire_timeout: None }),
        2 => C::CancelTimer(lang::CancelTimer { seq: n }),
        3 => C::ScheduleActivity(Box::new(lang::ScheduleActivity {
            seq: n,
            activity_id: text(chance),
            cancellation_type: how,
            ..Default::default()
        })),
        4 => C::RequestCancelActivity(lang::RequestCancelActivity { seq: n }),
        5..=7 => C::ScheduleLocalActivity(Box::new(lang::ScheduleLocalActivity {
            seq: n,
            activity_id: text(chance),
            attempt: *chance.pick(&[0, 1, 2, u32::MAX]),
            cancellation_type: how,
            schedule_to_close_timeout: soon.filter(|_| chance.one_in(2)),
            local_retry_threshold: soon,
            ..Default::default()
        })),
        8 => C::RequestCancelLocalActivity(lang::RequestCancelLocalActivity { seq: n }),
        9 => C::StartChildWorkflowExecution(Box::new(lang::StartChildWorkflowExecution {
            seq: n,
            workflow_id: text(chance),
            cancellation_type: how,
            ..Default::default()
        })),
        10 => C::CancelChildWorkflowExecution(lang::CancelChildWorkflowExecution {
            child_workflow_seq: n,
            ..Default::default()
        }),
        11 => C::SignalExternalWorkflowExecution(Box::new(lang::SignalExternalWorkflowExecution {
            seq: n,
            ..Default::default()
        })),
        12 => C::CancelSignalWorkflow(lang::CancelSignalWorkflow { seq: n }),
        13 => C::RequestCancelExternalWorkflowExecution(Box::new(
            lang::RequestCancelExternalWorkflowExecution { seq: n, ..Default::default() },
        )),
        14 => C::ScheduleNexusOperation(Box::new(lang::ScheduleNexusOperation {
            seq: n,
            cancellation_type: how,
            ..Default::default()
        })),
        15 => C::RequestCancelNexusOperation(lang::RequestCancelNexusOperation { seq: n }),
        16 => C::SetPatchMarker(lang::SetPatchMarker { patch_id: n.to_string(), deprecated: how > 2 }),
        17 => C::UpsertWorkflowSearchAttributes(lang::UpsertWorkflowSearchAttributes {
            search_attributes: Some(text(chance)),
        }),
        18 => update(U::Accepted(Bytes::new())),
        19 => update(U::Rejected(text(chance))),
        20 => update(U::Completed(text(chance))),
        21 => C::RespondToQuery(lang::QueryResult { query_id: "legacy_query".into(), variant: None }),
        22 if chance.one_in(4) => C::CompleteWorkflowExecution(lang::CompleteWorkflowExecution::default()),
        22 if chance.one_in(4) => C::ContinueAsNewWorkflowExecution(Box::default()),
        _ if chance.one_in(8) => return lang::WorkflowCommand::default(),
        _ => C::ModifyWorkflowProperties(lang::ModifyWorkflowProperties::default()),
    };
    lang::WorkflowCommand { variant: Some(variant), ..Default::default() }
}

/// How a local activity may go.
pub fn local_result(chance: &mut Chance) -> LocalResult {
    match chance.below(6) {
        0 => LocalResult::Failed(None),
        1 => LocalResult::Failed(Some(Bytes::from_static(b"\xff"))),
        2 => LocalResult::Cancelled(None),
        3 => LocalResult::TimedOut(LocalTimeout::StartToClose),
        4 => LocalResult::TimedOut(LocalTimeout::ScheduleToClose),
        _ => LocalResult::Completed(Some(Bytes::from_static(b"x"))),
    }
}

/// How long something took.
pub fn span(chance: &mut Chance) -> Duration {
    Duration::from_millis(*chance.pick(&[0, 1, 900, 9_000, 100_000]))
}
