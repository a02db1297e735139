//! Streams of clients, whatever lies below them

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A stream that blocks, though not for ever
pub trait Stream: Read + Write + Send + fmt::Debug {}

impl<T: Read + Write + Send + fmt::Debug> Stream for T {}

/// Goes on when a signal comes in between; a read with a timeout is otherwise cut short by it
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

/// Opens streams to one server
#[derive(Debug, Clone)]
pub enum Dial {
    Tcp(SocketAddr),
    #[cfg(feature = "tls")]
    Tls(SocketAddr, std::sync::Arc<tokio_rustls::rustls::ClientConfig>),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Dial {
    pub fn open(&self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(address) => Box::new(tcp(*address)),
            #[cfg(feature = "tls")]
            Self::Tls(address, config) => {
                let name = "localhost".try_into().expect("a name");
                let client = tokio_rustls::rustls::ClientConnection::new(config.clone(), name);
                let client = client.expect("settings of a client");
                Box::new(Persistent(tokio_rustls::rustls::StreamOwned::new(client, tcp(*address))))
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path).expect("the server listens");
                stream.set_read_timeout(Some(PATIENCE)).expect("a fresh socket");
                stream.set_write_timeout(Some(PATIENCE)).expect("a fresh socket");
                Box::new(Persistent(stream))
            }
        }
    }
}

fn tcp(address: SocketAddr) -> Persistent<TcpStream> {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a fresh socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a fresh socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a fresh socket");
    Persistent(stream)
}
