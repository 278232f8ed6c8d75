//! Gzip both ways, and when it is left out.

use bytes::Bytes;
use outlast_client::{CallOptions, Client, Compression};

use crate::server::{Reply, Server};

async fn say(client: &Client, size: usize) -> Bytes {
    let request = Bytes::from(vec![b'x'; size]);
    client.call_bytes("test.Service", "Method", request, CallOptions::default()).await.unwrap()
}

#[tokio::test]
async fn gzip_both_ways_when_asked_for() {
    let server = Server::start(|seen| Reply::Gzip(seen.message.clone())).await;
    let mut options = server.options();
    options.compression = Compression::Gzip;
    let client = Client::lazy(options).unwrap();
    assert_eq!(say(&client, 50_000).await, vec![b'x'; 50_000]);
    let seen = &server.seen()[0];
    assert!(seen.compressed);
    assert_eq!(
        (seen.header("grpc-encoding"), seen.header("grpc-accept-encoding")),
        (Some("gzip"), Some("gzip,identity"))
    );
}

#[tokio::test]
async fn a_small_request_is_sent_as_it_is_and_its_answer_may_be_compressed() {
    let server = Server::start(|_| Reply::Gzip(vec![b'y'; 5_000])).await;
    let mut options = server.options();
    options.compression = Compression::Gzip;
    let client = Client::lazy(options).unwrap();
    assert_eq!(say(&client, 10).await, vec![b'y'; 5_000]);
    let seen = &server.seen()[0];
    assert_eq!((seen.compressed, seen.header("grpc-encoding")), (false, Some("gzip")));
}

#[tokio::test]
async fn nothing_is_compressed_on_loopback() {
    let server = Server::start(|_| Reply::Message(Vec::new())).await;
    let client = Client::lazy(server.options()).unwrap();
    say(&client, 50_000).await;
    let seen = &server.seen()[0];
    assert!(!seen.compressed);
    assert_eq!((seen.header("grpc-encoding"), seen.header("grpc-accept-encoding")), (None, None));
}

#[tokio::test]
async fn a_server_without_gzip_is_remembered() {
    let server = Server::start(|seen| match seen.header("grpc-encoding") {
        Some(_) => Reply::Error(12, "grpc: Decompressor is not installed for grpc-encoding \"gzip\""),
        None => Reply::Message(b"plain".to_vec()),
    })
    .await;
    let mut options = server.options();
    options.compression = Compression::Gzip;
    let client = Client::lazy(options).unwrap();
    assert_eq!(say(&client, 5_000).await, "plain");
    assert_eq!(say(&client, 5_000).await, "plain");
    let compressed: Vec<bool> = server.seen().iter().map(|seen| seen.compressed).collect();
    assert_eq!(compressed, [true, false, false]);
}

#[tokio::test]
async fn an_answer_that_grows_beyond_the_limit_is_too_large() {
    let server = Server::start(|_| Reply::Gzip(vec![0; 1_000_000])).await;
    let mut options = server.options();
    (options.compression, options.decode_limit) = (Compression::Gzip, 100_000);
    let client = Client::lazy(options).unwrap();
    let request = client.call_bytes("test.Service", "Method", Bytes::new(), CallOptions::default());
    let error = request.await.unwrap_err();
    assert_eq!(error.kind, outlast_client::Kind::TooLarge, "{error}");
    assert_eq!(server.seen().len(), 1);
}
