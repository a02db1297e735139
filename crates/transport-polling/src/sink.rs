//! Write half: answers the pending GET.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, BytesMut};
use http::{HeaderName, HeaderValue, header};
use roomcast_core::memory::Charge;
use roomcast_core::{
    BodyProgress, ConnectionError, FixedHeaders, Frame, FrameSink, PollSlot, Readiness, Responder,
    ResponseBody,
};

use crate::payload::{PollingWire, SEPARATOR};

/// Slot of the pending GET, shared by the connection that fills it and the sink that answers it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared(Mutex<Parked>);

#[derive(Debug, Default)]
struct Parked {
    get: Option<Responder>,
    /// Whether a client disconnected before its GET was answered.
    disconnected: bool,
    /// Woken when the client disconnects.
    reader: Option<Waker>,
    /// Woken when no GET is pending.
    closer: Option<Waker>,
}

impl Slot {
    /// Stores a GET in the empty slot.
    pub(crate) fn park(&self, get: Responder) {
        self.lock().get = Some(get);
    }

    /// Returns a handle with which the server parks repeated GETs.
    pub(crate) fn downgrade(&self) -> Weak<dyn PollSlot> {
        let shared: Weak<Shared> = Arc::downgrade(&self.0);
        shared
    }

    /// Refuses repeated GETs from now on.
    pub(crate) fn retire(&self) {
        let reader = self.lock().reader.take();
        drop(reader);
    }

    /// Returns whether a GET is pending.
    pub(crate) fn is_parked(&self) -> bool {
        self.lock().get.is_some()
    }

    /// Takes the GET to answer it.
    pub(crate) fn take(&self) -> Option<Responder> {
        let mut parked = self.lock();
        let get = parked.get.take()?;
        let closer = parked.closer.take();
        drop(parked);
        wake(closer);
        Some(get)
    }

    /// Resolves once the client of a GET has disconnected.
    pub(crate) fn poll_disconnected(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut parked = self.lock();
        if parked.disconnected || parked.get.as_mut().is_some_and(|get| get.poll_disconnected(cx).is_ready())
        {
            return Poll::Ready(());
        }
        register(&mut parked.reader, cx);
        Poll::Pending
    }

    /// Returns whether the sink is dropped, so no GET is answered any more.
    ///
    /// No repeated GET is parked meanwhile, which would count as a sink: this is the driver's turn.
    pub(crate) fn is_orphaned(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Resolves once no GET is pending, or its client has disconnected.
    pub(crate) fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut parked = self.lock();
        if parked.get.as_mut().is_none_or(|get| get.poll_disconnected(cx).is_ready()) {
            return Poll::Ready(());
        }
        register(&mut parked.closer, cx);
        Poll::Pending
    }

    fn mark_disconnected(&self) {
        let mut parked = self.lock();
        parked.disconnected = true;
        let reader = parked.reader.take();
        drop(parked);
        wake(reader);
    }

    fn lock(&self) -> MutexGuard<'_, Parked> {
        self.0.lock()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Parked> {
        // Consistent at every point, so poisoning by another thread's panic is harmless.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollSlot for Shared {
    fn park(&self, mut get: Responder) -> Result<(), Responder> {
        let parked = &mut *self.lock();
        // Without a waker, the driver has not read since a client disconnected, or the connection is closing.
        let Some(reader) = parked.reader.as_ref().filter(|_| parked.get.is_none() && !parked.disconnected)
        else {
            return Err(get);
        };
        if get.poll_disconnected(&mut Context::from_waker(reader)).is_ready() {
            return Err(get);
        }
        parked.get = Some(get);
        Ok(())
    }
}

fn register(waker: &mut Option<Waker>, cx: &Context<'_>) {
    if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *waker = Some(cx.waker().clone());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Answers the pending GET with as many frames as fit one payload.
#[derive(Debug)]
pub(crate) struct PollingSink {
    slot: Slot,
    max_payload: usize,
    /// Created by the first response long enough to be tracked; most clients never need it.
    progress: Option<BodyProgress>,
}

impl PollingSink {
    pub(crate) fn new(slot: Slot, max_payload: usize) -> Self {
        Self { slot, max_payload, progress: None }
    }

    /// Counts the body as it is written, if longer than one slice.
    fn track(&mut self, body: ResponseBody) -> ResponseBody {
        match body.bytes() {
            Some(bytes) if bytes.len() > ResponseBody::SLICE => {
                body.track(self.progress.get_or_insert_with(BodyProgress::new))
            }
            _ => body,
        }
    }
}

impl FrameSink for PollingSink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        // Frames rendered only for another transport are skipped.
        while batch.front().is_some_and(|frame| frame.messages().is_empty()) {
            batch.pop_front();
        }
        if batch.is_empty() {
            return Ok(if self.slot.is_parked() { Readiness::Ready } else { Readiness::Parked });
        }
        let Some(get) = self.slot.take() else { return Ok(Readiness::Parked) };
        let count = fitting(batch, self.max_payload);
        let answered = !get.is_disconnected() && {
            let body = self.track(payload(batch, count));
            get.send_fixed(headers(may_compress(batch, count)), body).is_ok()
        };
        if answered {
            batch.drain(..count);
        } else {
            self.slot.mark_disconnected();
        }
        // Nothing is left to do before the next GET. The outbox polls this sink again if its owner stores one from here
        // on, also while a flusher holds the sink.
        if answered && batch.is_empty() && !self.slot.is_parked() {
            return Ok(Readiness::Parked);
        }
        // The owner must poll again: for the next GET, if it has stored one already, or to watch a client that leaves
        // frames. A flusher wakes it when a sink blocks, and here it wakes itself.
        cx.waker().wake_by_ref();
        Ok(Readiness::Blocked)
    }

    /// Returns a size that fits the payload limit also in base64.
    fn max_joined(&self) -> usize {
        self.max_payload / 2
    }

    /// Returns the bytes of multi-slice responses that the HTTP library has written.
    ///
    /// Shorter responses are not counted: HTTP takes them at once, so they carry no information beyond the answered
    /// GET.
    fn moved(&self) -> u64 {
        self.progress.as_ref().map_or(0, BodyProgress::moved)
    }
}

/// Returns how many leading frames fit the payload limit; the first always does, regardless of its size.
fn fitting(batch: &VecDeque<Frame>, max_payload: usize) -> usize {
    if batch.len() == 1 {
        return 1;
    }
    let mut total = 0;
    for (at, frame) in batch.iter().enumerate() {
        if at > 0 && (frame.has_own_payload() || batch[0].has_own_payload()) {
            return at;
        }
        // Skipped frames cost a separator in this estimate, which is harmless.
        total += PollingWire::len_of(frame.messages()) + usize::from(at > 0);
        if at > 0 && total > max_payload {
            return at;
        }
    }
    batch.len()
}

fn payload(batch: &VecDeque<Frame>, count: usize) -> ResponseBody {
    let mut frames = batch.iter().take(count).filter(|frame| !frame.messages().is_empty());
    let Some(first) = frames.next() else { return ResponseBody::Empty };
    let mut frames = frames.peekable();
    if frames.peek().is_none() {
        return match first.wire(&PollingWire) {
            bytes if bytes.is_empty() => ResponseBody::Empty,
            bytes => ResponseBody::Rendered(first.clone(), bytes),
        };
    }
    let len: usize = batch.iter().take(count).map(|frame| PollingWire::len_of(frame.messages()) + 1).sum();
    let mut out = BytesMut::with_capacity(len);
    put(&mut out, first);
    for frame in frames {
        out.put_u8(SEPARATOR);
        put(&mut out, frame);
    }
    let out = out.freeze();
    // Charged until the HTTP library has written it, which may be long after the frames are dropped; it takes one slice
    // at a time.
    if out.len() > ResponseBody::SLICE { Charge::new(out.len()).attach(out).into() } else { out.into() }
}

fn put(out: &mut BytesMut, frame: &Frame) {
    // Base64 is worth caching for the other recipients; text is copied in any case.
    if frame.is_shared() && frame.messages().iter().any(|message| !message.is_text()) {
        out.extend_from_slice(&frame.wire(&PollingWire));
    } else {
        PollingWire::put(out, frame.messages());
    }
}

/// Returns whether any of the frames may be compressed.
fn may_compress(batch: &VecDeque<Frame>, count: usize) -> bool {
    batch.iter().take(count).any(Frame::may_compress)
}

/// Returns the headers of a response.
fn headers(may_compress: bool) -> FixedHeaders {
    const TYPE: (HeaderName, HeaderValue) =
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    static MAY_COMPRESS: [(HeaderName, HeaderValue); 2] =
        [TYPE, (header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    // Intermediaries must not compress it either (RFC 9111 section 5.2.2.6).
    static AS_IS: [(HeaderName, HeaderValue); 2] =
        [TYPE, (header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"))];
    if may_compress { &MAY_COMPRESS } else { &AS_IS }
}
