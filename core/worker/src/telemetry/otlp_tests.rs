//! Metrics sent to an OpenTelemetry collector on loopback.

use super::*;
use crate::telemetry::{Metrics, MetricsOptions, names};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What a collector was sent: path, the header `x-key`, body.
type Sent = (String, String, Vec<u8>);

/// A collector for one connection, by HTTP/1 or gRPC.
async fn collector(transport: OtlpTransport) -> (SocketAddr, mpsc::UnboundedReceiver<Sent>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, sent) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let stream = TokioIo::new(listener.accept().await.unwrap().0);
        match transport {
            OtlpTransport::Http => {
                let service = service_fn(move |request| {
                    let sender = sender.clone();
                    async move {
                        keep(request, sender).await;
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
                    }
                });
                hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await.unwrap();
            }
            OtlpTransport::Grpc => {
                let service = service_fn(move |request| {
                    let sender = sender.clone();
                    async move {
                        keep(request, sender).await;
                        let ok = HeaderMap::from_iter([(
                            HeaderName::from_static("grpc-status"),
                            HeaderValue::from_static("0"),
                        )]);
                        // One empty message, then the status.
                        let body =
                            Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(ok)) });
                        let answer =
                            Response::builder().header("content-type", "application/grpc").body(body);
                        Ok::<_, Infallible>(answer.unwrap())
                    }
                });
                let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                http2.serve_connection(stream, service).await.unwrap();
            }
        }
    });
    (address, sent)
}

async fn keep(request: Request<Incoming>, sender: mpsc::UnboundedSender<Sent>) {
    let path = request.uri().path().to_owned();
    let key = request.headers().get("x-key").map_or("", |value| value.to_str().unwrap()).to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    // The test may be over.
    let _ = sender.send((path, key, body));
}

fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

async fn exported(transport: OtlpTransport, path: &str) -> Sent {
    let (address, mut sent) = collector(transport).await;
    let mut options = OtlpOptions::new(format!("http://{address}{path}"));
    options.transport = transport;
    options.interval = Duration::from_secs(3600);
    options.durations_as_seconds = true;
    options.headers.insert("x-key".into(), "secret".into());
    options.resource.insert("service.name".into(), "orders".into());
    let otlp = Arc::new(Otlp::start(options).unwrap());
    let metrics = Metrics::new(otlp.clone(), MetricsOptions::default()).with("namespace", "n1");
    metrics.counter(names::STICKY_HIT).add(3);
    metrics.timing(names::REQUEST_LATENCY).observe(Duration::from_millis(1500));
    otlp.shutdown().await.unwrap();
    sent.recv().await.unwrap()
}

#[tokio::test]
async fn totals_reach_a_collector_by_http() {
    let (path, key, body) = exported(OtlpTransport::Http, "/v1/metrics").await;
    assert_eq!((&*path, &*key), ("/v1/metrics", "secret"));
    for text in ["temporal_sticky_cache_hit", "temporal_request_latency", "namespace", "n1", "orders"] {
        assert!(contains(&body, text), "{text}");
    }
    // The sum of the histogram, in seconds.
    assert!(body.windows(8).any(|window| window == 1.5f64.to_le_bytes()));
}

#[tokio::test]
async fn totals_reach_a_collector_by_grpc() {
    let (path, key, body) = exported(OtlpTransport::Grpc, "").await;
    let export = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    assert_eq!((&*path, &*key), (export, "secret"));
    assert!(contains(&body, "temporal_sticky_cache_hit") && contains(&body, "n1"));
}

#[tokio::test]
async fn a_header_that_is_none_is_refused() {
    let mut options = OtlpOptions::new("http://127.0.0.1:1");
    options.headers.insert("no spaces".into(), "x".into());
    assert!(matches!(Otlp::start(options), Err(OtlpError::Header { name, .. }) if name == "no spaces"));
}

#[tokio::test]
async fn without_a_collector_the_export_fails_as_a_value() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut options = OtlpOptions::new(format!("http://{closed}/v1/metrics"));
    options.transport = OtlpTransport::Http;
    let otlp = Otlp::start(options).unwrap();
    otlp.flush().await.expect("nothing recorded, nothing sent");
    otlp.bind(&Instrument::new("x", Shape::Counter), &Labels::default()).record(Value::Whole(1));
    assert!(matches!(otlp.flush().await, Err(OtlpError::Export(_))));
}
