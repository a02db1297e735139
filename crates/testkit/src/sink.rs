//! Recording write half.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use roomcast_core::{ConnectionError, Frame, FrameSink, Readiness};

/// Write half that records frames, up to a capacity set by the test.
///
/// Give one clone to an outbox and keep another to read from. It initially accepts any number of bytes. Like a socket,
/// it may accept part of a frame; it then keeps the rest and continues with it.
#[derive(Clone, Debug)]
pub struct MemorySink(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    written: Vec<Frame>,
    cut: Option<Cut>,
    /// Remaining bytes it accepts; `None` is unlimited.
    room: Option<usize>,
    parked: bool,
    broken: Option<ConnectionError>,
    waiting: Option<Waker>,
    calls: usize,
}

/// Partly written frame.
#[derive(Debug)]
struct Cut {
    frame: Frame,
    left: usize,
}

impl MemorySink {
    /// Creates a sink that accepts everything.
    pub fn new() -> Self {
        let state = State {
            written: Vec::new(),
            cut: None,
            room: None,
            parked: false,
            broken: None,
            waiting: None,
            calls: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Returns a boxed clone for an outbox.
    pub fn boxed(&self) -> Box<dyn FrameSink> {
        Box::new(self.clone())
    }

    /// Sets its result from now on: `Ready` accepts everything, `Blocked` and `Parked` nothing.
    ///
    /// Wakes the waiting writer when it becomes ready.
    pub fn set(&self, readiness: Readiness) {
        let waiting = {
            let mut state = self.state();
            state.parked = readiness == Readiness::Parked;
            state.room = if readiness == Readiness::Ready { None } else { Some(0) };
            if readiness == Readiness::Ready { state.waiting.take() } else { None }
        };
        wake(waiting);
    }

    /// Accepts this many more bytes and then blocks; wakes the waiting writer.
    pub fn grant(&self, bytes: usize) {
        let waiting = {
            let mut state = self.state();
            state.parked = false;
            state.room = Some(state.room.unwrap_or(0) + bytes);
            state.waiting.take()
        };
        wake(waiting);
    }

    /// Fails with this error at the next call.
    pub fn break_with(&self, error: ConnectionError) {
        self.state().broken = Some(error);
    }

    /// Returns the complete frames written since the last call, in order.
    pub fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut self.state().written)
    }

    /// Returns the messages of the complete frames written since the last call, in order, as text.
    ///
    /// # Panics
    ///
    /// Panics if a message is not UTF-8.
    pub fn take_texts(&self) -> Vec<String> {
        let frames = self.take();
        let messages = frames.iter().flat_map(Frame::messages);
        messages
            .map(|message| str::from_utf8(message.as_bytes()).expect("message is UTF-8").to_owned())
            .collect()
    }

    /// Returns the number of calls, as a measure of system calls.
    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// Returns whether another handle to the sink exists.
    pub fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemorySink {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameSink for MemorySink {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let mut state = self.state();
        state.calls += 1;
        if let Some(error) = state.broken.take() {
            return Err(error);
        }
        if state.parked {
            return Ok(Readiness::Parked);
        }
        if state.write(batch).is_ready() {
            return Ok(Readiness::Ready);
        }
        state.waiting = Some(cx.waker().clone());
        Ok(Readiness::Blocked)
    }
}

impl State {
    fn write(&mut self, batch: &mut VecDeque<Frame>) -> Poll<()> {
        while self.room != Some(0) {
            let next = self.cut.take().or_else(|| batch.pop_front().map(Cut::whole));
            let Some(Cut { frame, left }) = next else { return Poll::Ready(()) };
            let taken = self.room.map_or(left, |room| room.min(left));
            self.room = self.room.map(|room| room - taken);
            if taken == left {
                self.written.push(frame);
            } else {
                self.cut = Some(Cut { frame, left: left - taken });
            }
        }
        Poll::Pending
    }
}

impl Cut {
    fn whole(frame: Frame) -> Self {
        Self { left: frame.len(), frame }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(sink: &MemorySink, batch: &mut VecDeque<Frame>) -> Readiness {
        sink.clone().poll_send(&mut Context::from_waker(Waker::noop()), batch).expect("sink is not broken")
    }

    #[test]
    fn continues_partly_written_frame() {
        let sink = MemorySink::new();
        let mut batch = VecDeque::from([Frame::new("abc"), Frame::new("def"), Frame::new("g")]);
        sink.grant(4);
        assert_eq!(send(&sink, &mut batch), Readiness::Blocked);
        assert_eq!((sink.take_texts(), batch.len()), (vec!["abc".to_owned()], 1));
        sink.grant(2);
        assert_eq!(send(&sink, &mut batch), Readiness::Blocked);
        assert_eq!((sink.take_texts(), batch.len()), (vec!["def".to_owned()], 1));
        sink.set(Readiness::Parked);
        assert_eq!(send(&sink, &mut batch), Readiness::Parked);
        sink.set(Readiness::Ready);
        assert_eq!(send(&sink, &mut batch), Readiness::Ready);
        assert_eq!((sink.take_texts(), sink.calls()), (vec!["g".to_owned()], 4));
    }

    #[test]
    fn broken_sink_returns_error() {
        let sink = MemorySink::new();
        sink.break_with(ConnectionError::Misused("test"));
        let mut batch = VecDeque::from([Frame::new("abc")]);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sink.clone().poll_send(&mut cx, &mut batch).is_err());
        assert_eq!((sink.take().len(), batch.len()), (0, 1));
    }
}
