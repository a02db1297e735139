//! Client streams over any transport.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::PATIENCE;

/// Blocking stream with a timeout.
pub trait Stream: Read + Write + Send + fmt::Debug {}

impl<T: Read + Write + Send + fmt::Debug> Stream for T {}

/// Retries after `EINTR`, which would otherwise cut short a read with a timeout.
#[derive(Debug)]
struct Persistent<T>(T);

impl<T: Read> Read for Persistent<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        persist(|| self.0.read(buf))
    }
}

impl<T: Write> Write for Persistent<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        persist(|| self.0.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        persist(|| self.0.flush())
    }
}

fn persist<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Opens streams to one server.
#[derive(Debug, Clone)]
pub enum Dial {
    /// TCP.
    Tcp(SocketAddr),
    /// TCP with a small receive buffer, so that the kernel does not absorb the server's queue.
    Narrow(SocketAddr),
    /// Streams made by the test, such as TLS.
    Custom(Custom),
    /// Unix domain socket.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

/// Makes the streams of [`Dial::Custom`].
#[derive(Clone)]
pub struct Custom(Arc<dyn Fn() -> Box<dyn Stream> + Send + Sync>);

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
    }
}

impl Dial {
    /// Opens streams by a function.
    pub fn custom<S: Stream + 'static>(open: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self::Custom(Custom(Arc::new(move || Box::new(Persistent(open())))))
    }

    /// Opens a stream.
    ///
    /// # Panics
    ///
    /// Panics if the server does not listen.
    pub fn open(&self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(address) => Box::new(Persistent(tcp(*address))),
            Self::Narrow(address) => {
                let socket =
                    socket2::Socket::new(socket2::Domain::for_address(*address), socket2::Type::STREAM, None);
                let socket = socket.expect("socket is created");
                socket.set_recv_buffer_size(NARROW).expect("socket option is set");
                socket.connect(&(*address).into()).expect("server listens");
                Box::new(Persistent(prepared(socket.into())))
            }
            Self::Custom(custom) => (custom.0)(),
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path).expect("server listens");
                stream.set_read_timeout(Some(PATIENCE)).expect("socket option is set");
                stream.set_write_timeout(Some(PATIENCE)).expect("socket option is set");
                Box::new(Persistent(stream))
            }
        }
    }

    /// Returns how many bytes a client reads ahead.
    pub(super) fn read_ahead(&self) -> usize {
        if matches!(self, Self::Narrow(_)) { NARROW / 2 } else { READ_AHEAD }
    }
}

/// Opens a TCP stream whose reads and writes are limited by [`PATIENCE`].
///
/// # Panics
///
/// Panics if the server does not listen.
pub fn tcp(address: SocketAddr) -> TcpStream {
    prepared(TcpStream::connect(address).expect("server listens"))
}

fn prepared(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).expect("socket option is set");
    stream.set_read_timeout(Some(PATIENCE)).expect("socket option is set");
    stream.set_write_timeout(Some(PATIENCE)).expect("socket option is set");
    stream
}

const READ_AHEAD: usize = 128 * 1024;
/// Receive buffer of [`Dial::Narrow`].
const NARROW: usize = 4096;
