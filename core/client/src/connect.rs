//! Connections: TLS, keep-alive, compression, one channel per address of the server. Knows nothing of retries: it
//! makes one try and says how that ended.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{
    Arc, OnceLock, PoisonError, RwLock, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::{net::SocketAddr, task::Poll, time::Duration};

use bytes::Bytes;
use http::uri::{PathAndQuery, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tonic::{
    Extensions, Request,
    client::Grpc,
    codec::CompressionEncoding,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    ClientOptions, Code, Compression, Error, HttpConnectProxy, Metadata, Target, TlsOptions, codec::Raw,
    error, proxy, resolve,
};

/// Below this size gzip costs more than it saves, by any measure.
const COMPRESS_MIN: usize = 1024;

/// A server reached over the network. Nothing is opened before the first call.
pub(crate) struct Network {
    target: Target,
    endpoint: Endpoint,
    proxy: Option<HttpConnectProxy>,
    resolve_interval: Option<Duration>,
    compression: Compression,
    gzip_refused: AtomicBool,
    decode_limit: usize,
    /// `None` until the first call; then as the name was last resolved.
    channels: RwLock<Option<Arc<Channels>>>,
    first: tokio::sync::Mutex<()>,
    resolver: OnceLock<AbortHandle>,
}

/// One lane per address, used in turn: a retry goes elsewhere than the try that failed.
struct Channels {
    lanes: Vec<Arc<Lane>>,
    next: AtomicUsize,
}

/// The connection to one address, or to whatever the name leads to.
struct Lane {
    address: Option<SocketAddr>,
    channel: Channel,
    /// Connecting failed: other lanes are preferred until the name is looked up again.
    down: AtomicBool,
}

impl Lane {
    fn new(address: Option<SocketAddr>, channel: Channel) -> Arc<Self> {
        Arc::new(Self { address, channel, down: AtomicBool::new(false) })
    }
}

impl Channels {
    /// The next lane, those that are down left out; if all are, they get another chance.
    fn pick(&self) -> Option<Arc<Lane>> {
        if let Some(lane) = self.pick_up() {
            return Some(lane);
        }
        for lane in &self.lanes {
            lane.down.store(false, Ordering::Relaxed);
        }
        self.pick_up()
    }

    fn pick_up(&self) -> Option<Arc<Lane>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let (before, after) = self.lanes.split_at(turn.checked_rem(self.lanes.len())?);
        let mut in_turn = after.iter().chain(before);
        in_turn.find(|lane| !lane.down.load(Ordering::Relaxed)).cloned()
    }
}

impl Network {
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, Error> {
        let overridden = options.tls.as_ref().is_some_and(|tls| tls.server_name.is_some());
        let literal = options.target.ip().is_some() || options.target.is_loopback();
        let balanced = options.proxy.is_none() && !overridden && !literal;
        Ok(Self {
            target: options.target.clone(),
            endpoint: endpoint(options)?,
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
            channels: RwLock::new(None),
            first: tokio::sync::Mutex::new(()),
            resolver: OnceLock::new(),
        })
    }

    /// One try of one call.
    pub(crate) async fn unary(
        self: &Arc<Self>,
        path: PathAndQuery,
        headers: Metadata,
        request: Bytes,
    ) -> Result<Bytes, Error> {
        let compress = match self.compression {
            Compression::None => false,
            Compression::Auto => request.len() >= COMPRESS_MIN,
            Compression::Gzip => true,
        } && !self.gzip_refused.load(Ordering::Relaxed);
        let result = self.send(&path, &headers, &request, compress).await;
        match result {
            Err(error) if compress && refuses_gzip(&error) => {
                self.gzip_refused.store(true, Ordering::Relaxed);
                self.send(&path, &headers, &request, false).await
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
        compress: bool,
    ) -> Result<Bytes, Error> {
        let channels = self.channels().await?;
        let none =
            || Error::new(crate::Kind::Unreachable, Code::Unavailable, "the server has no address", true);
        let mut lane = channels.pick().ok_or_else(none)?;
        loop {
            let request =
                Request::from_parts(headers.clone().into_map(), Extensions::default(), request.clone());
            let error = match self.send_on(lane.channel.clone(), path.clone(), request, compress).await {
                Err(error) if error.is_connect() => error,
                other => return other,
            };
            lane.down.store(true, Ordering::Relaxed);
            lane = channels.pick_up().ok_or(error)?;
        }
    }

    async fn send_on(
        &self,
        channel: Channel,
        path: PathAndQuery,
        request: Request<Bytes>,
        compress: bool,
    ) -> Result<Bytes, Error> {
        let mut grpc = Grpc::new(channel).max_decoding_message_size(self.decode_limit);
        if self.compression != Compression::None {
            grpc = grpc.accept_compressed(CompressionEncoding::Gzip);
        }
        if compress {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        let authority = || self.target.authority();
        grpc.ready().await.map_err(|e| Error::unreachable(&authority(), e))?;
        let answer = unpanicked(grpc.unary(request, path, Raw)).await?;
        answer.map(tonic::Response::into_inner).map_err(|status| error::from_tonic(&authority(), status))
    }

    async fn channels(self: &Arc<Self>) -> Result<Arc<Channels>, Error> {
        if let Some(channels) = self.current() {
            return Ok(channels);
        }
        let _first = self.first.lock().await;
        match self.current() {
            Some(channels) => Ok(channels),
            None => self.open().await,
        }
    }

    fn current(&self) -> Option<Arc<Channels>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn open(self: &Arc<Self>) -> Result<Arc<Channels>, Error> {
        let Some(interval) = self.resolve_interval else {
            let channel = match &self.proxy {
                Some(proxy) => self.through(proxy.clone()),
                None => self.to_name(),
            };
            return Ok(self.replace(vec![Lane::new(None, channel)]));
        };
        let channels = self.balance(&resolve::lookup(&self.target).await?);
        let task = tokio::spawn(resolve_again(Arc::downgrade(self), interval));
        // Only one task ever opens, under `first`; were there another handle, both would end with this client.
        if let Err(second) = self.resolver.set(task.abort_handle()) {
            second.abort();
        }
        Ok(channels)
    }

    /// Keeps the channels whose addresses are still there, opens those that are new, lets go of the rest: calls
    /// that are under way on them end in peace.
    fn balance(&self, addresses: &[SocketAddr]) -> Arc<Channels> {
        let old = self.current();
        let known = |address: SocketAddr| -> Option<Channel> {
            let lane = old.as_ref()?.lanes.iter().find(|lane| lane.address == Some(address))?;
            Some(lane.channel.clone())
        };
        let channel = |address| known(address).unwrap_or_else(|| self.to_address(address));
        self.replace(addresses.iter().map(|address| Lane::new(Some(*address), channel(*address))).collect())
    }

    /// The first turn is anyone's: else all clients of a server would begin with the same address.
    fn replace(&self, lanes: Vec<Arc<Lane>>) -> Arc<Channels> {
        let next = AtomicUsize::new(fastrand::usize(..=usize::MAX >> 1));
        let channels = Arc::new(Channels { lanes, next });
        *self.channels.write().unwrap_or_else(PoisonError::into_inner) = Some(channels.clone());
        channels
    }

    fn to_address(&self, address: SocketAddr) -> Channel {
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| tcp(address)))
    }

    fn to_name(&self) -> Channel {
        let (host, port) = (self.target.host().to_owned(), self.target.port());
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| tcp((host.clone(), port))))
    }

    fn through(&self, proxy: HttpConnectProxy) -> Channel {
        let target = self.target.authority();
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (proxy, target) = (proxy.clone(), target.clone());
            async move { proxy::connect(&proxy, &target).await.map(TokioIo::new) }
        }))
    }
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
                Poll::Ready(Err(Error::new(crate::Kind::Malformed, Code::Internal, text, false)))
            }
        }
    })
    .await
}

async fn tcp(to: impl tokio::net::ToSocketAddrs) -> std::io::Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

/// Looks the name up again and again, for as long as there is a client. A failed lookup changes nothing.
async fn resolve_again(network: Weak<Network>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(network) = network.upgrade() else { return };
        if let Ok(addresses) = resolve::lookup(&network.target).await {
            network.balance(&addresses);
        }
    }
}

/// grpc-go's answer to an encoding it has no decompressor for, and what the gRPC specification asks of others.
fn refuses_gzip(error: &Error) -> bool {
    let about = error.message.contains("grpc-encoding") || error.message.contains("ompress");
    error.code == Code::Unimplemented && about
}

fn endpoint(options: &ClientOptions) -> Result<Endpoint, Error> {
    let tls = options.uses_tls();
    let scheme = if tls { "https" } else { "http" };
    let uri = |authority: &str| -> Result<Uri, Error> {
        let text = format!("{scheme}://{authority}");
        text.parse().map_err(|e| Error::config(format!("`{text}` is not an address: {e}")))
    };
    let mut endpoint = Endpoint::from(uri(&options.target.authority())?)
        .connect_timeout(options.connect_timeout)
        .user_agent(format!("{}/{}", options.client_name, options.client_version))
        .map_err(|e| Error::config("client name and version must be printable ASCII").with_source(e))?;
    if let Some(pings) = options.keep_alive {
        let endpoint_with_pings =
            endpoint.http2_keep_alive_interval(pings.interval).keep_alive_while_idle(true);
        endpoint = endpoint_with_pings.keep_alive_timeout(pings.timeout);
    }
    if !tls {
        return Ok(endpoint);
    }
    let settings = options.tls.clone().unwrap_or_default();
    if let Some(name) = &settings.server_name {
        endpoint = endpoint.origin(uri(name)?);
    }
    endpoint.tls_config(tls_config(settings, options.target.host())).map_err(|e| {
        let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        Error::config(format!("the TLS settings cannot be used: {why}")).with_source(e)
    })
}

fn tls_config(settings: TlsOptions, host: &str) -> ClientTlsConfig {
    let name = settings.server_name.unwrap_or_else(|| host.to_owned());
    let config = ClientTlsConfig::new().domain_name(name);
    let config = match settings.ca {
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
        None => config.with_native_roots(),
    };
    match settings.identity {
        Some(own) => config.identity(Identity::from_pem(own.certificate, own.key)),
        None => config,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::net::TcpListener;

    use super::*;

    fn network(target: &str) -> Arc<Network> {
        Arc::new(Network::new(&ClientOptions::new(target.parse().unwrap())).unwrap())
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn every_address_has_its_turn_as_last_looked_up() {
        let network = network("temporal.test:7233");
        let addresses = |numbers: [u8; 2]| numbers.map(|n| SocketAddr::from(([127, 0, 0, n], 7233)));
        let turns = |channels: &Channels| -> BTreeSet<SocketAddr> {
            (0..channels.lanes.len()).filter_map(|_| channels.pick()?.address).collect()
        };
        let first = network.balance(&addresses([1, 2]));
        assert_eq!(turns(&first), BTreeSet::from(addresses([1, 2])));
        let second = network.balance(&addresses([2, 3]));
        assert_eq!(turns(&second), BTreeSet::from(addresses([2, 3])));
        assert!(Arc::ptr_eq(&network.current().unwrap(), &second));
    }

    #[tokio::test]
    async fn an_address_that_is_down_is_passed_over_until_all_are() {
        let network = network("temporal.test:7233");
        let addresses = [1, 2].map(|n| SocketAddr::from(([127, 0, 0, n], 7233)));
        let channels = network.balance(&addresses);
        channels.lanes[0].down.store(true, Ordering::Relaxed);
        let picked: Vec<_> = (0..3).map(|_| channels.pick().unwrap().address.unwrap()).collect();
        assert_eq!(picked, [addresses[1]; 3]);
        channels.lanes[1].down.store(true, Ordering::Relaxed);
        assert!(channels.pick_up().is_none());
        assert!(channels.pick().is_some(), "all get another chance");
    }

    #[tokio::test]
    async fn a_call_goes_on_to_an_address_that_can_be_reached() {
        let network = network("temporal.test:7233");
        let ((listener, there), (gone, nowhere)) = (listener().await, listener().await);
        drop(gone);
        network.balance(&[nowhere, there]).next.store(0, Ordering::Relaxed);
        let path = PathAndQuery::from_static("/test.Service/Method");
        tokio::select! {
            answer = network.unary(path.clone(), Metadata::default(), Bytes::new()) => panic!("{answer:?}"),
            accepted = listener.accept() => { accepted.unwrap(); }
        }
        assert!(network.current().unwrap().lanes[0].down.load(Ordering::Relaxed));
        network.balance(&[nowhere]);
        let error = network.unary(path, Metadata::default(), Bytes::new()).await.unwrap_err();
        assert!(error.is_connect() && error.message.contains("refused"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_again_until_the_client_is_gone() {
        let network = network("localhost:7233");
        let task = tokio::spawn(resolve_again(Arc::downgrade(&network), resolve::INTERVAL_MIN));
        while network.current().is_none() {
            tokio::time::sleep(resolve::INTERVAL_MIN).await;
        }
        let found = network.current().unwrap();
        assert!(found.lanes.iter().all(|lane| lane.address.is_some_and(|a| a.ip().is_loopback())));
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
            o.tls =
                Some(TlsOptions { ca: Some(Vec::new()), server_name: Some("a.test".into()), identity: None });
        };
        assert_eq!(interval("temporal.test:1", named), None);
        for target in ["localhost:1", "10.0.0.1:1", "[fe80::1]:1"] {
            assert_eq!(interval(target, |_| ()), None);
        }
    }
}
