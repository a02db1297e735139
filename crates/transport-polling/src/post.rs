//! One POST: its body arrives, its messages are handed over, it is answered

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body::Body;
use roomcast_core::{ConnectionError, Message, RequestBody, Responder, ResponseBody};

use crate::payload::{Payload, PayloadError};

/// A POST that has not been answered
#[derive(Debug)]
pub(crate) struct Post {
    state: State,
    respond: Responder,
}

#[derive(Debug)]
enum State {
    Arriving { body: RequestBody, collected: Collected },
    Delivering(Payload),
}

/// What came of a look at a POST
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something arrived, or was handed over
    Progress,
    /// Everything was handed over before, and so has been handled by now
    Handled,
    /// The body is over the limit
    TooBig,
    /// The body did not come in time
    TooLate,
}

/// Pieces of a body taken at one go, and messages handed over at one go
///
/// A body may be nothing but separators, whose messages cost forty times their bytes in memory: they never exist
/// all at once.
const PIECES: usize = 64;
const MESSAGES: usize = 256;

impl Post {
    pub(crate) fn new(body: RequestBody, respond: Responder) -> Self {
        Self { state: State::Arriving { body, collected: Collected::default() }, respond }
    }

    /// Goes on, handing over what the body says
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Step, ConnectionError>> {
        if let State::Arriving { body, collected } = &mut self.state {
            match collected.poll(cx, Pin::new(body), max_payload) {
                Poll::Ready(Ok(Arrived::Whole)) => {
                    self.state = State::Delivering(Payload::new(std::mem::take(collected).finish()));
                }
                Poll::Ready(Ok(Arrived::Piece)) => return Poll::Ready(Ok(Step::Progress)),
                Poll::Ready(Ok(Arrived::TooMuch)) => return Poll::Ready(Ok(Step::TooBig)),
                Poll::Ready(Ok(Arrived::TooLate)) => return Poll::Ready(Ok(Step::TooLate)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.respond.poll_gone(cx));
                    return Poll::Ready(Err(aborted("the client of a POST went away")));
                }
            }
        }
        let State::Delivering(payload) = &mut self.state else { return Poll::Pending };
        let before = messages.len();
        for message in payload.take(MESSAGES) {
            messages.push(message.map_err(malformed)?);
        }
        Poll::Ready(Ok(if messages.len() > before { Step::Progress } else { Step::Handled }))
    }

    /// Answers that the messages were taken
    pub(crate) fn answer_ok(self) {
        let mut response = http::Response::new(ResponseBody::from("ok"));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // If the client is gone it is of no use to anybody.
        let _ = self.respond.send(response);
    }

    /// Answers that the body is over the limit, and reads no more of it
    pub(crate) fn answer_too_big(self) {
        let _ = self.respond.send(empty(StatusCode::PAYLOAD_TOO_LARGE));
    }

    /// Answers that the body did not come in time.
    pub(crate) fn answer_too_late(self) {
        let _ = self.respond.send(empty(StatusCode::REQUEST_TIMEOUT));
    }

    /// Answers at the end of the connection: `ok` if the body came whole
    pub(crate) fn answer_at_end(self) {
        match self.state {
            State::Delivering(_) => self.answer_ok(),
            State::Arriving { .. } => {
                let _ = self.respond.send(empty(StatusCode::BAD_REQUEST));
            }
        }
    }
}

pub(crate) fn empty(status: StatusCode) -> http::Response<ResponseBody> {
    let mut response = http::Response::default();
    *response.status_mut() = status;
    response
}

/// What has arrived of a body: copied together only if there is more than one piece
#[derive(Debug)]
enum Collected {
    One(Bytes),
    Many(BytesMut),
}

enum Arrived {
    Piece,
    Whole,
    TooMuch,
    TooLate,
}

impl Collected {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut RequestBody>,
        limit: usize,
    ) -> Poll<Result<Arrived, ConnectionError>> {
        for taken in 0..PIECES {
            let piece = match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame.into_data(),
                Poll::Ready(Some(Err(error))) if is_timeout(&error) => {
                    return Poll::Ready(Ok(Arrived::TooLate));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(aborted(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(Arrived::Whole)),
                Poll::Pending if taken > 0 => break,
                Poll::Pending => return Poll::Pending,
            };
            // Trailers mean nothing here.
            let Ok(piece) = piece else { continue };
            if self.len() + piece.len() > limit {
                return Poll::Ready(Ok(Arrived::TooMuch));
            }
            self.push(piece);
        }
        Poll::Ready(Ok(Arrived::Piece))
    }

    fn push(&mut self, piece: Bytes) {
        match self {
            Self::One(first) if first.is_empty() => *first = piece,
            Self::One(first) => {
                let mut all = BytesMut::from(std::mem::take(first));
                all.extend_from_slice(&piece);
                *self = Self::Many(all);
            }
            Self::Many(all) => all.extend_from_slice(&piece),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(first) => first.len(),
            Self::Many(all) => all.len(),
        }
    }

    fn finish(self) -> Bytes {
        match self {
            Self::One(first) => first,
            Self::Many(all) => all.freeze(),
        }
    }
}

impl Default for Collected {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

/// Whether the server gave up waiting for a body; the transport itself reads no clock
fn is_timeout(error: &roomcast_core::BoxError) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

pub(crate) fn aborted(why: impl Into<roomcast_core::BoxError>) -> ConnectionError {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, why).into()
}

fn malformed(error: PayloadError) -> ConnectionError {
    ConnectionError::Malformed(match error {
        PayloadError::Utf8 => "payload: text that is not UTF-8",
        PayloadError::Base64 => "payload: binary that is not base64",
    })
}
