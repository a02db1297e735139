//! Deadlines of the sessions of each runtime

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::runtime::{Handle, Id};
use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

use crate::util::clock;

/// Timer queues of each runtime that carries sessions.
///
/// A timer of the runtime takes 112 bytes and a block of its own, an entry of a queue about 46.
#[derive(Default)]
pub(crate) struct Timers(DashMap<Id, Arc<TimerQueue>>);

impl Timers {
    /// Returns the queue of the current runtime; starts its task on first use.
    pub(crate) fn queue(&self) -> Arc<TimerQueue> {
        let handle = Handle::current();
        if let Some(known) = self.0.get(&handle.id()) {
            return known.value().clone();
        }
        let started = self.0.entry(handle.id()).or_insert_with(|| {
            let queue = Arc::new(TimerQueue::new(clock::now()));
            handle.spawn(unconstrained(Alarm { queue: queue.clone(), due: Vec::new(), sleep: None }));
            queue
        });
        started.value().clone()
    }
}

/// Deadlines of the sessions of a runtime, with the wakers of their tasks.
///
/// One task sleeps until the earliest of them.
pub(crate) struct TimerQueue {
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wakers: BTreeMap<TimerKey, Waker>,
    /// Tells timers of the same millisecond apart.
    turn: u32,
    /// The sleeping task of the queue.
    alarm: Option<Waker>,
}

/// Entry of a queue: milliseconds since the origin of the queue, then a number, which is unique among these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(NonZeroU64);

impl TimerKey {
    fn new(millis: u64, turn: u32) -> Self {
        let key = (millis << TURN_BITS) | (u64::from(turn) % (1 << TURN_BITS));
        Self(NonZeroU64::new(key).unwrap_or(NonZeroU64::MIN))
    }

    fn millis(self) -> u64 {
        self.0.get() >> TURN_BITS
    }
}

/// Leaves 44 bits for milliseconds, which are five centuries.
const TURN_BITS: u32 = 20;
/// The latest deadline; those beyond it are never due.
const MAX_MILLIS: u64 = u64::MAX >> TURN_BITS;

impl TimerQueue {
    fn new(origin: Instant) -> Self {
        Self { origin, state: Mutex::default() }
    }

    /// Wakes the task once the deadline has passed, a millisecond late at most.
    pub(crate) fn insert(&self, deadline: Instant, waker: Waker) -> TimerKey {
        let nanos = deadline.saturating_duration_since(self.origin).as_nanos();
        let mut millis = u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX).clamp(1, MAX_MILLIS);
        let mut state = self.lock();
        state.turn = state.turn.wrapping_add(1);
        let mut key = TimerKey::new(millis, state.turn);
        while state.wakers.contains_key(&key) {
            // A million timers in this millisecond: one later is as good.
            millis = millis.saturating_add(1).min(MAX_MILLIS);
            state.turn = state.turn.wrapping_add(1);
            key = TimerKey::new(millis, state.turn);
        }
        let is_earliest = state.wakers.first_key_value().is_none_or(|(first, _)| key < *first);
        state.wakers.insert(key, waker);
        let alarm = if is_earliest { state.alarm.take() } else { None };
        drop(state);
        alarm.into_iter().for_each(Waker::wake);
        key
    }

    /// Removes a timer that has not woken its task.
    pub(crate) fn remove(&self, key: TimerKey) {
        let waker = self.lock().wakers.remove(&key);
        // Without the lock: it may be the last reference to a task, which has a timer.
        drop(waker);
    }

    /// Returns whether a timer has yet to wake its task, and does so for this deadline or earlier.
    pub(crate) fn is_pending(&self, key: TimerKey, deadline: Instant, now: Instant) -> bool {
        let at = self.time_of(key);
        // A timer for this deadline is later by the rounding.
        at > now && at.saturating_duration_since(deadline) < Duration::from_millis(1)
    }

    /// Returns the time at which a timer wakes its task.
    fn time_of(&self, key: TimerKey) -> Instant {
        clock::after(self.origin, Duration::from_millis(key.millis()))
    }

    /// Moves the wakers that are due to `due`, at most [`BATCH`]; returns the time of the next timer.
    fn take_due(&self, now: Instant, alarm: &Waker, due: &mut Vec<Waker>) -> Option<Instant> {
        let mut state = self.lock();
        while let Some(first) = state.wakers.first_entry() {
            let at = self.time_of(*first.key());
            if at > now || due.len() == BATCH {
                if !state.alarm.as_ref().is_some_and(|known| known.will_wake(alarm)) {
                    state.alarm = Some(alarm.clone());
                }
                return Some(at);
            }
            due.push(first.remove());
        }
        state.alarm = Some(alarm.clone());
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().wakers.len()
    }
}

/// Tasks woken under one lock; also the size of the buffer that the task of the queue keeps.
const BATCH: usize = 256;

/// Task that wakes the tasks of a queue; never ends.
struct Alarm {
    queue: Arc<TimerQueue>,
    due: Vec<Waker>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { queue, due, sleep } = self.get_mut();
        loop {
            let next = queue.take_due(clock::now(), cx.waker(), due);
            due.drain(..).for_each(Waker::wake);
            let Some(next) = next else { return Poll::Pending };
            let until = tokio::time::Instant::from_std(next);
            let sleep = match sleep {
                Some(sleep) => {
                    sleep.as_mut().reset(until);
                    sleep
                }
                None => sleep.insert(Box::pin(tokio::time::sleep_until(until))),
            };
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> (Arc<Woken>, Waker) {
        let woken = Arc::new(Woken::default());
        (woken.clone(), woken.into())
    }

    fn count(woken: &Woken) -> usize {
        woken.0.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_in_order_of_deadlines() {
        let queue = Timers::default().queue();
        let start = clock::now();
        let timers: Vec<_> = [400_u64, 25_000, 100, 7_000_000, 100, 101]
            .into_iter()
            .map(|millis| {
                let (woken, waker) = waker();
                queue.insert(start + Duration::from_millis(millis), waker);
                (millis, woken)
            })
            .collect();
        for elapsed in [99_u64, 100, 101, 399, 400, 24_999, 25_000, 6_999_999, 7_000_000] {
            tokio::time::sleep_until((start + Duration::from_millis(elapsed)).into()).await;
            tokio::task::yield_now().await;
            for (millis, woken) in &timers {
                assert_eq!(count(woken), usize::from(*millis <= elapsed), "{millis} at {elapsed}");
            }
        }
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn earlier_deadline_moves_alarm() {
        let queue = Timers::default().queue();
        let start = clock::now();
        let (late, waker_of_late) = waker();
        queue.insert(start + Duration::from_secs(25), waker_of_late);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (early, waker_of_early) = waker();
        queue.insert(start + Duration::from_secs(2), waker_of_early);
        tokio::time::sleep(Duration::from_millis(1_001)).await;
        assert_eq!((count(&early), count(&late)), (1, 0));
        tokio::time::sleep(Duration::from_secs(23)).await;
        assert_eq!((count(&early), count(&late)), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn removed_timer_releases_waker() {
        let queue = Timers::default().queue();
        let (woken, waker) = waker();
        let key = queue.insert(clock::now() + Duration::from_secs(1), waker);
        assert_eq!(Arc::strong_count(&woken), 2);
        queue.remove(key);
        assert_eq!((Arc::strong_count(&woken), queue.len()), (1, 0));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(count(&woken), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_many_at_once() {
        let queue = Timers::default().queue();
        let (woken, waker) = waker();
        let at = clock::now() + Duration::from_secs(1);
        (0..3 * BATCH + 1).for_each(|_| _ = queue.insert(at, waker.clone()));
        tokio::time::sleep_until((at + Duration::from_millis(1)).into()).await;
        assert_eq!((count(&woken), queue.len()), (3 * BATCH + 1, 0));
    }

    #[test]
    fn distant_deadlines_stay_in_range() {
        let origin = clock::process_instant(10);
        let queue = TimerQueue::new(origin);
        for seconds in [u64::from(u32::MAX), 1 << 40] {
            if let Some(at) = origin.checked_add(Duration::from_secs(seconds)) {
                let key = queue.insert(at, Waker::noop().clone());
                assert!(queue.time_of(key) > clock::after(origin, Duration::from_secs(900_000_000)));
            }
        }
        let past = queue.insert(clock::process_instant(1), Waker::noop().clone());
        assert_eq!(queue.time_of(past), origin + Duration::from_millis(1));
    }
}
