//! Connecting to what does not answer: every wait ends, and the error says whom we waited for.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use outlast_client::{
    CallOptions, Client, ClientOptions, Code, Error, HttpConnectProxy, KeepAlive, Kind, RetryKind, TlsOptions,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Reply, Server, quick};

/// Far less than anybody waits, and more than loopback needs.
const SOON: Duration = Duration::from_millis(200);

/// Takes connections, says this much, and then nothing more.
async fn saying(words: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(say(stream, words));
        }
    });
    address
}

async fn say(mut stream: TcpStream, words: &'static [u8]) {
    stream.read_u8().await.unwrap();
    stream.write_all(words).await.unwrap();
    while stream.read_u8().await.is_ok() {}
}

/// One try, with a deadline that does not come into it.
async fn ask(options: ClientOptions) -> Error {
    let client = Client::lazy(options).unwrap();
    let once = CallOptions { retry: RetryKind::None, ..CallOptions::default() };
    client.call_bytes("test.Service", "Method", Bytes::new(), once).await.unwrap_err()
}

fn hasty(target: &str) -> ClientOptions {
    ClientOptions { handshake_timeout: SOON, keep_alive: None::<KeepAlive>, ..quick(target) }
}

#[tokio::test]
async fn a_port_that_accepts_and_says_nothing() {
    let address = saying(b"").await.to_string();
    for tls in [None, Some(TlsOptions::default())] {
        let error = ask(ClientOptions { tls: tls.clone(), ..hasty(&address) }).await;
        assert_eq!((error.kind, error.code), (Kind::Unreachable, Code::Unavailable));
        let text = format!("{address} accepted the connection and then said nothing within 200ms");
        assert!(error.message.contains(&text), "{tls:?} {}", error.message);
    }
}

#[tokio::test]
async fn a_tls_handshake_that_stalls() {
    // The head of a record and the beginning of a ServerHello.
    let address = saying(&[22, 3, 3, 0, 100, 2, 0, 0, 96, 3, 3]).await.to_string();
    let error = ask(ClientOptions { tls: Some(TlsOptions::default()), ..hasty(&address) }).await;
    assert_eq!(error.kind, Kind::Unreachable);
    let (begin, end) = (format!("cannot reach {address}: "), "TLS handshake timeout");
    assert!(error.message.starts_with(&begin) && error.message.contains(end), "{}", error.message);
}

#[tokio::test]
async fn a_proxy_that_never_answers() {
    for words in [b"".as_slice(), b"HTTP/1.1 200 O"] {
        let address = saying(words).await.to_string();
        let proxy = Some(HttpConnectProxy::parse(&address).unwrap());
        let options = ClientOptions { proxy, connect_timeout: SOON, ..quick("temporal.test:7233") };
        let error = ask(options).await;
        assert_eq!(error.kind, Kind::Unreachable);
        let text = format!("proxy {address}: no tunnel within 200ms");
        assert!(error.message.contains(&text), "{}", error.message);
    }
}

#[tokio::test]
async fn a_tunnel_into_silence() {
    let address = saying(b"HTTP/1.1 200 OK\r\n\r\n").await.to_string();
    let proxy = Some(HttpConnectProxy::parse(&address).unwrap());
    let error = ask(ClientOptions { proxy, ..hasty("temporal.test:7233") }).await;
    let text = format!("temporal.test:7233, through proxy {address}, accepted the connection");
    assert!(error.message.contains(&text), "{}", error.message);
}

#[tokio::test]
async fn a_server_that_never_says_what_it_can_do() {
    let server = Server::start(|_| Reply::Silence).await;
    let options = ClientOptions { call_timeout: SOON, ..server.options() };
    let error = Client::connect(options).await.unwrap_err();
    assert_eq!((error.kind, error.code), (Kind::TimedOut, Code::DeadlineExceeded));
    assert_eq!(error.message, format!("no answer from {} within 200ms", server.address));
}

#[tokio::test]
async fn every_address_of_a_name_that_refuses_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = ask(quick(&format!("localhost:{port}"))).await;
    assert!(error.message.starts_with(&format!("cannot reach localhost:{port}: ")), "{}", error.message);
    for address in tokio::net::lookup_host(("localhost", port)).await.unwrap() {
        assert!(error.message.contains(&format!("{address}: ")), "{address} in {}", error.message);
    }
}

/// A server is silent for as long as it likes once it has spoken.
#[tokio::test]
async fn a_call_may_take_longer_than_the_handshake() {
    let server = Server::start(|_| Reply::Silence).await;
    let options = ClientOptions { handshake_timeout: SOON, ..server.options() };
    let client = Client::lazy(options).unwrap();
    let patient = CallOptions { timeout: Some(3 * SOON), retry: RetryKind::None, ..CallOptions::default() };
    let error = client.call_bytes("test.Service", "Method", Bytes::new(), patient).await.unwrap_err();
    assert_eq!(error.message, format!("no answer from {} within 600ms", server.address));
}
