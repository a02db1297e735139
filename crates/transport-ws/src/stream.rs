//! The two halves of a byte stream: one read by the connection, the other written by its sink

use std::any::Any;
use std::fmt;
use std::io;
#[cfg(unix)]
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use roomcast_core::ByteStream;
use roomcast_core::memory::Charge;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Splits a stream so that its halves can be used from different threads
///
/// A TCP socket needs no lock for that, since the kernel keeps its directions apart. TLS and anything unknown keep
/// state that both directions share, so there the halves take turns at a mutex, held for one attempt at a time.
pub(crate) fn split(stream: Box<dyn ByteStream>) -> (ReadHalf, WriteHalf) {
    match into_tcp(stream) {
        Ok(tcp) => {
            // Without this a small frame may wait for the acknowledgement of the one before it. A socket that
            // refuses is already broken, which the first read will tell.
            let _ = tcp.set_nodelay(true);
            let (read, write) = tcp.into_split();
            (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
        }
        Err(other) => {
            let shared = Shared(Arc::new(Mutex::new(other)));
            (ReadHalf::Shared(shared.clone()), WriteHalf::Shared(shared, Charge::default()))
        }
    }
}

fn into_tcp(stream: Box<dyn ByteStream>) -> Result<Box<TcpStream>, Box<dyn ByteStream>> {
    if (&*stream as &dyn Any).is::<TcpStream>() {
        Ok((stream as Box<dyn Any>).downcast().expect("its type was just asked for"))
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
    /// Reads what there is; ready with nothing at the end of the stream
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Shared(shared) => Pin::new(&mut **shared.lock()).poll_read(cx, buf),
        }
    }

    /// Says that nothing more will be sent, once the write half is gone
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // Dropping the write half did it.
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Shared(shared) => Pin::new(&mut **shared.lock()).poll_shutdown(cx),
        }
    }
}

#[derive(Debug)]
pub(crate) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    /// With the bytes charged that the stream has taken and may not have sent
    Shared(Shared, Charge),
}

impl WriteHalf {
    /// Writes as much as there is room for; pending registers the task if there is none
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            // Not `AsyncWrite::poll_write`: it counts against the cooperative budget of the task, and a flusher
            // that used it up would take a free socket for a blocked one.
            Self::Tcp(tcp) => loop {
                match send(tcp.as_ref(), bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(tcp.as_ref().poll_write_ready(cx))?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    outcome => return Poll::Ready(outcome),
                }
            },
            Self::Shared(shared, buffered) => {
                let written = ready!(Pin::new(&mut **shared.lock()).poll_write(cx, bytes))?;
                buffered.set(STREAM_BUFFER.min(buffered.bytes() + written));
                Poll::Ready(Ok(written))
            }
        }
    }

    /// Whether the stream may hold bytes that it has taken and not sent
    pub(crate) fn buffers(&self) -> bool {
        matches!(self, Self::Shared(..))
    }

    /// Looks at what the next write looks at first
    pub(crate) fn prefetch(&self) {
        match self {
            #[cfg(unix)]
            Self::Tcp(tcp) => _ = std::hint::black_box(tcp.as_ref().as_raw_fd()),
            _ => {}
        }
    }

    /// Moves on what a stream that buffers, such as TLS, has taken but not sent
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Shared(shared, buffered) => {
                ready!(Pin::new(&mut **shared.lock()).poll_flush(cx))?;
                buffered.set(0);
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Bytes that a stream buffers at most, as far as they are charged: the limit that rustls keeps by default
const STREAM_BUFFER: usize = 64 * 1024;

/// Hands bytes to the kernel
///
/// Almost always there is room, so it is tried without asking the runtime first whether there is: what the runtime
/// knows of a socket lies in memory of its own, which a broadcast to thousands would have to fetch for each.
#[cfg(target_os = "linux")]
fn send(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::SendFlags;
    match rustix::net::send(tcp, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        // Asked again by way of the runtime, so that it knows.
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
