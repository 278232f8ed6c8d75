//! From options to what tonic connects with: address, pings, user agent, TLS. Everything that can be found wrong
//! without connecting is found here.

use std::time::Duration;

use http::uri::Uri;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::verify::{Anyone, Named};
use crate::{ClientOptions, Error, TlsOptions};

/// As good as for ever. Pings are timed by sums with the present, which some clocks cannot make of any duration.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The endpoint of a server; its connector is chosen when a connection is opened.
pub(crate) fn endpoint(options: &ClientOptions) -> Result<Endpoint, Error> {
    let tls = options.uses_tls();
    let scheme = if tls { "https" } else { "http" };
    let uri = |authority: &str| -> Result<Uri, Error> {
        let text = format!("{scheme}://{authority}");
        text.parse().map_err(|e| Error::config(format!("`{text}` is not an address: {e}")))
    };
    let mut endpoint = Endpoint::from(uri(&options.target.authority())?)
        .user_agent(format!("{}/{}", options.client_name, options.client_version))
        .map_err(|e| {
            Error::config("client name and version must not have control characters").with_source(e)
        })?;
    if let Some(pings) = options.keep_alive {
        let endpoint_with_pings =
            endpoint.http2_keep_alive_interval(pings.interval.min(LONGEST)).keep_alive_while_idle(true);
        endpoint = endpoint_with_pings.keep_alive_timeout(pings.timeout.min(LONGEST));
    }
    if !tls {
        return Ok(endpoint);
    }
    let settings = options.tls.clone().unwrap_or_default();
    if let Some(name) = &settings.server_name {
        endpoint =
            endpoint.origin(uri(name).map_err(|e| Error::config(format!("Invalid URI: {}", e.message)))?);
    }
    settings.check()?;
    let verifier = match (&settings.certificate_name, &settings.ca) {
        _ if settings.verification_disabled => Some(Anyone::verifier()),
        (Some(name), Some(ca)) => Some(Named::verifier(ca, name)?),
        (None, _) | (Some(_), None) => None,
    };
    let config = tls_config(settings, options.target.host()).timeout(options.handshake_timeout);
    let secured = match verifier {
        Some(verifier) => endpoint.tls_config_with_verifier(config, verifier),
        None => endpoint.tls_config(config),
    };
    secured.map_err(|e| {
        let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        Error::config(format!("the TLS settings cannot be used: {why}")).with_source(e)
    })
}

fn tls_config(settings: TlsOptions, host: &str) -> ClientTlsConfig {
    let name = settings.server_name.unwrap_or_else(|| host.to_owned());
    let config = ClientTlsConfig::new().domain_name(name);
    let config = match settings.ca {
        // The verifier knows whom to trust.
        Some(_) if settings.certificate_name.is_some() => config,
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
        None if settings.verification_disabled => config,
        None => config.with_native_roots(),
    };
    match settings.identity {
        Some(own) => config.identity(Identity::from_pem(own.certificate, own.key)),
        None => config,
    }
}
