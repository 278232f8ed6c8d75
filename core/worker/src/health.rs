//! `/ready` and `/alive` over HTTP, for those who ask that way: 200 or 503. Nothing else is served.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::worker::Worker;

/// More at a time are not looked at until one ends.
const CONNECTIONS_MAX: usize = 16;

/// Answers for one worker until it is dropped.
///
/// ```no_run
/// # async fn demo(worker: outlast_worker::Worker) -> std::io::Result<()> {
/// let health = outlast_worker::Health::bind("127.0.0.1:8080".parse().unwrap(), worker).await?;
/// println!("http://{}/ready", health.address());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Health {
    address: SocketAddr,
    task: tokio::task::AbortHandle,
}

impl Health {
    /// Listens here; port 0 means any that is free.
    pub async fn bind(address: SocketAddr, worker: Worker) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, worker)).abort_handle();
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, worker: Worker) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = free.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let worker = worker.clone();
        tokio::spawn(async move {
            let answer =
                service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&worker, &request))));
            // Whoever asked may go away at any time.
            let _ =
                http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), answer).await;
            drop(permit);
        });
    }
}

fn answer<B>(worker: &Worker, request: &Request<B>) -> Response<Full<Bytes>> {
    let (status, text) = match (request.uri().path(), worker.ready(), worker.alive()) {
        ("/ready", true, _) | ("/alive", _, true) => (StatusCode::OK, "yes\n"),
        ("/ready" | "/alive", ..) => (StatusCode::SERVICE_UNAVAILABLE, "no\n"),
        _ => (StatusCode::NOT_FOUND, "ask for /ready or /alive\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
