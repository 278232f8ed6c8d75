//! Polling the server: each poll starts with a permit in hand and ends as a task, or with the permit given back.

use std::future::Future;

use outlast_client::Error;
use tokio::sync::watch;

use crate::permits::{Permit, Permits};
use crate::remote::Polled;

/// Whether polls may start and go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Polling {
    /// The language has not asked yet: tasks would wait for nobody.
    Waiting,
    Open,
    /// No poll starts; those in flight are left to the server.
    Closing,
    /// Those in flight are dropped.
    Aborted,
}

/// Polls until told to stop, or until the server refuses for good.
pub(crate) async fn poll<T, F>(
    mut polling: watch::Receiver<Polling>,
    permits: Permits,
    mut ask: impl FnMut() -> F,
    take: impl Fn(T, Permit),
) -> Result<(), Error>
where
    F: Future<Output = Result<Polled<T>, Error>>,
{
    if polling.wait_for(|p| *p != Polling::Waiting).await.is_err() {
        return Ok(());
    }
    loop {
        let permit = tokio::select! {
            biased;
            _ = polling.wait_for(|p| *p != Polling::Open) => return Ok(()),
            permit = permits.reserve() => permit,
        };
        let Ok(permit) = permit else { return Ok(()) };
        let answer = tokio::select! {
            biased;
            _ = polling.wait_for(|p| *p == Polling::Aborted) => return Ok(()),
            answer = ask() => answer,
        };
        if let Some(task) = answer?.task {
            take(task, permit);
        }
    }
}
