//! Tells that a part of one worker panicked, so that its language hears of it instead of waiting for ever. Other workers
//! of the process go on.

use std::future::Future;

use tokio::sync::watch;

use crate::PollError;

/// Goes off once, for one worker. Clones are the same alarm.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alarm(watch::Sender<bool>);

impl Alarm {
    /// The same work, which sets the alarm off if it panics.
    pub(crate) fn guard<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        let guard = Guard(self.clone());
        async move {
            let _guard = guard;
            work.await
        }
    }

    /// The next task, unless the alarm has gone off or does.
    pub(crate) async fn or<T>(
        &self,
        next: impl Future<Output = Result<T, PollError>>,
    ) -> Result<T, PollError> {
        let mut rings = self.0.subscribe();
        tokio::select! {
            biased;
            Ok(_) = rings.wait_for(|rings| *rings) => Err(PollError::Broken),
            next = next => next,
        }
    }
}

struct Guard(Alarm);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.0.send_replace(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_the_wait_of_those_who_poll_now_and_later() {
        let alarm = Alarm::default();
        assert_eq!(alarm.or(async { Ok(7) }).await, Ok(7));
        let waiting = tokio::spawn({
            let alarm = alarm.clone();
            async move { alarm.or(std::future::pending::<Result<(), _>>()).await }
        });
        tokio::task::yield_now().await;
        let panics = tokio::spawn(alarm.guard(async { panic!("on purpose") }));
        assert!(panics.await.is_err());
        assert_eq!(waiting.await.unwrap(), Err(PollError::Broken));
        assert_eq!(alarm.or(async { Ok(7) }).await, Err(PollError::Broken));
    }

    #[tokio::test]
    async fn work_that_ends_or_is_aborted_sets_nothing_off() {
        let alarm = Alarm::default();
        alarm.guard(async {}).await;
        let aborted = tokio::spawn(alarm.guard(std::future::pending::<()>()));
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(alarm.or(async { Ok(()) }).await, Ok(()));
    }
}
