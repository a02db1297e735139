//! Step 3 of a repeated poll: the request passed the steps before it when it was new.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use roomcast_core::{Exchange, PollSlotCell, Responder, ResponseBody, TransportName};

use super::admit::Continued;
use super::answer::RefusalResponse;
use super::respond::Respond;
use super::route::Route;
use super::{empty_body, panicked, resume};
use crate::app::model::io::{Io, SessionShared};
use crate::web::engine_error::Refusal;
use crate::web::engine_query::EngineQuery;
use crate::web::upgrade;

/// Poll of a session that its client sends again and again.
///
/// Its route, session, transport and response headers are found once. None of them depends on anything but the request
/// and the configuration, and a session that ended refuses the poll itself.
#[derive(Clone)]
pub(crate) struct RepeatedPoll(Arc<Repeated>);

struct Repeated {
    io: Io,
    request: Arc<Parts>,
    respond: Respond,
    session: Weak<SessionShared>,
    /// Slot of the session's pending poll, once the driver has accepted a repetition
    slot: PollSlotCell,
    transport: TransportName,
}

impl RepeatedPoll {
    /// Returns the poll of a request that was answered with success; `None` if the request is no poll, or its session
    /// has ended.
    pub(crate) fn of(io: &Io, mut request: Parts) -> Option<Self> {
        if request.method != Method::GET || upgrade::is_asked(&request.headers) {
            return None;
        }
        let route = Route::find(io, "", request.uri.path())?;
        if !route.endpoint.is_engine() {
            return None;
        }
        let query = EngineQuery::parse(request.uri.query().unwrap_or_default());
        let transport = query.transport.and_then(|name| route.endpoint.transport_named(name))?;
        let session = io.app().sessions.find(query.sid?)?;
        let transport = Some(transport.name()).filter(|_| transport.capabilities().polled)?;
        let (respond, session) = (Respond::to(io, &route, &request), Arc::downgrade(&session));
        let slot = PollSlotCell::new();
        request.extensions.insert(slot.clone());
        let request = Arc::new(request);
        Some(Self(Arc::new(Repeated { io: io.clone(), request, respond, session, transport, slot })))
    }

    /// Answers a repetition.
    pub(crate) async fn answer(self) -> Response<ResponseBody> {
        let answer = AssertUnwindSafe(self.0.answer()).catch_unwind().await;
        answer.unwrap_or_else(|_| panicked(&self.0.io))
    }
}

impl Repeated {
    async fn answer(&self) -> Response<ResponseBody> {
        let (respond, answer) = Responder::new();
        let begun = match self.session.upgrade() {
            Some(session) => self.resume(session, respond),
            None => Err(self.refusal()),
        };
        self.respond.with(&self.io, begun, answer).await
    }

    /// Parks a repetition if the session's driver would only do that, or else queues it for the driver.
    fn resume(
        &self,
        session: Arc<SessionShared>,
        respond: Responder,
    ) -> Result<Option<HeaderValue>, RefusalResponse> {
        let respond = match session.mailbox.while_idle(respond, |respond| self.slot.park(respond)) {
            Ok(()) => {
                session.outbox.unpark();
                return Ok(None);
            }
            Err(respond) => respond,
        };
        let (request, body) = (self.request.clone(), empty_body());
        let exchange = Box::new(Exchange { request, body, respond, upgrade: None, subprotocol: None });
        resume::resume(&self.io, Continued { session, transport: self.transport, exchange })
    }

    fn refusal(&self) -> RefusalResponse {
        Box::new(self.io.hooks().refuse(self.io.metrics(), &Refusal::UnknownSession, &self.request, false))
    }
}
