//! Timers: they fire in order, are cancelled before and after they were sent, and outlive the cache.

use outlast_core::proto::coresdk::workflow_commands::{CancelTimer, workflow_command::Variant as Command};
use outlast_core::proto::temporal::api::enums::v1::EventType;

use crate::flow::{done, race};
use crate::language::main;
use crate::scene::story;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_fires() {
    let code = main(|w| async move { done(&w.timer(50).said().await) });
    story(code, async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "fired");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shorter_of_two_timers_cancels_the_other() {
    let code = main(|w| async move {
        let (long, short) = (w.timer(60_000), w.timer(50));
        let first = race(long.said(), short.said()).await;
        w.command(Command::CancelTimer(CancelTimer { seq: long.seq }));
        w.timer(20).said().await;
        done(if first.is_err() { "short" } else { "long" })
    });
    story(code, async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "short");
        assert_eq!(s.count(&run, EventType::TimerCanceled).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_is_cancelled_at_once_is_never_sent() {
    let code = main(|w| async move {
        let never = w.timer(60_000);
        w.command(Command::CancelTimer(CancelTimer { seq: never.seq }));
        done(&w.timer(20).said().await)
    });
    story(code, async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "fired");
        assert_eq!(s.count(&run, EventType::TimerStarted).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_timers_fire_each_once() {
    let code = main(|w| async move {
        let all: Vec<_> = (0..50).map(|n| w.timer(20 + n)).collect();
        let mut fired = 0;
        for timer in all {
            timer.said().await;
            fired += 1;
        }
        done(&fired.to_string())
    });
    story(code, async |s| {
        let run = s.start().await;
        assert_eq!(s.end(&run).await, "50");
    })
    .await;
}
