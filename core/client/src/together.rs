//! Small writes go out together. HTTP/2 below tonic writes the headers of a request at once, and only then is given its
//! body: two packets and two system calls for each request. A connection that lets the others go first before it
//! writes has both by then, and those of other requests that were made at the same time. Figures in
//! `docs/decisions/010`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What fills a packet need not wait for more.
const PACKET: usize = 1_400;

/// A stream whose small writes wait until every task that is ready has had its turn.
pub(crate) struct Together<S> {
    stream: S,
    /// The others had their turn since the last flush.
    waited: bool,
}

impl<S> Together<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, waited: false }
    }

    fn after_others(&mut self, bytes: usize, context: &Context<'_>) -> Poll<()> {
        if self.waited || bytes >= PACKET {
            return Poll::Ready(());
        }
        self.waited = true;
        context.waker().wake_by_ref(); // from within its own poll: behind all that are ready
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Together<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.after_others(bytes.len(), context));
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.after_others(parts.iter().map(|part| part.len()).sum(), context));
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.waited &= flushed.is_pending();
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Together<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    use bytes::Bytes;
    use http::uri::PathAndQuery;
    use hyper_util::rt::TokioIo;
    use tokio::io::{DuplexStream, duplex};
    use tonic::client::Grpc;
    use tonic::transport::{Channel, Endpoint};

    use super::*;
    use crate::codec::Raw;

    /// Counts how often it is written to.
    struct Counted(DuplexStream, Arc<AtomicUsize>);

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Relaxed);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    /// A server that answers every request with an empty message.
    async fn serve(stream: DuplexStream) {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((mut request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                while request.body_mut().data().await.is_some() {}
                let headers = http::Response::builder().header("content-type", "application/grpc");
                let mut body = respond.send_response(headers.body(()).unwrap(), false).unwrap();
                body.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
                let status = [(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())];
                body.send_trailers(status.into_iter().collect()).unwrap();
            });
        }
    }

    async fn call(channel: Channel) {
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/test.Service/Method");
        grpc.unary(tonic::Request::new(Bytes::from_static(&[7; 100])), path, Raw).await.unwrap();
    }

    #[tokio::test]
    async fn a_request_is_one_write_and_so_are_many_at_once() {
        let writes = Arc::new(AtomicUsize::new(0));
        let counter = writes.clone();
        let connector = tower::service_fn(move |_: http::Uri| {
            let ((ours, theirs), counter) = (duplex(1 << 16), counter.clone());
            tokio::spawn(serve(theirs));
            async move { io::Result::Ok(TokioIo::new(Together::new(Counted(ours, counter)))) }
        });
        let channel = Endpoint::from_static("http://test").connect_with_connector_lazy(connector);
        call(channel.clone()).await; // with the beginning of the connection
        call(channel.clone()).await;
        let before = writes.load(Relaxed);
        call(channel.clone()).await;
        assert_eq!(writes.load(Relaxed) - before, 1);
        let before = writes.load(Relaxed);
        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(call(channel.clone()))).collect();
        for call in calls {
            call.await.unwrap();
        }
        let many = writes.load(Relaxed) - before;
        assert!(many <= 4, "{many} writes for 20 calls at once"); // some 3 kB, and what fills a packet does not wait
    }

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_small_write_waits_once_for_the_others_and_a_large_one_does_not() {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let (waker, writes) = (woken.clone().into(), Arc::new(AtomicUsize::new(0)));
        let context = &mut Context::from_waker(&waker);
        let mut stream = Together::new(Counted(duplex(1 << 16).0, writes.clone()));
        let mut stream = Pin::new(&mut stream);
        for round in 1..=2 {
            assert!(stream.as_mut().poll_write(context, b"small").is_pending());
            assert_eq!((woken.0.load(Relaxed), writes.load(Relaxed)), (round, 2 * (round - 1)));
            assert!(stream.as_mut().poll_write(context, b"small").is_ready());
            assert!(stream.as_mut().poll_write(context, b"more of it").is_ready());
            assert!(stream.as_mut().poll_flush(context).is_ready());
        }
        assert!(stream.as_mut().poll_write(context, &[0; PACKET]).is_ready());
        assert_eq!(woken.0.load(Relaxed), 2);
    }
}
