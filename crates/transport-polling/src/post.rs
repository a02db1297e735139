//! POST requests: reads the body, responds, and delivers the messages.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body::{Body, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use roomcast_core::{BoxError, ConnectionError, Message, RequestBody, Responder, ResponseBody};

use crate::payload::{Payload, PayloadError};

/// A POST whose messages are not all delivered.
///
/// It is answered when its body is complete, even with invalid contents, and its messages are delivered after that
/// response was written. The client therefore sees no effect of its POST through another request before the POST has
/// ended, and the messages of a client that disconnects right after its POST still count.
#[derive(Debug)]
pub(crate) struct Post(State);

#[derive(Debug)]
enum State {
    Arriving {
        body: RequestBody,
        collected: Collected,
        respond: Responder,
    },
    Answered {
        written: Arc<Written>,
        payload: Payload,
    },
    Delivering(Payload),
    /// Answered with an error that ends the connection.
    Refused {
        written: Arc<Written>,
        error: Option<ConnectionError>,
    },
}

/// Result of polling a POST.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes arrived, or messages were delivered.
    Progress,
    /// All messages were already delivered.
    Handled,
    /// The body exceeds the limit.
    TooBig,
    /// The body did not arrive in time.
    TimedOut,
}

/// Maximum body chunks read at once, and messages delivered at once.
///
/// A body may consist of separators only, whose messages take forty times their bytes in memory, so they are never all
/// decoded at once.
const MAX_CHUNKS: usize = 64;
const MAX_MESSAGES: usize = 256;

impl Post {
    pub(crate) fn new(body: RequestBody, respond: Responder) -> Self {
        Self(State::Arriving { body, collected: Collected::default(), respond })
    }

    /// Returns whether it was answered, so the client may send the next POST.
    pub(crate) fn is_answered(&self) -> bool {
        !matches!(self.0, State::Arriving { .. })
    }

    /// Makes progress: reads the body, answers the POST and delivers its messages.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<Step, ConnectionError>> {
        if let State::Arriving { body, collected, respond } = &mut self.0 {
            match collected.poll(cx, Pin::new(body), max_payload) {
                Poll::Ready(Ok(Arrived::Complete)) => {
                    self.answer();
                    return Poll::Ready(Ok(Step::Progress));
                }
                Poll::Ready(Ok(Arrived::Chunk)) => return Poll::Ready(Ok(Step::Progress)),
                Poll::Ready(Ok(Arrived::TooBig)) => return Poll::Ready(Ok(Step::TooBig)),
                Poll::Ready(Ok(Arrived::TimedOut)) => return Poll::Ready(Ok(Step::TimedOut)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(respond.poll_disconnected(cx));
                    return Poll::Ready(Err(aborted("client disconnected during POST")));
                }
            }
        }
        if let State::Refused { written, error } = &mut self.0 {
            ready!(written.poll(cx));
            return Poll::Ready(Err(error.take().unwrap_or_else(|| aborted("POST refused"))));
        }
        if let State::Answered { written, payload } = &mut self.0 {
            ready!(written.poll(cx));
            self.0 = State::Delivering(payload.clone());
        }
        let State::Delivering(payload) = &mut self.0 else { return Poll::Ready(Ok(Step::Handled)) };
        let before = messages.len();
        for message in payload.take(MAX_MESSAGES) {
            messages.push(message.map_err(malformed)?);
        }
        Poll::Ready(Ok(if messages.len() > before { Step::Progress } else { Step::Handled }))
    }

    /// Answers that the whole body was received.
    fn answer(&mut self) {
        let written = Arc::new(Written::default());
        let answered = State::Answered { written: written.clone(), payload: Payload::new(Bytes::new()) };
        let State::Arriving { collected, respond, .. } = std::mem::replace(&mut self.0, answered) else {
            return;
        };
        let mut response = http::Response::new(ResponseBody::from(Bytes::from_owner(Taken(written.clone()))));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // A failed send means that the client has disconnected.
        let _ = respond.send(response);
        self.0 = State::Answered { written, payload: Payload::new(collected.finish()) };
    }

    /// Answers with a status and stops reading the body; the connection ends with `error` once that was written.
    ///
    /// The client therefore gets the cause before the response to a pending poll reports the end of its session.
    pub(crate) fn fail(&mut self, status: StatusCode, error: ConnectionError) {
        let written = Arc::new(Written::default());
        let refused = State::Refused { written: written.clone(), error: Some(error) };
        if let State::Arriving { respond, .. } = std::mem::replace(&mut self.0, refused) {
            let mut response = empty(status);
            *response.body_mut() = ResponseBody::Stream(UnsyncBoxBody::new(Nothing(Taken(written))));
            let _ = respond.send(response);
        }
    }

    /// Answers with a status at the end of the connection; does nothing if already answered.
    pub(crate) fn refuse(self, status: StatusCode) {
        if let State::Arriving { respond, .. } = self.0 {
            let _ = respond.send(empty(status));
        }
    }
}

/// Body of the response to a POST.
struct Taken(Arc<Written>);

impl AsRef<[u8]> for Taken {
    fn as_ref(&self) -> &[u8] {
        b"ok"
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Empty body, which the HTTP library drops when it writes the head.
struct Nothing(#[allow(dead_code, reason = "only its drop matters")] Taken);

impl Body for Nothing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// Whether the HTTP library has dropped a response, written or failed.
#[derive(Debug, Default)]
struct Written(Mutex<Writing>);

#[derive(Debug, Default)]
struct Writing {
    done: bool,
    owner: Option<Waker>,
}

impl Written {
    fn finish(&self) {
        let owner = {
            let mut writing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            writing.done = true;
            writing.owner.take()
        };
        owner.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut writing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if writing.done {
            return Poll::Ready(());
        }
        writing.owner = Some(cx.waker().clone());
        Poll::Pending
    }
}

pub(crate) fn empty(status: StatusCode) -> http::Response<ResponseBody> {
    let mut response = http::Response::default();
    *response.status_mut() = status;
    response
}

/// The received part of a body; joined only if there is more than one chunk.
#[derive(Debug)]
enum Collected {
    One(Bytes),
    Many(BytesMut),
}

enum Arrived {
    Chunk,
    Complete,
    TooBig,
    TimedOut,
}

impl Collected {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut RequestBody>,
        limit: usize,
    ) -> Poll<Result<Arrived, ConnectionError>> {
        for taken in 0..MAX_CHUNKS {
            let piece = match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame.into_data(),
                Poll::Ready(Some(Err(error))) if is_timeout(&error) => {
                    return Poll::Ready(Ok(Arrived::TimedOut));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(aborted(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(Arrived::Complete)),
                Poll::Pending if taken > 0 => break,
                Poll::Pending => return Poll::Pending,
            };
            // Trailers are ignored.
            let Ok(piece) = piece else { continue };
            if self.len() + piece.len() > limit {
                return Poll::Ready(Ok(Arrived::TooBig));
            }
            self.push(piece);
        }
        Poll::Ready(Ok(Arrived::Chunk))
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

/// Returns whether the server timed out the body; the transport itself has no clock.
fn is_timeout(error: &BoxError) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

pub(crate) fn aborted(why: impl Into<BoxError>) -> ConnectionError {
    std::io::Error::new(std::io::ErrorKind::ConnectionAborted, why).into()
}

fn malformed(error: PayloadError) -> ConnectionError {
    ConnectionError::Malformed(match error {
        PayloadError::Utf8 => "payload: text is not UTF-8",
        PayloadError::Base64 => "payload: binary is not base64",
    })
}
