//! Connecting, and why it failed in the words that users know.

use std::error::Error as StdError;

use crate::error::status;
use outlast_core::{CallOptions, Client, ClientOptions, Error, Kind, RetryKind};

/// Connects and asks the server what it can do: once, since the caller wants to know.
pub async fn connect(options: ClientOptions) -> Result<Client, String> {
    let (host, balanced) = (options.target.host().to_owned(), options.resolve_interval.is_some());
    let client = Client::lazy(options).map_err(|error| told(&error, &host, balanced))?;
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
        Kind::Config => {
            let cause = error.source().map(|cause| format!("{cause:?}"));
            let cause = cause.filter(|text| text.starts_with("tonic::transport::Error("));
            cause.map_or_else(|| error.message.clone(), |text| format!("Server connection error: {text}"))
        }
        Kind::Refused | Kind::TimedOut | Kind::TooLarge | Kind::Malformed => of_call(error, "None"),
    }
}

fn of_call(error: &Error, source: &str) -> String {
    format!("`get_system_info` call error after connection: {}", status(error, source))
}

/// The library's own words say most of what users look for: refused, or by whom a certificate was not signed.
fn unreachable(error: &Error, host: &str, balanced: bool) -> String {
    let mut next = error.source();
    while let Some(cause) = next {
        let text = format!("{cause:?}");
        // What fails within a connection that is there fails the first call on it.
        if text.starts_with("tonic::transport::Error(Transport, hyper::Error(") {
            return of_call(error, &format!("Some({text})"));
        }
        if text.starts_with("tonic::transport::Error(") {
            return format!("Server connection error: {text}: {error}");
        }
        if balanced && cause.is::<std::io::Error>() {
            return format!("DNS resolution error for '{host}': {cause}");
        }
        next = cause.source();
    }
    format!("Server connection error: {error}")
}
