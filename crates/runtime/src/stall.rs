//! Progress of a client whose transport refuses bytes.

use std::time::{Duration, Instant};

use roomcast_core::Attended;

use crate::clock;

/// Limits after which a client counts as stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "two numbers that belong together")]
pub struct StallLimits {
    /// Time without enough progress after which a client is given up. Default: 10 s.
    pub timeout: Duration,
    /// Bytes per second that count as enough progress. Default: 1,024.
    pub min_rate: u64,
}

impl Default for StallLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), min_rate: 1024 }
    }
}

/// Progress of a client whose transport refuses bytes or is absent.
///
/// The owner of an [`Outbox`](roomcast_core::Outbox) creates one when [`attend`](roomcast_core::Outbox::attend) reports
/// queued frames and an outbox that is not writable. It passes the result of each further `attend`, and drops the
/// measurement when the outbox is writable again. Progress is measured within a window. A client is given up only if a
/// last attempt to write moves less than a tenth of the bytes required for the window. A call that is late by a quarter
/// of the window restarts the window, because the process or the thread did not run.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use roomcast_core::{FlushList, Frame, Outbox};
/// use roomcast_runtime::{Stall, StallLimits};
///
/// let outbox = Outbox::new(16, FlushList::new()); // no sink: nothing leaves
/// for text in ["more than", "the limit"] {
///     let _ = outbox.push_protocol(Frame::new(text));
/// }
/// let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// let (start, limits) = (Instant::now(), StallLimits::default());
/// let mut stall = Stall::new(start);
/// assert!(!stall.observe(&outbox.attend(&mut cx), start, limits).evict);
/// while let Some(due) = stall.deadline(limits) {
///     // A driver sleeps until `due`, unless its outbox wakes it before.
///     if stall.observe(&outbox.attend(&mut cx), due, limits).evict {
///         assert_eq!(due - start, Duration::from_secs(10));
///         break;
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stall {
    /// Start of the window.
    since: Instant,
    /// Bytes moved in the window.
    bytes: u64,
    /// Time of the last progress.
    last: Instant,
    /// Last sample of `FrameSink::moved`.
    moved: Option<u64>,
    /// Time since which the queue has exceeded the limit.
    over_since: Option<Instant>,
    /// Whether the queue is too long for senders to continue.
    high: bool,
    /// Whether waiting senders were released.
    marked: bool,
    /// Time at which the driver requested a wake-up.
    due: Option<Instant>,
    /// Whether a heartbeat is queued.
    heartbeat: bool,
}

/// Result of [`Stall::observe`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct StallVerdict {
    /// The client has stalled for too long: [evict it](roomcast_core::Outbox::evict).
    pub evict: bool,
    /// Senders should no longer wait for it: [mark it](roomcast_core::Outbox::set_stalled).
    pub mark: bool,
    /// A queued heartbeat has just reached the transport: notify the
    /// [session](roomcast_core::Session::handle_heartbeat_sent).
    pub heartbeat_sent: bool,
}

/// Time without progress after which a client no longer blocks senders that wait for recipients.
const SENDER_WAIT: Duration = Duration::from_millis(100);
/// Divisor of the stall timeout: the time granted after the limit is exceeded, regardless of earlier progress.
const GRACE: u32 = 10;
/// Divisor of the stall timeout: a wake-up later than that means that the process or this thread did not run.
const LATE_FRACTION: u32 = 4;

impl Stall {
    /// Starts measuring a client that has just stopped accepting bytes.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            last: now,
            moved: None,
            over_since: None,
            high: false,
            marked: false,
            due: None,
            heartbeat: false,
        }
    }

    /// Records the result of an attempt to write.
    ///
    /// `now` must not go back.
    pub fn observe(&mut self, attended: &Attended, now: Instant, limits: StallLimits) -> StallVerdict {
        let moved = attended.written.saturating_add(self.sample(attended.moved));
        let late = self.due.take().is_some_and(|due| now > clock::after(due, limits.timeout / LATE_FRACTION));
        if moved > 0 {
            self.bytes = self.bytes.saturating_add(moved);
            self.last = now;
            self.marked = false;
        }
        self.high = attended.high;
        self.over_since = if attended.over_limit { self.over_since.or(Some(now)) } else { None };
        let enough = (limits.min_rate as f64 * limits.timeout.as_secs_f64()) as u64;
        let window_over = now >= clock::after(self.since, limits.timeout);
        // If only the server held the client back, the client now accepts much at once; a few bytes do not count.
        let has_resumed = window_over && moved > enough / u64::from(GRACE);
        if self.bytes >= enough.max(1) || has_resumed || late {
            self.since = now;
            self.bytes = 0;
        }
        let heartbeat_sent = self.heartbeat && !attended.heartbeat;
        self.heartbeat = attended.heartbeat;
        let evict = self.evict_at(limits).is_some_and(|at| now >= at);
        let mark = self.mark_at().is_some_and(|at| now >= at);
        self.marked |= mark;
        StallVerdict { evict, mark, heartbeat_sent }
    }

    /// Returns when to attempt the next write if nothing happens before; `None` while the client is within its limits.
    pub fn deadline(&mut self, limits: StallLimits) -> Option<Instant> {
        self.due = [self.evict_at(limits), self.mark_at()].into_iter().flatten().min();
        self.due
    }

    /// Returns when the client last accepted bytes, if a heartbeat is queued and less than `ping_timeout` has
    /// passed since.
    ///
    /// The client's time to answer the heartbeat starts then, see
    /// [`Session::handle_heartbeat_sent`](roomcast_core::Session::handle_heartbeat_sent).
    #[must_use]
    pub fn delays_heartbeat(&self, ping_timeout: Duration, now: Instant) -> Option<Instant> {
        (self.heartbeat && now < clock::after(self.last, ping_timeout)).then_some(self.last)
    }

    fn evict_at(&self, limits: StallLimits) -> Option<Instant> {
        let over_since = clock::after(self.over_since?, limits.timeout / GRACE);
        Some(over_since.max(clock::after(self.since, limits.timeout)))
    }

    fn mark_at(&self) -> Option<Instant> {
        (self.high && !self.marked).then(|| clock::after(self.last, SENDER_WAIT))
    }

    /// Returns the advance of the sink's counter; zero for the first sample.
    fn sample(&mut self, moved: Option<u64>) -> u64 {
        let Some(moved) = moved else { return 0 };
        moved.wrapping_sub(self.moved.replace(moved).unwrap_or(moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StallLimits = StallLimits { timeout: Duration::from_secs(10), min_rate: 1024 };

    /// Client whose transport refuses bytes, observed at times in seconds.
    struct Client {
        stall: Stall,
        start: Instant,
        attended: Attended,
    }

    impl Client {
        fn new(over_limit: bool) -> Self {
            let start = clock::now();
            let attended = Attended {
                closed: None,
                writable: false,
                stalled: 2 << 20,
                over_limit,
                high: true,
                written: 0,
                moved: Some(0),
                heartbeat: false,
            };
            let mut client = Self { stall: Stall::new(start), start, attended };
            assert_eq!(client.at(0.0, 0), StallVerdict::default());
            client
        }

        fn at(&mut self, seconds: f64, written: u64) -> StallVerdict {
            self.attended.written = written;
            self.stall.observe(&self.attended, self.time(seconds), LIMITS)
        }

        fn time(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        /// Observes the client at each requested time; returns when it was given up.
        fn sleep_until(&mut self, seconds: f64) -> Option<f64> {
            while let Some(due) = self.stall.deadline(LIMITS).filter(|due| *due <= self.time(seconds)) {
                let at = (due - self.start).as_secs_f64();
                if self.at(at, 0).evict {
                    return Some(at);
                }
            }
            None
        }
    }

    #[test]
    fn gives_up_after_the_timeout() {
        assert_eq!(Client::new(true).sleep_until(60.0), Some(10.0));
        assert_eq!(Client::new(false).sleep_until(60.0), None, "idle within the limit");
    }

    #[test]
    fn enough_progress_restarts_window() {
        let mut client = Client::new(true);
        for second in 1..100 {
            assert_eq!(client.sleep_until(f64::from(second) * 9.0), None);
            assert!(!client.at(f64::from(second) * 9.0, 10 * 1024).evict);
        }
        assert_eq!(client.sleep_until(1_000.0), Some(99.0 * 9.0 + 10.0));
    }

    #[test]
    fn too_little_progress_does_not_count() {
        let mut client = Client::new(true);
        for second in 1..10 {
            assert!(!client.at(f64::from(second), 1).evict);
        }
        assert_eq!(client.sleep_until(60.0), Some(10.0));
    }

    #[test]
    fn progress_on_last_attempt_saves_client() {
        let mut client = Client::new(true);
        assert!(!client.at(10.0, 2_000).evict);
        assert_eq!(client.sleep_until(60.0), Some(20.0));
        assert!(Client::new(true).at(10.0, 1).evict, "a byte is no progress");
    }

    #[test]
    fn grants_grace_after_late_overrun() {
        let mut client = Client::new(false);
        assert_eq!(client.sleep_until(30.0), None);
        client.attended.over_limit = true;
        assert!(!client.at(30.0, 0).evict, "within the grace period");
        assert_eq!(client.sleep_until(60.0), Some(31.0));
    }

    #[test]
    fn late_wakeup_restarts_window() {
        let mut client = Client::new(true);
        assert_eq!(client.sleep_until(1.0), None);
        assert!(client.stall.deadline(LIMITS).is_some());
        assert!(!client.at(25.0, 0).evict, "wake-up is fifteen seconds late");
        assert_eq!(client.sleep_until(60.0), Some(35.0));
    }

    #[test]
    fn counts_bytes_of_moving_body() {
        let mut client = Client::new(true);
        for second in 1..10 {
            client.attended.moved = Some(second * 16 * 1024);
            let at = second as f64 * 9.0;
            assert!(!client.at(at, 0).evict);
        }
        assert_eq!(client.sleep_until(200.0), Some(91.0));
    }

    #[test]
    fn senders_are_released_once_per_standstill() {
        let mut client = Client::new(false);
        assert!(!client.at(0.05, 0).mark);
        assert!(client.at(0.1, 0).mark);
        assert!(!client.at(0.3, 0).mark);
        assert!(!client.at(0.4, 1).mark, "progress resets the mark");
        assert!(client.at(0.6, 0).mark);
    }

    #[test]
    fn reports_delayed_heartbeat_once_sent() {
        let mut client = Client::new(true);
        client.attended.heartbeat = true;
        assert!(!client.at(1.0, 100).heartbeat_sent);
        let timeout = Duration::from_secs(20);
        assert_eq!(client.stall.delays_heartbeat(timeout, client.time(20.0)), Some(client.time(1.0)));
        assert_eq!(client.stall.delays_heartbeat(timeout, client.time(21.0)), None);
        client.attended.heartbeat = false;
        assert!(client.at(2.0, 100).heartbeat_sent);
        assert!(!client.at(3.0, 100).heartbeat_sent);
    }
}
