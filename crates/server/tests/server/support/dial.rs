//! Streams of clients, whatever lies below them

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A stream that blocks, though not for ever
pub trait Stream: Read + Write + Send + fmt::Debug {}

impl<T: Read + Write + Send + fmt::Debug> Stream for T {}

/// Opens streams to one server
#[derive(Debug, Clone)]
pub enum Dial {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Dial {
    pub fn open(&self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("the server listens");
                stream.set_nodelay(true).expect("a fresh socket");
                stream.set_read_timeout(Some(PATIENCE)).expect("a fresh socket");
                stream.set_write_timeout(Some(PATIENCE)).expect("a fresh socket");
                Box::new(stream)
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = std::os::unix::net::UnixStream::connect(path).expect("the server listens");
                stream.set_read_timeout(Some(PATIENCE)).expect("a fresh socket");
                stream.set_write_timeout(Some(PATIENCE)).expect("a fresh socket");
                Box::new(stream)
            }
        }
    }
}
