//! Replays histories as a replayer does: encoded history in, activations out to a language, completions back. It does not know how
//! it is measured.

use bytes::Bytes;
use outlast_machine::Config;
use outlast_machine::io::{Input, Output, Page, Ticket};
use outlast_machine::shard::{Shard, replay_task};
use outlast_machine::time::Time;
use outlast_proto::Frame;
use outlast_proto::lens::lang;
use prost::Message;

use crate::history::{QUEUE, Shape};
use crate::language::Language;

/// How a language and the core exchange activations and completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// As Rust values: a language in the same process.
    Typed,
    /// As encoded messages: a language behind a foreign function interface.
    Bytes,
}

/// A shard, and the language its runs are written in.
pub struct Replayer {
    shape: Shape,
    shard: Shard,
    language: Language,
    exchange: Exchange,
    started: u64,
}

impl Replayer {
    /// One for histories of this shape.
    pub fn new(shape: Shape, exchange: Exchange) -> Self {
        let config = Config { task_queue: Bytes::from_static(QUEUE.as_bytes()), ..Config::default() };
        Self { shape, shard: Shard::new(config), language: Language::new(), exchange, started: 0 }
    }

    /// Replays a history, as one page. `see` is shown each activation.
    pub fn replay(&mut self, history: &Bytes, mut see: impl FnMut(&lang::WorkflowActivation)) {
        self.started += 1;
        let page = Page { history: history.clone(), next_page: Bytes::new() };
        let run = format!("run-{}", self.started);
        let workflow_type = Bytes::from_static(self.shape.name().as_bytes());
        let task = replay_task(Ticket(self.started), "bench", &run, workflow_type, page);
        self.shard.handle(Time::default(), Input::Task(Box::new(task)));
        while let Some(output) = self.shard.poll() {
            match output {
                Output::Activate(activation) => {
                    see(&activation);
                    let completion = self.exchange(activation);
                    self.shard.handle(Time::default(), Input::Completed(completion));
                }
                Output::Forgotten(..) | Output::Done(_) | Output::Note(..) => {}
                Output::Fetch(_)
                | Output::StartLocal(..)
                | Output::CancelLocal(..)
                | Output::Complete(..)
                | Output::Fail(..)
                | Output::Answer(..) => {
                    panic!("a whole history wants nothing of the outside, not {output:?}")
                }
            }
        }
    }

    fn exchange(&mut self, activation: lang::WorkflowActivation) -> lang::WorkflowActivationCompletion {
        match self.exchange {
            Exchange::Typed => self.language.activate(activation),
            Exchange::Bytes => {
                let bytes = Bytes::from(activation.encode_to_vec());
                drop(activation);
                let answer = Bytes::from(self.language.activate_bytes(&bytes));
                lang::WorkflowActivationCompletion::decode(Frame::new(&answer))
                    .expect("the language encodes well")
            }
        }
    }

    /// Panics unless every replay so far came to its end.
    pub fn check(&self) {
        assert_eq!(self.language.complaint, None);
        assert_eq!(self.language.completed as u64, self.started, "replays that reached the end");
        assert_eq!(self.shard.runs(), 0, "runs that are left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::write;

    #[test]
    fn every_shape_is_replayed_to_its_end() {
        for (shape, exchange) in
            Shape::REPLAYED.into_iter().flat_map(|s| [(s, Exchange::Typed), (s, Exchange::Bytes)])
        {
            let mut replayer = Replayer::new(shape, exchange);
            let history = write(shape, 7, 8).encode();
            let mut activations = 0;
            replayer.replay(&history, |_| activations += 1);
            replayer.replay(&history, |_| {});
            replayer.check();
            assert_eq!(activations, 9, "{shape:?}: the start, seven resolutions, the removal");
        }
    }
}
