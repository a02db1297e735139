//! Opening of a connection: TCP, TLS, authentication, and the search of a master by sentinels.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::resp::{self, InvalidReply, Reply};
use crate::config::{Address, RedisConfig, Secret, Target};

/// Established byte stream, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Stream for T {}

/// Connection that is ready for commands.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) stream: Box<dyn Stream>,
    pub(super) address: Address,
    pub(super) identity: Option<Identity>,
}

/// Number and address of a connection at the server.
///
/// A server that was frozen still reads the commands of a closed connection. Their messages would follow those of the
/// next connection, so that one ends it first. Both are compared, since a restarted server uses numbers again.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    id: i64,
    local: SocketAddr,
}

/// Failed attempt to connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("connecting to {0}: {1}")]
    Connect(Address, io::Error),
    #[error("{0} closed the connection or failed: {1}")]
    Stream(Address, io::Error),
    #[error("{0} refused {1}: {2}")]
    Refused(Address, &'static str, String),
    #[error("{0} sent an {1}")]
    Invalid(Address, InvalidReply),
    #[error("no sentinel knows the master {0}")]
    UnknownMaster(String),
    #[error("{0} is not a master")]
    NotMaster(Address),
    #[error("{0} did not answer in time")]
    Silent(Address),
    #[error("the settings are those of a Redis Cluster, which this engine does not use")]
    IsCluster,
    #[error("the settings name no server of a cluster")]
    NoServer,
    #[error("no answer in time")]
    Timeout,
}

/// Connects to the server, or to the master that a sentinel names, and ends the previous connection.
pub(super) async fn dial(config: Arc<RedisConfig>, previous: Option<Identity>) -> Result<Dialed, DialError> {
    tokio::time::timeout(config.connect_timeout, dial_target(&config, previous.as_ref()))
        .await
        .unwrap_or_else(|_| match &config.target {
            Target::Server(address) => Err(DialError::Silent(address.clone())),
            Target::Sentinel { .. } | Target::Cluster { .. } => Err(DialError::Timeout),
        })
}

async fn dial_target(config: &RedisConfig, previous: Option<&Identity>) -> Result<Dialed, DialError> {
    let (master, sentinels) = match &config.target {
        Target::Cluster { .. } => return Err(DialError::IsCluster),
        Target::Server(address) => return dial_server(config, address, previous).await,
        Target::Sentinel { master, sentinels } => (master, sentinels),
    };
    let mut last = None;
    // The nodes of a cluster start with different sentinels.
    let first = fastrand::usize(..sentinels.len());
    // A frozen sentinel must not use up the time of the others.
    let share = config.connect_timeout / (2 * u32::try_from(sentinels.len()).unwrap_or(1));
    for sentinel in sentinels.iter().cycle().skip(first).take(sentinels.len()) {
        let asked = tokio::time::timeout(share, ask_sentinel(config, sentinel, master)).await;
        match asked.unwrap_or_else(|_| Err(DialError::Silent(sentinel.clone()))) {
            Ok(address) => match dial_server(config, &address, previous).await {
                Ok(dialed) => return Ok(dialed),
                // During a failover, the sentinels may disagree.
                Err(error) => last = Some(error),
            },
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| DialError::UnknownMaster(master.clone())))
}

async fn dial_server(
    config: &RedisConfig,
    address: &Address,
    previous: Option<&Identity>,
) -> Result<Dialed, DialError> {
    let (stream, local) = open(config, address).await?;
    let mut handshake = Handshake { stream, address, input: BytesMut::new() };
    handshake.authenticate(config.username.as_deref(), config.password.as_ref()).await?;
    // A server that loads its data, or demands a password, refuses this. Access rules may do so too.
    handshake
        .command("PING", &[], |reply| match reply {
            Reply::Error(text) if !text.starts_with(b"NOPERM") => Err(text_of(text)),
            _ => Ok(()),
        })
        .await?;
    if matches!(config.target, Target::Sentinel { .. }) {
        let is_master = handshake.command("ROLE", &[], |reply| match reply {
            Reply::Error(text) => Err(text_of(text)),
            Reply::Array(parts) => Ok(parts.first() == Some(&Reply::Bulk(Some(b"master")))),
            _ => Ok(false),
        });
        if !is_master.await? {
            return Err(DialError::NotMaster(address.clone()));
        }
    }
    if let Some(Identity { id, local }) = previous {
        let (id, local) = (id.to_string(), local.to_string());
        let args = [&b"KILL"[..], b"ID", id.as_bytes(), b"ADDR", local.as_bytes()];
        // Mostly it was closed already, and access rules may refuse the command.
        handshake.command("CLIENT", &args, |_| Ok(())).await?;
    }
    let id = handshake.command("CLIENT", &[b"ID"], |reply| match reply {
        Reply::Integer(id) => Ok(Some(id)),
        _ => Ok(None),
    });
    let identity = id.await?.zip(local).map(|(id, local)| Identity { id, local });
    Ok(Dialed { stream: handshake.stream, address: address.clone(), identity })
}

/// Asks a server of a cluster for the slots of its masters; `read` returns `None` for a reply that is of no use.
pub(crate) async fn slots<R>(
    config: &RedisConfig,
    server: &Address,
    read: impl FnOnce(&Reply<'_>) -> Option<R>,
) -> Result<R, DialError> {
    let (stream, _) = open(config, server).await?;
    let mut handshake = Handshake { stream, address: server, input: BytesMut::new() };
    handshake.authenticate(config.username.as_deref(), config.password.as_ref()).await?;
    let read = |reply: Reply<'_>| match &reply {
        Reply::Error(text) => Err(text_of(text)),
        reply => read(reply).ok_or_else(|| "no slots".to_owned()),
    };
    handshake.command_with("CLUSTER", &[b"SLOTS"], resp::parse_slots, read).await
}

async fn ask_sentinel(config: &RedisConfig, sentinel: &Address, master: &str) -> Result<Address, DialError> {
    let (stream, _) = open(config, sentinel).await?;
    let mut handshake = Handshake { stream, address: sentinel, input: BytesMut::new() };
    let password = config.sentinel_password.as_ref();
    handshake.authenticate(config.sentinel_username.as_deref(), password).await?;
    let command = [&b"get-master-addr-by-name"[..], master.as_bytes()];
    let found = handshake.command("SENTINEL", &command, |reply| match reply {
        Reply::Error(text) => Err(text_of(text)),
        Reply::Array(parts) => match &parts[..] {
            [Reply::Bulk(Some(host)), Reply::Bulk(Some(port))] => {
                Ok(text_of(port).parse().ok().map(|port| Address::Tcp(text_of(host), port)))
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    });
    found.await?.ok_or_else(|| DialError::UnknownMaster(master.to_owned()))
}

/// Stream with the local address of its socket.
type Opened = (Box<dyn Stream>, Option<SocketAddr>);

async fn open(config: &RedisConfig, address: &Address) -> Result<Opened, DialError> {
    let failed = |error| DialError::Connect(address.clone(), error);
    let (host, port) = match address {
        Address::Tcp(host, port) => (host, *port),
        Address::Unix(path) => return Ok((Box::new(UnixStream::connect(path).await.map_err(failed)?), None)),
    };
    let stream = connect(config, host, port).await.map_err(failed)?;
    let local = stream.local_addr().ok();
    stream.set_nodelay(true).map_err(failed)?;
    // The pings notice a dead server first; this one also ends connections that wait for a ping's turn.
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive).map_err(failed)?;
    let Some(tls) = &config.tls else { return Ok((Box::new(stream), local)) };
    let name = ServerName::try_from(host.clone())
        .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(failed)?;
    Ok((Box::new(stream), local))
}

/// Connects to the first address that answers.
///
/// A lost request would be repeated by the system after 1 s, then 2 s, and so on. The next attempt is sooner.
async fn connect(config: &RedisConfig, host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match tokio::time::timeout(config.connect_timeout / 4, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
type Parse = fn(&[u8]) -> Result<Option<(Reply<'_>, usize)>, InvalidReply>;

struct Handshake<'a> {
    stream: Box<dyn Stream>,
    address: &'a Address,
    input: BytesMut,
}

impl Handshake<'_> {
    async fn authenticate(&mut self, user: Option<&str>, password: Option<&Secret>) -> Result<(), DialError> {
        let Some(password) = password else { return Ok(()) };
        let mut command = Vec::new();
        command.extend(user.filter(|user| !user.is_empty()).map(str::as_bytes));
        command.push(password.expose().as_bytes());
        self.command("AUTH", &command, |reply| match reply {
            Reply::Error(text) => Err(text_of(text)),
            _ => Ok(()),
        })
        .await
    }

    /// Sends one command, and reads its reply.
    async fn command<R>(
        &mut self,
        name: &'static str,
        args: &[&[u8]],
        read: impl FnOnce(Reply<'_>) -> Result<R, String>,
    ) -> Result<R, DialError> {
        self.command_with(name, args, resp::parse, read).await
    }

    /// As [`command`](Self::command), for replies with their own limits.
    async fn command_with<R>(
        &mut self,
        name: &'static str,
        args: &[&[u8]],
        parse: Parse,
        read: impl FnOnce(Reply<'_>) -> Result<R, String>,
    ) -> Result<R, DialError> {
        let failed = |error| DialError::Stream(self.address.clone(), error);
        let mut out = BytesMut::new();
        resp::encode(&mut out, name.as_bytes(), args.iter().copied());
        self.stream.write_all(&out).await.map_err(failed)?;
        self.stream.flush().await.map_err(failed)?;
        self.input.clear();
        loop {
            let parsed = parse(&self.input);
            if let Some((reply, _)) =
                parsed.map_err(|error| DialError::Invalid(self.address.clone(), error))?
            {
                return read(reply).map_err(|text| DialError::Refused(self.address.clone(), name, text));
            }
            if self.stream.read_buf(&mut self.input).await.map_err(failed)? == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Returns text of a server, which never repeats a password.
pub(crate) fn text_of(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

const KEEPALIVE: Duration = Duration::from_secs(10);
