//! Opens one connection: from a name to addresses, from an address to a stream. Everything has its time, and an error says
//! which addresses were tried and what came of each. TLS and HTTP/2 are spoken by others.

use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::resolve;

/// Connects to one of the addresses of this name, the first that answers.
pub(crate) async fn name(host: &str, port: u16, within: Duration) -> Result<TcpStream> {
    let began = Instant::now();
    let addresses = resolve::addresses(tokio::net::lookup_host((host, port)), within).await?;
    first_of(&addresses, within.saturating_sub(began.elapsed())).await
}

/// Connects to this address.
pub(crate) async fn address(address: SocketAddr, within: Duration) -> Result<TcpStream> {
    first_of(&[address], within).await
}

/// Tries one address after another; each has its share of what time is left, so that one that does not answer does not
/// stand in the way of the next.
async fn first_of(addresses: &[SocketAddr], within: Duration) -> Result<TcpStream> {
    let (began, mut tried) = (Instant::now(), Vec::new());
    for (address, waiting) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = within.saturating_sub(began.elapsed());
        let share = left / u32::try_from(waiting).unwrap_or(u32::MAX);
        let failed = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => Error::new(ErrorKind::TimedOut, format!("no connection within {share:?}")),
        };
        tried.push((*address, failed));
    }
    let kind = tried.last().map_or(ErrorKind::NotFound, |(_, error)| error.kind());
    Err(Error::new(kind, Tried(tried)))
}

/// The addresses that could not be connected to, and why.
#[derive(Debug)]
struct Tried(Vec<(SocketAddr, Error)>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Tried {}

/// A connection that fails unless the other side says its first word in time: a port that takes connections and does
/// nothing with them is not a server. TLS and HTTP/2 servers alike say something as soon as they are connected to.
pub(crate) struct Answered<S> {
    stream: S,
    /// Until the first word.
    silence: Option<Silence>,
}

struct Silence {
    ends: Pin<Box<Sleep>>,
    within: Duration,
    whom: String,
}

impl<S> Answered<S> {
    /// `whom` is for the error.
    pub(crate) fn new(stream: S, whom: String, within: Duration) -> Self {
        let silence = Silence { ends: Box::pin(sleep(within)), within, whom };
        Self { stream, silence: Some(silence) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Answered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.ends.as_mut().poll(context).is_ready()
        {
            let (whom, within) = (&silence.whom, silence.within);
            let text = format!("{whom} accepted the connection and then said nothing within {within:?}");
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, text)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Answered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn nowhere() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn each_address_that_was_tried_is_named() {
        let (one, other) = (nowhere().await, nowhere().await);
        let error = first_of(&[one, other], SECOND).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let refused = "Connection refused (os error 111)";
        if cfg!(target_os = "linux") {
            assert_eq!(error.to_string(), format!("{one}: {refused}; {other}: {refused}"));
        }
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_stand_in_the_way_of_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap();
        let stream = first_of(&[nowhere().await, there], Duration::MAX).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), there);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_with_an_error_and_a_word_ends_the_waiting() {
        let (near, _far) = duplex(64);
        let mut silent = Answered::new(near, "a:1".into(), 10 * SECOND);
        let error = silent.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "a:1 accepted the connection and then said nothing within 10s");

        let (near, mut far) = duplex(64);
        let mut answered = Answered::new(near, "a:1".into(), 10 * SECOND);
        far.write_u8(7).await.unwrap();
        assert_eq!(answered.read_u8().await.unwrap(), 7);
        assert!(timeout(3_600 * SECOND, answered.read_u8()).await.is_err(), "it may be silent from now on");
    }
}
