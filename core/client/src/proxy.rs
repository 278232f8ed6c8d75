//! A tunnel through an HTTP proxy (RFC 9110, CONNECT). What is said in the tunnel, TLS included, is not known here.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::{BasicAuth, HttpConnectProxy, ProxyAddress, dial};

/// A proxy's answer ends within this many bytes.
const ANSWER_MAX: usize = 8 * 1024;

/// Both ways of a connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// Connects to the proxy and asks it to connect to `target` (`host:port`), all within this time.
pub(crate) async fn connect(
    proxy: &HttpConnectProxy,
    target: &str,
    within: Duration,
) -> Result<Pin<Box<dyn Stream>>> {
    let (whom, auth) = (proxy.address.to_string(), proxy.auth.as_ref());
    let connected = async {
        match &proxy.address {
            ProxyAddress::Tcp { host, port } => {
                let mut stream = dial::name(host, *port, within).await.map_err(|e| beneath(e, &whom))?;
                tunnel(&mut stream, target, auth).await.map_err(|e| beneath(e, &whom))?;
                Ok(Box::pin(stream) as Pin<Box<dyn Stream>>)
            }
            ProxyAddress::Unix(path) => unix(path, target, auth).await,
        }
    };
    let late = |_| beneath(Error::new(ErrorKind::TimedOut, format!("no tunnel within {within:?}")), &whom);
    timeout(within, connected).await.map_err(late)?
}

#[cfg(unix)]
async fn unix(
    path: &std::path::Path,
    target: &str,
    auth: Option<&BasicAuth>,
) -> Result<Pin<Box<dyn Stream>>> {
    let connected = tokio::net::UnixStream::connect(path).await;
    let mut stream = connected.map_err(|e| beneath(e, &path.display().to_string()))?;
    tunnel(&mut stream, target, auth).await.map_err(|e| beneath(e, &path.display().to_string()))?;
    Ok(Box::pin(stream))
}

#[cfg(not(unix))]
#[expect(clippy::unused_async, reason = "the same shape as where there are Unix sockets")]
async fn unix(path: &std::path::Path, _: &str, _: Option<&BasicAuth>) -> Result<Pin<Box<dyn Stream>>> {
    let message = format!("proxy {}: this system has no Unix sockets", path.display());
    Err(Error::new(ErrorKind::Unsupported, message))
}

fn beneath(error: Error, proxy: &str) -> Error {
    Error::new(error.kind(), format!("proxy {proxy}: {error}"))
}

async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    target: &str,
    auth: Option<&BasicAuth>,
) -> Result<()> {
    stream.write_all(request(target, auth).as_bytes()).await?;
    stream.flush().await?;
    let head = answer(stream).await?;
    check(&head)
}

fn request(target: &str, auth: Option<&BasicAuth>) -> String {
    let auth = auth.map_or_else(String::new, |auth| {
        let credentials = STANDARD.encode(format!("{}:{}", auth.user, auth.password));
        format!("Proxy-Authorization: Basic {credentials}\r\n")
    });
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{auth}\r\n")
}

/// Reads to the empty line and not a byte further: what follows belongs to the tunnel.
async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>> {
    let mut head = Vec::with_capacity(128);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == ANSWER_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "the proxy's answer is too long"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(head)
}

fn check(head: &[u8]) -> Result<()> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (version, code) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if version.starts_with("HTTP/1.") && code.len() == 3 && code.starts_with('2') {
        return Ok(());
    }
    let status = line.split_once(' ').map_or(&*line, |(_, status)| status);
    let text = format!("CONNECT call failed with status: {status}");
    Err(Error::new(ErrorKind::ConnectionRefused, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_names_the_target_and_the_user() {
        assert_eq!(request("a:1", None), "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n");
        let auth = BasicAuth { user: "user".into(), password: "pass".into() };
        assert!(request("a:1", Some(&auth)).contains("Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"));
    }

    #[test]
    fn only_success_opens_the_tunnel() {
        check(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        check(b"HTTP/1.0 200\r\nX: y\r\n\r\n").unwrap();
        for (refused, status) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication Required"),
            ("HTTP/1.1 302 Found\r\n\r\n", "302 Found"),
            ("200\r\n\r\n", "200"),
        ] {
            let message = check(refused.as_bytes()).unwrap_err().to_string();
            assert_eq!(message, format!("CONNECT call failed with status: {status}"));
        }
    }

    #[tokio::test]
    async fn bytes_after_the_answer_stay_in_the_tunnel() {
        let mut stream = b"HTTP/1.1 200 OK\r\n\r\nhello".as_slice();
        answer(&mut stream).await.unwrap();
        assert_eq!(stream, b"hello");
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut() {
        let mut stream = tokio::io::repeat(b'x');
        assert!(answer(&mut stream).await.unwrap_err().to_string().contains("too long"));
    }
}
