//! The HTTP port where Prometheus scrapes: one page, `/metrics`.
//!
//! Knows nothing of metrics but that they make a text.

use super::Prometheus;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Scrapes served at once; more wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 32;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A listening endpoint; it closes when dropped.
#[derive(Debug)]
pub struct PrometheusEndpoint {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl PrometheusEndpoint {
    /// Listens on `address` (port 0 picks one) and serves `prometheus` at `/metrics`.
    pub async fn bind(address: SocketAddr, prometheus: Arc<Prometheus>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, prometheus));
        Ok(PrometheusEndpoint { address, accepting })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PrometheusEndpoint {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, prometheus: Arc<Prometheus>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the peer is gone already: neither is cured by trying at once.
                tracing::warn!(%error, "metrics endpoint could not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let prometheus = prometheus.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let answer = answer(&request, &prometheus);
                async { Ok::<_, Infallible>(answer) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(%error, "metrics connection ended");
            }
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, prometheus: &Prometheus) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    match (request.method().as_str(), request.uri().path()) {
        ("GET" | "HEAD", "/metrics") => {
            *response.body_mut() = Full::new(Bytes::from(prometheus.text()));
            let text = hyper::header::HeaderValue::from_static("text/plain; version=0.0.4");
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, text);
        }
        (_, "/metrics") => *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED,
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Instrument, Labels, Meter, Shape, Value};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_scrape_shows_what_was_counted() {
        let prometheus = Arc::new(Prometheus::default());
        let endpoint =
            PrometheusEndpoint::bind("127.0.0.1:0".parse().unwrap(), prometheus.clone()).await.unwrap();
        let done = prometheus.bind(&Instrument::new("done", Shape::Counter), &Labels::default());
        done.record(Value::Whole(7));
        let page = get(endpoint.address(), "/metrics").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
        assert!(page.ends_with("# TYPE done counter\ndone 7\n"), "{page}");
        for path in ["/", "/other"] {
            assert!(get(endpoint.address(), path).await.starts_with("HTTP/1.1 404"));
        }
    }
}
