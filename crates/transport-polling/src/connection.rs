//! The requests of one polling client: at most one GET that waits, and one POST under way

use std::task::{Context, Poll};

use http::{HeaderMap, Method, StatusCode, header};
use roomcast_core::{
    CloseReason, Connection, ConnectionError, Exchange, FrameSink, Message, Outbox, Received, Refused,
    Rejection,
};

use crate::post::{Post, Step, aborted, empty};
use crate::sink::{PollingSink, Slot};

/// A connection made of one request after the other
///
/// A GET waits in a slot that is shared with the sink, until there is something to be sent; when the next one comes,
/// the owner asks the outbox ([`Outbox::poll_owner`]). A POST is read by `poll_recv`, and answered when that is
/// called again after the last of its messages, or when the connection closes.
#[derive(Debug)]
pub(crate) struct PollingConnection {
    slot: Slot,
    post: Option<Post>,
    max_payload: usize,
    closing: bool,
}

impl PollingConnection {
    pub(crate) fn new(first: Exchange, max_payload: usize) -> Self {
        let slot = Slot::default();
        slot.park(first.respond);
        Self { slot, post: None, max_payload, closing: false }
    }

    fn accept_get(&mut self, exchange: Exchange) -> Result<(), Refused> {
        if self.slot.is_parked() {
            return Err(Refused::new(exchange, out_of_turn()));
        }
        self.slot.park(exchange.respond);
        Ok(())
    }

    fn accept_post(&mut self, exchange: Exchange) -> Result<(), Refused> {
        if self.closing {
            return Err(Refused::new(exchange, Rejection::new(StatusCode::BAD_REQUEST, "")));
        }
        // Binary bodies are those of the protocol's third version.
        if self.post.is_some() || is_binary(&exchange.request.headers) {
            return Err(Refused::new(exchange, out_of_turn()));
        }
        self.post = Some(Post::new(exchange.body, exchange.respond));
        Ok(())
    }

    fn end_post(&mut self) {
        if let Some(post) = self.post.take() {
            post.answer_at_end();
        }
    }
}

impl Connection for PollingConnection {
    fn accept(&mut self, exchange: Exchange) -> Result<(), Refused> {
        match exchange.request.method {
            Method::GET => self.accept_get(exchange),
            Method::POST => self.accept_post(exchange),
            _ => Err(Refused::new(exchange, Rejection::new(StatusCode::INTERNAL_SERVER_ERROR, ""))),
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
        // A POST first: it may say that the client leaves, which the end of its GET does not.
        if let Some(post) = &mut self.post {
            match post.poll(cx, self.max_payload, messages) {
                Poll::Ready(Ok(Step::Progress)) => return Poll::Ready(Ok(Received::Activity)),
                Poll::Ready(Ok(Step::Handled)) => self.post.take().into_iter().for_each(Post::answer_ok),
                Poll::Ready(Ok(Step::TooBig)) => {
                    self.post.take().into_iter().for_each(Post::answer_too_big);
                    return Poll::Ready(Err(ConnectionError::TooBig { limit: self.max_payload }));
                }
                Poll::Ready(Ok(Step::TooLate)) => {
                    self.post.take().into_iter().for_each(Post::answer_too_late);
                    return Poll::Ready(Err(aborted("the body of a POST did not come in time")));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        self.slot.poll_gone(cx).map(|()| Err(aborted("the client of a GET went away")))
    }

    fn ping(&mut self, _: &Outbox) -> bool {
        false
    }

    fn start_close(&mut self, _: CloseReason, _: &Outbox) {
        self.closing = true;
        self.end_post();
    }

    /// Ready while no GET waits, for then there is nobody to be told
    ///
    /// What the outbox still holds can be fetched by one more GET, for as long as the owner keeps the connection.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.slot.poll_vacant(cx)
    }
}

impl Drop for PollingConnection {
    fn drop(&mut self) {
        self.end_post();
        // Only when there was nothing to say: a client that upgrades or is closed is told so by its protocol.
        if let Some(get) = self.slot.take() {
            let _ = get.send(empty(StatusCode::BAD_REQUEST));
        }
    }
}

fn out_of_turn() -> Rejection {
    Rejection::new(StatusCode::BAD_REQUEST, "").fatal()
}

fn is_binary(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return false };
    let essence = content_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
}
