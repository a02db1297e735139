use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::stamp::Filler;
use super::wire_protocol::WireProtocol;
use super::{Habit, Kind, Scenario};
use crate::Error;
use crate::tls::{Resume, Tls, Trust};

/// Settings of a run.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Servers that share the clients in turn.
    pub(crate) servers: Vec<Arc<Server>>,
    pub(crate) pid: Option<u32>,
    pub(crate) scenario: Scenario,
    pub(crate) kind: Kind,
    pub(crate) wire_protocol: Arc<WireProtocol>,
    pub(crate) clients: usize,
    pub(crate) senders: usize,
    /// Maximum number of messages in flight per sender.
    pub(crate) outstanding: usize,
    /// Messages per second over all senders; if `None`, each message that lands is followed by another.
    pub(crate) rate: Option<f64>,
    /// Delay above which a send is late, with a rate.
    pub(crate) late_after: Duration,
    /// Number of groups of clients that receive the same messages.
    pub(crate) groups: usize,
    /// Whether the server excludes the sender.
    pub(crate) without_sender: bool,
    pub(crate) payload: usize,
    pub(crate) filler: Filler,
    /// Whether the server must compress its messages.
    pub(crate) deflate: bool,
    pub(crate) warmup: Duration,
    pub(crate) window: Duration,
    pub(crate) stall: Duration,
    /// Busy-poll instead of sleeping.
    pub(crate) spin: bool,
    pub(crate) habit: Habit,
    /// Fail instead of reporting coarse CPU times.
    pub(crate) exact: bool,
    /// Close connections properly instead of resetting them.
    pub(crate) gentle: bool,
}

impl Settings {
    /// Returns the maximum wait for events.
    pub(crate) fn patience(&self) -> Duration {
        if self.spin { Duration::ZERO } else { Duration::from_millis(5) }
    }

    /// Returns the maximum number of sockets.
    pub(crate) fn sockets(&self) -> usize {
        match self.kind {
            // A polling client sends on a second connection.
            Kind::Poll => 2 * self.clients,
            Kind::Plain | Kind::Sio | Kind::Msgpack => self.clients,
        }
    }

    /// Returns the number of clients that send before or during the load.
    pub(crate) fn speakers(&self) -> usize {
        if matches!(self.scenario, Scenario::Echo | Scenario::Rooms) { self.clients } else { self.senders }
    }
}

/// Address and request headers of clients.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Value of the `Host` header.
    pub(crate) host: String,
    /// Path and query.
    pub(crate) path: String,
    /// Additional header lines, each with its line end.
    pub(crate) headers: String,
    /// TLS configuration, if enabled.
    pub(crate) tls: Option<Tls>,
}

impl Server {
    /// Uses TLS with any certificate.
    pub(crate) fn with_tls(mut self, resume: bool) -> Result<Self, Error> {
        let resumption = if resume { Resume::Always } else { Resume::Never };
        let trust = Trust { anything: true, resumption, ..Trust::default() };
        self.tls = Some(Tls::new(&self.address.ip().to_string(), &trust)?);
        Ok(self)
    }

    /// Returns a server on this machine, with a browser's headers: cookies, and an offer of compression that the server
    /// should decline.
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
            Kind::Plain | Kind::Sio | Kind::Msgpack => format!(
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
