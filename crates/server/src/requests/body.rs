//! The body of a POST, which has to come in time

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use roomcast_core::{BoxError, RequestBody};
use tokio::time::{Sleep, sleep_until};

use crate::breach::{Breach, breach};
use crate::clock;
use crate::io::Io;

/// Body of a POST that fails with [`io::ErrorKind::TimedOut`] if it is not whole in time
///
/// A transport answers that with 408.
pub(super) struct TimedBody {
    body: RequestBody,
    io: Io,
    deadline: Instant,
    /// Made when the body is waited for; most bodies come with their request.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(super) fn new(body: RequestBody, io: &Io) -> Self {
        let deadline = clock::after(clock::now(), io.config().body_timeout);
        Self { body, io: io.clone(), deadline, timer: None }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        // One that comes byte by byte is late as well.
        let is_late = match &frame {
            Poll::Ready(Some(Ok(_))) => this.deadline <= clock::now(),
            Poll::Ready(_) => false,
            Poll::Pending => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(this.deadline.into())));
                timer.as_mut().poll(cx).is_ready()
            }
        };
        if !is_late {
            return frame;
        }
        let timeout_ms = clock::millis(this.io.config().body_timeout);
        breach!(this.io, Breach::BodyTime, timeout_ms, status = 408, "request refused: body timed out");
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
