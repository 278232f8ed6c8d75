//! Connections: TLS, keep-alive, compression, one channel per address of the server. Knows nothing of retries: it
//! makes one try and says how that ended.

use std::sync::{
    Arc, OnceLock, PoisonError, RwLock, Weak,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::{net::SocketAddr, time::Duration};

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

/// One channel per address, used in turn: a retry goes elsewhere than the try that failed.
struct Channels {
    all: Vec<(Option<SocketAddr>, Channel)>,
    next: AtomicUsize,
}

impl Channels {
    fn pick(&self) -> Option<Channel> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let index = turn.checked_rem(self.all.len())?;
        self.all.get(index).map(|(_, channel)| channel.clone())
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
        let result = self.send(path.clone(), headers.clone(), request.clone(), compress).await;
        match result {
            Err(error) if compress && refuses_gzip(&error) => {
                self.gzip_refused.store(true, Ordering::Relaxed);
                self.send(path, headers, request, false).await
            }
            other => other,
        }
    }

    async fn send(
        self: &Arc<Self>,
        path: PathAndQuery,
        headers: Metadata,
        request: Bytes,
        compress: bool,
    ) -> Result<Bytes, Error> {
        let channel = self.channel().await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(self.decode_limit);
        if self.compression != Compression::None {
            grpc = grpc.accept_compressed(CompressionEncoding::Gzip);
        }
        if compress {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        let authority = || self.target.authority();
        grpc.ready().await.map_err(|e| Error::unreachable(&authority(), e))?;
        let request = Request::from_parts(headers.into_map(), Extensions::default(), request);
        let answer = grpc.unary(request, path, Raw).await;
        answer.map(tonic::Response::into_inner).map_err(|status| error::from_tonic(&authority(), status))
    }

    async fn channel(self: &Arc<Self>) -> Result<Channel, Error> {
        if let Some(channel) = self.current().and_then(|channels| channels.pick()) {
            return Ok(channel);
        }
        let _first = self.first.lock().await;
        if self.current().is_none() {
            self.open().await?;
        }
        let none =
            || Error::new(crate::Kind::Unreachable, Code::Unavailable, "the server has no address", true);
        self.current().and_then(|channels| channels.pick()).ok_or_else(none)
    }

    fn current(&self) -> Option<Arc<Channels>> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn open(self: &Arc<Self>) -> Result<(), Error> {
        let Some(interval) = self.resolve_interval else {
            let channel = match &self.proxy {
                Some(proxy) => self.through(proxy.clone()),
                None => self.to_name(),
            };
            self.replace(vec![(None, channel)]);
            return Ok(());
        };
        let addresses = resolve::lookup(&self.target).await?;
        self.balance(&addresses);
        let task = tokio::spawn(resolve_again(Arc::downgrade(self), interval));
        // Only one task ever opens, under `first`; were there another handle, both would end with this client.
        if let Err(second) = self.resolver.set(task.abort_handle()) {
            second.abort();
        }
        Ok(())
    }

    /// Keeps the channels whose addresses are still there, opens those that are new, lets go of the rest: calls
    /// that are under way on them end in peace.
    fn balance(&self, addresses: &[SocketAddr]) {
        let old = self.current();
        let known = |address: SocketAddr| -> Option<Channel> {
            let entry = old.as_ref()?.all.iter().find(|(a, _)| *a == Some(address))?;
            Some(entry.1.clone())
        };
        let all = addresses.iter().map(|a| (Some(*a), known(*a).unwrap_or_else(|| self.to_address(*a))));
        self.replace(all.collect());
    }

    fn replace(&self, all: Vec<(Option<SocketAddr>, Channel)>) {
        let channels = Arc::new(Channels { all, next: AtomicUsize::new(0) });
        *self.channels.write().unwrap_or_else(PoisonError::into_inner) = Some(channels);
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
