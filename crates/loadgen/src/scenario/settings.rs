use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::dialect::Dialect;
use super::stamp::Filler;
use super::{Kind, Scenario};
use crate::tls::Tls;

/// Settings of a run, for scripts and the tool.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The clients are spread over them in turn.
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) pid: Option<u32>,
    pub(crate) scenario: Scenario,
    pub(crate) kind: Kind,
    pub(crate) dialect: Arc<Dialect>,
    pub(crate) clients: usize,
    pub(crate) senders: usize,
    /// Messages that each sender keeps on their way at most.
    pub(crate) outstanding: usize,
    /// Messages a second of all senders together; without it the next follows when a former has landed.
    pub(crate) rate: Option<f64>,
    /// Groups of clients that get the same messages.
    pub(crate) groups: usize,
    /// Whether the server leaves the sender out.
    pub(crate) without_sender: bool,
    pub(crate) payload: usize,
    pub(crate) filler: Filler,
    /// Whether the server must compress its messages.
    pub(crate) deflate: bool,
    pub(crate) warmup: Duration,
    pub(crate) window: Duration,
    pub(crate) stall: Duration,
    /// Never sleep.
    pub(crate) spin: bool,
    /// Better no CPU time than one that is rough.
    pub(crate) exact: bool,
    /// Take leave of the server instead of resetting connections.
    pub(crate) gentle: bool,
}

impl Settings {
    /// How long a wait for events may last.
    pub(crate) fn patience(&self) -> Duration {
        if self.spin { Duration::ZERO } else { Duration::from_millis(5) }
    }

    /// Sockets that are needed at most.
    pub(crate) fn sockets(&self) -> usize {
        match self.kind {
            // A polling client sends on a second connection.
            Kind::Poll => 2 * self.clients,
            Kind::Plain | Kind::Sio => self.clients,
        }
    }

    /// Clients that say something before or during the load.
    pub(crate) fn speakers(&self) -> usize {
        if matches!(self.scenario, Scenario::Echo | Scenario::Rooms) { self.clients } else { self.senders }
    }
}

/// Address and request headers of clients.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// As it stands in the header `Host`.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// Further headers, each with the end of its line.
    pub(crate) headers: String,
    /// How TLS is spoken with it, if it is.
    pub(crate) tls: Option<Tls>,
}

impl Server {
    /// On this machine, as a browser sees it: with cookies, and an offer to compress that is not expected to be taken.
    pub(crate) fn local(port: u16, path: &str, kind: Kind) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server =
            Self { address, host: address.to_string(), path: path.into(), headers: String::new(), tls: None };
        let host = &server.host;
        let mut headers = match kind {
            Kind::Poll => format!(
                "User-Agent: {USER_AGENT}\r\nAccept: */*\r\nOrigin: http://{host}\r\nReferer: http://{host}/\r\n\
                 Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
            ),
            Kind::Plain | Kind::Sio => format!(
                "Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: {USER_AGENT}\r\nOrigin: http://{host}\r\n\
                 Accept-Encoding: gzip, deflate, br, zstd\r\nDNT: 1\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            ),
        };
        _ = write!(headers, "Accept-Language: en-US,en;q=0.9,de;q=0.8\r\nCookie: {COOKIE}\r\n");
        server.headers = headers;
        server
    }
}

const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                          Chrome/141.0.0.0 Safari/537.36";
const COOKIE: &str = "session=4f9c2a7be81d4c0f9a63d5b2e7710c38; theme=dark; \
                      consent=necessary.statistics; visitor=1029384756.1700000000";
