//! In-memory client, for applications that test their handlers without a port.

mod event;
mod outcome;
mod protocol;
mod step;
mod wire;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Extensions, HeaderName, HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use roomcast_core::{Args, BoxError, IntoArgs};
use roomcast_server::Io;
use roomcast_server::http::Peer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tower_service::Service;

pub use self::event::TestEvent;
use self::event::{read, readable};
use self::outcome::Heard;
pub use self::outcome::{Disconnected, NotConnected, TestKind};
use self::protocol::Protocol;
pub use self::step::Step;
use self::wire::Writer;

/// In-memory client: uses no port, but runs through HTTP, WebSocket, session and handlers.
///
/// It answers heartbeats in a background task. Methods consume the server's messages in order of
/// arrival and panic, at the caller's line, if a different message or none arrives. The timeout is 5
/// seconds of the runtime's time, so a test with a [paused](tokio::time::pause) clock fails at once and can
/// advance an hour without waiting.
///
/// ```
/// use roomcast_server::{Io, Socket};
/// use roomcast_testkit::TestClient;
///
/// fn application() -> Io {
///     let io = Io::new();
///     io.on("say", async |socket: Socket, room: String, text: String| {
///         socket.join(room.as_str());
///         socket.within(room).emit("said", (socket.id().as_str(), text)).map(drop)
///     });
///     io.on("add", async |a: i32, b: i32, ack: roomcast_server::Ack| ack.send(a + b).map(drop));
///     io
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let io = application();
/// let mut anna = TestClient::connect(&io).await;
/// anna.emit("say", ("red", "hello")).await;
/// let (who, text): (String, String) = anna.expect("said").await;
/// assert_eq!((who.as_str(), text.as_str()), (anna.id(), "hello"));
///
/// let sum: i32 = anna.emit_with_ack("add", (2, 3)).await;
/// assert_eq!(sum, 5);
/// anna.expect_nothing().await;
/// # }
/// ```
///
/// # Panics
///
/// Waiting methods panic if an unexpected message arrives, or none.
pub struct TestClient {
    protocol: Protocol,
    writer: Writer,
    heard: mpsc::Receiver<Heard>,
    /// Messages received but not yet requested.
    early: VecDeque<Heard>,
    id: String,
    next_ack: u64,
    reader: JoinHandle<()>,
}

/// Timeout of each expectation.
const PATIENCE: Duration = Duration::from_secs(5);

impl TestClient {
    /// Connects a Socket.IO client to the main namespace.
    ///
    /// # Panics
    ///
    /// Panics if the connection is refused.
    #[track_caller]
    pub fn connect(io: &Io) -> Step<'static, Self> {
        Self::builder(io).connect()
    }

    /// Returns a builder for a client with other than default settings.
    pub fn builder(
        io: &Io,
    ) -> TestClientBuilder<roomcast_server::server::IoService<roomcast_server::server::NotFound>> {
        Self::through(io.service())
    }

    /// Returns a builder for a client that connects through layers of the application, such as an axum router.
    pub fn through<S>(service: S) -> TestClientBuilder<S> {
        TestClientBuilder {
            service,
            kind: TestKind::default(),
            path: None,
            namespace: "/".to_owned(),
            auth: None,
            query: String::new(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            extensions: Extensions::new(),
        }
    }

    /// Returns the public socket id; empty for [`TestKind::Plain`], whose protocol does not transmit it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Emits an event.
    #[track_caller]
    pub fn emit(&mut self, event: &str, args: impl IntoArgs) -> Step<'_, ()> {
        let messages = self.protocol.event(event, &arguments(args), None);
        Step::new(async move {
            self.writer.send(messages).await;
            Ok(())
        })
    }

    /// Emits an event and waits for its acknowledgement: a single argument, or a tuple.
    ///
    /// Events received before the acknowledgement remain available.
    #[track_caller]
    pub fn emit_with_ack<'a, T>(&'a mut self, event: &str, args: impl IntoArgs) -> Step<'a, T>
    where
        T: DeserializeOwned + 'a,
    {
        let ack = self.next_ack;
        self.next_ack += 1;
        let messages = self.protocol.event(event, &arguments(args), Some(ack));
        let what = format!("acknowledgement of `{event}`");
        Step::new(async move {
            self.writer.send(messages).await;
            let answer =
                self.find(&what, |heard| matches!(heard, Heard::Answer(id, _) if *id == ack)).await?;
            let Heard::Answer(_, args) = answer else { unreachable!("`find` returns a match") };
            read(&args).map_err(|error| format!("cannot read {what} ({}): {error}", readable(&args)))
        })
    }

    /// Expects this event next; returns its single argument, or a tuple.
    ///
    /// [`wait_for`](Self::wait_for) skips others.
    #[track_caller]
    pub fn expect<'a, T: DeserializeOwned + 'a>(&'a mut self, event: &str) -> Step<'a, T> {
        let event = event.to_owned();
        Step::new(async move { read_event(&self.expect_next(&event).await?) })
    }

    /// Expects this event next and returns it whole.
    ///
    /// For events that request an acknowledgement or have no fixed type.
    #[track_caller]
    pub fn expect_event(&mut self, event: &str) -> Step<'_, TestEvent> {
        let event = event.to_owned();
        Step::new(async move { self.expect_next(&event).await })
    }

    /// Waits for an event of this name, skipping all before it; returns its single argument, or a tuple.
    ///
    /// For events irrelevant to the test. Skipped events are discarded, acknowledgements are kept.
    #[track_caller]
    pub fn wait_for<'a, T: DeserializeOwned + 'a>(&'a mut self, event: &str) -> Step<'a, T> {
        let event = event.to_owned();
        Step::new(async move { read_event(&self.skip_to(&event).await?) })
    }

    /// Waits for an event of this name and skips all before it.
    #[track_caller]
    pub fn wait_for_event(&mut self, event: &str) -> Step<'_, TestEvent> {
        let event = event.to_owned();
        Step::new(async move { self.skip_to(&event).await })
    }

    /// Returns the next event of any name.
    #[track_caller]
    pub fn next_event(&mut self) -> Step<'_, TestEvent> {
        Step::new(self.take_event("any event"))
    }

    /// Acknowledges an event of the server.
    #[track_caller]
    pub fn answer(&mut self, event: &TestEvent, args: impl IntoArgs) -> Step<'_, ()> {
        let Some(ack) = event.ack else { panic!("`{event}` requests no acknowledgement") };
        let messages = self.protocol.answer(ack, &arguments(args));
        Step::new(async move {
            self.writer.send(messages).await;
            Ok(())
        })
    }

    /// Asserts that no unrequested message has arrived once the server has read everything sent.
    ///
    /// Output of handlers after their first wait may still arrive later.
    #[track_caller]
    pub fn expect_nothing(&mut self) -> Step<'_, ()> {
        Step::new(async move {
            self.synchronise().await?;
            if self.early.is_empty() {
                Ok(())
            } else {
                Err(format!("expected nothing, received {}", all(&self.early)))
            }
        })
    }

    /// Returns when the server has read everything sent so far and has started its handlers.
    #[track_caller]
    pub fn sync(&mut self) -> Step<'_, ()> {
        Step::new(self.synchronise())
    }

    /// Expects the server to close the connection or disconnect this client from its namespace.
    #[track_caller]
    pub fn expect_disconnect(&mut self) -> Step<'_, Disconnected> {
        Step::new(async move {
            match self.next("disconnect").await? {
                Heard::Ended(disconnected) => Ok(disconnected),
                other => Err(format!("expected disconnect, received {other}")),
            }
        })
    }

    /// Disconnects cleanly.
    ///
    /// Dropping the client instead simulates a broken connection.
    #[track_caller]
    pub fn disconnect(mut self) -> Step<'static, ()> {
        Step::new(async move {
            self.writer.send(self.protocol.disconnect()).await;
            self.writer.close().await;
            // The server answers the close frame once it has released the client.
            while !matches!(self.next("disconnect").await?, Heard::Ended(_)) {}
            Ok(())
        })
    }

    async fn expect_next(&mut self, event: &str) -> Result<TestEvent, String> {
        let came = self.take_event(&format!("event `{event}`")).await?;
        if came.name() == event {
            Ok(came)
        } else {
            Err(format!("expected event `{event}`, received `{came}`"))
        }
    }

    async fn take_event(&mut self, what: &str) -> Result<TestEvent, String> {
        match self.next(what).await? {
            Heard::Event(event) => Ok(event),
            other => Err(format!("expected {what}, received {other}")),
        }
    }

    async fn skip_to(&mut self, event: &str) -> Result<TestEvent, String> {
        let mut skipped = VecDeque::new();
        loop {
            let what = || {
                let skipped = if skipped.is_empty() { "nothing".to_owned() } else { all(&skipped) };
                format!("event `{event}` (skipped {skipped})")
            };
            match self.next(&what()).await? {
                Heard::Event(came) if came.name() == event => return Ok(came),
                Heard::Ended(end) => {
                    return Err(format!("expected {}, received {}", what(), Heard::Ended(end)));
                }
                other => skipped.push_back(other),
            }
        }
    }

    async fn synchronise(&mut self) -> Result<(), String> {
        // The pong to the first ping may leave while messages read together with it are still being handled.
        for _ in 0..2 {
            self.writer.ping().await;
            self.find("pong", |heard| matches!(heard, Heard::Pong)).await?;
        }
        Ok(())
    }

    async fn next(&mut self, what: &str) -> Result<Heard, String> {
        match self.early.pop_front() {
            Some(heard) => Ok(heard),
            None => self.receive(what).await,
        }
    }

    /// Removes the first matching message; earlier ones stay queued.
    async fn find(&mut self, what: &str, fits: impl Fn(&Heard) -> bool) -> Result<Heard, String> {
        loop {
            match self.receive(what).await? {
                heard if fits(&heard) => return Ok(heard),
                Heard::Ended(end) => {
                    let end = Heard::Ended(end);
                    let message = format!("expected {what}, received {end}");
                    self.early.push_back(end);
                    return Err(message);
                }
                other => self.early.push_back(other),
            }
        }
    }

    async fn receive(&mut self, what: &str) -> Result<Heard, String> {
        match tokio::time::timeout(PATIENCE, self.heard.recv()).await {
            Ok(Some(heard)) => Ok(heard),
            Ok(None) => Ok(Heard::Ended(Disconnected { code: None, reason: String::new() })),
            Err(_) if self.early.is_empty() => {
                Err(format!("timed out after {PATIENCE:?} waiting for {what}"))
            }
            Err(_) => {
                Err(format!("timed out after {PATIENCE:?} waiting for {what}; received {}", all(&self.early)))
            }
        }
    }
}

fn read_event<T: DeserializeOwned>(event: &TestEvent) -> Result<T, String> {
    event.read().map_err(|error| format!("cannot read the arguments of `{event}`: {error}"))
}

fn all(heard: &VecDeque<Heard>) -> String {
    heard.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[track_caller]
fn arguments(args: impl IntoArgs) -> Args {
    match args.into_args() {
        Ok(args) => args,
        Err(error) => panic!("cannot encode arguments: {error}"),
    }
}

impl Drop for TestClient {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl fmt::Debug for TestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClient").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Builder of a [`TestClient`].
#[must_use]
pub struct TestClientBuilder<S> {
    service: S,
    kind: TestKind,
    path: Option<String>,
    namespace: String,
    auth: Option<serde_json::Value>,
    query: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    subprotocols: Vec<String>,
    extensions: Extensions,
}

impl<S> TestClientBuilder<S> {
    /// Sets the protocol. Default: [`TestKind::SocketIo`].
    pub fn kind(mut self, kind: TestKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the request path. Default: `/socket.io/` or `/ws`, by the kind.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sets the namespace; only Socket.IO clients use it. Default: `/`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets the authentication payload of the namespace connect.
    ///
    /// # Panics
    ///
    /// Panics if `auth` cannot be serialized as JSON.
    pub fn auth(mut self, auth: impl Serialize) -> Self {
        self.auth = Some(serde_json::to_value(auth).expect("auth serializes to JSON"));
        self
    }

    /// Adds a query parameter; the value must already be percent-encoded.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push_str(&format!("&{name}={value}"));
        self
    }

    /// Adds a request header.
    ///
    /// # Panics
    ///
    /// Panics if the header is invalid.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::try_from(name).expect("valid header name");
        self.headers.push((name, HeaderValue::try_from(value).expect("valid header value")));
        self
    }

    /// Adds a request extension, as a layer of the application would.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, extension: T) -> Self {
        self.extensions.insert(extension);
        self
    }

    /// Sets the peer address. Default: unknown to the server.
    pub fn address(self, address: SocketAddr) -> Self {
        self.extension(Peer { address, secure: false })
    }

    /// Offers a subprotocol, after that of its kind and those added before.
    ///
    /// For plain WebSocket clients, such as a token passed by `.subprotocol("bearer").subprotocol("x")`.
    pub fn subprotocol(mut self, name: &str) -> Self {
        self.subprotocols.push(name.to_owned());
        self
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// Panics if the connection is refused.
    #[track_caller]
    pub fn connect<B>(self) -> Step<'static, TestClient>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Step::new(async move {
            self.try_connect().await.map_err(|error| format!("the client was not let in: {error}"))
        })
    }

    /// Connects and returns a refusal as an error.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is refused.
    pub async fn try_connect<B>(self) -> Result<TestClient, NotConnected>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { service, kind, path, namespace, auth, query, headers, subprotocols, extensions } = self;
        let (path, fixed) = match kind {
            TestKind::SocketIo => (path.as_deref().unwrap_or("/socket.io/"), "EIO=4&transport=websocket"),
            TestKind::Json | TestKind::Plain => (path.as_deref().unwrap_or("/ws"), ""),
        };
        let target = format!("{path}?{}", format!("{fixed}{query}").trim_start_matches('&'));
        let stream = serve(service, extensions);
        let protocol = Protocol::new(kind, namespace);
        let offered = protocol.subprotocol().into_iter().chain(subprotocols.iter().map(String::as_str));
        let offered = offered.collect::<Vec<_>>().join(", ");
        let (writer, read) = wire::open(stream, target.trim_end_matches('?'), &offered, &headers).await?;
        let (tell, heard) = mpsc::channel(HEARD);
        let reader = tokio::spawn(wire::listen(read, writer.clone(), protocol.clone(), tell));
        let (early, id) = (VecDeque::new(), String::new());
        let mut client = TestClient { protocol, writer, heard, early, id, next_ack: 0, reader };
        client.writer.send(client.protocol.connect(auth.as_ref())).await;
        if kind == TestKind::Plain {
            // A plain client receives no confirmation, only an immediate refusal.
            return match (client.synchronise().await, client.early.pop_back()) {
                (Err(_), Some(Heard::Ended(end))) => Err(NotConnected::Closed(end)),
                (Err(message), _) => Err(NotConnected::Unexpected(message)),
                (Ok(()), last) => {
                    client.early.extend(last);
                    Ok(client)
                }
            };
        }
        match client.next("connect confirmation").await.map_err(NotConnected::Unexpected)? {
            Heard::Joined(id) => client.id = id,
            Heard::Refused(error) => return Err(NotConnected::Refused(error)),
            Heard::Ended(end) => return Err(NotConnected::Closed(end)),
            other => {
                return Err(NotConnected::Unexpected(format!(
                    "expected connect confirmation, received {other}"
                )));
            }
        }
        Ok(client)
    }
}

/// Number of unrequested messages after which the client stops reading.
const HEARD: usize = 1024;
/// Capacity of the stream in each direction, in bytes.
const PIPE: usize = 64 * 1024;

/// Opens an in-memory HTTP connection; returns the client's end.
fn serve<S, B>(service: S, extensions: Extensions) -> tokio::io::DuplexStream
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let (client, server) = tokio::io::duplex(PIPE);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().extend(extensions.clone());
        let mut service = service.clone();
        async move {
            let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into);
            let answered = match ready {
                Ok(()) => service.call(request).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            Ok::<_, Infallible>(answered.unwrap_or_else(|error: BoxError| panic!("service failed: {error}")))
        }
    });
    tokio::spawn(async move {
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        // The other end observes how the connection ends.
        let _ = connection.with_upgrades().await;
    });
    client
}

impl<S> fmt::Debug for TestClientBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClientBuilder")
            .field("kind", &self.kind)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}
