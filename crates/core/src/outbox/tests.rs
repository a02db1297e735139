//! Behavior of an outbox with a scripted sink.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::ConnectionError;

mod bounds;
mod deferred;
mod exchange;
mod flow;
mod flusher;
mod shared;
mod writing;

impl FlushList {
    /// Writes all listed outboxes with a flusher.
    fn write_all(&self) {
        Flusher::new(self.clone()).write_all();
    }
}

/// Carrier at the far end of its sinks.
#[derive(Clone, Default)]
struct Carrier(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    written: Vec<String>,
    /// Frames that it still accepts; `None` means no bound.
    room: Option<usize>,
    parked: bool,
    /// Its sinks hold bytes that precede the first frame.
    unsent: bool,
    broken: Option<ConnectionError>,
    waiting: Option<Waker>,
    calls: usize,
    hook: Option<Hook>,
    /// Set if the hook panicked; flushers catch panics of sinks.
    hook_failed: bool,
}

type Hook = Box<dyn FnMut(usize) + Send>;

impl Carrier {
    fn sink(&self) -> Box<dyn FrameSink> {
        Box::new(Sink { carrier: self.clone(), at_end: None })
    }

    /// Returns a sink that runs `at_end` when it is dropped.
    fn sink_with_end(&self, at_end: impl FnOnce() + Send + 'static) -> Box<dyn FrameSink> {
        Box::new(Sink { carrier: self.clone(), at_end: Some(Box::new(at_end)) })
    }

    /// Accepts this many more frames, then blocks.
    fn takes(&self, frames: usize) {
        let waiting = {
            let mut line = self.line();
            line.room = Some(frames);
            line.parked = false;
            line.waiting.take()
        };
        wake(waiting);
    }

    fn takes_all(&self) {
        self.takes(usize::MAX);
        self.line().room = None;
    }

    fn park(&self) {
        self.line().parked = true;
    }

    fn holds_bytes(&self) {
        self.line().unsent = true;
    }

    fn breaks(&self, error: ConnectionError) {
        self.line().broken = Some(error);
    }

    /// Sets a hook that runs at each call, under no lock, with the number of the call.
    fn at_each_call(&self, hook: impl FnMut(usize) + Send + 'static) {
        self.line().hook = Some(Box::new(hook));
    }

    fn written(&self) -> Vec<String> {
        let (written, hook_failed) = {
            let line = self.line();
            (line.written.clone(), line.hook_failed)
        };
        assert!(!hook_failed, "an assertion in the hook failed");
        written
    }

    fn calls(&self) -> usize {
        self.line().calls
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap()
    }
}

struct Sink {
    carrier: Carrier,
    at_end: Option<Box<dyn FnOnce() + Send>>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

impl FrameSink for Sink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let (hook, calls) = {
            let mut line = self.carrier.line();
            line.calls += 1;
            (line.hook.take(), line.calls)
        };
        if let Some(mut hook) = hook {
            let outcome = catch_unwind(AssertUnwindSafe(|| hook(calls)));
            self.carrier.line().hook_failed |= outcome.is_err();
            outcome.unwrap_or_else(|panic| resume_unwind(panic));
            self.carrier.line().hook.get_or_insert(hook);
        }
        let mut line = self.carrier.line();
        if let Some(error) = line.broken.take() {
            return Err(error);
        }
        if line.parked {
            return Ok(Readiness::Parked);
        }
        let taken = line.room.unwrap_or(usize::MAX).min(batch.len());
        line.room = line.room.map(|room| room - taken);
        line.written.extend(batch.drain(..taken).map(|frame| text(&frame)));
        if batch.is_empty() && line.room != Some(0) {
            return Ok(Readiness::Ready);
        }
        line.waiting = Some(cx.waker().clone());
        Ok(Readiness::Blocked)
    }

    fn has_unsent(&self) -> bool {
        self.carrier.line().unsent
    }
}

/// Task that owns the connection; counts its wake-ups.
#[derive(Default)]
struct Owner(AtomicUsize);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Owner {
    fn wakes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn poll(self: &Arc<Self>, outbox: &Outbox) -> Poll<CloseReason> {
        outbox.poll_owner(&mut Context::from_waker(&Waker::from(self.clone())))
    }

    fn drain(self: &Arc<Self>, outbox: &Outbox) -> Poll<()> {
        outbox.poll_drained(&mut Context::from_waker(&Waker::from(self.clone())))
    }
}

/// Returns an outbox with these bounds whose sink accepts everything.
fn connected(bounds: impl Into<Bounds>) -> (Outbox, FlushList, Carrier) {
    let list = FlushList::new();
    let (outbox, carrier) = connected_to(&list, bounds);
    (outbox, list, carrier)
}

fn connected_to(list: &FlushList, bounds: impl Into<Bounds>) -> (Outbox, Carrier) {
    let carrier = Carrier::default();
    let outbox = Outbox::new(bounds, list.clone());
    outbox.set_sink(carrier.sink());
    (outbox, carrier)
}

/// Returns bounds with a hard cap equal to the limit.
fn exactly(bytes: usize) -> Bounds {
    Bounds::new(bytes, bytes)
}

fn push(outbox: &Outbox, text: &str) -> PushOutcome {
    outbox.push(frame(text), Delivery::Reliable, Overflow::Inherit)
}

fn frame(text: &str) -> Frame {
    Frame::new(text.to_owned())
}

fn keyed(key: &str, text: &str) -> Frame {
    frame(text).with_key(key.into())
}

fn text(frame: &Frame) -> String {
    let bodies = frame.messages().iter().map(|message| str::from_utf8(message.as_bytes()).unwrap());
    bodies.collect()
}

/// Returns the queued frames by writing them to a new sink.
fn waiting(outbox: &Outbox, list: &FlushList) -> Vec<String> {
    let carrier = Carrier::default();
    outbox.set_sink(carrier.sink());
    list.write_all();
    carrier.written()
}

/// Runs `work` on another thread; panics if it deadlocks.
#[expect(clippy::disallowed_methods, reason = "a deadlock must not block the test thread")]
fn without_locking_up(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = std::sync::mpsc::sync_channel(1);
    let worker = std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match is_done.recv_timeout(std::time::Duration::from_secs(20)) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("deadlock"),
        _ => worker.join().unwrap(),
    }
}
