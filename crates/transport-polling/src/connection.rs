//! Requests of one polling client: at most one pending GET and one current POST.

use std::task::{Context, Poll};

use http::{HeaderMap, Method, StatusCode, header};
use roomcast_core::{
    CloseReason, Connection, ConnectionError, Exchange, FrameSink, Message, Outbox, PollSlotCell, Received,
    RejectedExchange, Rejection,
};

use crate::post::{Post, Step, aborted, empty};
use crate::sink::{PollingSink, Slot};

/// A connection that consists of successive requests.
///
/// A GET waits for outgoing frames in a slot shared with the sink; each new GET polls the outbox as its owner
/// ([`Outbox::poll_owner`]). `poll_recv` reads a POST, answers it when its body is complete and delivers its messages
/// once that response was written. The client may then already send the next POST, which is queued.
#[derive(Debug)]
pub(crate) struct PollingConnection {
    slot: Slot,
    post: Option<Post>,
    /// The next POST.
    next_post: Option<Post>,
    /// Whether a client disconnected before its GET was answered.
    leaving: bool,
    max_payload: usize,
    closing: bool,
}

impl PollingConnection {
    pub(crate) fn new(first: Exchange, max_payload: usize) -> Self {
        let slot = Slot::default();
        slot.park(first.respond);
        Self { slot, post: None, next_post: None, leaving: false, max_payload, closing: false }
    }

    fn accept_get(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        if self.leaving {
            return Err(RejectedExchange::new(exchange, Rejection::new(StatusCode::BAD_REQUEST, "")));
        }
        if self.slot.is_parked() {
            return Err(RejectedExchange::new(exchange, unexpected_request()));
        }
        if let Some(cell) = exchange.request.extensions.get::<PollSlotCell>() {
            cell.set(|| self.slot.downgrade());
        }
        self.slot.park(exchange.respond);
        Ok(())
    }

    fn accept_post(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        if self.closing {
            return Err(RejectedExchange::new(exchange, Rejection::new(StatusCode::BAD_REQUEST, "")));
        }
        // Binary bodies belong to version 3 of the protocol.
        let overlaps = self.next_post.is_some() || self.post.as_ref().is_some_and(|post| !post.is_answered());
        if overlaps || is_binary(&exchange.request.headers) {
            return Err(RejectedExchange::new(exchange, unexpected_request()));
        }
        let place = if self.post.is_none() { &mut self.post } else { &mut self.next_post };
        *place = Some(Post::new(exchange.body, exchange.respond));
        Ok(())
    }

    fn refuse_posts(&mut self) {
        let posts = [self.post.take(), self.next_post.take()];
        posts.into_iter().flatten().for_each(|post| post.refuse(StatusCode::BAD_REQUEST));
    }
}

impl Connection for PollingConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), RejectedExchange> {
        match exchange.request.method {
            Method::GET => self.accept_get(exchange),
            Method::POST => self.accept_post(exchange),
            _ => Err(RejectedExchange::new(exchange, Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, ""))),
        }
    }

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<Box<dyn FrameSink>, ConnectionError>> {
        Poll::Ready(Ok(Box::new(PollingSink::new(self.slot.clone(), self.max_payload))))
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        _: &Outbox,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Received, ConnectionError>> {
        // POST first: it may carry the client's close, which the end of its GET does not.
        while let Some(post) = &mut self.post {
            match post.poll(cx, self.max_payload, messages) {
                Poll::Ready(Ok(Step::Progress)) => return Poll::Ready(Ok(Received::Activity)),
                Poll::Ready(Ok(Step::Handled)) => self.post = self.next_post.take(),
                Poll::Ready(Ok(Step::TooBig)) => {
                    let error = ConnectionError::TooBig { limit: self.max_payload };
                    post.fail(StatusCode::PAYLOAD_TOO_LARGE, error);
                }
                Poll::Ready(Ok(Step::TimedOut)) => {
                    let error = aborted("POST body timed out");
                    post.fail(StatusCode::REQUEST_TIMEOUT, error);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.leaving || self.slot.poll_disconnected(cx).is_pending() {
            return Poll::Pending;
        }
        self.leaving = true;
        Poll::Ready(Ok(Received::Leaving))
    }

    fn has_pending_messages(&self) -> bool {
        self.post.as_ref().is_some_and(Post::is_answered)
    }

    fn ping(&mut self, _: &Outbox, _: u32) -> bool {
        false
    }

    fn start_close(&mut self, _: CloseReason, _: &Outbox) {
        self.closing = true;
        self.refuse_posts();
    }

    /// Resolves when no GET is pending or its sink is dropped: no response is then awaited or possible.
    ///
    /// Another GET can fetch the remaining outbox for as long as the owner keeps the connection.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.slot.is_orphaned() { Poll::Ready(()) } else { self.slot.poll_empty(cx) }
    }
}

impl Drop for PollingConnection {
    fn drop(&mut self) {
        self.refuse_posts();
        // Only with an empty outbox: the protocol itself reports an upgrade or a close to the client.
        if let Some(get) = self.slot.take() {
            let _ = get.send(empty(StatusCode::BAD_REQUEST));
        }
        self.slot.retire();
    }
}

fn unexpected_request() -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "").fatal()
}

fn is_binary(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
}
