//! A running server: asked until it answers, killed once. What kind of server it is, is not known here.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use outlast_client::{CallOptions, Client, ClientOptions, Code, Error, RetryKind};
use outlast_proto::temporal::api::workflowservice::v1::{
    GetSystemInfoRequest, GetSystemInfoResponse, workflow_service,
};
use tokio::time::{Instant, sleep};

use super::StartError;

/// Between questions whether it is ready.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// A server that runs until it is shut down or dropped.
#[derive(Debug)]
pub struct Server {
    target: String,
    has_test_service: bool,
    child: Mutex<Option<Child>>,
}

/// Runs the program, and waits until it answers on this port of the loopback address.
pub(super) async fn start(
    program: &Path,
    args: &[String],
    port: u16,
    has_test_service: bool,
    timeout: Duration,
) -> Result<Server, StartError> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let child = Mutex::new(Some(command.spawn().map_err(StartError::Failed)?));
    let server = Server { target: format!("127.0.0.1:{port}"), has_test_service, child };
    match answers(&server.target, timeout).await {
        Ok(()) => Ok(server),
        Err(last) => {
            server.shutdown().await;
            let (address, last) = (server.target.clone(), Box::new(last));
            Err(StartError::Silent { address, timeout, last })
        }
    }
}

/// Asks until there is an answer or no time left; at least once.
async fn answers(target: &str, timeout: Duration) -> Result<(), Error> {
    let until = Instant::now() + timeout;
    let client = Client::lazy(ClientOptions::new(target.parse()?))?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let options = CallOptions {
            timeout: Some(left.max(ASK_INTERVAL)),
            retry: RetryKind::None,
            ..CallOptions::default()
        };
        let path = workflow_service::GET_SYSTEM_INFO;
        let answer: Result<GetSystemInfoResponse, Error> =
            client.call(path, &GetSystemInfoRequest::default(), options).await;
        let error = match answer {
            Ok(_) => return Ok(()),
            Err(error) if error.code == Code::Unimplemented => return Ok(()),
            Err(error) => error,
        };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(error);
        }
        sleep(ASK_INTERVAL.min(left)).await;
    }
}

impl Server {
    /// Where it answers: `127.0.0.1:port`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Whether its clock can be skipped ahead.
    pub fn has_test_service(&self) -> bool {
        self.has_test_service
    }

    /// Whether it has not been shut down; it may have ended by itself.
    pub fn is_kept(&self) -> bool {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Kills it, and waits for its end. A second time there is nothing to do.
    pub async fn shutdown(&self) {
        if let Some(child) = self.take() {
            // Waiting takes as long as the machine needs to clear the process away, which is short: it was killed.
            let ended = tokio::task::spawn_blocking(move || kill(child)).await;
            drop(ended);
        }
    }

    #[cfg(all(test, unix))]
    pub(super) fn of(child: Child) -> Self {
        Self { target: String::new(), has_test_service: false, child: Mutex::new(Some(child)) }
    }

    fn take(&self) -> Option<Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut child) = self.take() else { return };
        // Killed here and now, cleared away elsewhere: whoever drops may be in a hurry.
        drop(child.kill());
        let reaper = std::thread::Builder::new().name("outlast-reaper".into());
        drop(reaper.spawn(move || drop(child.wait())));
    }
}

/// Neither can fail but for a process that is gone.
fn kill(mut child: Child) {
    drop(child.kill());
    drop(child.wait());
}
