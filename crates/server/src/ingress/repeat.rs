//! Step 3 of a repeated poll: the request passed the steps before it when it was new.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use http::request::Parts;
use http::{Method, Response};
use roomcast_core::{
    Exchange, FixedHeaders, PollSlotCell, RepeatedResponse, RepeatedResponses, Responder, ResponseBody,
    TransportName,
};

use super::admit::Continued;
use super::answer::{RefusalResponse, unanswered};
use super::respond::Respond;
use super::route::Route;
use super::{empty_body, panicked, resume};
use crate::app::model::io::{Io, SessionShared};
use crate::web::engine_error::Refusal;
use crate::web::engine_query::EngineQuery;
use crate::web::repeated_poll::{AnswerPoll, EncodedHead, PollResponse};
use crate::web::upgrade;

/// Poll of a session that its client sends again and again.
///
/// Its route, session, transport and response headers are found once. None of them depends on anything but the request
/// and the configuration, and a session that ended refuses the poll itself.
pub(crate) struct RepeatedPoll {
    poll: Arc<Repeated>,
    responses: RepeatedResponses,
    state: State,
    /// Encoded head of the last usual response, and the headers that it began with
    head: Option<(FixedHeaders, EncodedHead)>,
}

struct Repeated {
    io: Io,
    request: Arc<Parts>,
    respond: Respond,
    session: Weak<SessionShared>,
    /// Slot of the session's pending poll, once the driver has accepted a repetition
    slot: PollSlotCell,
    transport: TransportName,
}

/// Progress of a repetition.
enum State {
    /// Waits for the session
    Waiting,
    /// Completes a response that is not the usual one
    Completing(Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>),
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
        let poll = Arc::new(Repeated { io: io.clone(), request, respond, session, slot, transport });
        Some(Self { poll, responses: RepeatedResponses::new(), state: State::Waiting, head: None })
    }

    /// Returns the encoded head of a usual response.
    fn encoded_head(&mut self, headers: FixedHeaders) -> EncodedHead {
        if let Some((known, head)) = &self.head
            && std::ptr::eq(*known, headers)
        {
            return head.clone();
        }
        let Repeated { io, respond, .. } = &*self.poll;
        let head = EncodedHead::new(&respond.fixed_headers(io, headers));
        self.head.insert((headers, head)).1.clone()
    }

    /// Begins to complete a response that is not the usual one.
    fn complete(&mut self, response: Response<ResponseBody>) {
        let poll = self.poll.clone();
        self.state = State::Completing(Box::pin(async move {
            let completed = AssertUnwindSafe(poll.respond.complete(&poll.io, response)).catch_unwind().await;
            completed.unwrap_or_else(|_| panicked(&poll.io))
        }));
    }
}

impl AnswerPoll for RepeatedPoll {
    fn begin(&mut self) {
        self.state = State::Waiting;
        let respond = Responder::repeated(&mut self.responses);
        match catch_unwind(AssertUnwindSafe(|| self.poll.begin(respond))) {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => self.complete(*refused),
            Err(_) => {
                let response = panicked(&self.poll.io);
                self.state = State::Completing(Box::pin(std::future::ready(response)));
            }
        }
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<PollResponse> {
        loop {
            if let State::Completing(response) = &mut self.state {
                let response = ready!(response.as_mut().poll(cx));
                self.state = State::Waiting;
                return Poll::Ready(PollResponse::Whole(response));
            }
            let response = match ready!(self.responses.poll_response(cx)) {
                Some(RepeatedResponse::Fixed(headers, body))
                    if self.poll.respond.adds_only_fixed_headers(&self.poll.io, &body) =>
                {
                    return Poll::Ready(PollResponse::Encoded(self.encoded_head(headers), body));
                }
                Some(other) => other.into_response(),
                None => unanswered(),
            };
            self.complete(response);
        }
    }
}

impl Repeated {
    /// Parks a repetition if the session's driver would only do that, or else queues it for the driver.
    fn begin(&self, respond: Responder) -> Result<(), RefusalResponse> {
        let Some(session) = self.session.upgrade() else { return Err(self.refusal()) };
        let respond = match session.mailbox.while_idle(respond, |respond| self.slot.park(respond)) {
            Ok(()) => {
                session.outbox.unpark();
                return Ok(());
            }
            Err(respond) => respond,
        };
        let (request, body) = (self.request.clone(), empty_body());
        let exchange = Box::new(Exchange { request, body, respond, upgrade: None, subprotocol: None });
        resume::resume(&self.io, Continued { session, transport: self.transport, exchange }).map(drop)
    }

    fn refusal(&self) -> RefusalResponse {
        Box::new(self.io.hooks().refuse(self.io.metrics(), &Refusal::UnknownSession, &self.request, false))
    }
}
