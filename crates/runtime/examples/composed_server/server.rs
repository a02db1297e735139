//! Accept loop, one driver per client, and the rooms they share.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use roomcast_core::{
    AckTable, Connection, Event, Exchange, FlushList, Member, MemberKey, Namespace, Responder, ResponseBody,
    Room, Router, SocketId, Target, Transport, Upgrade, Upgraded,
};
use roomcast_plain::{Mode, PlainConfig, PlainSession, SUBPROTOCOL};
use roomcast_rooms::Rooms;
use roomcast_runtime::{Driver, DriverConfig, Incoming, flush};
use roomcast_transport_ws::WebSocket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Maximum number of open connections; further ones stay in the accept queue.
const MAX_CONNECTIONS: usize = 10_000;

pub(crate) struct Server {
    transport: WebSocket,
    config: Arc<PlainConfig>,
    rooms: Rooms,
    list: FlushList,
}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            transport: WebSocket::new().max_message(64 * 1024),
            config: Arc::default(),
            rooms: Rooms::default(),
            list: FlushList::new(),
        })
    }

    /// Accepts connections for as long as the future is polled.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        tokio::spawn(flush(self.list.clone()));
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = free.clone().acquire_owned().await.map_err(io::Error::other)?;
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: wait until some are free.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let server = self.clone();
            let permit = Arc::new(permit);
            tokio::spawn(async move {
                let answer = service_fn(move |request| server.clone().answer(request, permit.clone()));
                // A failure here affects only a client that is already gone.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(10))
                    .serve_connection(TokioIo::new(stream), answer)
                    .with_upgrades()
                    .await;
            });
        }
    }

    /// Opens a WebSocket for a request, or responds with the reason for refusing it.
    async fn answer<P: Send + 'static>(
        self: Arc<Self>,
        mut request: Request<Body>,
        permit: P,
    ) -> Result<Response<ResponseBody>, Infallible> {
        let room = room_of(request.uri().query().unwrap_or_default());
        let mode = mode_of(request.headers());
        let upgrade = hyper::upgrade::on(&mut request);
        let upgrade = Upgrade::new(async move { unwrap(upgrade.await.map_err(io::Error::other)?) });
        let (request, body) = request.into_parts();
        let (respond, response) = Responder::new();
        let exchange = Exchange {
            request: Arc::new(request),
            body: body.map_err(Into::into).boxed_unsync(),
            respond,
            upgrade: Some(upgrade),
            subprotocol: (mode == Mode::Json).then(|| SUBPROTOCOL.into()),
        };
        let connection = match self.transport.open(exchange) {
            Ok(connection) => connection,
            Err(refused) => return Ok(refused.rejection.response()),
        };
        tokio::spawn(async move {
            self.run(connection, mode, room).await;
            drop(permit);
        });
        Ok(response.await.unwrap_or_default())
    }

    /// Runs one client until it disconnects and relays its events to the others in its room.
    async fn run(&self, connection: Box<dyn Connection>, mode: Mode, room: Room) {
        let session = PlainSession::new(mode, self.config.clone(), Namespace::main());
        let name = self.transport.name();
        let mut driver =
            Driver::new(Box::new(session), connection, name, self.list.clone(), DriverConfig::new());
        let key = MemberKey::next();
        while let Some(incoming) = driver.next().await {
            match incoming {
                Incoming::Connect { namespace, .. } => {
                    let member = Member {
                        key,
                        id: SocketId::from(format!("client-{}", key.0)),
                        codec: mode.codec(),
                        outbox: driver.outbox().clone(),
                        acks: Some(AckTable::default()),
                        control: None,
                    };
                    driver.accept(&namespace, member.id.clone(), || {
                        self.rooms.attach(member);
                        self.rooms.join(key, &room);
                    });
                }
                Incoming::Event(event) => {
                    let target = Target { rooms: vec![room.clone()], skip: Some(key), ..Target::default() };
                    let relayed = Event::new(event.namespace, event.name, event.args);
                    let told = self.rooms.broadcast(&target, &relayed).flush_backlog();
                    if let Some(id) = event.ack {
                        let told = roomcast_core::IntoArgs::into_args(told.queued).unwrap_or_default();
                        // A client that cannot receive acks does not request them.
                        let _ = driver.answer(mode.codec().as_ref(), &relayed.namespace, id, &told);
                    }
                }
                Incoming::Closed(_) => {
                    self.rooms.detach(key);
                }
                _ => {}
            }
        }
    }
}

/// Returns the room that the query names as `room=…`; `lobby` if it names none.
fn room_of(query: &str) -> Room {
    let named = query.split('&').find_map(|pair| pair.strip_prefix("room="));
    Room::from(named.filter(|name| !name.is_empty()).unwrap_or("lobby"))
}

/// Returns the JSON mode for a client that offers its subprotocol.
fn mode_of(headers: &HeaderMap) -> Mode {
    let mut offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let is_json = offered.any(|value| value.split(',').any(|name| name.trim() == SUBPROTOCOL));
    if is_json { Mode::Json } else { Mode::Plain }
}

/// Returns the inner TCP stream, so that the transport uses it without an extra layer.
fn unwrap(upgraded: hyper::upgrade::Upgraded) -> io::Result<Upgraded> {
    let parts =
        upgraded.downcast::<TokioIo<TcpStream>>().map_err(|_| io::Error::other("not a TCP stream"))?;
    Ok(Upgraded { stream: Box::new(parts.io.into_inner()), read_buffer: parts.read_buf })
}
