//! Through an HTTP proxy, over TCP and a Unix socket. The target's name is one that only the proxy knows.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use outlast_client::{BasicAuth, CallOptions, Client, ClientOptions, Error, HttpConnectProxy, Kind};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::server::{Reply, Server, quick};

type Heads = Arc<Mutex<Vec<String>>>;

/// Reads a CONNECT, notes it, and joins the two ends whatever name was asked for; refuses if there is no server.
async fn tunnel(client: impl AsyncRead + AsyncWrite + Unpin, server: Option<SocketAddr>, heads: Heads) {
    let mut client = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        client.read_line(&mut head).await.unwrap();
    }
    heads.lock().unwrap().push(head);
    let Some(server) = server else {
        return client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.unwrap();
    };
    let mut server = TcpStream::connect(server).await.unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    // How either end leaves is not this test's concern.
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

async fn over_tcp(server: Option<SocketAddr>) -> (String, Heads) {
    let (listener, heads) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Heads::default());
    let (address, log) = (listener.local_addr().unwrap().to_string(), heads.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tunnel(stream, server, log.clone()));
        }
    });
    (address, heads)
}

fn through(proxy: HttpConnectProxy) -> ClientOptions {
    ClientOptions { proxy: Some(proxy), ..quick("temporal.test:7233") }
}

async fn ask(client: &Client, size: usize) -> Result<Bytes, Error> {
    let request = Bytes::from(vec![b'x'; size]);
    client.call_bytes("test.Service", "Method", request, CallOptions::default()).await
}

#[tokio::test]
async fn a_tcp_proxy_with_a_password() {
    let server = Server::start(|_| Reply::Message(b"far".to_vec())).await;
    let (address, heads) = over_tcp(Some(server.address)).await;
    let auth = Some(BasicAuth { user: "user".into(), password: "pass".into() });
    let proxy = HttpConnectProxy { auth, ..HttpConnectProxy::parse(&address).unwrap() };
    let client = Client::lazy(through(proxy)).unwrap();
    assert_eq!(ask(&client, 1).await.unwrap(), "far");
    let expected = "CONNECT temporal.test:7233 HTTP/1.1\r\nHost: temporal.test:7233\r\n\
                    Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n";
    assert_eq!(*heads.lock().unwrap(), [expected]);
    assert_eq!(server.seen()[0].authority, "temporal.test:7233");
}

#[tokio::test]
async fn off_loopback_large_requests_are_compressed_and_small_ones_are_not() {
    let server = Server::start(|_| Reply::Message(Vec::new())).await;
    let (address, _) = over_tcp(Some(server.address)).await;
    let client = Client::lazy(through(HttpConnectProxy::parse(&address).unwrap())).unwrap();
    ask(&client, 1_023).await.unwrap();
    ask(&client, 1_024).await.unwrap();
    let seen: Vec<(bool, Option<String>)> = server
        .seen()
        .iter()
        .map(|s| (s.compressed, s.header("grpc-accept-encoding").map(str::to_owned)))
        .collect();
    let accepts = || Some("gzip,identity".to_owned());
    assert_eq!(seen, [(false, accepts()), (true, accepts())]);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_quoted() {
    let (address, _) = over_tcp(None).await;
    let client = Client::lazy(through(HttpConnectProxy::parse(&address).unwrap())).unwrap();
    let error = ask(&client, 1).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable);
    let text = "CONNECT call failed with status: 407 Proxy Authentication Required";
    assert!(error.message.contains(text), "{}", error.message);
}

#[cfg(unix)]
#[tokio::test]
async fn a_proxy_on_a_unix_socket() {
    let server = Server::start(|_| Reply::Message(b"far".to_vec())).await;
    let path = std::env::temp_dir().join(format!("outlast-client-proxy-{}.sock", std::process::id()));
    let _left_by_a_killed_run = std::fs::remove_file(&path);
    let (listener, heads) = (tokio::net::UnixListener::bind(&path).unwrap(), Heads::default());
    let (target, log) = (server.address, heads.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tunnel(stream, Some(target), log.clone()));
        }
    });
    let proxy = HttpConnectProxy::parse(&format!("unix:{}", path.display())).unwrap();
    let client = Client::lazy(through(proxy)).unwrap();
    assert_eq!(ask(&client, 1).await.unwrap(), "far");
    assert_eq!(heads.lock().unwrap().len(), 1);
    std::fs::remove_file(&path).unwrap();
}
