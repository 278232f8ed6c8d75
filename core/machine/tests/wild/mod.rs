//! Chance with a seed, and what it makes: damaged histories, and commands that no sane language gives. It does not know
//! what a shard makes of them.

use std::time::Duration;

use bytes::Bytes;
use outlast_machine::io::{LocalResult, LocalTimeout};
use outlast_proto::lens::history::{History, HistoryEvent};
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

/// The history up to the start of some task, so that this one is open.
pub fn cut(history: &Bytes, chance: &mut Chance) -> Bytes {
    let mut events = History::decode(history.clone()).unwrap().events;
    let starts = |e: &Bytes| HistoryEvent::decode(e.clone()).is_ok_and(|e| e.event_type == TASK_STARTED);
    let ends: Vec<usize> = (0..events.len()).filter(|at| starts(&events[*at])).collect();
    if !ends.is_empty() {
        events.truncate(1 + chance.pick(&ends));
    }
    History { events }.encode_to_vec().into()
}

const TASK_STARTED: i32 = 6;

/// The greatest number that was given out, by kind of command.
#[derive(Debug, Default)]
pub struct Numbers([u32; 7]);

impl Numbers {
    /// A new number: mostly the next, sometimes an absurd one.
    fn fresh(&mut self, kind: usize, chance: &mut Chance) -> u32 {
        if chance.one_in(20) {
            return absurd(chance);
        }
        self.0[kind] += 1;
        self.0[kind]
    }

    /// A number that was given out, or an absurd one.
    fn old(&mut self, kind: usize, chance: &mut Chance) -> u32 {
        match self.0[kind] {
            n if n > 0 && !chance.one_in(40) => 1 + chance.below(n as usize) as u32,
            _ => absurd(chance),
        }
    }
}

/// A number that no language gives.
pub fn absurd(chance: &mut Chance) -> u32 {
    *chance.pick(&[0, 1, 2, 63, 64, 65, 66, 130, 1000, u32::MAX - 1, u32::MAX])
}

/// Anything that a language may ask for, whether it makes sense or not.
pub fn command(numbers: &mut Numbers, chance: &mut Chance) -> lang::WorkflowCommand {
    let variant = match chance.below(20) {
        0..=8 => begins(numbers, chance),
        9..=14 => cancels(numbers, chance),
        15 if chance.one_in(8) => return lang::WorkflowCommand::default(),
        15 if chance.one_in(4) => C::CompleteWorkflowExecution(lang::CompleteWorkflowExecution::default()),
        15 if chance.one_in(4) => C::ContinueAsNewWorkflowExecution(Box::default()),
        15 if chance.one_in(8) => {
            C::RespondToQuery(lang::QueryResult { query_id: "legacy_query".into(), variant: None })
        }
        16 if chance.one_in(8) => C::UpsertWorkflowSearchAttributes(lang::UpsertWorkflowSearchAttributes {
            search_attributes: Some(text(chance)),
        }),
        16 if chance.one_in(4) => answer_update(chance),
        _ => C::SetPatchMarker(lang::SetPatchMarker {
            patch_id: chance.below(9).to_string(),
            deprecated: chance.one_in(3),
        }),
    };
    lang::WorkflowCommand { variant: Some(variant), ..Default::default() }
}

/// An answer to the update of a task, in or out of place.
pub fn answer_update(chance: &mut Chance) -> C {
    use lang::update_response::Response as U;
    let response = match chance.below(5) {
        0 => U::Rejected(text(chance)),
        1 => U::Completed(text(chance)),
        _ => U::Accepted(Bytes::new()),
    };
    C::UpdateResponse(lang::UpdateResponse { protocol_instance_id: "u".into(), response: Some(response) })
}

fn text(chance: &mut Chance) -> Bytes {
    Bytes::copy_from_slice(chance.pick(&["a", "b", "", "1"]).as_bytes())
}

fn begins(numbers: &mut Numbers, chance: &mut Chance) -> C {
    let kind = chance.below(8) % 7; // 0 twice as often
    let seq = numbers.fresh(kind, chance);
    let how = chance.below(5) as i32;
    let soon = Some(prost_types::Duration { seconds: chance.below(90) as i64 - 1, nanos: 0 });
    let soon = soon.filter(|_| chance.one_in(2));
    match kind {
        0 => C::ScheduleLocalActivity(Box::new(lang::ScheduleLocalActivity {
            seq,
            activity_id: text(chance),
            attempt: *chance.pick(&[0, 1, 2, u32::MAX]),
            cancellation_type: how,
            schedule_to_close_timeout: soon,
            local_retry_threshold: soon,
            ..Default::default()
        })),
        1 => C::StartTimer(lang::StartTimer { seq, start_to_fire_timeout: None }),
        2 => C::ScheduleActivity(Box::new(lang::ScheduleActivity {
            seq,
            activity_id: text(chance),
            cancellation_type: how,
            ..Default::default()
        })),
        3 => C::StartChildWorkflowExecution(Box::new(lang::StartChildWorkflowExecution {
            seq,
            workflow_id: text(chance),
            cancellation_type: how,
            ..Default::default()
        })),
        4 => C::SignalExternalWorkflowExecution(Box::new(lang::SignalExternalWorkflowExecution {
            seq,
            ..Default::default()
        })),
        5 => C::RequestCancelExternalWorkflowExecution(Box::new(
            lang::RequestCancelExternalWorkflowExecution { seq, ..Default::default() },
        )),
        _ => C::ScheduleNexusOperation(Box::new(lang::ScheduleNexusOperation {
            seq,
            cancellation_type: how,
            ..Default::default()
        })),
    }
}

fn cancels(numbers: &mut Numbers, chance: &mut Chance) -> C {
    let given: Vec<usize> = (0..7).filter(|kind| numbers.0[*kind] > 0 && *kind != 5).collect();
    if given.is_empty() && !chance.one_in(40) {
        return begins(numbers, chance);
    }
    let kind = if given.is_empty() { 1 } else { *chance.pick(&given) };
    let seq = numbers.old(kind, chance);
    match kind {
        0 => C::RequestCancelLocalActivity(lang::RequestCancelLocalActivity { seq }),
        1 => C::CancelTimer(lang::CancelTimer { seq }),
        2 => C::RequestCancelActivity(lang::RequestCancelActivity { seq }),
        3 => C::CancelChildWorkflowExecution(lang::CancelChildWorkflowExecution {
            child_workflow_seq: seq,
            ..Default::default()
        }),
        4 => C::CancelSignalWorkflow(lang::CancelSignalWorkflow { seq }),
        _ => C::RequestCancelNexusOperation(lang::RequestCancelNexusOperation { seq }),
    }
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
