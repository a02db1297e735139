//! Halves of a byte stream: the connection reads, its sink writes.

use std::any::Any;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use roomcast_core::memory::Charge;
use roomcast_core::{ByteStream, prefetch};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Splits a stream into halves usable from different threads.
///
/// A TCP socket needs no lock, since its directions are independent in the kernel. TLS and unknown streams share state
/// between the directions, so their halves share a mutex, locked for one attempt at a time.
pub(crate) fn split(stream: Box<dyn ByteStream>) -> (ReadHalf, WriteHalf) {
    match into_tcp(stream) {
        Ok(tcp) => {
            // Otherwise a small frame may wait for the acknowledgement of the previous one. A socket that fails here is
            // already broken, which the first read reports.
            let _ = tcp.set_nodelay(true);
            let (read, write) = tcp.into_split();
            (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
        }
        Err(other) => {
            let shared = Shared(Arc::new(Mutex::new(other)));
            let write = BufferedWrite { stream: shared.clone(), buffered: Charge::default() };
            (ReadHalf::Shared(shared), WriteHalf::Buffered(Box::new(write)))
        }
    }
}

fn into_tcp(stream: Box<dyn ByteStream>) -> Result<Box<TcpStream>, Box<dyn ByteStream>> {
    if (&*stream as &dyn Any).is::<TcpStream>() {
        Ok((stream as Box<dyn Any>).downcast().expect("type checked above"))
    } else {
        Err(stream)
    }
}

#[derive(Debug)]
pub(crate) enum ReadHalf {
    Tcp(OwnedReadHalf),
    Shared(Shared),
}

impl ReadHalf {
    /// Reads available bytes; ready without any at the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Shared(shared) => Pin::new(&mut **shared.lock()).poll_read(cx, buf),
        }
    }

    /// Shuts down the write direction, once the write half is dropped.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // Already done by dropping the write half.
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Shared(shared) => Pin::new(&mut **shared.lock()).poll_shutdown(cx),
        }
    }
}

#[derive(Debug)]
pub(crate) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    /// Boxed, so that it does not make a TCP socket larger.
    Buffered(Box<BufferedWrite>),
}

/// A stream that may buffer unsent bytes, such as TLS, with those bytes charged.
#[derive(Debug)]
pub(crate) struct BufferedWrite {
    stream: Shared,
    buffered: Charge,
}

impl WriteHalf {
    /// Writes as much as fits; pending registers the task.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            // Not `AsyncWrite::poll_write`: it consumes the task's cooperative budget, and a flusher that exhausted it
            // would mistake a writable socket for a blocked one.
            Self::Tcp(tcp) => loop {
                match send(tcp.as_ref(), bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(tcp.as_ref().poll_write_ready(cx))?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => return Poll::Ready(outcome),
                }
            },
            Self::Buffered(write) => {
                let BufferedWrite { stream, buffered } = &mut **write;
                let written = ready!(Pin::new(&mut **stream.lock()).poll_write(cx, bytes))?;
                buffered.set(STREAM_BUFFER.min(buffered.bytes() + written));
                Poll::Ready(Ok(written))
            }
        }
    }

    /// Returns whether the stream may buffer unsent bytes.
    pub(crate) fn buffers(&self) -> bool {
        matches!(self, Self::Buffered(_))
    }

    /// Prefetches the memory that the next write reads first.
    pub(crate) fn prefetch(&self) {
        match self {
            Self::Tcp(tcp) => prefetch(tcp.as_ref()),
            Self::Buffered(write) => prefetch(&**write),
        }
    }

    /// Flushes the bytes buffered by a stream such as TLS.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Buffered(write) => {
                ready!(Pin::new(&mut **write.stream.lock()).poll_flush(cx))?;
                write.buffered.set(0);
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Maximum bytes buffered by a stream, as charged: the default limit of rustls.
const STREAM_BUFFER: usize = 64 * 1024;

/// Writes bytes to the kernel.
///
/// The socket is nearly always writable, so this tries the write before it asks the runtime: the runtime's readiness
/// state is in separate memory, which a broadcast to thousands of sockets would have to fetch for each.
#[cfg(target_os = "linux")]
fn send(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::SendFlags;
    match rustix::net::send(tcp, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        // Retried through the runtime, so that it registers the readiness.
        Err(rustix::io::Errno::WOULDBLOCK) => tcp.try_write(bytes),
        outcome => Ok(outcome?),
    }
}

#[cfg(not(target_os = "linux"))]
fn send(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    tcp.try_write(bytes)
}

#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Box<dyn ByteStream>>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Box<dyn ByteStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}
