//! What can be wrong with a history, with a program, or with what the language asked for: values that carry the facts.
//! The words are made in [`std::fmt::Display`], at the edge.

use std::fmt;

use crate::event::{EventId, type_name};

/// Why a run cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The code asks for something else than it did when this history was made.
    Nondeterminism(Box<Mismatch>),
    /// The history cannot be read, or contradicts itself.
    Malformed {
        /// Where.
        event: EventId,
        /// What is wrong.
        problem: String,
    },
    /// The language broke the protocol between it and the core.
    Misuse {
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The code asks for something with a value that makes no sense and that no server would refuse, since none sees it.
    Invalid(Box<Invalid>),
}

/// A value that cannot be, and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What kind of request it is in.
    pub request: &'static str,
    /// The number of that request.
    pub seq: u32,
    /// What was asked for, by name.
    pub subject: String,
    /// The field, by its name in the API.
    pub field: &'static str,
    /// Its value.
    pub given: String,
    /// Which values are right.
    pub allowed: &'static str,
}

/// Where a program and its history part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The event that does not fit.
    pub event: EventId,
    /// What it records.
    pub recorded: String,
    /// What the code asked for in its place; `None`: nothing.
    pub asked: Option<String>,
    /// The fields in which they differ, if they are of the same kind.
    pub differs: Vec<Difference>,
    /// What the history records in the same task, from the event on (at most [`AROUND`]).
    pub recorded_next: Vec<String>,
    /// What the code asked for after that (at most [`AROUND`]).
    pub asked_next: Vec<String>,
}

/// A field in which an event and a command differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name in the API.
    pub field: &'static str,
    /// Its value in history.
    pub recorded: String,
    /// Its value in the command.
    pub asked: String,
}

/// How many neighbours a [`Mismatch`] tells of.
pub const AROUND: usize = 5;

impl Fault {
    pub(crate) fn malformed(event: EventId, problem: &str) -> Self {
        Self::Malformed { event, problem: problem.to_owned() }
    }

    pub(crate) fn undecodable(last_read: EventId, error: &dyn fmt::Display) -> Self {
        Self::Malformed {
            event: EventId(last_read.0 + 1),
            problem: format!("it cannot be decoded ({error}); fetch the history again"),
        }
    }

    pub(crate) fn misuse(problem: impl Into<String>) -> Self {
        Self::Misuse { problem: problem.into() }
    }

    pub(crate) fn mismatch(
        event: EventId,
        recorded: String,
        asked: Option<String>,
        differs: Vec<Difference>,
    ) -> Self {
        Self::Nondeterminism(Box::new(Mismatch { differs, ..Mismatch::new(event, recorded, asked) }))
    }

    /// An event that names an operation which the code never asked for, or which is over.
    pub(crate) fn orphan(event: EventId, event_type: i32, initiator: i64) -> Self {
        let recorded = format!("{} for the operation of event {initiator}", type_name(event_type));
        Self::mismatch(event, recorded, None, Vec::new())
    }
}

impl Mismatch {
    pub(crate) fn new(event: EventId, recorded: String, asked: Option<String>) -> Self {
        let (differs, recorded_next, asked_next) = Default::default();
        Self { event, recorded, asked, differs, recorded_next, asked_next }
    }
}

impl std::error::Error for Fault {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, seq, subject, field, given, allowed } = self;
        write!(
            f,
            "Invalid {request} request (seq {seq}): {field} of {subject} is {given}; allowed is {allowed}"
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nondeterminism(mismatch) => mismatch.fmt(f),
            Self::Malformed { event, problem } => {
                write!(f, "History is not usable at event {event}: {problem}")
            }
            Self::Misuse { problem } => write!(f, "Workflow activation completion is not valid: {problem}"),
            Self::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self.asked.as_deref().unwrap_or("nothing");
        write!(
            f,
            "[TMPRL1100] Nondeterminism error: event {} of the history records {}, but the workflow code asked for {asked}.",
            self.event, self.recorded
        )?;
        for d in &self.differs {
            write!(f, "\n  {}: history has {:?}, the code {:?}", d.field, d.recorded, d.asked)?;
        }
        list(f, "The history goes on with", &self.recorded_next)?;
        list(f, "The code goes on with", &self.asked_next)?;
        write!(
            f,
            "\nThe code must ask for the same things in the same order as when this workflow ran. If it was changed, keep the \
             old way for running workflows with a patch (`patched`) or a worker version; if not, look for what may differ \
             between runs: clocks, random numbers, the order of maps, the environment."
        )
    }
}

fn list(f: &mut fmt::Formatter<'_>, title: &str, items: &[String]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n{title}: {}", items.join(", "))
}
