//! Ops: what a workflow asked for and still cares about, one small state machine each. They turn events and the
//! language's wishes into jobs and commands; they do not know of turns, tasks or replay.

pub(crate) mod activity;
pub(crate) mod child;
pub(crate) mod external;
pub(crate) mod local;
pub(crate) mod nexus;
pub(crate) mod timer;
pub(crate) mod update;

use outlast_proto::lens::lang::workflow_activation_job::Variant;

use crate::event::EventId;
use crate::fault::Fault;
use crate::jobs::Jobs;
use crate::queue::{Ask, Extras, Kind, Place, Queue};

/// Any op.
#[derive(Debug)]
pub(crate) enum Op {
    Timer(timer::Timer),
    Activity(activity::Activity),
    Local(Box<local::Local>),
    Child(Box<child::Child>),
    Signal(external::External),
    Cancel(external::External),
    Nexus(Box<nexus::Nexus>),
    Update(Box<update::Update>),
}

const _: () = assert!(std::mem::size_of::<Op>() <= 80);

/// Whether an op goes on after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Then {
    Stays,
    Ends,
}

/// Where an op puts what follows from its inputs.
pub(crate) struct Out<'a> {
    /// The op itself.
    pub op: u32,
    pub jobs: &'a mut Jobs,
    pub queue: &'a mut Queue,
}

impl Out<'_> {
    pub fn job(&mut self, job: Variant) {
        self.jobs.push(job);
    }

    pub fn ask(&mut self, kind: Kind, ask: Ask, extras: Option<Box<Extras>>) -> Place {
        self.queue.push(kind, self.op, ask, extras)
    }

    pub fn retract(&mut self, place: Place) {
        self.queue.retract(place);
    }
}

/// An event that the op cannot have caused or waited for in its state.
pub(crate) fn unexpected(event: EventId, what: &str, state: &dyn std::fmt::Debug) -> Fault {
    Fault::malformed(event, &format!("{what} cannot follow the events before it (state {state:?})"))
}

/// Ops by index; places of ended ones are used again.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    slots: Vec<Slot>,
    free: Option<u32>,
    open: usize,
}

#[derive(Debug)]
enum Slot {
    Open(Op),
    Free(Option<u32>),
}

impl Slab {
    /// The index that the next [`insert`](Self::insert) will give.
    pub fn next(&self) -> u32 {
        self.free.unwrap_or(self.slots.len() as u32)
    }

    /// Makes room for so many ops.
    pub fn reserve(&mut self, ops: usize) {
        self.slots.reserve(ops.saturating_sub(self.slots.len() - self.open));
    }

    pub fn insert(&mut self, op: Op) -> u32 {
        self.open += 1;
        let index = self.next();
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                if let Slot::Free(next) = slot {
                    self.free = *next;
                }
                *slot = Slot::Open(op);
            }
            None => self.slots.push(Slot::Open(op)),
        }
        index
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut Op> {
        match self.slots.get_mut(index as usize)? {
            Slot::Open(op) => Some(op),
            Slot::Free(_) => None,
        }
    }

    pub fn remove(&mut self, index: u32) {
        let Some(slot @ Slot::Open(_)) = self.slots.get_mut(index as usize) else { return };
        *slot = Slot::Free(self.free.replace(index));
        self.open -= 1;
        if self.open == 0 {
            // Nothing is open: nothing is kept, however many there once were.
            self.slots.clear();
            self.slots.shrink_to(16);
            self.free = None;
        }
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Op)> {
        self.slots.iter_mut().zip(0..).filter_map(|(slot, index)| match slot {
            Slot::Open(op) => Some((index, op)),
            Slot::Free(_) => None,
        })
    }

    pub fn bytes(&self) -> usize {
        self.slots.capacity() * std::mem::size_of::<Slot>()
    }
}

/// Two short texts in one allocation: an id and a type.
#[derive(Debug)]
pub(crate) struct Names {
    text: Box<[u8]>,
    split: u32,
}

impl Names {
    pub fn new(id: &[u8], kind: &[u8]) -> Self {
        let mut text = Vec::with_capacity(id.len() + kind.len());
        text.extend_from_slice(id);
        text.extend_from_slice(kind);
        Self { text: text.into_boxed_slice(), split: id.len() as u32 }
    }

    pub fn id(&self) -> &[u8] {
        &self.text[..self.split as usize]
    }

    pub fn kind(&self) -> &[u8] {
        &self.text[self.split as usize..]
    }
}
