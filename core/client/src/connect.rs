//! A server over the network: opens connections, looks addresses up, sends one request and says how that ended. Knows
//! nothing of retries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{
    Arc, OnceLock, PoisonError, RwLock, Weak,
    atomic::{AtomicBool, Ordering},
};
use std::{io, net::SocketAddr, task::Poll, time::Duration};

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tonic::{
    Extensions, Request,
    client::Grpc,
    codec::CompressionEncoding,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use crate::dial::{self, Answered};
use crate::endpoint::endpoint;
use crate::lanes::{Lane, Lanes};
use crate::{
    ClientOptions, Code, Compression, Error, HttpConnectProxy, Kind, Metadata, Target, codec::Raw, error,
    proxy, resolve, together::Together,
};

/// Below this size a message fits one packet, compressed or not; figures in `docs/decisions/010`.
const COMPRESS_MIN: usize = 1024;

/// How one request is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gzip {
    Not,
    /// As it is, with the header by which servers compress their answers.
    Announced,
    Compressed,
}

/// How long connecting may take.
#[derive(Clone, Copy)]
struct Patience {
    connect: Duration,
    handshake: Duration,
}

/// A server reached over the network. Nothing is opened before the first call.
pub(crate) struct Network {
    target: Target,
    endpoint: Endpoint,
    patience: Patience,
    proxy: Option<HttpConnectProxy>,
    resolve_interval: Option<Duration>,
    compression: Compression,
    gzip_refused: AtomicBool,
    decode_limit: usize,
    /// `None` until the first call; then as the name was last resolved.
    lanes: RwLock<Option<Arc<Lanes>>>,
    first: tokio::sync::Mutex<()>,
    resolver: OnceLock<AbortHandle>,
}

impl Network {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, Error> {
        let overridden = options.tls.as_ref().is_some_and(|tls| tls.server_name.is_some());
        let literal = options.target.ip().is_some() || options.target.is_loopback();
        let balanced = options.proxy.is_none() && !overridden && !literal;
        Ok(Self {
            target: options.target.clone(),
            endpoint: endpoint(options)?,
            patience: Patience { connect: options.connect_timeout, handshake: options.handshake_timeout },
            proxy: options.proxy.clone(),
            resolve_interval: options
                .resolve_interval
                .filter(|_| balanced)
                .map(|t| t.max(resolve::INTERVAL_MIN)),
            compression: match options.compression {
                Compression::Auto if options.target.is_loopback() => Compression::None,
                other @ (Compression::Auto | Compression::None | Compression::Gzip) => other,
            },
            gzip_refused: AtomicBool::new(false),
            decode_limit: options.decode_limit,
            lanes: RwLock::new(None),
            first: tokio::sync::Mutex::new(()),
            resolver: OnceLock::new(),
        })
    }

    /// `host:port` of the server.
    pub(crate) fn authority(&self) -> String {
        self.target.authority()
    }

    /// One try of one call.
    pub(crate) async fn unary(
        self: &Arc<Self>,
        path: PathAndQuery,
        headers: Metadata,
        request: Bytes,
    ) -> Result<Bytes, Error> {
        let large = request.len() >= COMPRESS_MIN;
        let gzip = match self.compression {
            Compression::Auto | Compression::Gzip if self.gzip_refused.load(Ordering::Relaxed) => Gzip::Not,
            Compression::Auto | Compression::Gzip if large => Gzip::Compressed,
            Compression::Gzip => Gzip::Announced,
            Compression::Auto | Compression::None => Gzip::Not,
        };
        let result = self.send(&path, &headers, &request, gzip).await;
        match result {
            Err(error) if gzip != Gzip::Not && refuses_gzip(&error) => {
                self.gzip_refused.store(true, Ordering::Relaxed);
                self.send(&path, &headers, &request, Gzip::Not).await
            }
            other => other,
        }
    }

    /// Sends on one lane after another until one has a connection: a machine without IPv6, or with one server of
    /// many down, is no reason to fail. Nothing was sent on a lane without a connection.
    async fn send(
        self: &Arc<Self>,
        path: &PathAndQuery,
        headers: &Metadata,
        request: &Bytes,
        gzip: Gzip,
    ) -> Result<Bytes, Error> {
        let lanes = self.lanes().await?;
        let none = || Error::new(Kind::Unreachable, Code::Unavailable, "the server has no address", true);
        let mut lane = lanes.pick().ok_or_else(none)?;
        let mut tried = Vec::new();
        loop {
            let request =
                Request::from_parts(headers.clone().into_map(), Extensions::default(), request.clone());
            let error = match self.send_on(lane.channel(), path.clone(), request, gzip).await {
                Err(error) if error.is_connect() => error,
                other => return other,
            };
            tried.extend(lane.address().map(|address| error.at(address)));
            lane.mark_down();
            let Some(next) = lanes.pick_up() else { return Err(self.unreachable(error, &tried)) };
            lane = next;
        }
    }

    /// The last error, with what became of every address.
    fn unreachable(&self, error: Error, tried: &[String]) -> Error {
        if tried.is_empty() {
            return error;
        }
        let message = format!("cannot reach {}: {}", self.target.authority(), tried.join("; "));
        Error { message, ..error }
    }

    async fn send_on(
        &self,
        channel: Channel,
        path: PathAndQuery,
        mut request: Request<Bytes>,
        gzip: Gzip,
    ) -> Result<Bytes, Error> {
        let mut grpc = Grpc::new(channel).max_decoding_message_size(self.decode_limit);
        if self.compression != Compression::None {
            grpc = grpc.accept_compressed(CompressionEncoding::Gzip);
        }
        match gzip {
            Gzip::Not => {}
            // A message that is not compressed is marked as such in its frame; the header speaks of those that are.
            Gzip::Announced => {
                request.metadata_mut().insert("grpc-encoding", MetadataValue::from_static("gzip"));
            }
            Gzip::Compressed => grpc = grpc.send_compressed(CompressionEncoding::Gzip),
        }
        let authority = || self.target.authority();
        grpc.ready().await.map_err(|e| Error::unreachable(&authority(), e))?;
        let answer = unpanicked(grpc.unary(request, path, Raw)).await?;
        answer.map(tonic::Response::into_inner).map_err(|status| error::from_tonic(&authority(), status))
    }

    async fn lanes(self: &Arc<Self>) -> Result<Arc<Lanes>, Error> {
        if let Some(lanes) = self.current() {
            return Ok(lanes);
        }
        let _first = self.first.lock().await;
        match self.current() {
            Some(lanes) => Ok(lanes),
            None => self.open().await,
        }
    }

    fn current(&self) -> Option<Arc<Lanes>> {
        self.lanes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn open(self: &Arc<Self>) -> Result<Arc<Lanes>, Error> {
        let Some(interval) = self.resolve_interval else {
            let channel = match &self.proxy {
                Some(proxy) => self.through(proxy.clone()),
                None => self.to_name(),
            };
            return Ok(self.replace(vec![Lane::new(None, channel)]));
        };
        let lanes = self.balance(&resolve::lookup(&self.target, self.patience.connect).await?);
        let task = tokio::spawn(resolve_again(Arc::downgrade(self), interval));
        // Only one task ever opens, under `first`; were there another handle, both would end with this client.
        if let Err(second) = self.resolver.set(task.abort_handle()) {
            second.abort();
        }
        Ok(lanes)
    }

    /// Keeps the channels whose addresses are still there, opens those that are new, lets go of the rest: calls
    /// that are under way on them end in peace.
    fn balance(&self, addresses: &[SocketAddr]) -> Arc<Lanes> {
        let old = self.current();
        let known = |address| old.as_ref().and_then(|lanes| lanes.to(address));
        let channel = |address| known(address).unwrap_or_else(|| self.to_address(address));
        self.replace(addresses.iter().map(|address| Lane::new(Some(*address), channel(*address))).collect())
    }

    fn replace(&self, all: Vec<Arc<Lane>>) -> Arc<Lanes> {
        let lanes = Lanes::new(all, fastrand::usize(..));
        *self.lanes.write().unwrap_or_else(PoisonError::into_inner) = Some(lanes.clone());
        lanes
    }

    fn to_address(&self, address: SocketAddr) -> Channel {
        let patience = self.patience;
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| async move {
            let stream = dial::address(address, patience.connect).await?;
            Ok::<_, io::Error>(ready(stream, address.to_string(), patience))
        }))
    }

    fn to_name(&self) -> Channel {
        let (target, patience) = (self.target.clone(), self.patience);
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let target = target.clone();
            async move {
                let stream = dial::name(target.host(), target.port(), patience.connect).await?;
                let whom = stream.peer_addr().map_or_else(|_| target.authority(), |it| it.to_string());
                Ok::<_, io::Error>(ready(stream, whom, patience))
            }
        }))
    }

    fn through(&self, proxy: HttpConnectProxy) -> Channel {
        let (target, patience) = (self.target.authority(), self.patience);
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (proxy, target) = (proxy.clone(), target.clone());
            async move {
                let stream = proxy::connect(&proxy, &target, patience.connect).await?;
                let whom = format!("{target}, through proxy {},", proxy.address);
                Ok::<_, io::Error>(ready(stream, whom, patience))
            }
        }))
    }
}

/// A stream as HTTP/2 or TLS is to have it.
fn ready<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    whom: String,
    patience: Patience,
) -> TokioIo<Together<Answered<S>>> {
    TokioIo::new(Together::new(Answered::new(stream, whom, patience.handshake)))
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(task) = self.resolver.get() {
            task.abort();
        }
    }
}

/// tonic 0.14 panics on a `grpc-status-details-bin` that is not base64. What a server says must not end a worker.
async fn unpanicked<F: Future>(future: F) -> Result<F::Output, Error> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(move |context| {
        // The future is not polled again after a panic: there is no broken state to see.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => {
                let text = "the server's answer cannot be read: its status details are not base64";
                Poll::Ready(Err(Error::new(Kind::Malformed, Code::Internal, text, false)))
            }
        }
    })
    .await
}

/// Looks the name up again and again, for as long as there is a client. A failed lookup changes nothing.
async fn resolve_again(network: Weak<Network>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(network) = network.upgrade() else { return };
        if let Ok(addresses) = resolve::lookup(&network.target, network.patience.connect).await {
            network.balance(&addresses);
        }
    }
}

/// grpc-go's answer to an encoding it has no decompressor for, and what the gRPC specification asks of others.
fn refuses_gzip(error: &Error) -> bool {
    let about = error.message.contains("grpc-encoding") || error.message.contains("ompress");
    error.code == Code::Unimplemented && about
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::TlsOptions;

    fn network(target: &str) -> Arc<Network> {
        Arc::new(Network::new(&ClientOptions::new(target.parse().unwrap())).unwrap())
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn lanes_follow_the_addresses() {
        let network = network("temporal.test:7233");
        let addresses = |numbers: [u8; 2]| numbers.map(|n| SocketAddr::from(([127, 0, 0, n], 7233)));
        network.balance(&addresses([1, 2]));
        network.balance(&addresses([2, 3]));
        assert_eq!(network.current().unwrap().addresses(), addresses([2, 3]));
    }

    #[tokio::test]
    async fn a_call_goes_on_to_an_address_that_can_be_reached() {
        let network = network("temporal.test:7233");
        let (gone, also_gone) = (listener().await, listener().await);
        let (nowhere, elsewhere) = (gone.1, also_gone.1);
        let (listener, there) = listener().await;
        drop((gone, also_gone));
        let lane = |address| Lane::new(Some(address), network.to_address(address));
        *network.lanes.write().unwrap() = Some(Lanes::new(vec![lane(nowhere), lane(there)], 0));
        let path = PathAndQuery::from_static("/test.Service/Method");
        let ask = || network.unary(path.clone(), Metadata::default(), Bytes::new());
        tokio::select! {
            answer = ask() => panic!("{answer:?}"),
            accepted = listener.accept() => drop(accepted.unwrap()),
        }
        network.balance(&[nowhere, elsewhere]);
        let error = ask().await.unwrap_err();
        assert!(error.is_connect(), "{error}");
        for address in [nowhere, elsewhere] {
            let refused = format!("{address}: Connection refused");
            assert!(!cfg!(unix) || error.message.contains(&refused), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_again_until_the_client_is_gone() {
        let network = network("localhost:7233");
        let task = tokio::spawn(resolve_again(Arc::downgrade(&network), resolve::INTERVAL_MIN));
        while network.current().is_none() {
            tokio::time::sleep(resolve::INTERVAL_MIN).await;
        }
        let found = network.current().unwrap().addresses();
        assert!(!found.is_empty() && found.iter().all(|address| address.ip().is_loopback()));
        drop(network);
        task.await.unwrap();
    }

    #[test]
    fn names_are_balanced_and_nothing_else() {
        let interval = |target: &str, change: fn(&mut ClientOptions)| {
            let mut options = ClientOptions::new(target.parse().unwrap());
            change(&mut options);
            Network::new(&options).unwrap().resolve_interval.map(|interval| interval.as_millis())
        };
        assert_eq!(interval("temporal.test:1", |_| ()), Some(30_000));
        assert_eq!(interval("temporal.test:1", |o| o.resolve_interval = Some(Duration::ZERO)), Some(1_000));
        assert_eq!(interval("temporal.test:1", |o| o.resolve_interval = None), None);
        assert_eq!(interval("temporal.test:1", |o| o.proxy = HttpConnectProxy::parse("p:1").ok()), None);
        let named = |o: &mut ClientOptions| {
            o.tls = Some(TlsOptions {
                ca: Some(Vec::new()),
                server_name: Some("a.test".into()),
                ..TlsOptions::default()
            });
        };
        assert_eq!(interval("temporal.test:1", named), None);
        for target in ["localhost:1", "10.0.0.1:1", "[fe80::1]:1"] {
            assert_eq!(interval(target, |_| ()), None);
        }
    }
}
