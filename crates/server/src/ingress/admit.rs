//! Step 2: checks whether a request may begin a session, or belongs to an existing one.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, ORIGIN, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use roomcast_core::{Exchange, Rejection, ResponseBody, Transport, TransportName};

use super::answer::RefusalResponse;
use super::open::SessionRequest;
use super::route::Route;
use crate::app::model::io::{Io, SessionShared};
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::origin_check;
use crate::web::engine_error::{BadRequest, Refusal};
use crate::web::engine_query::EngineQuery;
use crate::web::origin;
use crate::web::peer::Peer;
use crate::web::upgrade;

/// Request that passed the checks.
pub(super) enum Admitted<'a> {
    /// Begins a session
    Begins(Box<SessionRequest<'a>>),
    /// Belongs to an existing session
    Continues(Continued),
}

/// Request of an existing session.
pub(super) struct Continued {
    pub(super) session: Arc<SessionShared>,
    pub(super) transport: TransportName,
    pub(super) exchange: Box<Exchange>,
}

/// Checks the request, its origin and the limits.
///
/// # Errors
/// The response to a request that is refused.
pub(super) fn admit<'a>(
    io: &'a Io,
    route: &Route<'a>,
    exchange: Exchange,
) -> Result<Admitted<'a>, RefusalResponse> {
    let request = &exchange.request;
    if request.method == Method::GET && has_body(&request.headers) {
        return Err(Box::new(unread_body()));
    }
    if route.endpoint.is_engine() {
        admit_engine(io, route, exchange)
    } else {
        admit_plain(io, route, exchange)
    }
}

/// Checks a request with Engine.IO's query parameters.
fn admit_engine<'a>(
    io: &'a Io,
    route: &Route<'a>,
    mut exchange: Exchange,
) -> Result<Admitted<'a>, RefusalResponse> {
    let endpoint = route.endpoint;
    let upgrades = upgrade::is_asked(&exchange.request.headers);
    let refuse = |exchange: &Exchange, refusal: Refusal| {
        Err(Box::new(io.hooks().refuse(io.metrics(), &refusal, &exchange.request, upgrades)))
    };
    let query = EngineQuery::parse(exchange.request.uri.query().unwrap_or_default());
    let transport = query.transport.and_then(|name| endpoint.transport_named(name));
    let Some(transport) = transport else { return refuse(&exchange, Refusal::UnknownTransport) };
    if !has_sane_origin(&exchange.request) {
        return refuse(&exchange, Refusal::BadRequest(BadRequest::Origin));
    }
    if (query.sid.is_none() || upgrades) && check_origin(io, &exchange.request).is_err() {
        return refuse(&exchange, Refusal::ForeignOrigin);
    }
    let needs_upgrade = transport.capabilities().upgrades_to;
    if upgrades && !needs_upgrade {
        return refuse(&exchange, Refusal::BadRequest(BadRequest::Handshake));
    }
    if upgrades {
        exchange.subprotocol = endpoint.chosen_subprotocol(&exchange.request.headers);
    }
    let Some(sid) = query.sid else {
        if exchange.request.method != Method::GET {
            return refuse(&exchange, Refusal::BadMethod);
        }
        if needs_upgrade && !upgrades || !transport.capabilities().begins {
            return refuse(&exchange, Refusal::BadRequest(BadRequest::Handshake));
        }
        return begins(io, route, transport, exchange, upgrades);
    };
    // Another endpoint is another server, with its own namespaces and parser.
    let session = io.app().sessions.find(sid).filter(|session| session.began_at(endpoint.transports()));
    let Some(session) = session else {
        return refuse(&exchange, Refusal::UnknownSession);
    };
    if needs_upgrade && !upgrades {
        let previous = session.transport();
        let bad =
            if previous == transport.name() { BadRequest::Handshake } else { BadRequest::Mismatch(previous) };
        return refuse(&exchange, Refusal::BadRequest(bad));
    }
    // A session keeps the revision it began with; later requests may not change it.
    if !query.is_supported() {
        return refuse(&exchange, Refusal::BadRequest(BadRequest::Protocol));
    }
    let (transport, exchange) = (transport.name(), Box::new(exchange));
    Ok(Admitted::Continues(Continued { session, transport, exchange }))
}

/// Checks a request of a plain WebSocket client.
fn admit_plain<'a>(
    io: &'a Io,
    route: &Route<'a>,
    mut exchange: Exchange,
) -> Result<Admitted<'a>, RefusalResponse> {
    let Some(transport) = route.endpoint.transports().first() else {
        return Err(Box::new(Rejection::new(StatusCode::NOT_FOUND, "").response()));
    };
    if check_origin(io, &exchange.request).is_err() {
        return Err(Box::new(Rejection::new(StatusCode::FORBIDDEN, origin::REPAIR).response()));
    }
    exchange.subprotocol = route.endpoint.chosen_subprotocol(&exchange.request.headers);
    begins(io, route, transport, exchange, true)
}

fn begins<'a>(
    io: &'a Io,
    route: &Route<'a>,
    transport: &'a Arc<dyn Transport>,
    exchange: Exchange,
    upgrades: bool,
) -> Result<Admitted<'a>, RefusalResponse> {
    let request = SessionRequest::new(io, route.endpoint, transport, exchange, upgrades)?;
    Ok(Admitted::Begins(Box::new(request.with_path_rest(route.rest_len))))
}

/// Returns whether a request has a body.
fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
}

/// Returns the response to a GET with a body.
///
/// The body is never read, and a full connection would hide that a polling client has disconnected.
fn unread_body() -> Response<ResponseBody> {
    Rejection::new(StatusCode::BAD_REQUEST, "A GET has no body here.\n")
        .header(CONNECTION, HeaderValue::from_static("close"))
        .response()
}

/// Checks the page's origin; logs a refusal.
fn check_origin(io: &Io, request: &Parts) -> Result<(), ()> {
    let peer = Peer::of(&request.extensions);
    origin_check::check(io.config(), peer, &request.headers).map_err(|foreign| {
        limit_exceeded!(
            io,
            Limit::Origin,
            origin = foreign.origin,
            host = foreign.host,
            fix = &*foreign.fix,
            "cross-origin request refused"
        );
    })
}

/// Returns whether `Origin` can be echoed in a response header.
fn has_sane_origin(request: &Parts) -> bool {
    request.headers.get(ORIGIN).is_none_or(|origin| origin.to_str().is_ok())
}
