//! Byte stream of a TLS connection

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use roomcast_core::memory::Charge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// TLS connection.
///
/// Data encrypted by rustls and not yet sent is charged: [`BUFFERED`] bytes at most. A transport that takes over the
/// [inner stream](Self::into_inner) charges it itself.
#[derive(Debug)]
pub(crate) struct TlsStream {
    stream: RustlsStream,
    buffered: Charge,
}

type RustlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Default buffer limit of rustls per connection, in bytes
const BUFFERED: usize = 64 * 1024;

impl TlsStream {
    pub(crate) fn new(stream: RustlsStream) -> Self {
        Self { stream, buffered: Charge::default() }
    }

    pub(crate) fn into_inner(self) -> RustlsStream {
        self.stream
    }

    fn took(&mut self, bytes: usize) {
        self.buffered.set(BUFFERED.min(self.buffered.bytes() + bytes));
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.took(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.took(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.buffered.set(0);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
