//! Answers to the repeated requests of one client, in memory that all of them use.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use http::{HeaderName, HeaderValue, Response};

use crate::ResponseBody;

/// Headers of a transport's usual response, which are the same each time.
pub type FixedHeaders = &'static [(HeaderName, HeaderValue)];

/// Response to a repeated request.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "a server has to handle each kind")]
pub enum RepeatedResponse {
    /// Response with status 200 and exactly these headers, which the server needs to encode only once.
    Fixed(FixedHeaders, ResponseBody),
    /// Any other response.
    Whole(Box<Response<ResponseBody>>),
}

impl RepeatedResponse {
    /// Returns the response with its own copy of the headers.
    pub fn into_response(self) -> Response<ResponseBody> {
        match self {
            Self::Whole(response) => *response,
            Self::Fixed(headers, body) => {
                let mut response = Response::new(body);
                response.headers_mut().extend(headers.iter().cloned());
                response
            }
        }
    }
}

/// Receiver of the responses to a request that its client repeats, one at a time.
///
/// It reuses its memory, unlike the channel of [`Responder::new`](crate::Responder::new).
#[derive(Debug, Default)]
pub struct RepeatedResponses(Arc<Channel>);

impl RepeatedResponses {
    /// Creates a receiver without a request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a request; gives up the one before if it is still unanswered.
    pub(super) fn begin(&mut self) -> Sender {
        if Arc::get_mut(&mut self.0).is_none() {
            self.give_up();
            self.0 = Arc::default();
        }
        *self.0.lock() = State::default();
        Sender(Some(self.0.clone()))
    }

    /// Returns the response; `None` if its sender was dropped without one.
    pub fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Option<RepeatedResponse>> {
        let mut state = self.0.lock();
        match std::mem::take(&mut state.outcome) {
            Outcome::Response(response) => Poll::Ready(Some(response)),
            Outcome::Dropped => Poll::Ready(None),
            outcome @ (Outcome::Pending | Outcome::GivenUp) => {
                state.outcome = outcome;
                if !state.receiver.as_ref().is_some_and(|receiver| receiver.will_wake(cx.waker())) {
                    state.receiver = Some(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn give_up(&self) {
        let mut state = self.0.lock();
        state.outcome = Outcome::GivenUp;
        let sender = state.sender.take();
        drop(state);
        sender.into_iter().for_each(Waker::wake);
    }
}

impl Drop for RepeatedResponses {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Sender of one response.
pub(super) struct Sender(Option<Arc<Channel>>);

impl Sender {
    /// Sends the response.
    ///
    /// # Errors
    /// Returns it if the receiver has given up.
    pub(super) fn send(mut self, response: RepeatedResponse) -> Result<(), RepeatedResponse> {
        let Some(channel) = self.0.take() else { return Err(response) };
        channel.end(Outcome::Response(response))
    }

    /// Completes once the receiver has given up.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(channel) = &self.0 else { return Poll::Ready(()) };
        let mut state = channel.lock();
        if matches!(state.outcome, Outcome::GivenUp) {
            return Poll::Ready(());
        }
        if !state.sender.as_ref().is_some_and(|sender| sender.will_wake(cx.waker())) {
            state.sender = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.as_ref().is_none_or(|channel| matches!(channel.lock().outcome, Outcome::GivenUp))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(channel) = self.0.take() {
            _ = channel.end(Outcome::Dropped);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

#[derive(Default)]
struct Channel(Mutex<State>);

#[derive(Default)]
struct State {
    outcome: Outcome,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

#[derive(Default)]
enum Outcome {
    #[default]
    Pending,
    Response(RepeatedResponse),
    Dropped,
    GivenUp,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Consistent at every point, so poisoning by another thread's panic is harmless.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the outcome and wakes the receiver, unless it has given up.
    fn end(&self, outcome: Outcome) -> Result<(), RepeatedResponse> {
        let mut state = self.lock();
        // A waker kept here would keep the memory of the session's task.
        let sender = state.sender.take();
        if matches!(state.outcome, Outcome::GivenUp) {
            return match outcome {
                Outcome::Response(response) => Err(response),
                _ => Ok(()),
            };
        }
        state.outcome = outcome;
        let receiver = state.receiver.take();
        drop(state);
        drop(sender);
        receiver.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Responder;

    fn poll(responses: &mut RepeatedResponses) -> Poll<Option<String>> {
        let polled = responses.poll_response(&mut Context::from_waker(Waker::noop()));
        let text = |response: RepeatedResponse| {
            let body = response.into_response().into_body();
            String::from_utf8_lossy(body.bytes().map_or(&[][..], |bytes| bytes)).into_owned()
        };
        polled.map(|response| response.map(text))
    }

    #[test]
    fn passes_one_response_per_request() {
        let mut responses = RepeatedResponses::new();
        for text in ["one", "two"] {
            let respond = Responder::repeated(&mut responses);
            assert_eq!(poll(&mut responses), Poll::Pending);
            respond.send_fixed(&[], text.into()).expect("a waiting client");
            assert_eq!(poll(&mut responses), Poll::Ready(Some(text.to_owned())));
        }
        Responder::repeated(&mut responses).send(Response::new("three".into())).expect("a waiting client");
        assert_eq!(poll(&mut responses), Poll::Ready(Some("three".to_owned())));
        drop(Responder::repeated(&mut responses));
        assert_eq!(poll(&mut responses), Poll::Ready(None));
    }

    #[test]
    fn next_request_gives_up_unanswered_one() {
        let mut responses = RepeatedResponses::new();
        let mut first = Responder::repeated(&mut responses);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.poll_disconnected(&mut cx).is_pending());
        let second = Responder::repeated(&mut responses);
        assert!(first.is_disconnected() && first.poll_disconnected(&mut cx).is_ready());
        assert!(first.send(Response::default()).is_err());
        assert_eq!(poll(&mut responses), Poll::Pending);
        drop(responses);
        assert!(second.is_disconnected());
        assert!(second.send_fixed(&[], "late".into()).is_err());
    }
}
