//! What `connect_client` is told, by attribute, and the options of the core that it means.

use std::collections::HashMap;
use std::time::Duration;

use outlast_core::{
    BasicAuth, ClientOptions, Compression, HttpConnectProxy, KeepAlive, RetryPolicy, Target, TlsIdentity,
    TlsOptions, WarnSizes,
};
use pyo3::prelude::*;

use super::headers::{self, Headers, RpcMetadataValue};
use crate::compat::url::Url;
use crate::error::Failure;

#[derive(FromPyObject)]
pub struct ClientConfig {
    target_url: String,
    metadata: HashMap<String, RpcMetadataValue>,
    api_key: Option<String>,
    identity: String,
    tls_config: Option<ClientTlsConfig>,
    retry_config: Option<ClientRetryConfig>,
    keep_alive_config: Option<ClientKeepAliveConfig>,
    client_name: String,
    client_version: String,
    http_connect_proxy_config: Option<ClientHttpConnectProxyConfig>,
    dns_load_balancing_config: Option<ClientDnsLoadBalancingConfig>,
    grpc_compression: String,
    payloads_warn_size: usize,
    memo_warn_size: usize,
    #[pyo3(default)]
    connect_timeout_millis: Option<u64>,
}

#[derive(FromPyObject)]
struct ClientTlsConfig {
    server_root_ca_cert: Option<Vec<u8>>,
    domain: Option<String>,
    client_cert: Option<Vec<u8>>,
    client_private_key: Option<Vec<u8>>,
    verification_server_name: Option<String>,
}

#[derive(FromPyObject)]
struct ClientRetryConfig {
    initial_interval_millis: u64,
    randomization_factor: f64,
    multiplier: f64,
    max_interval_millis: u64,
    max_elapsed_time_millis: Option<u64>,
    max_retries: usize,
}

#[derive(FromPyObject)]
struct ClientKeepAliveConfig {
    interval_millis: u64,
    timeout_millis: u64,
}

#[derive(FromPyObject)]
struct ClientHttpConnectProxyConfig {
    target_host: String,
    basic_auth: Option<(String, String)>,
}

#[derive(FromPyObject)]
struct ClientDnsLoadBalancingConfig {
    resolution_interval_millis: u64,
}

/// All that connecting needs. What can be found wrong only by connecting is not wrong yet.
pub struct Wanted {
    pub options: ClientOptions,
    headers: Headers,
    proxy: Option<ClientHttpConnectProxyConfig>,
}

impl Wanted {
    /// The options, with metadata and proxy, or what is wrong with those.
    pub fn checked(self) -> Result<(ClientOptions, Headers), String> {
        let mut options = self.options;
        match options.resolve_interval {
            Some(interval) if interval < Duration::from_secs(1) => {
                return Err(format!(
                    "Invalid client configuration: dns_load_balancing.resolution_interval must be at least 1s, got \
                     {interval:?}"
                ));
            }
            Some(_) | None => {}
        }
        options.metadata = self.headers.metadata().map_err(|e| format!("Invalid headers: {e}"))?;
        if let Some(proxy) = self.proxy {
            options.proxy = Some(proxy.proxy().map_err(|e| format!("Server connection error: {e}"))?);
        }
        Ok((options, self.headers))
    }
}

impl ClientConfig {
    pub fn wanted(self) -> Result<Wanted, Failure> {
        let invalid = |why| Failure::Value(format!("invalid target URL: {why}"));
        let url = Url::read(&self.target_url).map_err(invalid)?;
        let known = matches!(&*url.scheme, "http" | "https");
        if !known && (self.tls_config.is_some() || self.api_key.is_some()) {
            return Err(invalid(
                "the scheme is neither http nor https, and secrets are not sent in the clear",
            ));
        }
        let mut options = ClientOptions::new(target(&url).map_err(invalid)?);
        options.compression = match self.grpc_compression.as_str() {
            "gzip" => Compression::Gzip,
            "none" => Compression::None,
            other => return Err(Failure::Value(format!("invalid grpc_compression: {other}"))),
        };
        options.identity = self.identity;
        options.client_name = headers::sendable(self.client_name);
        options.client_version = headers::sendable(self.client_version);
        options.api_key = headers::api_key(self.api_key);
        options.tls = self.tls_config.map(ClientTlsConfig::options).transpose()?;
        if options.target.tls() == Some(false) {
            // The scheme alone decides, also where an API key is sent.
            options.tls = None;
            options.tls_disabled = true;
        }
        options.retry = self.retry_config.map_or_else(RetryPolicy::default, ClientRetryConfig::policy);
        options.keep_alive = self.keep_alive_config.map(|it| KeepAlive {
            interval: Duration::from_millis(it.interval_millis),
            timeout: Duration::from_millis(it.timeout_millis),
        });
        options.resolve_interval =
            self.dns_load_balancing_config.map(|it| Duration::from_millis(it.resolution_interval_millis));
        if self.http_connect_proxy_config.is_some() && options.resolve_interval.take().is_some() {
            tracing::warn!("DNS load balancing is ignored: connections go through an HTTP proxy");
        }
        if let Some(millis) = self.connect_timeout_millis {
            // For the package this is the time of a TCP connection alone: what comes after it has no less than usual.
            options.connect_timeout = Duration::from_millis(millis);
            options.handshake_timeout = options.handshake_timeout.max(options.connect_timeout);
        }
        options.warn_sizes = WarnSizes { payloads: self.payloads_warn_size, memo: self.memo_warn_size };
        Ok(Wanted { options, headers: Headers::split(self.metadata), proxy: self.http_connect_proxy_config })
    }
}

/// The server of a URL. Path, query and user are of no use here, and do not matter.
fn target(url: &Url) -> Result<Target, &'static str> {
    let (scheme, usual) = if url.scheme == "https" { ("https", 443) } else { ("http", 80) };
    let port = url.port.unwrap_or(usual);
    format!("{scheme}://{}:{port}", url.host).parse().map_err(|_| "invalid port number")
}

impl ClientTlsConfig {
    fn options(self) -> Result<TlsOptions, Failure> {
        let identity = match (self.client_cert, self.client_private_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(TlsIdentity { certificate, key }),
            (None, Some(_)) | (Some(_), None) => {
                return Err(Failure::Value("Must have both client cert and private key or neither".into()));
            }
        };
        if self.verification_server_name.is_some() && self.server_root_ca_cert.is_none() {
            let text = "Must have server root CA cert when verification server name is set";
            return Err(Failure::Value(text.into()));
        }
        let tls = TlsOptions {
            ca: self.server_root_ca_cert,
            identity,
            server_name: self.domain,
            certificate_name: self.verification_server_name,
            verification_disabled: false,
        };
        tls.check().map_err(|e| Failure::Value(e.message))?;
        Ok(tls)
    }
}

impl ClientRetryConfig {
    fn policy(self) -> RetryPolicy {
        let mut policy = RetryPolicy::default();
        policy.call.initial = Duration::from_millis(self.initial_interval_millis);
        policy.call.factor = self.multiplier;
        policy.call.max = Duration::from_millis(self.max_interval_millis);
        policy.elapsed_max = self.max_elapsed_time_millis.map_or(Duration::MAX, Duration::from_millis);
        policy.attempts_max = match self.max_retries {
            0 => u32::MAX,
            tries => u32::try_from(tries).unwrap_or(u32::MAX),
        };
        policy.jitter = self.randomization_factor;
        policy
    }
}

impl ClientHttpConnectProxyConfig {
    fn proxy(self) -> Result<HttpConnectProxy, String> {
        let mut proxy = HttpConnectProxy::parse(&self.target_host).map_err(|e| e.to_string())?;
        proxy.auth = self.basic_auth.map(|(user, password)| BasicAuth { user, password });
        Ok(proxy)
    }
}
