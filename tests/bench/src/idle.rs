//! Runs that wait in the cache of a live worker: brought there task by task, answered and accepted. It does not know what
//! their memory is counted with.

use bytes::Bytes;
use outlast_machine::Config;
use outlast_machine::io::{Input, Output, Reply, RunId, Source, Task, Ticket};
use outlast_machine::shard::Shard;
use outlast_machine::time::Time;
use outlast_proto::Frame;
use outlast_proto::lens::{api, lang};
use prost::Message;

use crate::history::{QUEUE, Shape, write};
use crate::language::Language;

/// A shard with `runs` runs, each after `activities` finished activities and with one open timer.
pub fn shard(runs: u32, activities: u32) -> Shard {
    let config =
        Config { task_queue: Bytes::from_static(QUEUE.as_bytes()), cache_runs: 100_000, ..Config::default() };
    let mut shard = Shard::new(config);
    let mut language = Language::new();
    let tasks = write(Shape::Idle, activities, 8).tasks();
    for run in 0..runs {
        for (number, history) in tasks.iter().enumerate() {
            // A frame of its own, as from a socket: whoever keeps a slice of it keeps all of it.
            let history = Bytes::from(history.to_vec());
            let task =
                Task { ticket: Ticket(number as u64), poll: poll(run, history), source: Source::Server };
            shard.handle(Time::default(), Input::Task(Box::new(task)));
            serve(&mut shard, &mut language);
        }
    }
    assert!(shard.is_idle());
    assert_eq!(shard.runs(), runs as usize);
    shard
}

fn serve(shard: &mut Shard, language: &mut Language) {
    while let Some(output) = shard.poll() {
        match output {
            Output::Activate(activation) => {
                let answer = Bytes::from(language.activate_bytes(&activation.encode_to_vec().into()));
                assert_eq!(language.complaint, None, "an idle run stays");
                let completion = lang::WorkflowActivationCompletion::decode(Frame::new(&answer))
                    .expect("the language encodes well");
                shard.handle(Time::default(), Input::Completed(completion));
            }
            Output::Complete(run, completion) => {
                assert_eq!(completion.commands.len(), 1, "an activity or the timer");
                accept(shard, run);
            }
            Output::Done(_) | Output::Note(..) => {}
            Output::Fetch(_)
            | Output::StartLocal(..)
            | Output::CancelLocal(..)
            | Output::Forgotten(..)
            | Output::Fail(..)
            | Output::Answer(..) => panic!("nothing here asks for {output:?}"),
        }
    }
}

fn accept(shard: &mut Shard, run: RunId) {
    let reply = Reply::Accepted { task: None, reset_history_event_id: 0 };
    shard.handle(Time::default(), Input::Reported(run, reply));
}

fn poll(run: u32, history: Bytes) -> api::PollWorkflowTaskQueueResponse {
    api::PollWorkflowTaskQueueResponse {
        task_token: Bytes::from_static(b"token"),
        workflow_execution: Some(api::WorkflowExecution {
            workflow_id: format!("bench-{run:06}"),
            // As long as a real one.
            run_id: format!("0b9f7a52-7d0b-4c7e-8f7d-5a3a7d{run:06}"),
        }),
        workflow_type: Some(api::WorkflowType { name: Bytes::from_static(Shape::Idle.name().as_bytes()) }),
        history: Some(history),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn runs_wait_with_a_timer_after_their_activities() {
        assert_eq!(super::shard(3, 0).runs(), 3);
        assert_eq!(super::shard(2, 5).runs(), 2);
    }
}
