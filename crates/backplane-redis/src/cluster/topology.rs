//! Search of the masters and their slots.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::slots::{Range, host_of, ranges_of};
use crate::RedisConfig;
use crate::config::Address;
use crate::connection::{DialError, Reply, slots};

/// Asks the servers for the masters: on signs of a change, with a back-off, and regularly.
pub(super) struct Topology {
    config: Arc<RedisConfig>,
    asking: Option<Asking>,
    /// Time of the next question.
    at: Instant,
    /// Questions in sequence.
    attempts: u32,
    /// Questions so far.
    questions: u64,
    /// Time until which there may be a further change.
    settles_at: Instant,
    last_answer: Option<Instant>,
    is_whole: bool,
    has_logged: bool,
}

type Asking = Pin<Box<dyn Future<Output = Result<Vec<Range>, DialError>> + Send>>;

impl Topology {
    pub(super) fn new(config: Arc<RedisConfig>) -> Self {
        Self {
            config,
            asking: None,
            at: now(),
            attempts: 0,
            questions: 0,
            settles_at: now(),
            last_answer: None,
            is_whole: false,
            has_logged: false,
        }
    }

    /// Returns the number of the last question.
    pub(super) fn questions(&self) -> u64 {
        self.questions
    }

    /// Asks soon, since there is a sign of a change.
    pub(super) fn request(&mut self) {
        let now = now();
        if self.last_answer.is_some_and(|last| last + QUIET < now) {
            self.attempts = 0;
        }
        self.at = self.at.min(now + backoff(self.config.max_backoff, self.attempts));
        self.settles_at = now + SETTLING;
    }

    /// Notes whether all masters can be reached; otherwise there may be another one soon.
    pub(super) fn note_whole(&mut self, is_whole: bool) {
        self.is_whole = is_whole;
        let (now, longest) = (now(), self.config.max_backoff);
        if !is_whole && self.at > now + longest {
            self.at = now + backoff(longest, self.attempts);
        }
    }

    /// Returns the time of the next question, or `None` while one is pending.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asking.is_none().then_some(self.at)
    }

    /// Returns the slots that a server told, or nothing if none did; `known` are the servers to ask first, in order.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        known: impl FnOnce() -> Vec<Address>,
    ) -> Poll<Vec<Range>> {
        let now = now();
        if self.asking.is_none() {
            if now < self.at {
                return Poll::Pending;
            }
            let mut servers = known();
            let mut seeds = self.config.seeds();
            fastrand::shuffle(&mut seeds);
            seeds.retain(|seed| !servers.contains(seed));
            servers.append(&mut seeds);
            self.asking = Some(Box::pin(ask(self.config.clone(), servers)));
            self.attempts += 1;
            self.questions += 1;
            // Signs from now on ask again.
            self.at = now
                + if now < self.settles_at {
                    backoff(self.config.max_backoff, u32::MAX)
                } else {
                    PERIOD.mul_f64(0.5 + fastrand::f64() / 2.0)
                };
        }
        let Some(asking) = &mut self.asking else { return Poll::Pending };
        let result = std::task::ready!(asking.as_mut().poll(cx));
        self.asking = None;
        match result {
            Ok(ranges) => {
                self.last_answer = Some(now);
                self.has_logged = false;
                Poll::Ready(ranges)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_logged, true) {
                    tracing::warn!(reason = %error, "no server of the redis cluster names the masters; retrying");
                }
                self.at = now + backoff(self.config.max_backoff, self.attempts);
                // The caller polls again, which arms its timer.
                Poll::Ready(Vec::new())
            }
        }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topology")
            .field("is_asking", &self.asking.is_some())
            .field("attempts", &self.attempts)
            .field("is_whole", &self.is_whole)
            .finish_non_exhaustive()
    }
}

/// Asks one server after the other.
async fn ask(config: Arc<RedisConfig>, servers: Vec<Address>) -> Result<Vec<Range>, DialError> {
    let mut last = DialError::NoServer;
    // A frozen server must not use up the time of the others.
    let share = config.connect_timeout / 4;
    for server in servers {
        let read =
            |reply: &Reply<'_>| ranges_of(reply, &host_of(&server)).filter(|ranges| !ranges.is_empty());
        match timeout(share, slots(&config, &server, read)).await.unwrap_or(Err(DialError::Timeout)) {
            Ok(ranges) => return Ok(ranges),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns the delay of an attempt: an eighth of the longest at first, then doubled, and shortened at random.
pub(super) fn backoff(longest: Duration, attempts: u32) -> Duration {
    (longest / 8 * 2_u32.pow(attempts.min(3))).min(longest).mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Returns the present time of the runtime's timers.
#[expect(clippy::disallowed_methods, reason = "deadlines of timers")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Time between questions without a sign of a change, at most.
const PERIOD: Duration = Duration::from_secs(5);
/// Time after a sign in which servers may still answer with the former masters.
pub(super) const SETTLING: Duration = Duration::from_secs(3);
/// Time after an answer from which on a sign is the first one of another change.
const QUIET: Duration = Duration::from_secs(1);
