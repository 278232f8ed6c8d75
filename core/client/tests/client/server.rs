//! A gRPC server that says what its test tells it to. Knows frames, trailers and gzip; no messages.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use outlast_client::{ClientOptions, KeepAlive, RetryPolicy, retry::Backoff};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub authority: String,
    pub headers: http::HeaderMap,
    pub message: Vec<u8>,
    pub compressed: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What the server does about a request.
pub enum Reply {
    Message(Vec<u8>),
    Gzip(Vec<u8>),
    Error(u32, &'static str),
    Details(u32, &'static str, &'static str),
    /// No answer, ever.
    Silence,
}

type Script = Arc<Mutex<dyn FnMut(&Seen) -> Reply + Send>>;

pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Serves on a free port of loopback. The script is asked once per request, in order.
    pub async fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::with(script, |stream| async { Some(stream) }).await
    }

    /// As [`Server::start`]; `wrap` makes of a TCP stream what requests are read from.
    pub async fn with<W, F, S>(script: impl FnMut(&Seen) -> Reply + Send + 'static, wrap: W) -> Self
    where
        W: Fn(tokio::net::TcpStream) -> F + Send + Sync + 'static,
        F: Future<Output = Option<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, script): (Arc<Mutex<Vec<Seen>>>, Script) = (Arc::default(), Arc::new(Mutex::new(script)));
        let log = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (wrapped, script, log) = (wrap(stream), script.clone(), log.clone());
                tokio::spawn(async move {
                    if let Some(stream) = wrapped.await {
                        serve(stream, script, log).await;
                    }
                });
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Options for this server, with waits too short to notice.
    pub fn options(&self) -> ClientOptions {
        quick(&self.address.to_string())
    }
}

/// Options with waits of a millisecond, no patience with refusals, and no pings.
pub fn quick(target: &str) -> ClientOptions {
    let backoff = Backoff { initial: Duration::from_millis(1), factor: 1.0, max: Duration::from_millis(1) };
    let policy = RetryPolicy::default();
    let mut options = ClientOptions::new(target.parse().unwrap());
    options.retry = RetryPolicy {
        call: backoff,
        long_poll: backoff,
        refusals_max: Duration::ZERO,
        throttle: backoff,
        attempts_max: 4,
        ..policy
    };
    options.keep_alive = None::<KeepAlive>;
    options
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, script: Script, log: Arc<Mutex<Vec<Seen>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    // The connection moves only while it is asked for the next request: hence a task for each.
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (script, log) = (script.clone(), log.clone());
        tokio::spawn(async move {
            let seen = read(request).await;
            let reply = (script.lock().unwrap())(&seen);
            log.lock().unwrap().push(seen);
            match reply {
                Reply::Message(message) => answer(respond, message, false),
                Reply::Gzip(message) => answer(respond, message, true),
                Reply::Error(code, message) => refuse(respond, code, message, None),
                Reply::Details(code, message, details) => refuse(respond, code, message, Some(details)),
                Reply::Silence => {
                    let _kept_open = respond;
                    std::future::pending().await
                }
            }
        });
    }
}

/// Reads up to the first request and closes the connection with a GOAWAY that says: not looked at.
pub async fn go_away(mut stream: tokio::net::TcpStream) {
    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    const SETTINGS_THEN_GOAWAY: [u8; 26] = [
        0, 0, 0, 4, 0, 0, 0, 0, 0, /**/ 0, 0, 8, 7, 0, 0, 0, 0, 0, /**/ 0, 0, 0, 0, /**/ 0, 0,
        0, 0,
    ];
    stream.read_exact(&mut [0; PREFACE]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    stream.write_all(&SETTINGS_THEN_GOAWAY).await.unwrap();
    // The client closes when it has understood.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

async fn read(request: http::Request<h2::RecvStream>) -> Seen {
    let (parts, mut body) = request.into_parts();
    let mut frame = Vec::new();
    while let Some(data) = body.data().await {
        let Ok(data) = data else { break };
        body.flow_control().release_capacity(data.len()).unwrap();
        frame.extend_from_slice(&data);
    }
    let compressed = frame.first() == Some(&1);
    let message = frame.get(5..).unwrap_or_default();
    let message = if compressed { gunzip(message) } else { message.to_vec() };
    Seen {
        path: parts.uri.path().to_owned(),
        authority: parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        message,
        compressed,
    }
}

fn answer(mut respond: SendResponse<Bytes>, message: Vec<u8>, compress: bool) {
    let head = http::Response::builder().header("content-type", "application/grpc");
    let head = if compress { head.header("grpc-encoding", "gzip") } else { head };
    // A caller that has gone away is no failure of the server.
    let Ok(mut body) = respond.send_response(head.body(()).unwrap(), false) else { return };
    let message = if compress { gzip(&message) } else { message };
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(u8::from(compress));
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(&message);
    let sent = body.send_data(frame.freeze(), false);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let _ = sent.and_then(|()| body.send_trailers(trailers));
}

fn refuse(mut respond: SendResponse<Bytes>, code: u32, message: &str, details: Option<&str>) {
    let head = http::Response::builder().header("content-type", "application/grpc");
    let head = head.header("grpc-status", code).header("grpc-message", message);
    let head =
        if let Some(details) = details { head.header("grpc-status-details-bin", details) } else { head };
    let _ = respond.send_response(head.body(()).unwrap(), true);
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).unwrap();
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
