//! [`Flusher`]: order and pace in which the outboxes of a list are written.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use super::run;
use super::state::{FlushList, Outbox};
use super::written::WriteStats;

/// Outboxes that are written one after the other.
type Round = VecDeque<Outbox>;

/// Writes what the outboxes of a [`FlushList`] have queued.
///
/// Each list has one flusher, driven by one task on the thread or worker that carries the connections. A flusher does
/// no I/O itself (the sinks do), has no clock and spawns nothing. Its task repeats these steps:
///
/// 1. Await [`poll_ready`](Self::poll_ready), at most for [`max_wait`](Self::max_wait).
/// 2. Yield to the runtime once, so that every ready task adds its frames and each client gets them in one write.
/// 3. Call [`write`](Self::write), which does not block.
///
/// Outboxes listed while a large round is being written form a new round, and rounds take turns. So a broadcast to
/// thousands of clients delays a chat between two by a few calls of `write`, not by its whole length.
///
/// Under load, a round that has much fewer frames per client than recent rounds waits for more frames, up to three
/// times [`WAIT`](Self::WAIT). In that case the other frames are still being emitted by another thread, and writing all
/// frames at once costs hardly more than writing half of them.
///
/// # Examples
///
/// The flusher task of a program that manages its own connections:
///
/// ```
/// use std::future::poll_fn;
///
/// use roomcast_core::{FlushList, Flusher};
/// use tokio::{task::yield_now, time::timeout};
///
/// async fn flush(list: FlushList) {
///     let mut flusher = Flusher::new(list);
///     loop {
///         let max_wait = flusher.max_wait();
///         let ready = poll_fn(|cx| flusher.poll_ready(cx));
///         match max_wait {
///             None => ready.await,
///             Some(limit) => timeout(limit, ready).await.unwrap_or_default(),
///         }
///         yield_now().await;
///         flusher.write(128);
///     }
/// }
/// # use std::{collections::VecDeque, sync::{Arc, Mutex}, task::Context};
/// # use roomcast_core::{ConnectionError, Frame, FrameSink, Outbox, Readiness};
/// # #[derive(Clone, Debug, Default)]
/// # struct Sink(Arc<Mutex<usize>>);
/// # impl FrameSink for Sink {
/// #     fn poll_send(
/// #         &mut self,
/// #         _: &mut Context<'_>,
/// #         batch: &mut VecDeque<Frame>,
/// #     ) -> Result<Readiness, ConnectionError> {
/// #         *self.0.lock().unwrap() += batch.drain(..).count();
/// #         Ok(Readiness::Ready)
/// #     }
/// # }
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
/// # runtime.block_on(async {
/// # let sink = Sink::default();
///
/// let list = FlushList::new();
/// tokio::spawn(flush(list.clone()));
/// let outbox = Outbox::new(1 << 20, list.clone());
/// # outbox.set_sink(Box::new(sink.clone()));
/// # outbox.push_protocol("1".into());
/// # while list.written().frames == 0 {
/// #     yield_now().await;
/// # }
/// # outbox.push_protocol("2".into());
/// # while list.written().frames == 1 {
/// #     yield_now().await;
/// # }
/// # assert_eq!(*sink.0.lock().unwrap(), 2);
/// # });
/// ```
#[derive(Debug)]
pub struct Flusher {
    list: FlushList,
    /// Rounds that are being written in turns.
    rounds: VecDeque<Round>,
    postponed: Option<Postponed>,
    pace: Pace,
    /// Empty queue to swap with the list's, so that a steady state allocates nothing.
    spare: Round,
}

impl Flusher {
    /// Time for which a postponed round waits before it is checked again: 1 ms.
    pub const WAIT: Duration = Duration::from_millis(1);

    /// Creates the flusher of a list.
    pub fn new(list: FlushList) -> Self {
        Self { list, rounds: VecDeque::new(), postponed: None, pace: Pace::default(), spare: Round::new() }
    }

    /// Returns ready once [`write`](Self::write) has work; otherwise registers the task to be woken.
    ///
    /// # Cancel safety
    ///
    /// Takes nothing from the list, so the future around it may be dropped at any time.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rounds.is_empty() { self.list.poll_listed(cx) } else { Poll::Ready(()) }
    }

    /// Returns the longest time to wait for [`poll_ready`](Self::poll_ready) before the next [`write`](Self::write).
    ///
    /// `None` means no limit. A caller without a timer may write at once instead of waiting.
    pub fn max_wait(&self) -> Option<Duration> {
        self.postponed.is_some().then_some(Self::WAIT)
    }

    /// Takes the listed outboxes, and writes at most `most` outboxes (but at least one) of each round.
    ///
    /// First wakes other flushers whose wake-ups were [deferred](crate::DeferredWakes) to this one. A call with
    /// 128 takes about a third of a millisecond; call it again after all other ready tasks have run. A panic in a sink
    /// closes only the client of that sink.
    pub fn write(&mut self, most: usize) {
        run::end_turn();
        let most = most.max(1);
        let urgent = self.list.take(&mut self.spare);
        if urgent && let Some(Postponed { round, .. }) = self.postponed.take() {
            // A sender waits for one of these.
            self.rounds.push_front(round);
        }
        if !self.spare.is_empty() {
            if !urgent && self.spare.len() > most {
                // The outboxes listed last come first: they may be a chat that was emitted just behind a broadcast.
                self.spare.rotate_right(most);
            }
            let round = std::mem::take(&mut self.spare);
            // Only if no other round is in progress: several large rounds in turns are enough work.
            let may_wait = !urgent && self.rounds.is_empty() && self.postponed.is_none();
            if may_wait && self.pace.expects_more(&round) {
                self.postponed = Some(Postponed { round, waits_left: MAX_WAITS });
            } else {
                self.rounds.push_front(round);
            }
        }
        for _ in 0..self.rounds.len() {
            let Some(mut round) = self.rounds.pop_front() else { break };
            let outboxes = round.len().min(most);
            let written = Outbox::flush_some(&mut round, most);
            self.pace.count(outboxes, written);
            self.list.record(written);
            if round.is_empty() {
                self.spare = round;
            } else {
                self.rounds.push_back(round);
            }
        }
        if let Some(Postponed { round, waits_left }) = &mut self.postponed {
            if *waits_left > 0 && self.pace.expects_more(round) {
                *waits_left -= 1;
            } else {
                self.rounds.push_back(std::mem::take(round));
                self.postponed = None;
            }
        }
        if self.rounds.is_empty() && self.postponed.is_none() {
            self.pace.update_baseline();
        }
    }

    /// Writes all listed outboxes, including those listed meanwhile, without turns or waits.
    ///
    /// Intended for tests and for programs without a flusher task.
    pub fn write_all(&mut self) {
        run::end_turn();
        if let Some(Postponed { round, .. }) = self.postponed.take() {
            self.rounds.push_back(round);
        }
        while let Some(mut round) = self.rounds.pop_front() {
            self.list.record(Outbox::flush_some(&mut round, usize::MAX));
            self.spare = round;
        }
        loop {
            self.list.take(&mut self.spare);
            if self.spare.is_empty() {
                return;
            }
            self.list.record(Outbox::flush_some(&mut self.spare, usize::MAX));
        }
    }
}

/// Round that waits for more frames.
#[derive(Debug)]
struct Postponed {
    round: Round,
    /// Number of waits that are left.
    waits_left: u32,
}

/// Estimate of the frames per outbox and write in large rounds.
#[derive(Debug, Default)]
struct Pace {
    baseline: f64,
    frames: f64,
    outboxes: f64,
}

impl Pace {
    fn count(&mut self, outboxes: usize, written: WriteStats) {
        if outboxes >= LARGE_ROUND {
            self.outboxes += outboxes as f64;
            self.frames += written.frames as f64;
        }
    }

    /// Updates the estimate from the counts; it rises at once and falls gradually.
    fn update_baseline(&mut self) {
        if self.outboxes > 0.0 {
            let now = self.frames / self.outboxes;
            self.baseline = now.max(f64::midpoint(self.baseline, now));
            (self.frames, self.outboxes) = (0.0, 0.0);
        }
    }

    /// Returns whether a round has far fewer frames than the estimate.
    fn expects_more(&self, round: &Round) -> bool {
        let Some(next) = round.front() else { return false };
        self.baseline >= BUSY_FRAMES
            && round.len() >= LARGE_ROUND
            && (next.waiting().frames as f64) < READY_SHARE * self.baseline
    }
}

/// Smallest round, in outboxes, for which waiting pays.
const LARGE_ROUND: usize = 64;
/// Smallest estimate, in frames per outbox and write, at which more frames are expected.
const BUSY_FRAMES: f64 = 4.0;
/// Share of the estimated frames at which a round is written at once.
const READY_SHARE: f64 = 0.75;
/// Maximum waits of a round.
const MAX_WAITS: u32 = 3;
