//! Flow control of one session: what is read but not heard yet, and a client that stalls

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use roomcast_core::{Attended, Backlog, CloseReason, ConnectionError, Message, Received};

use super::rate::Bucket;
use crate::util::clock;

/// Parts of a driver that only sessions under load have; made on first use
#[derive(Default)]
pub(super) struct Flow {
    /// Events the client may send
    pub(super) bucket: Option<Bucket>,
    /// The rest of a read, which waits for the next visit
    pub(super) kept: VecDeque<Message>,
    /// How the connection ended behind those
    pub(super) ended: Option<Result<Received, ConnectionError>>,
    /// Outboxes that have to be relieved before anything more is read
    pub(super) backlog: Backlog,
    pub(super) stall: Option<Stall>,
    /// Reading pauses
    pub(super) paused: bool,
    /// The session is about to end
    pub(super) leaving: Option<Leaving>,
}

/// A session that ends in a moment
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) at: Instant,
    pub(super) reason: CloseReason,
    /// Whether requests that the client sent last are still read
    pub(super) reads: bool,
}

impl Flow {
    /// Whether nothing of it is in use
    pub(super) fn is_idle(&self) -> bool {
        let Self { bucket, kept, ended, backlog, stall, paused, leaving } = self;
        let waits = !kept.is_empty() || ended.is_some() || !backlog.is_empty() || *paused;
        !waits && bucket.is_none() && stall.is_none() && leaving.is_none()
    }

    /// Whether messages of the client lie where nobody has looked at them, by the driver's own choice
    pub(super) fn holds_back(&self) -> bool {
        self.paused || !self.kept.is_empty() || !self.backlog.is_empty()
    }
}

/// When a client counts as stalled
#[derive(Debug, Clone, Copy)]
pub(super) struct StallLimits {
    pub(super) timeout: Duration,
    /// Bytes per second that are progress enough
    pub(super) min_rate: u64,
}

/// The stall clock: progress of a client whose carrier refuses bytes, or that has no carrier
///
/// Runs while its outbox is not writable. It sees each attempt of the owner, who is the only writer meanwhile. What is
/// measured is progress within a window; a client is given up only if an attempt at that very moment moves next to
/// nothing: less than a tenth of what the window asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stall {
    /// Start of the window
    since: Instant,
    /// Bytes moved in the window
    bytes: u64,
    /// When something moved last
    last: Instant,
    /// The last sample of `FrameSink::moved`
    moved: Option<u64>,
    /// Since when more than the limit waits
    over: Option<Instant>,
    /// Whether more waits than lets senders go on
    high: bool,
    /// Senders were told not to wait
    marked: bool,
    /// When the driver asked to be woken
    due: Option<Instant>,
    /// A heartbeat waits
    heartbeat: bool,
}

/// What a look at the stall clock says
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judgement {
    /// The client has stalled for too long
    pub(super) give_up: bool,
    /// Senders should no longer wait for it
    pub(super) mark: bool,
    /// A heartbeat that waited has just reached the carrier
    pub(super) heartbeat_sent: bool,
}

/// Without progress for so long, a client holds up no sender that waits for its recipients
const PATIENCE: Duration = Duration::from_millis(100);
/// The part of the stall timeout that a client has after its limit was passed, however long ago it took something
const GRACE: u32 = 10;
/// The part of the stall timeout by which a wake-up may be late; beyond that the process did not run, or this thread
const LATE: u32 = 4;

impl Stall {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            last: now,
            moved: None,
            over: None,
            high: false,
            marked: false,
            due: None,
            heartbeat: false,
        }
    }

    /// Takes in what an attempt of the owner found
    pub(super) fn observe(&mut self, attended: &Attended, now: Instant, limits: StallLimits) -> Judgement {
        let moved = attended.written.saturating_add(self.sample(attended.moved));
        let late = self.due.take().is_some_and(|due| now > clock::after(due, limits.timeout / LATE));
        if moved > 0 {
            self.bytes = self.bytes.saturating_add(moved);
            self.last = now;
            self.marked = false;
        }
        self.high = attended.high;
        self.over = if attended.over_limit { self.over.or(Some(now)) } else { None };
        let enough = (limits.min_rate as f64 * limits.timeout.as_secs_f64()) as u64;
        let window_over = now >= clock::after(self.since, limits.timeout);
        // If nothing but the server kept the client from taking more, it takes much now. A few bytes are none.
        let saved = window_over && moved > enough / u64::from(GRACE);
        if self.bytes >= enough.max(1) || saved || late {
            self.since = now;
            self.bytes = 0;
        }
        let heartbeat_sent = self.heartbeat && !attended.heartbeat;
        self.heartbeat = attended.heartbeat;
        let give_up = self.verdict_at(limits).is_some_and(|at| now >= at);
        let mark = self.mark_at().is_some_and(|at| now >= at);
        self.marked |= mark;
        Judgement { give_up, mark, heartbeat_sent }
    }

    /// When the driver has to look again if nothing happens
    pub(super) fn deadline(&mut self, limits: StallLimits) -> Option<Instant> {
        self.due = [self.verdict_at(limits), self.mark_at()].into_iter().flatten().min();
        self.due
    }

    /// When the client took something last, if a heartbeat waits and its time to answer would not be over from then on
    pub(super) fn delays_heartbeat(&self, ping_timeout: Duration, now: Instant) -> Option<Instant> {
        (self.heartbeat && now < clock::after(self.last, ping_timeout)).then_some(self.last)
    }

    fn verdict_at(&self, limits: StallLimits) -> Option<Instant> {
        let over = clock::after(self.over?, limits.timeout / GRACE);
        Some(over.max(clock::after(self.since, limits.timeout)))
    }

    fn mark_at(&self) -> Option<Instant> {
        (self.high && !self.marked).then(|| clock::after(self.last, PATIENCE))
    }

    /// How far the counter of the sink has moved on; nothing at the first sight of it
    fn sample(&mut self, moved: Option<u64>) -> u64 {
        let Some(moved) = moved else { return 0 };
        moved.wrapping_sub(self.moved.replace(moved).unwrap_or(moved))
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StallLimits = StallLimits { timeout: Duration::from_secs(10), min_rate: 1024 };

    /// A client whose carrier refuses bytes, seen at times in seconds
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
            assert_eq!(client.at(0.0, 0), Judgement::default());
            client
        }

        fn at(&mut self, seconds: f64, written: u64) -> Judgement {
            self.attended.written = written;
            self.stall.observe(&self.attended, self.time(seconds), LIMITS)
        }

        fn time(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        /// Wakes it whenever it asks to be; tells when it was given up
        fn sleep_until(&mut self, seconds: f64) -> Option<f64> {
            while let Some(due) = self.stall.deadline(LIMITS).filter(|due| *due <= self.time(seconds)) {
                let at = (due - self.start).as_secs_f64();
                if self.at(at, 0).give_up {
                    return Some(at);
                }
            }
            None
        }
    }

    #[test]
    fn gives_up_after_the_timeout() {
        assert_eq!(Client::new(true).sleep_until(60.0), Some(10.0));
        assert_eq!(Client::new(false).sleep_until(60.0), None, "within its limit it may sleep");
    }

    #[test]
    fn enough_progress_starts_the_window_anew() {
        let mut client = Client::new(true);
        for second in 1..100 {
            assert_eq!(client.sleep_until(f64::from(second) * 9.0), None);
            assert!(!client.at(f64::from(second) * 9.0, 10 * 1024).give_up);
        }
        assert_eq!(client.sleep_until(1_000.0), Some(99.0 * 9.0 + 10.0));
    }

    #[test]
    fn too_little_progress_is_none() {
        let mut client = Client::new(true);
        for second in 1..10 {
            assert!(!client.at(f64::from(second), 1).give_up);
        }
        assert_eq!(client.sleep_until(60.0), Some(10.0));
    }

    #[test]
    fn a_last_attempt_that_moves_saves_the_client() {
        let mut client = Client::new(true);
        assert!(!client.at(10.0, 2_000).give_up);
        assert_eq!(client.sleep_until(60.0), Some(20.0));
        assert!(Client::new(true).at(10.0, 1).give_up, "a byte is nothing");
    }

    #[test]
    fn the_limit_may_be_passed_late() {
        let mut client = Client::new(false);
        assert_eq!(client.sleep_until(30.0), None);
        client.attended.over_limit = true;
        assert!(!client.at(30.0, 0).give_up, "it has a moment to take something");
        assert_eq!(client.sleep_until(60.0), Some(31.0));
    }

    #[test]
    fn a_paused_process_judges_nobody() {
        let mut client = Client::new(true);
        assert_eq!(client.sleep_until(1.0), None);
        assert!(client.stall.deadline(LIMITS).is_some());
        assert!(!client.at(25.0, 0).give_up, "the wake-up came fifteen seconds late");
        assert_eq!(client.sleep_until(60.0), Some(35.0));
    }

    #[test]
    fn a_body_that_moves_is_progress() {
        let mut client = Client::new(true);
        for second in 1..10 {
            client.attended.moved = Some(second * 16 * 1024);
            let at = second as f64 * 9.0;
            assert!(!client.at(at, 0).give_up);
        }
        assert_eq!(client.sleep_until(200.0), Some(91.0));
    }

    #[test]
    fn senders_are_released_once_per_standstill() {
        let mut client = Client::new(false);
        assert!(!client.at(0.05, 0).mark);
        assert!(client.at(0.1, 0).mark);
        assert!(!client.at(0.3, 0).mark);
        assert!(!client.at(0.4, 1).mark, "it moves again");
        assert!(client.at(0.6, 0).mark);
    }

    #[test]
    fn a_heartbeat_that_waits_is_reported_once_sent() {
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
