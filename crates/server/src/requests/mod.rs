//! HTTP in: which endpoint takes a request, which session it belongs to, and what is refused

mod cors;
mod query;
mod refusal;
mod upgrade;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use roomcast_core::{
    BoxError, Exchange, Outbox, Rejection, RequestBody, Responder, ResponseBody, Sid, Transport,
};

use self::query::EngineQuery;
pub(crate) use self::refusal::{Refusal, mismatch, unknown_session};
use crate::breach::{Breach, breach};
use crate::clock;
use crate::drain::Phase;
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::handshake::Handshake;
use crate::ids;
use crate::inbox::Visit;
use crate::io::Io;
use crate::metrics::count;
use crate::origin;
use crate::session::{Beginning, SessionShared};

/// Where a client connects from
///
/// A server of one's own that mounts an [`Io`] puts it into the extensions of the request, if it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address
    pub address: SocketAddr,
    /// Whether it came over TLS
    pub secure: bool,
}

/// Answers a request that belongs to an endpoint; gives any other back
pub(crate) async fn answer<B>(io: &Io, request: Request<B>) -> Result<Response<ResponseBody>, Request<B>>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let app = io.app();
    let Some(endpoint) = app.endpoints.iter().find(|endpoint| endpoint.takes(request.uri().path())) else {
        return Err(request);
    };
    let config = &app.config;
    if endpoint.is_engine()
        && let Some(preflight) = cors::preflight(config, &request)
    {
        return Ok(preflight);
    }
    let origin = request.headers().get(http::header::ORIGIN).cloned();
    let is_sound = request.method() != Method::GET || !has_body(request.headers());
    let mut response = match exchange(request) {
        _ if !is_sound => unread_body(),
        (exchange, answer) if endpoint.is_engine() => match engine_request(io, endpoint, exchange) {
            Ok(cookie) => {
                let mut response = answer.await.unwrap_or_else(|_| unanswered());
                if let Some(cookie) = cookie {
                    response.headers_mut().append(http::header::SET_COOKIE, cookie);
                }
                response
            }
            Err(refused) => *refused,
        },
        (exchange, answer) => match plain_request(io, endpoint, exchange) {
            Ok(_) => answer.await.unwrap_or_else(|_| unanswered()),
            Err(refused) => *refused,
        },
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        count::requests_refused(io.metrics());
    }
    if endpoint.is_engine() {
        cors::allow(config, origin.as_ref(), response.headers_mut());
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

fn exchange<B>(mut request: Request<B>) -> (Exchange, Answer)
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
        _ => RequestBody::new(body.map_err(Into::into)),
    };
    (Exchange { request, body, respond, upgrade, subprotocol: None }, answer)
}

/// A request with the query parameters of Engine.IO: begins a session, or belongs to one
///
/// Gives the cookie that a new session is to be told with, if there is one.
fn engine_request(
    io: &Io,
    endpoint: &Endpoint,
    exchange: Exchange,
) -> Result<Option<HeaderValue>, Box<Response<ResponseBody>>> {
    let upgrades = upgrade::is_asked(&exchange.request.headers);
    let refuse = |refusal: Refusal| {
        tracing::debug!(refusal = refusal.message(), "refused a request");
        Box::new(refusal.response(upgrades))
    };
    let query = EngineQuery::parse(exchange.request.uri.query().unwrap_or_default());
    let transport = query.transport.and_then(|name| endpoint.transport_named(name));
    let Some(transport) = transport else { return Err(refuse(Refusal::UnknownTransport)) };
    if !has_sane_origin(&exchange.request) {
        return Err(refuse(Refusal::BadRequest));
    }
    if query.sid.is_none() || upgrades {
        check_origin(io, &exchange.request).map_err(|()| refuse(Refusal::ForeignOrigin))?;
    }
    let needs_upgrade = transport.capabilities().upgrades_to;
    if upgrades && !needs_upgrade {
        return Err(refuse(Refusal::BadRequest));
    }
    match query.sid {
        Some(sid) => {
            let Some(session) = io.app().sessions.find(sid) else {
                return Err(refuse(Refusal::UnknownSession));
            };
            // A session speaks the revision it began with, and no request may say otherwise.
            if needs_upgrade && !upgrades || !query.is_supported() {
                return Err(refuse(Refusal::BadRequest));
            }
            let visit = Visit::Exchange(transport.name(), Box::new(exchange));
            session.inbox.push(visit).map_err(|_| refuse(Refusal::UnknownSession))?;
            Ok(None)
        }
        None => {
            if exchange.request.method != Method::GET {
                return Err(refuse(Refusal::BadMethod));
            }
            if needs_upgrade && !upgrades || !transport.capabilities().begins {
                return Err(refuse(Refusal::BadRequest));
            }
            if !query.is_supported() {
                return Err(refuse(Refusal::UnsupportedVersion));
            }
            let sid = begin(io, endpoint, transport, exchange)?;
            // A client that begins by asking for each answer may come back on another connection.
            let cookie = io.app().config.cookie.as_ref().filter(|_| transport.capabilities().upgrades_from);
            Ok(cookie.and_then(|cookie| cookie.header(&sid)))
        }
    }
}

/// A request of a client that speaks plain WebSocket
fn plain_request(
    io: &Io,
    endpoint: &Endpoint,
    mut exchange: Exchange,
) -> Result<Sid, Box<Response<ResponseBody>>> {
    let Some(transport) = endpoint.transports().first() else {
        return Err(Box::new(Rejection::new(StatusCode::NOT_FOUND, "").response()));
    };
    if check_origin(io, &exchange.request).is_err() {
        return Err(Box::new(Rejection::new(StatusCode::FORBIDDEN, origin::REPAIR).response()));
    }
    exchange.subprotocol = endpoint.subprotocol(&exchange.request.headers);
    begin(io, endpoint, transport, exchange)
}

/// Opens a connection and starts the task that drives its session
fn begin(
    io: &Io,
    endpoint: &Endpoint,
    transport: &Arc<dyn Transport>,
    exchange: Exchange,
) -> Result<Sid, Box<Response<ResponseBody>>> {
    let app = io.app();
    let peer = exchange.request.extensions.get::<Peer>().copied();
    let peer = peer.map(|peer| app.config.trusted_proxies.resolve(peer, &exchange.request.headers));
    let (address, secure) = peer.map_or((None, false), |peer| (Some(peer.address), peer.secure));
    let place = SessionPlace::take(io, address.map(|address| address.ip()))?;
    let permit = exchange.request.extensions.get().cloned();
    let handshake = Handshake::new(&exchange.request, address, secure, clock::wall());
    let subprotocol = exchange.subprotocol;
    let connection =
        transport.open(exchange).map_err(|refused| {
            tracing::debug!(status = %refused.rejection.status, text = %refused.rejection.text, "refused to open");
            let mut response = refused.rejection.response();
            // Whoever tried to leave HTTP and failed has nothing more to say on this connection.
            response.headers_mut().append(http::header::CONNECTION, HeaderValue::from_static("close"));
            Box::new(response)
        })?;
    place.keep();
    let sid = ids::sid();
    let (kind, codec, session) = endpoint.begin(&sid, subprotocol);
    let shared = Arc::new(SessionShared::new(Beginning {
        io: io.clone(),
        sid: sid.clone(),
        kind,
        codec,
        outbox: Outbox::new(app.config.outbox_limit, app.flushers.list()),
        handshake,
        transports: endpoint.transports().clone(),
        transport: transport.name(),
    }));
    app.sessions.insert(shared.clone());
    count::sessions_opened(io.metrics());
    tokio::spawn(Driver::new(shared, session, connection, permit));
    Ok(sid)
}

/// A session that is counted in, and counted out again if it does not come to be
struct SessionPlace<'a> {
    io: &'a Io,
    address: Option<IpAddr>,
    kept: bool,
}

impl<'a> SessionPlace<'a> {
    fn take(io: &'a Io, address: Option<IpAddr>) -> Result<Self, Box<Response<ResponseBody>>> {
        let app = io.app();
        let draining = app.lifecycle.phase() >= Phase::Draining;
        let room = if draining { Err(Breach::Draining) } else { app.limits.begin_session(address) };
        let Err(limit) = room else { return Ok(Self { io, address, kept: false }) };
        if limit == Breach::Draining {
            // It is meant to be so, and may be said of many.
            let _ = app.metrics.breaches.record(limit);
        } else {
            breach!(io, limit, ?address, "refused a session with 503");
        }
        let text = match limit {
            Breach::Draining => "This server is going away; connect to another.",
            _ => "There is no room for another session here; try again later.",
        };
        let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, text)
            .header(http::header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER))
            .header(http::header::CONNECTION, HeaderValue::from_static("close"));
        Err(Box::new(rejection.response()))
    }

    /// The session came to be, and is counted out at its end
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for SessionPlace<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.io.app().limits.end_session(self.address);
        }
    }
}

/// Seconds after which a client that found no room may try again
pub(crate) const RETRY_AFTER: &str = "5";

/// Whether the page behind a request may use this server; says so in the log if not
fn check_origin(io: &Io, request: &Parts) -> Result<(), ()> {
    let peer = request.extensions.get::<Peer>().copied();
    origin::check(io.config(), peer, &request.headers).map_err(|foreign| {
        breach!(
            io, Breach::Origin, origin = foreign.origin, host = foreign.host,
            "refused a page of another origin, lest it use the visitor's cookies; if it is yours, let it in with \
             Config::allow_origin({:?}), or with --allow-origin of roomcast serve",
            foreign.origin
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
