//! Connecting, and why it failed in the words that users know.

use std::error::Error as StdError;

use outlast_core::{CallOptions, Client, ClientOptions, Error, Kind, RetryKind};

/// Connects and asks the server what it can do: once, since the caller wants to know.
pub async fn connect(options: ClientOptions) -> Result<Client, String> {
    let (host, balanced) = (options.target.host().to_owned(), options.resolve_interval.is_some());
    let client = Client::lazy(options).map_err(|error| error.message)?;
    let once = CallOptions { retry: RetryKind::None, ..CallOptions::default() };
    match client.system_info_with(once).await {
        Ok(_) => Ok(client),
        Err(error) => Err(told(&error, &host, balanced)),
    }
}

/// The cause of a failed connect.
pub fn told(error: &Error, host: &str, balanced: bool) -> String {
    match error.kind {
        Kind::Unreachable => unreachable(error, host, balanced),
        Kind::Config => error.message.clone(),
        Kind::Refused | Kind::TimedOut | Kind::TooLarge | Kind::Malformed => {
            format!("`get_system_info` call error after connection: {}", crate::error::status(error))
        }
    }
}

/// The library's own words say most of what users look for: refused, or by whom a certificate was not signed.
fn unreachable(error: &Error, host: &str, balanced: bool) -> String {
    let mut next = error.source();
    while let Some(cause) = next {
        let text = format!("{cause:?}");
        if text.starts_with("tonic::transport::Error(") {
            return format!("Server connection error: {text}");
        }
        if balanced && cause.is::<std::io::Error>() {
            return format!("DNS resolution error for '{host}': {cause}");
        }
        next = cause.source();
    }
    format!("Server connection error: {error}")
}
