//! HTTP in: which endpoint takes a request, which session it belongs to, and what is refused

mod body;
mod cors;

use std::borrow::Cow;
use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use roomcast_core::{
    Bounds, BoxError, CloseReason, Exchange, Outbox, Rejection, RequestBody, Responder, ResponseBody, Sid,
    Transport,
};

use self::body::TimedBody;
use crate::app::model::io::{Io, SessionShared};
use crate::driver::Driver;
use crate::host::breach::{Breach, breach};
use crate::host::lifecycle::Phase;
use crate::host::limits::{OpenedOn, Permit};
use crate::host::metrics::count;
use crate::host::origin_check;
use crate::session::endpoint::Endpoint;
use crate::session::inbox::{NotTaken, Visit};
use crate::session::shared::Beginning;
use crate::util::clock;
use crate::util::ids;
use crate::util::log_limit::log_limited;
use crate::web::client_files;
use crate::web::compression::Coding;
use crate::web::engine_error::{Bad, Refusal};
use crate::web::engine_query::EngineQuery;
use crate::web::handshake::Handshake;
use crate::web::origin;
use crate::web::peer::Peer;
use crate::web::upgrade;

/// Answers a request that belongs to an endpoint; gives any other back
///
/// If the application panics where it is asked about the request, that one is told 500. The connection goes on, unless
/// it was to leave HTTP.
///
/// `prefix` is what stands before the paths of the endpoints, without a slash at its end.
pub(crate) async fn answer<B>(
    io: &Io,
    prefix: &str,
    request: Request<B>,
) -> Result<Response<ResponseBody>, Request<B>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let leaves = request.headers().contains_key(http::header::UPGRADE);
    if let Ok(answered) = AssertUnwindSafe(answer_unguarded(io, prefix, request)).catch_unwind().await {
        return answered;
    }
    let mut response = panicked(io);
    if leaves {
        // A session that had begun already ends with it.
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// The answer to a request that made the application panic; counts and logs that
pub(crate) fn panicked(io: &Io) -> Response<ResponseBody> {
    count::handlers_panicked(io.metrics());
    count::requests_refused(io.metrics());
    log_limited!(ERROR, (), status = 500, "hook panicked on a request");
    Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, "The server failed to answer this request.\n")
        .response()
}

async fn answer_unguarded<B>(
    io: &Io,
    prefix: &str,
    request: Request<B>,
) -> Result<Response<ResponseBody>, Request<B>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let app = io.app();
    let path = request.uri().path().strip_prefix(prefix).filter(|path| path.starts_with('/'));
    let found = path.and_then(|path| {
        let endpoint = app.endpoints.iter().find(|endpoint| endpoint.takes(path))?;
        Some((endpoint, endpoint.rest(path).len()))
    });
    let Some((endpoint, rest_len)) = found else { return Err(request) };
    let config = &app.config;
    if endpoint.is_engine()
        && let Some(preflight) = cors::preflight(config, &request)
    {
        return Ok(preflight);
    }
    let origin = request.headers().get(http::header::ORIGIN).cloned();
    let client_file = path.and_then(|path| endpoint.client_file(path));
    let client_file = client_file.and_then(|name| match &app.client_files {
        Some(files) => files.answer(request.method(), name, request.headers()),
        None => client_files::not_served(request.method(), name),
    });
    if let Some(mut file) = client_file {
        cors::allow(config, origin.as_ref(), file.headers_mut());
        return Ok(file);
    }
    let is_sound = request.method() != Method::GET || !has_body(request.headers());
    let compression =
        config.http_compression.filter(|_| endpoint.is_engine() && request.method() == Method::GET);
    let compression = compression.and_then(|rules| Some((rules, Coding::accepted(request.headers())?)));
    let (exchange, answer) = exchange(io, request);
    let head = app.hooks.change_headers().then(|| Box::new(exchange.request.clone()));
    let begun = if !is_sound {
        Err(Box::new(unread_body()))
    } else if endpoint.is_engine() {
        match engine_request(io, endpoint, exchange, rest_len) {
            Ok(Begun::Taken(cookie)) => Ok(cookie),
            Ok(Begun::Asking(applicant)) => applicant.await,
            Err(refused) => Err(refused),
        }
    } else {
        match plain_request(io, endpoint, exchange, rest_len) {
            Ok(Begun::Taken(cookie)) => Ok(cookie),
            Ok(Begun::Asking(applicant)) => applicant.await,
            Err(refused) => Err(refused),
        }
    };
    let mut response = match begun {
        Ok(cookie) => {
            let mut response = answer.await.unwrap_or_else(|_| unanswered());
            if let Some(cookie) = cookie {
                response.headers_mut().append(http::header::SET_COOKIE, cookie);
            }
            response
        }
        Err(refused) => *refused,
    };
    let is_refused = response.status().is_client_error() || response.status().is_server_error();
    if endpoint.is_engine() {
        cors::allow(config, origin.as_ref(), response.headers_mut());
    }
    if let Some((rules, coding)) = compression
        && rules.concerns(&response)
    {
        Box::pin(rules.apply(coding, &mut response)).await;
    }
    if let Some(head) = head
        && !is_refused
    {
        let query = EngineQuery::parse(head.uri.query().unwrap_or_default());
        app.hooks.apply_headers(response.headers_mut(), &head, query.sid.is_none());
    }
    // Here at the end, since what panics before is counted as well.
    if is_refused {
        count::requests_refused(io.metrics());
    }
    Ok(response)
}

/// Whether a body follows the headers of a request
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(http::header::CONTENT_LENGTH);
    headers.contains_key(http::header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// The answer to a GET with a body
///
/// Nobody would read it, and while it fills the connection nobody would see that the client of a poll has gone.
fn unread_body() -> Response<ResponseBody> {
    Rejection::new(StatusCode::BAD_REQUEST, "A GET has no body here.\n")
        .header(http::header::CONNECTION, HeaderValue::from_static("close"))
        .response()
}

type Answer = tokio::sync::oneshot::Receiver<Response<ResponseBody>>;

fn exchange<B>(io: &Io, mut request: Request<B>) -> (Exchange, Answer)
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let upgrade = upgrade::take(&mut request);
    let (request, body) = request.into_parts();
    let (respond, answer) = Responder::new();
    let body = match request.method {
        // Nothing reads the body of a GET, and an empty one needs no memory.
        Method::GET => RequestBody::new(Empty::new().map_err(|never| match never {})),
        _ => {
            let body = RequestBody::new(body.map_err(Into::into));
            if body.is_end_stream() { body } else { RequestBody::new(TimedBody::new(body, io)) }
        }
    };
    (Exchange { request, body, respond, upgrade, subprotocol: None }, answer)
}

/// How a request begins a session, or joins one
enum Begun<'a> {
    /// It was handed over; here is the cookie that a new session is to be told with, if there is one
    Taken(Option<HeaderValue>),
    /// The application is asked first
    Asking(Pin<Box<dyn Future<Output = Result<Option<HeaderValue>, Refused>> + Send + 'a>>),
}

/// The answer to a request that is refused
type Refused = Box<Response<ResponseBody>>;

/// A request with the query parameters of Engine.IO: begins a session, or belongs to one
fn engine_request<'a>(
    io: &'a Io,
    endpoint: &'a Endpoint,
    mut exchange: Exchange,
    rest_len: usize,
) -> Result<Begun<'a>, Refused> {
    let upgrades = upgrade::is_asked(&exchange.request.headers);
    let refuse = |exchange: &Exchange, refusal: Refusal| {
        Err(Box::new(io.hooks().refuse(io.metrics(), &refusal, &exchange.request, upgrades)))
    };
    let query = EngineQuery::parse(exchange.request.uri.query().unwrap_or_default());
    let transport = query.transport.and_then(|name| endpoint.transport_named(name));
    let Some(transport) = transport else { return refuse(&exchange, Refusal::UnknownTransport) };
    if !has_sane_origin(&exchange.request) {
        return refuse(&exchange, Refusal::BadRequest(Bad::Origin));
    }
    if (query.sid.is_none() || upgrades) && check_origin(io, &exchange.request).is_err() {
        return refuse(&exchange, Refusal::ForeignOrigin);
    }
    let needs_upgrade = transport.capabilities().upgrades_to;
    if upgrades && !needs_upgrade {
        return refuse(&exchange, Refusal::BadRequest(Bad::Handshake));
    }
    if upgrades {
        exchange.subprotocol = endpoint.chosen_subprotocol(&exchange.request.headers);
    }
    let Some(sid) = query.sid else {
        if exchange.request.method != Method::GET {
            return refuse(&exchange, Refusal::BadMethod);
        }
        if needs_upgrade && !upgrades || !transport.capabilities().begins {
            return refuse(&exchange, Refusal::BadRequest(Bad::Handshake));
        }
        return Applicant::new(io, endpoint, transport, exchange, upgrades)?.with_path_rest(rest_len).apply();
    };
    // At another endpoint there is another server, with namespaces and a parser of its own.
    let session = io.app().sessions.find(sid).filter(|session| session.began_at(endpoint.transports()));
    let Some(session) = session else {
        return refuse(&exchange, Refusal::UnknownSession);
    };
    if needs_upgrade && !upgrades {
        let previous = session.transport();
        let bad = if previous == transport.name() { Bad::Handshake } else { Bad::Mismatch(previous) };
        return refuse(&exchange, Refusal::BadRequest(bad));
    }
    // A session speaks the revision it began with, and no request may say otherwise.
    if !query.is_supported() {
        return refuse(&exchange, Refusal::BadRequest(Bad::Protocol));
    }
    let limit = io.app().config.max_requests;
    match session.inbox.push_exchange(transport.name(), Box::new(exchange), limit) {
        Ok(()) => Ok(Begun::Taken(None)),
        Err(NotTaken::Over(exchange)) => refuse(&exchange, Refusal::UnknownSession),
        Err(NotTaken::Crowded(exchange)) => {
            breach!(io, Breach::Requests, value = limit, "request refused: too many of its session wait");
            refuse(&exchange, Refusal::BadRequest(Bad::Crowded(limit)))
        }
    }
}

/// A request of a client that speaks plain WebSocket
fn plain_request<'a>(
    io: &'a Io,
    endpoint: &'a Endpoint,
    mut exchange: Exchange,
    rest_len: usize,
) -> Result<Begun<'a>, Refused> {
    let Some(transport) = endpoint.transports().first() else {
        return Err(Box::new(Rejection::new(StatusCode::NOT_FOUND, "").response()));
    };
    if check_origin(io, &exchange.request).is_err() {
        return Err(Box::new(Rejection::new(StatusCode::FORBIDDEN, origin::REPAIR).response()));
    }
    exchange.subprotocol = endpoint.chosen_subprotocol(&exchange.request.headers);
    Applicant::new(io, endpoint, transport, exchange, true)?.with_path_rest(rest_len).apply()
}

/// A client that wants a session
struct Applicant<'a> {
    io: &'a Io,
    endpoint: &'a Endpoint,
    transport: &'a Arc<dyn Transport>,
    exchange: Exchange,
    place: SessionPlace<'a>,
    handshake: Handshake,
    permit: Option<Arc<Permit>>,
    upgrades: bool,
}

impl<'a> Applicant<'a> {
    /// Counts it in, if there is room
    fn new(
        io: &'a Io,
        endpoint: &'a Endpoint,
        transport: &'a Arc<dyn Transport>,
        mut exchange: Exchange,
        upgrades: bool,
    ) -> Result<Self, Refused> {
        let app = io.app();
        // What remains are things of layers in front of the server, which handlers may ask for.
        let extensions = &mut exchange.request.extensions;
        let (peer, permit) = (Peer::of(extensions), extensions.remove::<Arc<Permit>>());
        // A client that polls may ask for HTTP/2 or whatever else: its connection stays with HTTP, which counts it.
        let mut permit = permit.filter(|_| !transport.capabilities().polled);
        let opened_on = extensions.remove::<OpenedOn>();
        extensions.remove::<Peer>();
        if peer.is_none() {
            app.limits.tell_of_unknown_address(&app.config);
        }
        let peer = peer.map(|peer| app.config.trusted_proxies.resolve(peer, &exchange.request.headers));
        let (address, secure) = peer.map_or((None, false), |peer| (Some(peer.address), peer.secure));
        let ip = address.map(|address| address.ip());
        let mut place = SessionPlace::take(io, ip)?;
        if let Some(opened_on) = opened_on
            && permit.is_none()
        {
            // It carries no session itself; the session only began on it.
            permit = Some(Arc::new(opened_on.begin_session().map_err(|limit| no_room(io, limit, ip))?));
        }
        let extensions = &exchange.request.extensions;
        let extensions = if extensions.is_empty() { Extensions::new() } else { extensions.clone() };
        let handshake = Handshake::new(&app.heads, &exchange.request, address, secure, clock::wall());
        let handshake = handshake.with_extensions(extensions);
        place.take_handshake(&handshake)?;
        Ok(Self { io, endpoint, transport, exchange, place, handshake, permit, upgrades })
    }

    /// Keeps how much of its path the application has a meaning for
    fn with_path_rest(self, len: usize) -> Self {
        Self { handshake: self.handshake.with_path_rest(len), ..self }
    }

    /// Begins its session, once the application has nothing against it
    fn apply(self) -> Result<Begun<'a>, Refused> {
        if self.io.hooks().ask() {
            return Ok(Begun::Asking(Box::pin(self.ask())));
        }
        if !self.is_supported() {
            return Err(self.refuse(Refusal::UnsupportedVersion));
        }
        self.begin(ids::sid()).map(Begun::Taken)
    }

    async fn ask(self) -> Result<Option<HeaderValue>, Refused> {
        let hooks = self.io.hooks();
        if let Some(allow) = &hooks.allow_request
            && let Err(text) = allow(self.handshake.clone()).await
        {
            return Err(self.refuse(Refusal::Forbidden(text)));
        }
        // In this order on Node too.
        if !self.is_supported() {
            return Err(self.refuse(Refusal::UnsupportedVersion));
        }
        if !self.endpoint.is_engine() {
            return self.begin(ids::sid());
        }
        match hooks.sid(&self.handshake).await {
            Ok(sid) => self.begin(sid.unwrap_or_else(ids::sid)),
            Err(error) => Err(self.refuse_id(error)),
        }
    }

    fn is_supported(&self) -> bool {
        let query = self.exchange.request.uri.query().unwrap_or_default();
        !self.endpoint.is_engine() || EngineQuery::parse(query).is_supported()
    }

    fn refuse_id(&self, error: Cow<'static, str>) -> Refused {
        log_limited!(ERROR, (), %error, hook = "generate_id", "session id from hook not usable");
        self.refuse(Refusal::BadRequest(Bad::Id(error)))
    }

    fn refuse(&self, refusal: Refusal) -> Refused {
        if !self.endpoint.is_engine() {
            let Refusal::Forbidden(text) = refusal else { return Box::new(unanswered()) };
            let text = if text.is_empty() { "Forbidden".to_owned() } else { text };
            return Box::new(Rejection::new(StatusCode::FORBIDDEN, text).response());
        }
        Box::new(self.io.hooks().refuse(self.io.metrics(), &refusal, &self.exchange.request, self.upgrades))
    }

    /// Opens its connection and starts the task that drives its session
    ///
    /// Gives the cookie that it is to be told with, if there is one.
    fn begin(self, sid: Sid) -> Result<Option<HeaderValue>, Refused> {
        let app = self.io.app();
        if app.hooks.ask() && app.sessions.find(sid.expose()).is_some() {
            return Err(self.refuse_id("there is a session with this id".into()));
        }
        let Self { io, endpoint, transport, exchange, place, handshake, permit, .. } = self;
        let subprotocol = exchange.subprotocol.clone();
        let connection = transport.open(exchange).map_err(|refused| {
            tracing::debug!(
                status = refused.rejection.status.as_u16(),
                transport = transport.name().0,
                address = handshake.address_field(),
                "connection refused by transport"
            );
            let mut response = refused.rejection.response();
            // Whoever tried to leave HTTP and failed has nothing more to say on this connection.
            response.headers_mut().append(http::header::CONNECTION, HeaderValue::from_static("close"));
            Box::new(response)
        })?;
        let (kind, codec, session) = endpoint.begin(&sid, subprotocol.as_deref());
        let shared = Arc::new(SessionShared::new(Beginning {
            io: io.clone(),
            sid: sid.clone(),
            kind,
            codec,
            outbox: Outbox::new(
                Bounds::new(app.config.outbox_limit, app.config.outbox_max),
                app.flushers.list(),
            ),
            handshake,
            transports: endpoint.transports().clone(),
            transport: transport.name(),
        }));
        if !app.sessions.insert(shared.clone()) {
            // Two at the same moment; what comes of the first is not to be shared with the second.
            log_limited!(ERROR, (), hook = "generate_id", "session id from hook already in use");
            return Err(Box::new(unanswered()));
        }
        place.keep();
        if let Some(oldest) = app.unjoined.begin(&shared) {
            let (address, value) = (oldest.handshake.address_field(), app.config.max_unjoined_sessions);
            breach!(io, Breach::Unjoined, address, value, "client closed: too many have joined no namespace");
            // One that is over already needs no closing.
            let _ = oldest.inbox.push(Visit::Close(CloseReason::ConnectTimeout));
        }
        count::sessions_opened(io.metrics());
        tracing::debug!(
            kind = kind.as_str(),
            transport = transport.name().0,
            address = shared.handshake.address_field(),
            "session opened"
        );
        tokio::spawn(Driver::new(shared, session, connection, permit));
        // A client that begins by asking for each answer may come back on another connection.
        let cookie = app.config.cookie.as_ref().filter(|_| transport.capabilities().polled);
        Ok(cookie.filter(|_| endpoint.is_engine()).and_then(|cookie| cookie.header(&sid)))
    }
}

/// Answers a request whose session found no room.
fn no_room(io: &Io, limit: Breach, address: Option<IpAddr>) -> Refused {
    if limit == Breach::Draining {
        // It is meant to be so, and may be said of many.
        let _ = io.metrics().breaches.record(limit);
    } else {
        let address = address.map(tracing::field::display);
        breach!(io, limit, address, status = 503, "session refused");
    }
    let text = match limit {
        Breach::Draining => "This server is going away; connect to another.",
        _ => "There is no room for another session here; try again later.",
    };
    let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, text)
        .header(http::header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER))
        .header(http::header::CONNECTION, HeaderValue::from_static("close"));
    Box::new(rejection.response())
}

/// A session that is counted in, and counted out again if it does not come to be
struct SessionPlace<'a> {
    io: &'a Io,
    address: Option<IpAddr>,
    handshake_bytes: usize,
    kept: bool,
}

impl<'a> SessionPlace<'a> {
    fn take(io: &'a Io, address: Option<IpAddr>) -> Result<Self, Box<Response<ResponseBody>>> {
        let app = io.app();
        let draining = app.lifecycle.phase() >= Phase::Draining;
        let room = if draining { Err(Breach::Draining) } else { app.limits.begin_session(address) };
        match room {
            Ok(()) => Ok(Self { io, address, handshake_bytes: 0, kept: false }),
            Err(limit) => Err(no_room(io, limit, address)),
        }
    }

    /// Counts what is kept of the request.
    fn take_handshake(&mut self, handshake: &Handshake) -> Result<(), Refused> {
        let (config, app) = (self.io.config(), self.io.app());
        let value = config.max_handshake_bytes;
        if handshake.bytes() > value {
            let address = handshake.address_field();
            breach!(self.io, Breach::HandshakeSize, address, value, status = 431, "session refused");
            const TEXT: &str = "The path and the headers of this request are too large.\n";
            let rejection = Rejection::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, TEXT)
                .header(http::header::CONNECTION, HeaderValue::from_static("close"));
            return Err(Box::new(rejection.response()));
        }
        let (own, shared) = (handshake.own_bytes(), app.heads.bytes());
        if !app.limits.take_handshake(own, config.max_handshakes_bytes.saturating_sub(shared)) {
            return Err(no_room(self.io, Breach::HandshakesSize, self.address));
        }
        self.handshake_bytes = own;
        Ok(())
    }

    /// The session came to be, and is counted out at its end
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for SessionPlace<'_> {
    fn drop(&mut self) {
        if !self.kept {
            let limits = &self.io.app().limits;
            limits.give_back_handshake(self.handshake_bytes);
            limits.end_session(self.address);
        }
    }
}

/// Seconds after which a client that found no room may try again
pub(crate) const RETRY_AFTER: &str = "5";

/// Whether the page behind a request may use this server; says so in the log if not
fn check_origin(io: &Io, request: &Parts) -> Result<(), ()> {
    let peer = Peer::of(&request.extensions);
    origin_check::check(io.config(), peer, &request.headers).map_err(|foreign| {
        breach!(
            io,
            Breach::Origin,
            origin = foreign.origin,
            host = foreign.host,
            fix = &*foreign.fix,
            "cross-origin request refused"
        );
    })
}

/// `Origin` may hold only what can stand in a header that answers it
fn has_sane_origin(request: &Parts) -> bool {
    request.headers.get(http::header::ORIGIN).is_none_or(|origin| origin.to_str().is_ok())
}

/// The session ended before it could answer
fn unanswered() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
