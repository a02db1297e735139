//! POST body with a deadline

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use roomcast_core::{BoxError, RequestBody};
use tokio::time::{Sleep, sleep_until};

use crate::app::model::io::Io;
use crate::host::limit::{Limit, limit_exceeded};
use crate::util::clock;

/// Body of a POST that fails with [`io::ErrorKind::TimedOut`] if the client is too slow.
///
/// A transport answers that with 408. Only time spent waiting for the body counts; while a busy server does not poll
/// it, the client is not late.
pub(super) struct TimedBody {
    body: RequestBody,
    io: Io,
    /// Remaining time of the client.
    left: Duration,
    /// Start of the current wait.
    since: Option<Instant>,
    /// Created on the first wait; most bodies arrive with their request.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(super) fn new(body: RequestBody, io: &Io) -> Self {
        Self { body, io: io.clone(), left: io.config().timeouts.body_timeout, since: None, timer: None }
    }

    /// Waits for more data, unless the client's time is over.
    fn poll_late(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if self.left.is_zero() {
            return Poll::Ready(());
        }
        self.since = Some(now);
        let deadline = clock::after(now, self.left).into();
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => self.timer.insert(Box::pin(sleep_until(deadline))),
        };
        timer.as_mut().poll(cx)
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
        if this.since.is_some() || frame.is_pending() {
            let now = clock::now();
            if let Some(since) = this.since.take() {
                this.left = this.left.saturating_sub(now.saturating_duration_since(since));
            }
            let is_late = match &frame {
                Poll::Ready(Some(Ok(_))) => this.left.is_zero(),
                Poll::Ready(_) => false,
                Poll::Pending => this.poll_late(cx, now).is_ready(),
            };
            if is_late {
                let timeout_ms = clock::millis(this.io.config().timeouts.body_timeout);
                limit_exceeded!(
                    this.io,
                    Limit::BodyTime,
                    timeout_ms,
                    status = 408,
                    "request refused: body timed out"
                );
                return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())));
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
