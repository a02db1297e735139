//! What the application is asked, and told, about requests

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use http::HeaderMap;
use http::request::Parts;
use roomcast_core::{Namespace, Sid, SocketId};
use serde_json::Value;

use crate::handshake::Handshake;
use crate::io::IoBuilder;
use crate::log_limit::log_limited;
use crate::metrics::{Metrics, count};

impl IoBuilder {
    /// Asked about each request that would begin a session, before it does
    ///
    /// An error refuses the client: its text is what the client is told, with 403 and Engine.IO's code 4, or as plain
    /// text if it asked for a WebSocket; an empty one reads `Forbidden`. Asked once for a session and not for its
    /// further requests, and of clients of every kind. It comes behind the check of
    /// [origins](crate::Config::origins), and the session counts in the limits while it waits. If the client goes away
    /// it is dropped at its next wait. If it panics the client is told 500, which is logged.
    ///
    /// ```
    /// use roomcast_server::{Handshake, Io};
    ///
    /// let io = Io::builder()
    ///     .allow_request(async |request: Handshake| match request.query_value("key").as_deref() {
    ///         Some("sesame") => Ok(()),
    ///         _ => Err("no key, no entry"),
    ///     })
    ///     .build();
    /// ```
    pub fn allow_request<F, E>(mut self, allow: impl Fn(Handshake) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display,
    {
        self.hooks.allow_request = Some(Box::new(move |request| {
            let answer = allow(request);
            Box::pin(async move { answer.await.map_err(|refusal| refusal.to_string()) })
        }));
        self
    }

    /// Makes the ids of sessions, which clients carry in the URL of each request. Default: 120 bits from the operating
    /// system, as 20 characters
    ///
    /// **Such an id is a secret**, like a password: whoever knows it can speak for the client. So it must be hard to
    /// guess, must not be told to other clients, and must not be made of anything that they know. What others may see
    /// is the id of a [socket](crate::Socket::id).
    ///
    /// It has to be new, and of 1 to 256 letters, digits, and `-`, `_`, `.` or `~`; otherwise, or when it fails, the
    /// client is told `Bad request`, and the log says why. Plain WebSocket clients are never told theirs, and get the
    /// default.
    ///
    /// ```
    /// use roomcast_server::{Handshake, Io};
    ///
    /// # fn random_128_bits() -> Result<u128, String> { Ok(4) }
    /// let io = Io::builder()
    ///     .generate_id(async |_: Handshake| random_128_bits().map(|bits| format!("node7-{bits:032x}")))
    ///     .build();
    /// ```
    pub fn generate_id<F, E>(mut self, generate: impl Fn(Handshake) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.hooks.generate_id = Some(Box::new(move |request| {
            let id = generate(request);
            Box::pin(async move { id.await.map_err(|error| error.to_string()) })
        }));
        self
    }

    /// Makes the ids of sockets, which everybody may see. Default: 120 bits from the operating system, as 20 characters
    ///
    /// Two sockets of a namespace must never have the same, since it is also the name of a socket's own room. It is no
    /// secret, so it must not be the session's, nor tell anything of it. If it panics the client may not join.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use roomcast_server::{Handshake, Io, Namespace};
    ///
    /// let next = AtomicU64::new(1);
    /// let io = Io::builder()
    ///     .generate_socket_id(move |_: &Handshake, _: &Namespace| {
    ///         format!("guest-{}", next.fetch_add(1, Ordering::Relaxed))
    ///     })
    ///     .build();
    /// ```
    pub fn generate_socket_id<I: Into<SocketId>>(
        mut self,
        generate: impl Fn(&Handshake, &Namespace) -> I + Send + Sync + 'static,
    ) -> Self {
        self.hooks.generate_socket_id =
            Some(Box::new(move |handshake, namespace| generate(handshake, namespace).into()));
        self
    }

    /// Changes the headers of the first answer of each session: that to a handshake, or the 101 of a WebSocket
    ///
    /// It comes after everything that the server sets itself. Answers that refuse are left alone.
    ///
    /// ```
    /// use roomcast_server::Io;
    /// use roomcast_server::http::HeaderValue;
    ///
    /// let io = Io::builder()
    ///     .initial_headers(|headers, request| {
    ///         if !request.headers.contains_key("cookie") {
    ///             headers.append("set-cookie", HeaderValue::from_static("seen=1"));
    ///         }
    ///     })
    ///     .build();
    /// ```
    pub fn initial_headers(
        mut self,
        change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.initial_headers = Some(Box::new(change));
        self
    }

    /// Changes the headers of each answer to a session's requests, the first one included
    ///
    /// It comes after [`initial_headers`](Self::initial_headers). Answers that refuse are left alone. While one of the
    /// two is set, the head of each request is copied. If one panics the client is told 500 instead, and what was in
    /// the answer is lost.
    pub fn headers(mut self, change: impl Fn(&mut HeaderMap, &Parts) + Send + Sync + 'static) -> Self {
        self.hooks.headers = Some(Box::new(change));
        self
    }

    /// Told of each request that is refused by the rules of Engine.IO, as the event `connection_error` on Node
    ///
    /// It runs where the request is answered, so it must not block.
    ///
    /// ```
    /// use roomcast_server::Io;
    ///
    /// let io = Io::builder()
    ///     .connection_error(|refused| {
    ///         eprintln!("{} {}: {}", refused.code, refused.message, refused.context);
    ///     })
    ///     .build();
    /// ```
    pub fn connection_error(
        mut self,
        tell: impl for<'a> Fn(&RefusedRequest<'a>) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.connection_error = Some(Box::new(tell));
        self
    }
}

/// A request that was refused by the rules of Engine.IO
#[derive(Debug)]
#[non_exhaustive]
pub struct RefusedRequest<'a> {
    /// Method, URI and headers; the query may hold the id of a session, which is a secret
    pub request: &'a Parts,
    /// Engine.IO's number: 0 unknown transport, 1 unknown session, 2 bad method, 3 bad request, 4 forbidden, 5
    /// unsupported version
    pub code: u8,
    /// What the client is told
    pub message: &'a str,
    /// What was wrong, as Node's server puts it: `{"transport": "carrier pigeon"}`, `{"name": "TRANSPORT_MISMATCH", …}`
    pub context: Value,
}

/// What the application asked to be asked; nothing costs anything unless it is set
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) allow_request: Option<Box<AllowRequest>>,
    generate_id: Option<Box<GenerateId>>,
    generate_socket_id: Option<Box<GenerateSocketId>>,
    initial_headers: Option<Box<ChangeHeaders>>,
    headers: Option<Box<ChangeHeaders>>,
    connection_error: Option<Box<TellOfRefusal>>,
}

type Asked<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;
type AllowRequest = dyn Fn(Handshake) -> Asked<()> + Send + Sync;
type GenerateId = dyn Fn(Handshake) -> Asked<String> + Send + Sync;
type GenerateSocketId = dyn Fn(&Handshake, &Namespace) -> SocketId + Send + Sync;
type ChangeHeaders = dyn Fn(&mut HeaderMap, &Parts) + Send + Sync;
type TellOfRefusal = dyn for<'a> Fn(&RefusedRequest<'a>) + Send + Sync;

impl Hooks {
    /// Whether the beginning of a session has to wait for the application
    pub(crate) fn ask(&self) -> bool {
        self.allow_request.is_some() || self.generate_id.is_some()
    }

    /// A secret id of the application's making
    ///
    /// # Errors
    /// When it made none, or one that cannot stand in a URL.
    pub(crate) async fn sid(&self, request: &Handshake) -> Result<Option<Sid>, Cow<'static, str>> {
        let Some(generate) = &self.generate_id else { return Ok(None) };
        let id = generate(request.clone()).await?;
        let fits = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_unreserved);
        if fits { Ok(Some(Sid::new(id))) } else { Err("it does not fit into a URL".into()) }
    }

    /// A public id of the application's making
    ///
    /// # Errors
    /// When making it panicked.
    pub(crate) fn socket_id(
        &self,
        handshake: &Handshake,
        namespace: &Namespace,
    ) -> Result<Option<SocketId>, ()> {
        let Some(generate) = &self.generate_socket_id else { return Ok(None) };
        // It runs in the task of a session, which is not to end by it.
        let id = catch_unwind(AssertUnwindSafe(|| generate(handshake, namespace)));
        id.map(Some)
            .map_err(|_| log_limited!(ERROR, (), %namespace, hook = "generate_socket_id", "hook panicked"))
    }

    /// Whether answers have headers of the application
    pub(crate) fn change_headers(&self) -> bool {
        self.initial_headers.is_some() || self.headers.is_some()
    }

    pub(crate) fn apply_headers(&self, headers: &mut HeaderMap, request: &Parts, initial: bool) {
        let first = self.initial_headers.as_ref().filter(|_| initial);
        first.into_iter().chain(&self.headers).for_each(|change| change(headers, request));
    }

    pub(crate) fn hear_of_refusals(&self) -> bool {
        self.connection_error.is_some()
    }

    pub(crate) fn tell_of_refusal(&self, metrics: &Metrics, refused: &RefusedRequest<'_>) {
        let Some(tell) = &self.connection_error else { return };
        // It also runs in the task of a session, which is not to end by it.
        if catch_unwind(AssertUnwindSafe(|| tell(refused))).is_err() {
            count::handlers_panicked(metrics);
            log_limited!(ERROR, (), hook = "connection_error", "hook panicked");
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

/// Characters an id may have
const MAX_ID: usize = 256;

/// What stands in a query and in a cookie as it is (RFC 3986 section 2.3)
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)
}
