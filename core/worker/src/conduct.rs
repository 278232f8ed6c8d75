//! Carries out the end of a worker: turns what the pure [`Shutdown`] says into deeds, and deeds into facts for it.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::Clock;
use crate::poll::Polling;
use crate::shutdown::{Ending, Input, Output, Phase, Shutdown};
use crate::worker::Shared;

/// What only the conductor holds.
pub(crate) struct Players {
    pub(crate) clock: Clock,
    pub(crate) polls: JoinSet<()>,
    pub(crate) loops: Vec<AbortHandle>,
}

/// Waits for somebody to ask for the end, then brings it about.
pub(crate) async fn conduct(
    shared: Arc<Shared>,
    mut players: Players,
    mut asked: watch::Receiver<bool>,
    ended: watch::Sender<Option<Ending>>,
) {
    if asked.wait_for(|asked| *asked).await.is_err() {
        return;
    }
    let clock = players.clock;
    let mut shutdown = Shutdown::new(shared.config.shutdown_longest());
    let mut facts: JoinSet<Input> = JoinSet::new();
    let server_ends_polls = shared.namespace().ends_polls;
    shutdown.handle(clock.now(), Input::Asked { server_ends_polls });
    facts.spawn(polls_end(std::mem::take(&mut players.polls)));
    let mut taken = shared.tasks_taken();
    loop {
        while let Some(output) = shutdown.poll() {
            act(&shared, output, shutdown.phase(), &mut facts);
        }
        if let Phase::Down(ending) = shutdown.phase() {
            players.loops.iter().for_each(AbortHandle::abort);
            // All that may still be on its way is the announcement, which has a deadline of its own.
            facts.detach_all();
            ended.send_replace(Some(ending));
            return;
        }
        tokio::select! {
            Some(fact) = facts.join_next() => match fact {
                Ok(fact) => shutdown.handle(clock.now(), fact),
                Err(error) => tracing::error!(%error, "a part of shutdown broke off"),
            },
            () = clock.until(shutdown.deadline()) => {
                let before = std::mem::replace(&mut taken, shared.tasks_taken());
                shutdown.handle(clock.now(), Input::Tick { tasks_came: taken > before });
            }
        }
    }
}

fn act(shared: &Arc<Shared>, output: Output, phase: Phase, facts: &mut JoinSet<Input>) {
    match output {
        Output::Begin => {
            shared.set_polling(Polling::Closing);
            shared.prepare_drain();
        }
        Output::Grace => shared.start_grace(),
        Output::Announce => {
            let shared = shared.clone();
            facts.spawn(async move { shared.announce().await });
        }
        Output::Settle => {
            let shared = shared.clone();
            facts.spawn(async move {
                shared.settled().await;
                Input::Settled
            });
        }
        Output::AbortPolls => shared.set_polling(Polling::Aborted),
        Output::Drain => {
            let shared = shared.clone();
            facts.spawn(async move {
                shared.drained().await;
                Input::Idle
            });
        }
        Output::CloseDoors => {
            let cut_off = matches!(phase, Phase::Down(Ending::Deadline));
            if cut_off {
                tracing::error!(
                    "this worker was cut off at its shutdown_limit: what it still held comes to nothing"
                );
            }
            shared.close_doors(cut_off);
        }
    }
}

async fn polls_end(mut polls: JoinSet<()>) -> Input {
    while let Some(ended) = polls.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a poller broke off");
        }
    }
    Input::PollsEnded
}
