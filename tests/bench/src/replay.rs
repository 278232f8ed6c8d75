//! Replays histories as a replayer does: encoded history in, encoded activations out to a language, encoded completions back.
//! It does not know how it is measured.

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

/// A shard, and the language its runs are written in.
pub struct Replayer {
    shape: Shape,
    shard: Shard,
    language: Language,
    started: u64,
}

impl Replayer {
    /// One for histories of this shape.
    pub fn new(shape: Shape) -> Self {
        let config = Config { task_queue: Bytes::from_static(QUEUE.as_bytes()), ..Config::default() };
        Self { shape, shard: Shard::new(config), language: Language::new(), started: 0 }
    }

    /// Replays a history, as one page. `see` is shown each activation, typed and encoded.
    pub fn replay(&mut self, history: &Bytes, mut see: impl FnMut(&lang::WorkflowActivation, &Bytes)) {
        self.started += 1;
        let page = Page { history: history.clone(), next_page: Bytes::new() };
        let run = format!("run-{}", self.started);
        let workflow_type = Bytes::from_static(self.shape.name().as_bytes());
        let task = replay_task(Ticket(self.started), "bench", &run, workflow_type, page);
        self.shard.handle(Time::default(), Input::Task(Box::new(task)));
        while let Some(output) = self.shard.poll() {
            match output {
                Output::Activate(activation) => {
                    let bytes = Bytes::from(activation.encode_to_vec());
                    see(&activation, &bytes);
                    drop(activation);
                    let answer = Bytes::from(self.language.activate(&bytes).bytes);
                    let completion = lang::WorkflowActivationCompletion::decode(Frame::new(&answer))
                        .expect("the language encodes well");
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
        for shape in Shape::REPLAYED {
            let mut replayer = Replayer::new(shape);
            let history = write(shape, 7, 8).encode();
            let mut activations = 0;
            replayer.replay(&history, |_, _| activations += 1);
            replayer.replay(&history, |_, _| {});
            replayer.check();
            assert_eq!(activations, 9, "{shape:?}: the start, seven resolutions, the removal");
        }
    }
}
