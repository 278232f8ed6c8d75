//! Everything a client can be told, with the defaults that need no thought. Nothing here connects.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::target::authority;
use crate::{CallObserver, Error, Metadata, RetryPolicy, Target, WarnSizes};

/// The environment variable that sets [`ClientOptions::decode_limit`].
const DECODE_LIMIT_VARIABLE: &str = "TEMPORAL_MAX_INCOMING_GRPC_BYTES";

/// How to connect, and what to say on every call.
///
/// ```
/// use outlast_client::ClientOptions;
///
/// let mut options = ClientOptions::new("temporal.example.com:7233".parse()?);
/// options.api_key = Some("secret".into());
/// options.metadata.set("tenant", "blue")?;
/// assert!(options.uses_tls(), "an API key is not sent in the clear");
/// # Ok::<(), outlast_client::Error>(())
/// ```
#[derive(Clone)]
pub struct ClientOptions {
    /// Where the server is.
    pub target: Target,
    /// Who is calling, as users see it in histories.
    pub identity: String,
    /// The header `client-name`: servers know features by it.
    pub client_name: String,
    /// The header `client-version`.
    pub client_version: String,
    /// TLS settings; `None`: TLS if the scheme is https or there is an API key, with the machine's trust store.
    pub tls: Option<TlsOptions>,
    /// Never use TLS, even with an API key.
    pub tls_disabled: bool,
    /// Sent as `authorization: Bearer …`.
    pub api_key: Option<String>,
    /// Sent with every call.
    pub metadata: Metadata,
    /// Pings on connections, also on idle ones; `None`: no pings.
    pub keep_alive: Option<KeepAlive>,
    /// Connect through an HTTP proxy.
    pub proxy: Option<HttpConnectProxy>,
    /// How often a host name is looked up again, to balance over its addresses; at least a second. `None`: once for
    /// every connection. Without effect for addresses, `localhost`, proxies and server name overrides.
    pub resolve_interval: Option<Duration>,
    /// Whether messages are compressed.
    pub compression: Compression,
    /// The largest answer accepted.
    pub decode_limit: usize,
    /// The largest request sent; what the server accepts is its own affair, 4 MiB as a rule.
    pub encode_limit: usize,
    /// From how large on payloads are warned of.
    pub warn_sizes: WarnSizes,
    /// When failed calls are tried again.
    pub retry: RetryPolicy,
    /// The longest wait for a TCP connection, with the lookup of the name and, if there is one, the proxy's answer. The
    /// addresses of a name share it.
    pub connect_timeout: Duration,
    /// The longest wait, once there is a TCP connection, for the server's first word, and for the end of a TLS handshake.
    pub handshake_timeout: Duration,
    /// The deadline of an ordinary call, its retries included.
    pub call_timeout: Duration,
    /// The deadline of each try of a long poll.
    pub long_poll_timeout: Duration,
    /// Told of every try of every call.
    pub observer: Option<Arc<dyn CallObserver>>,
}

impl ClientOptions {
    /// The defaults for this server.
    pub fn new(target: Target) -> Self {
        let limit = std::env::var(DECODE_LIMIT_VARIABLE).ok();
        Self {
            target,
            identity: default_identity(),
            client_name: "outlast-core".into(),
            client_version: env!("CARGO_PKG_VERSION").into(),
            tls: None,
            tls_disabled: false,
            api_key: None,
            metadata: Metadata::default(),
            keep_alive: Some(KeepAlive::default()),
            proxy: None,
            resolve_interval: Some(Duration::from_secs(30)),
            compression: Compression::Auto,
            decode_limit: decode_limit(limit.as_deref()),
            encode_limit: 128 << 20,
            warn_sizes: WarnSizes::default(),
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            long_poll_timeout: Duration::from_secs(70),
            observer: None,
        }
    }

    /// Whether connections are encrypted.
    pub fn uses_tls(&self) -> bool {
        let implied = || self.tls.is_some() || self.api_key.is_some();
        !self.tls_disabled && self.target.tls().unwrap_or_else(implied)
    }

    /// Contradictions that would otherwise show up as a failed connection.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.tls_disabled && self.target.tls() == Some(true) {
            return Err(Error::config(format!("TLS is disabled, but the target is {}", self.target)));
        }
        if self.tls.is_some() && self.target.tls() == Some(false) {
            return Err(Error::config(format!("TLS is configured, but the target is {}", self.target)));
        }
        if self.api_key.is_some() && self.target.tls() == Some(false) && !self.tls_disabled {
            return Err(Error::config(format!(
                "an API key would be sent in the clear to {}; use https, or disable TLS explicitly",
                self.target
            )));
        }
        if self.tls.as_ref().is_some_and(|tls| tls.verification_disabled && tls.ca.is_some()) {
            return Err(Error::config(
                "TLS verification is disabled, but an authority to trust is given: choose one",
            ));
        }
        Ok(())
    }

    /// What goes along with every call.
    pub(crate) fn headers(&self) -> Result<Metadata, Error> {
        let mut headers = Metadata::default();
        if let Some(key) = &self.api_key {
            headers.set_api_key(key)?;
        }
        headers.extend(&self.metadata);
        headers.set_lenient("client-name", &self.client_name)?;
        headers.set_lenient("client-version", &self.client_version)?;
        Ok(headers)
    }
}

/// Secrets are left out.
impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("target", &self.target)
            .field("identity", &self.identity)
            .field("tls", &self.uses_tls())
            .field("proxy", &self.proxy)
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

/// Whose certificates to trust, and who we are.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// PEM certificates of authorities to trust instead of the machine's.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate, for mutual TLS.
    pub identity: Option<TlsIdentity>,
    /// The name to connect to, if it is not the target's host: it is sent as SNI and as authority, and the certificate
    /// must be for it.
    pub server_name: Option<String>,
    /// The name that the certificate must be for, if it is yet another one. Only together with `ca`.
    pub certificate_name: Option<String>,
    /// Trust anyone, whatever certificate they show. Not together with `ca`. Never do this across a network that
    /// others use.
    pub verification_disabled: bool,
}

impl TlsOptions {
    /// What can be found wrong with authorities and names before connecting.
    pub fn check(&self) -> Result<(), Error> {
        match (&self.certificate_name, &self.ca) {
            (None, _) => Ok(()),
            (Some(name), Some(ca)) => crate::verify::Named::verifier(ca, name).map(drop),
            (Some(_), None) => Err(Error::config("a certificate name needs an authority to trust")),
        }
    }
}

/// Says what is set, not what it is.
impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, identity) = (self.ca.is_some(), self.identity.is_some());
        f.debug_struct("TlsOptions")
            .field("ca", &ca)
            .field("identity", &identity)
            .field("server_name", &self.server_name)
            .field("certificate_name", &self.certificate_name)
            .field("verification_disabled", &self.verification_disabled)
            .finish()
    }
}

/// A client certificate and its private key, both PEM.
#[derive(Clone)]
pub struct TlsIdentity {
    /// The certificate, with its chain.
    pub certificate: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

/// Pings on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Between pings.
    pub interval: Duration,
    /// A ping not answered within this time means that the connection is dead.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(15) }
    }
}

/// A proxy that understands HTTP CONNECT.
#[derive(Clone, Debug)]
pub struct HttpConnectProxy {
    /// Where the proxy is.
    pub address: ProxyAddress,
    /// Sent as `Proxy-Authorization`.
    pub auth: Option<BasicAuth>,
}

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyAddress {
    /// A host name or address, and a port.
    Tcp {
        /// Without the brackets of an IPv6 address.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => f.write_str(&authority(host, *port)),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A user name and a password.
#[derive(Clone)]
pub struct BasicAuth {
    /// The user, without a colon.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("user", &self.user).finish_non_exhaustive()
    }
}

impl HttpConnectProxy {
    /// Reads `host:port` or `unix:/path`.
    ///
    /// ```
    /// use outlast_client::{HttpConnectProxy, ProxyAddress};
    ///
    /// let proxy = HttpConnectProxy::parse("unix:/run/proxy.sock")?;
    /// assert_eq!(proxy.address, ProxyAddress::Unix("/run/proxy.sock".into()));
    /// # Ok::<(), outlast_client::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let address = match text.strip_prefix("unix:") {
            Some("") => return Err(Error::config("the proxy's socket path is missing after `unix:`")),
            Some(path) => ProxyAddress::Unix(path.into()),
            None => proxy_address(text)?,
        };
        Ok(Self { address, auth: None })
    }
}

fn proxy_address(text: &str) -> Result<ProxyAddress, Error> {
    let target: Target = text.parse().map_err(|e: Error| Error::config(format!("proxy: {}", e.message)))?;
    if target.tls() == Some(true) {
        return Err(Error::config(format!(
            "proxy `{text}`: the connection to a proxy is not encrypted; write host:port"
        )));
    }
    Ok(ProxyAddress::Tcp { host: target.host().to_owned(), port: target.port() })
}

/// Whether messages are compressed with gzip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Requests of at least a kilobyte, and not on loopback, where bandwidth is free and CPU is not.
    #[default]
    Auto,
    /// Never, and answers are asked for uncompressed.
    None,
    /// Announced with every request, so that answers come compressed; requests of at least a kilobyte are, too.
    Gzip,
}

/// `pid@host`, as users of Temporal know it.
fn default_identity() -> String {
    format!("{}@{}", std::process::id(), host_name())
}

/// What this machine calls itself; `unknown` if it does not say.
pub fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = || std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok();
    let host = kernel.or_else(named).unwrap_or_else(|| "unknown".into());
    host.trim().to_owned()
}

/// A name that nothing else has: the form of a random UUID.
pub fn unique_name() -> String {
    let n = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{n:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// 128 MiB, or what the variable says if that is a number.
fn decode_limit(variable: Option<&str>) -> usize {
    variable.and_then(|text| text.trim().parse().ok()).unwrap_or(128 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(target: &str) -> ClientOptions {
        ClientOptions::new(target.parse().unwrap())
    }

    #[test]
    fn an_api_key_implies_tls_unless_disabled() {
        let mut options = options("a:1");
        assert!(!options.uses_tls());
        options.api_key = Some("key".into());
        assert!(options.uses_tls());
        options.tls_disabled = true;
        assert!(!options.uses_tls() && options.check().is_ok());
    }

    #[test]
    fn contradictions_are_named() {
        let mut clear = options("http://a:1");
        clear.api_key = Some("key".into());
        assert!(clear.check().unwrap_err().message.contains("in the clear to http://a:1"));
        clear.api_key = None;
        clear.tls = Some(TlsOptions::default());
        assert!(clear.check().unwrap_err().message.contains("TLS is configured"));
        let mut secure = options("https://a:1");
        secure.tls_disabled = true;
        assert!(secure.check().unwrap_err().message.contains("TLS is disabled"));
        let mut both = options("https://a:1");
        both.tls =
            Some(TlsOptions { ca: Some(Vec::new()), verification_disabled: true, ..TlsOptions::default() });
        assert!(both.check().unwrap_err().message.contains("choose one"));
    }

    #[test]
    fn the_decode_limit_can_be_set_from_outside() {
        assert_eq!(decode_limit(None), 134_217_728);
        assert_eq!(decode_limit(Some(" 1000 ")), 1000);
        assert_eq!(decode_limit(Some("lots")), 134_217_728);
    }

    #[test]
    fn no_secret_is_printed() {
        let mut options = options("a:1");
        options.api_key = Some("hunter2".into());
        let auth = Some(BasicAuth { user: "me".into(), password: "hunter2".into() });
        options.proxy = Some(HttpConnectProxy { auth, ..HttpConnectProxy::parse("p:1").unwrap() });
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
