//! Output streams that never block the server.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Non-blocking output stream: a bounded buffer written by a dedicated thread.
///
/// A full pipe blocks its writer, and a pipe without a reader fails each write; neither may stop a server. Lines that
/// do not fit into the buffer or cannot be written are dropped and counted.
#[derive(Clone)]
pub(crate) struct Output(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Called with the number of lines just lost.
    lost: Box<dyn Fn(u64) + Send + Sync>,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread is writing a batch.
    writing: bool,
    /// Lines lost since the last successful write.
    lost: u64,
}

/// Maximum number of pending bytes.
const CAPACITY: usize = 1024 * 1024;
/// Capacity that an empty buffer keeps.
const KEPT: usize = 64 * 1024;

impl Output {
    /// Starts the thread that writes to `stream`.
    ///
    /// `lost` is called with the number of lines lost, on the thread that lost them. `regained` is called on the writer
    /// thread after a successful write, with the number of lines lost before it. Neither may block.
    ///
    /// # Errors
    ///
    /// Fails if the thread cannot be started.
    #[expect(clippy::disallowed_methods, reason = "a pipe may block only a dedicated thread")]
    pub(crate) fn start(
        name: &str,
        stream: impl Write + Send + 'static,
        lost: impl Fn(u64) + Send + Sync + 'static,
        regained: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), lost: Box::new(lost) });
        let output = Self(shared.clone());
        std::thread::Builder::new()
            .name(format!("roomcast-{name}"))
            .spawn(move || shared.write_all_to(stream, regained))?;
        Ok(output)
    }

    /// Queues complete lines; drops them if the buffer is full.
    pub(crate) fn push(&self, text: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting.len() + text.len() > CAPACITY {
            drop(state);
            return self.0.lose(text);
        }
        state.waiting.extend_from_slice(text);
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until all output is written or `timeout` elapses. Returns whether all output is written.
    #[expect(clippy::disallowed_methods, reason = "the command has a clock of its own")]
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.0.lock();
        while state.writing || !state.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Each call is one log event, so a line is written whole or not at all.
impl Write for Output {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn write_all_to(&self, mut stream: impl Write, regained: impl Fn(u64)) {
        let mut batch = Vec::new();
        loop {
            {
                let mut state = self.lock();
                state.writing = false;
                self.changed.notify_all();
                while state.waiting.is_empty() {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                std::mem::swap(&mut state.waiting, &mut batch);
                state.writing = true;
            }
            match stream.write_all(&batch).and_then(|()| stream.flush()) {
                Ok(()) => {
                    let lost = std::mem::take(&mut self.lock().lost);
                    if lost > 0 {
                        regained(lost);
                    }
                }
                Err(_) => self.lose(&batch),
            }
            batch.clear();
            batch.shrink_to(KEPT);
        }
    }

    fn lose(&self, text: &[u8]) {
        let lines = text.iter().filter(|&&byte| byte == b'\n').count().max(1) as u64;
        self.lock().lost += lines;
        (self.lost)(lines);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Stream that completes a write per received result.
    struct Gated {
        turns: Receiver<io::Result<()>>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turns.recv().expect("the test is running")?;
            self.written.send(bytes.to_vec()).expect("the test is running");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Output on a gated stream: write results, written batches, lost lines, and `regained` calls.
    type Rig = (Output, Sender<io::Result<()>>, Receiver<Vec<u8>>, Arc<AtomicU64>, Receiver<u64>);

    #[expect(clippy::disallowed_methods, reason = "a test may hold what it made")]
    fn gated() -> Rig {
        let ((turn, turns), (written, lines)) = (channel(), channel());
        let (lost, counted) = (Arc::new(AtomicU64::new(0)), channel());
        let count = lost.clone();
        let regained = move |lines| counted.0.send(lines).expect("the test is running");
        let count = move |lines| _ = count.fetch_add(lines, Ordering::Relaxed);
        let output = Output::start("test", Gated { turns, written }, count, regained).expect("a thread");
        (output, turn, lines, lost, counted.1)
    }

    #[test]
    fn drops_and_counts_overflow() {
        let (output, turn, lines, lost, regained) = gated();
        let line = [b"a".repeat(1023), b"\n".to_vec()].concat();
        // No line is written, and no writer blocks.
        for _ in 0..5000 {
            output.push(&line);
        }
        assert!(!output.flush(Duration::from_millis(10)), "the stream is blocked");
        let dropped = lost.load(Ordering::Relaxed);
        assert!((5000 - 2 * 1024..5000).contains(&dropped), "{dropped}");
        turn.send(Ok(())).expect("the output thread is running");
        assert_eq!(regained.recv().expect("a count"), dropped);
        turn.send(Ok(())).expect("the output thread is running");
        assert!(output.flush(Duration::from_secs(20)));
        let written: usize = lines.try_iter().map(|batch| batch.len() / 1024).sum();
        assert_eq!(written as u64 + dropped, 5000, "each line is written or counted");
    }

    #[test]
    fn continues_after_failed_write() {
        let (output, turn, lines, lost, regained) = gated();
        output.push(b"one\ntwo\n");
        turn.send(Err(io::ErrorKind::BrokenPipe.into())).expect("the output thread is running");
        assert!(output.flush(Duration::from_secs(20)));
        assert_eq!(lost.load(Ordering::Relaxed), 2);
        output.push(b"three\n");
        turn.send(Ok(())).expect("the output thread is running");
        assert_eq!(lines.recv().expect("text"), b"three\n");
        assert_eq!(regained.recv().expect("a count"), 2);
    }
}
