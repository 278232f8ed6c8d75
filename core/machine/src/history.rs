//! From pages of encoded history to turns: each event is decoded once, where it lies.
//!
//! A turn is `seen… TaskStarted | TaskCompleted commands…`: what the workflow saw, then what it did. Tasks that failed or
//! timed out leave their events in the next turn. This module knows the grammar, not what any event means to a workflow.

use bytes::Bytes;
use outlast_proto::lens::history::WorkflowTaskCompletedEventAttributes;

use crate::event::{Entry, EventId, Part, Type};
use crate::fault::Fault;
use crate::wire::{Fields, Value, WireError};

/// What a workflow saw in one task, and what it did then. Its buffers are reused from turn to turn.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// What happened before the task, with the task's own scheduling and start.
    pub seen: Vec<Entry>,
    /// The event that started the task, the last of `seen`; `None` for a rest of history without a task.
    pub started: Option<EventId>,
    /// What completed the task; `None` while it is open.
    pub completed: Option<WorkflowTaskCompletedEventAttributes>,
    /// What the workflow did.
    pub commands: Vec<Entry>,
    /// History goes on after the commands.
    pub goes_on: bool,
    /// The page that is being read: the turn's events lie in it, or have one of their own.
    pub page: Bytes,
}

impl Turn {
    /// Whether the workflow was terminated or timed out in it.
    pub fn ends_violently(&self) -> bool {
        self.seen.last().is_some_and(|e| {
            matches!(e.kind, Some(Type::WorkflowExecutionTerminated | Type::WorkflowExecutionTimedOut))
        })
    }
}

/// Room for the events of most turns.
const EVENTS: usize = 8;

/// What reading gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// `Feed::turn` is a turn that was completed: it is replayed.
    Replayed,
    /// `Feed::turn` is the open task at the end of history.
    Open,
    /// `Feed::turn` is what is left after the last task.
    Rest,
    /// The commands of the turn that was open before are in `Feed::turn`.
    Recorded,
    /// The page ended: another is needed.
    Page,
    /// History ended.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Collecting what is seen, until a task is started.
    Seeing,
    /// The last event started a task: the next tells what became of it.
    Started,
    /// Collecting commands, until something else.
    Doing,
    /// The open turn was answered: its completion comes next.
    Answered,
}

/// Reads turns out of pages.
#[derive(Debug)]
pub(crate) struct Feed {
    page: Bytes,
    /// How far it is read.
    at: usize,
    more: bool,
    ahead: Option<Entry>,
    state: State,
    /// The turn whose commands are being collected was open when it was shown.
    was_open: bool,
    last_read: EventId,
    /// The turn that was read last. Its owner empties it.
    pub turn: Turn,
}

/// A feed, which takes next to no room while there is nothing to read.
#[derive(Debug)]
pub(crate) enum Reader {
    /// Where it stands.
    Closed {
        last_read: EventId,
        state: State,
        more: bool,
    },
    Open(Box<Feed>),
}

impl Default for Reader {
    fn default() -> Self {
        Self::Closed { last_read: EventId(0), state: State::Seeing, more: false }
    }
}

impl Reader {
    /// The feed, where it stood.
    pub fn open(&mut self) -> &mut Feed {
        if let Self::Closed { last_read, state, more } = *self {
            *self = Self::Open(Box::new(Feed {
                page: Bytes::new(),
                at: 0,
                more,
                ahead: None,
                state,
                was_open: false,
                last_read,
                turn: Turn::default(),
            }));
        }
        match self {
            Self::Open(feed) => feed,
            Self::Closed { .. } => unreachable!("it was opened"),
        }
    }

    /// The last event taken in, shown or not.
    pub fn last_read(&self) -> EventId {
        match self {
            Self::Closed { last_read, .. } => *last_read,
            Self::Open(feed) => feed.ahead.as_ref().map_or(feed.last_read, |e| e.id),
        }
    }

    /// Bytes that are held, beyond this.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Closed { .. } => 0,
            Self::Open(feed) => std::mem::size_of::<Feed>() + feed.bytes(),
        }
    }

    /// Gives back what is not needed while nothing is read.
    pub fn shrink(&mut self) {
        if let Self::Open(feed) = self
            && feed.is_empty()
        {
            *self = Self::Closed { last_read: feed.last_read, state: feed.state, more: feed.more };
        }
    }
}

impl Feed {
    /// Takes the next page. What was not yet read of the one before is kept.
    pub fn push(&mut self, history: Bytes, more: bool) {
        debug_assert!(self.at == self.page.len(), "a page is pushed when the one before is used up");
        for entry in self.turn.seen.iter_mut().chain(&mut self.turn.commands).chain(&mut self.ahead) {
            entry.keep(&self.page);
        }
        if !history.is_empty() {
            self.turn.seen.reserve(EVENTS);
            self.turn.commands.reserve(EVENTS);
        }
        self.page = history;
        self.at = 0;
        self.more = more;
    }

    /// The open turn was answered and accepted: history will go on with its completion.
    pub fn answered(&mut self) {
        self.clear();
        self.state = State::Answered;
    }

    /// The open turn was speculative and is dropped: its scheduling and its start, the last two events, never were.
    pub fn dropped(&mut self) {
        if let Some(started) = self.turn.started {
            self.last_read = EventId(started.0 - 2);
        }
        self.clear();
        self.state = State::Seeing;
    }

    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.page.len()
            + (self.turn.seen.capacity() + self.turn.commands.capacity()) * std::mem::size_of::<Entry>()
    }

    /// Whether nothing is in it but where it stands.
    fn is_empty(&self) -> bool {
        let Turn { seen, started, completed, commands, goes_on: _, page: _ } = &self.turn;
        let nothing = seen.is_empty() && commands.is_empty() && started.is_none() && completed.is_none();
        nothing && self.at == self.page.len() && self.ahead.is_none()
    }

    /// Reads on. `rest`: what is left after the last task is a turn too.
    pub fn read(&mut self, rest: bool) -> Result<Read, Fault> {
        let read = self.read_on(rest)?;
        self.turn.page = self.page.clone();
        Ok(read)
    }

    fn read_on(&mut self, rest: bool) -> Result<Read, Fault> {
        loop {
            let Some(event) = self.event()? else { return Ok(self.at_end(rest)) };
            let part = event.part();
            match (self.state, part) {
                (State::Answered, Part::TaskCompleted) => self.complete(&event, true)?,
                (State::Answered, Part::Seen | Part::TaskStarted | Part::TaskLost | Part::Command) => {
                    return Err(Fault::malformed(
                        event.id,
                        "expected the completion of the task that was answered before",
                    ));
                }
                (State::Started, Part::TaskCompleted) => self.complete(&event, false)?,
                (State::Started, Part::TaskLost | Part::Seen | Part::TaskStarted | Part::Command) => {
                    self.turn.started = None;
                    self.state = State::Seeing;
                    self.see(event, part);
                }
                (State::Seeing, part) => self.see(event, part),
                (State::Doing, Part::Command) => self.turn.commands.push(event),
                (State::Doing, Part::Seen | Part::TaskStarted | Part::TaskCompleted | Part::TaskLost) => {
                    // A newer server's, which the core does not know, may stand between commands.
                    if event.kind.is_none() && event.worker_may_ignore {
                        continue;
                    }
                    self.last_read = EventId(event.id.0 - 1);
                    self.ahead = Some(event);
                    return Ok(self.done());
                }
            }
        }
    }

    fn see(&mut self, event: Entry, part: Part) {
        if part == Part::TaskStarted {
            self.turn.started = Some(event.id);
            self.state = State::Started;
        }
        self.turn.seen.push(event);
    }

    fn complete(&mut self, event: &Entry, was_open: bool) -> Result<(), Fault> {
        self.turn.completed = Some(event.event(&self.page).attributes()?);
        self.was_open = was_open;
        self.state = State::Doing;
        Ok(())
    }

    fn at_end(&mut self, rest: bool) -> Read {
        if self.more {
            return Read::Page;
        }
        match self.state {
            State::Doing => self.done(),
            State::Started => Read::Open,
            State::Seeing if rest && !self.turn.seen.is_empty() => Read::Rest,
            State::Seeing | State::Answered => Read::End,
        }
    }

    fn done(&mut self) -> Read {
        self.state = State::Seeing;
        self.turn.goes_on = self.ahead.is_some();
        if self.was_open { Read::Recorded } else { Read::Replayed }
    }

    /// Empties the turn, for the next.
    pub fn clear(&mut self) {
        self.turn.seen.clear();
        self.turn.commands.clear();
        self.turn.started = None;
        self.turn.completed = None;
    }

    /// The next event that was not read before.
    fn event(&mut self) -> Result<Option<Entry>, Fault> {
        if let Some(event) = self.ahead.take() {
            self.last_read = event.id;
            return Ok(Some(event));
        }
        loop {
            let opened =
                next_event(&self.page, &mut self.at).map_err(|e| Fault::undecodable(self.last_read, &e))?;
            let Some(event) = opened else { return Ok(None) };
            let id = event.id;
            if id <= self.last_read {
                continue; // servers send some events again, at the joins of pages and after a task was lost
            }
            if id.0 != self.last_read.0 + 1 {
                let problem = match self.last_read.0 {
                    0 => {
                        "it is the first of this history, but a whole history begins with event 1".to_owned()
                    }
                    last => format!("events are missing: the one before it has the number {last}"),
                };
                return Err(Fault::malformed(id, &problem));
            }
            self.last_read = id;
            return Ok(Some(event));
        }
    }
}

/// The number of the first event in an encoded history.
pub(crate) fn first_event_id(history: &Bytes) -> Result<Option<EventId>, Fault> {
    let event = next_event(history, &mut 0).map_err(|e| Fault::undecodable(EventId(0), &e))?;
    Ok(event.map(|e| e.id))
}

/// Opens the event at `at` in an encoded `History`, and goes on behind it.
fn next_event(page: &Bytes, at: &mut usize) -> Result<Option<Entry>, WireError> {
    let mut fields = Fields::new(&page[*at..]);
    while let Some((tag, value)) = fields.next()? {
        if let (1, Value::Bytes(event)) = (tag, value) {
            *at = page.len() - fields.rest().len();
            return Entry::open(page, event).map(Some);
        }
    }
    *at = page.len();
    Ok(None)
}
