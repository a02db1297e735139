//! Step 3 of a new session: runs the hooks, opens the connection and starts the driver task.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::CONNECTION;
use http::{Extensions, HeaderValue, StatusCode};
use roomcast_core::{Bounds, CloseReason, Exchange, Outbox, Rejection, Sid, Transport};

use super::answer::{RefusalResponse, unanswered};
use super::place::{SessionPlace, no_room};
use crate::app::model::io::{Io, SessionShared};
use crate::driver::Driver;
use crate::host::limit::{Limit, limit_exceeded};
use crate::host::limits::{ConnectionPermit, OpenedOn, Permit};
use crate::host::metrics::count;
use crate::session::endpoint::Endpoint;
use crate::session::mailbox::SessionCommand;
use crate::session::shared::SessionInit;
use crate::util::log_limit::log_limited;
use crate::util::{clock, ids};
use crate::web::engine_error::{BadRequest, Refusal};
use crate::web::engine_query::EngineQuery;
use crate::web::handshake::Handshake;
use crate::web::peer::Peer;

/// Begins the session after the application's hooks have accepted it.
///
/// Returns the session cookie, if one is configured.
pub(super) async fn open(request: SessionRequest<'_>) -> Result<Option<HeaderValue>, RefusalResponse> {
    if request.io.hooks().ask() {
        return Box::pin(request.ask()).await;
    }
    if !request.is_supported() {
        return Err(request.refuse(Refusal::UnsupportedVersion));
    }
    request.begin(ids::sid())
}

/// Request for a new session.
pub(super) struct SessionRequest<'a> {
    io: &'a Io,
    endpoint: &'a Endpoint,
    transport: &'a Arc<dyn Transport>,
    exchange: Exchange,
    place: SessionPlace<'a>,
    handshake: Handshake,
    permit: SessionPermit,
    upgrades: bool,
}

/// Permit of the session that a request begins.
enum SessionPermit {
    /// Of the connection, which keeps it if the session does not begin.
    Connection(ConnectionPermit),
    Began(Permit),
    None,
}

impl SessionPermit {
    fn take(self) -> Option<Permit> {
        match self {
            Self::Connection(permit) => permit.take(),
            Self::Began(permit) => Some(permit),
            Self::None => None,
        }
    }
}

impl<'a> SessionRequest<'a> {
    /// Counts the session against the limits.
    pub(super) fn new(
        io: &'a Io,
        endpoint: &'a Endpoint,
        transport: &'a Arc<dyn Transport>,
        mut exchange: Exchange,
        upgrades: bool,
    ) -> Result<Self, RefusalResponse> {
        let app = io.app();
        // The remaining extensions come from outer layers; handlers may extract them.
        let extensions = &mut Arc::make_mut(&mut exchange.request).extensions;
        let (peer, permit) = (Peer::of(extensions), extensions.remove::<ConnectionPermit>());
        // A polling client may ask for HTTP/2 or another upgrade: its connection stays with HTTP, which counts it.
        let permit = permit.filter(|_| !transport.capabilities().polled);
        let opened_on = extensions.remove::<OpenedOn>();
        extensions.remove::<Peer>();
        if peer.is_none() {
            app.limits.warn_unknown_address(&app.config);
        }
        let peer = peer.map(|peer| app.config.http.trusted_proxies.resolve(peer, &exchange.request.headers));
        let (address, secure) = peer.map_or((None, false), |peer| (Some(peer.address), peer.secure));
        let ip = address.map(|address| address.ip());
        let mut place = SessionPlace::take(io, ip)?;
        let permit = match (permit, opened_on) {
            (Some(permit), _) => SessionPermit::Connection(permit),
            // The connection does not carry the session; the session only began on it.
            (None, Some(opened_on)) => {
                SessionPermit::Began(opened_on.begin_session().map_err(|limit| no_room(io, limit, ip))?)
            }
            (None, None) => SessionPermit::None,
        };
        let extensions = &exchange.request.extensions;
        let extensions = if extensions.is_empty() { Extensions::new() } else { extensions.clone() };
        let handshake = Handshake::new(&app.header_names, &exchange.request, address, secure, clock::wall());
        let handshake = handshake.with_extensions(extensions);
        place.take_handshake(&handshake)?;
        Ok(Self { io, endpoint, transport, exchange, place, handshake, permit, upgrades })
    }

    /// Records the length of the path remainder.
    pub(super) fn with_path_rest(self, len: usize) -> Self {
        Self { handshake: self.handshake.with_path_rest(len), ..self }
    }

    async fn ask(self) -> Result<Option<HeaderValue>, RefusalResponse> {
        let hooks = self.io.hooks();
        if let Some(allow) = &hooks.allow_request
            && let Err(text) = allow(self.handshake.clone()).await
        {
            return Err(self.refuse(Refusal::Forbidden(text)));
        }
        // Same order as on Node.
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

    fn refuse_id(&self, error: Cow<'static, str>) -> RefusalResponse {
        log_limited!(ERROR, (), %error, hook = "generate_id", "session id from hook not usable");
        self.refuse(Refusal::BadRequest(BadRequest::Id(error)))
    }

    fn refuse(&self, refusal: Refusal) -> RefusalResponse {
        if !self.endpoint.is_engine() {
            let Refusal::Forbidden(text) = refusal else { return Box::new(unanswered()) };
            let text = if text.is_empty() { "Forbidden".to_owned() } else { text };
            return Box::new(Rejection::new(StatusCode::FORBIDDEN, text).response());
        }
        Box::new(self.io.hooks().refuse(self.io.metrics(), &refusal, &self.exchange.request, self.upgrades))
    }

    /// Opens the connection and starts the driver task.
    ///
    /// Returns the session cookie, if one is configured.
    fn begin(self, sid: Sid) -> Result<Option<HeaderValue>, RefusalResponse> {
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
            // After a failed upgrade the connection cannot be reused.
            response.headers_mut().append(CONNECTION, HeaderValue::from_static("close"));
            Box::new(response)
        })?;
        let (kind, codec, session) = endpoint.begin(&sid, subprotocol.as_deref());
        let shared = Arc::new(SessionShared::new(SessionInit {
            io: io.clone(),
            sid: sid.clone(),
            kind,
            codec,
            outbox: Outbox::new(
                Bounds::new(app.config.limits.outbox_limit, app.config.limits.outbox_max),
                app.flushers.list(),
            ),
            handshake,
            transports: endpoint.transports().clone(),
            transport: transport.name(),
        }));
        if !app.sessions.insert(shared.clone()) {
            // Two sessions with the same id at once; they must not share state.
            log_limited!(ERROR, (), hook = "generate_id", "session id from hook already in use");
            return Err(Box::new(unanswered()));
        }
        place.keep();
        if let Some(oldest) = app.unjoined.begin(&shared) {
            let (address, value) =
                (oldest.handshake.address_field(), app.config.limits.max_unjoined_sessions);
            limit_exceeded!(
                io,
                Limit::Unjoined,
                address,
                value,
                "client closed: too many have joined no namespace"
            );
            // A session that has ended needs no closing.
            let _ = oldest.mailbox.push(SessionCommand::Close(CloseReason::ConnectTimeout));
        }
        count::sessions_opened(io.metrics());
        tracing::debug!(
            kind = kind.as_str(),
            transport = transport.name().0,
            address = shared.handshake.address_field(),
            "session opened"
        );
        tokio::spawn(Driver::new(shared, session, connection, permit.take()));
        // A polling client may reconnect on another connection.
        let cookie = app.config.http.cookie.as_ref().filter(|_| transport.capabilities().polled);
        Ok(cookie.filter(|_| endpoint.is_engine()).and_then(|cookie| cookie.header(&sid)))
    }
}
