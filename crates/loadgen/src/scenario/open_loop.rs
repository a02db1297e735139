//! Schedule of an open loop: messages are due at fixed times, independent of deliveries.

use std::collections::VecDeque;
use std::time::Duration;

use super::settings::Settings;
use crate::report::{Invalid, OpenLoopReport};

/// Schedule of messages at a fixed rate, the free slots of its senders, and its late sends.
///
/// Message `n` belongs to sender `n % senders` and is due `n + 1` intervals after the start. A slow client therefore
/// keeps its share of the messages, and they are counted with its delay. A message without a free slot waits until
/// its sender has one, while the other senders go on.
#[derive(Debug)]
pub(super) struct OpenLoop {
    rate: f64,
    begun: u64,
    outstanding: usize,
    /// Delay in nanoseconds above which a send is late.
    tolerance: u64,
    /// Number of messages that were due when last looked, sent or blocked.
    seen: u64,
    senders: Vec<Sender>,
    /// Senders with a blocked message and a free slot.
    unblocked: VecDeque<usize>,
    /// Start of the measured window.
    from: u64,
    /// End of the measured window.
    to: u64,
    late: LateSends,
    /// Messages that reached all recipients in the window.
    landed: u64,
}

#[derive(Debug, Default)]
struct Sender {
    sent: u64,
    /// Messages that are due and found no free slot.
    blocked: u64,
    free: VecDeque<u16>,
}

/// Message to be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DueMessage {
    pub(super) slot: u16,
    pub(super) due: u64,
}

/// Messages of the window that left more than the tolerance after they were due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct LateSends {
    /// Due while the generator was busy or had no CPU.
    generator: u64,
    /// Waited for a free slot of their sender.
    bound: u64,
    max: u64,
}

impl OpenLoop {
    /// Creates a schedule that starts at `begun` on the caller's clock, in nanoseconds.
    pub(super) fn new(settings: &Settings, rate: f64, begun: u64) -> Self {
        let Settings { senders, outstanding, late_after, .. } = *settings;
        let sender = |number: usize| Sender {
            free: (number * outstanding..(number + 1) * outstanding).map(|slot| slot as u16).collect(),
            ..Sender::default()
        };
        Self {
            rate,
            begun,
            outstanding,
            tolerance: late_after.as_nanos() as u64,
            seen: 0,
            senders: (0..senders).map(sender).collect(),
            unblocked: VecDeque::new(),
            from: u64::MAX,
            to: u64::MAX,
            late: LateSends::default(),
            landed: 0,
        }
    }

    /// Returns the next message to send, if one is due and its sender has a free slot.
    pub(super) fn next(&mut self, clock: u64) -> Option<DueMessage> {
        if let Some(number) = self.unblocked.pop_front() {
            self.senders[number].blocked -= 1;
            return Some(self.send(number, clock, true));
        }
        while self.seen < self.due_by(clock) {
            let number = (self.seen % self.senders.len() as u64) as usize;
            self.seen += 1;
            let sender = &mut self.senders[number];
            if sender.blocked == 0 && !sender.free.is_empty() {
                return Some(self.send(number, clock, false));
            }
            sender.blocked += 1;
        }
        None
    }

    fn send(&mut self, number: usize, clock: u64, blocked: bool) -> DueMessage {
        let sender = &mut self.senders[number];
        let slot = sender.free.pop_front().expect("the caller checked for a free slot");
        let message = sender.sent * self.senders.len() as u64 + number as u64;
        let due = self.due_at(message);
        self.senders[number].sent += 1;
        if self.measures(due) {
            let delay = clock.saturating_sub(due);
            self.late.max = self.late.max.max(delay);
            if delay > self.tolerance {
                *(if blocked { &mut self.late.bound } else { &mut self.late.generator }) += 1;
            }
        }
        DueMessage { slot, due }
    }

    /// Frees the slot of a message that has reached all recipients.
    pub(super) fn land(&mut self, slot: u16) {
        self.landed += u64::from(self.to == u64::MAX);
        let number = usize::from(slot) / self.outstanding;
        let sender = &mut self.senders[number];
        sender.free.push_back(slot);
        if sender.blocked >= sender.free.len() as u64 {
            self.unblocked.push_back(number);
        }
    }

    /// Returns the nanoseconds until a message can be sent without new free slots; forever after the window.
    pub(super) fn wait(&self, clock: u64) -> u64 {
        if self.to < u64::MAX {
            return u64::MAX;
        }
        if !self.unblocked.is_empty() {
            return 0;
        }
        self.due_at(self.seen).saturating_sub(clock)
    }

    /// Begins to count messages that are due from now on.
    pub(super) fn begin_window(&mut self, clock: u64) {
        (self.from, self.late, self.landed) = (clock, LateSends::default(), 0);
    }

    /// Ends the window and counts its unsent messages.
    pub(super) fn end_window(&mut self, clock: u64) {
        self.to = clock;
        let count = self.senders.len() as u64;
        let overdue = self.due_by(clock.saturating_sub(self.tolerance + 1));
        let (before, mut late) = (self.due_by(self.from), self.late);
        for (number, sender) in (0..).zip(&self.senders) {
            // Number of the sender's messages among the first `due` ones.
            let own = |due: u64| (due + count - 1 - number) / count;
            let seen = sender.sent + sender.blocked;
            if sender.sent < own(overdue) {
                let oldest = self.due_at(sender.sent.max(own(before)) * count + number);
                late.max = late.max.max(clock.saturating_sub(oldest));
            }
            late.bound += own(overdue).min(seen).saturating_sub(sender.sent.max(own(before)));
            late.generator += own(overdue).saturating_sub(seen.max(own(before)));
        }
        self.late = late;
    }

    /// Returns whether a message with this due time belongs to the window.
    fn measures(&self, due: u64) -> bool {
        self.from < due && due <= self.to
    }

    /// Returns the late sends of the window, after its end.
    ///
    /// `busy` is the share of the window in which the generator ran or waited for a CPU.
    pub(super) fn report(&self, busy: f64) -> OpenLoopReport {
        let due = self.due_by(self.to) - self.due_by(self.from);
        let LateSends { generator, bound, max } = self.late;
        let late = generator + bound;
        let late_share = if due == 0 { 0.0 } else { late as f64 / due as f64 };
        let invalid = (late_share > MAX_LATE_SHARE).then_some(
            // A generator without spare time frees the slots late, so the bound is not the server's fault.
            if busy > BUSY || generator >= bound { Invalid::GeneratorLate } else { Invalid::InFlightBound },
        );
        OpenLoopReport {
            rate: self.rate,
            outstanding: self.outstanding,
            late_after_us: self.tolerance as f64 / 1e3,
            due,
            landed: self.landed,
            late,
            late_share,
            late_generator: generator,
            late_bound: bound,
            late_max_us: max as f64 / 1e3,
            generator_busy: busy,
            invalid,
        }
    }

    fn due_at(&self, message: u64) -> u64 {
        self.begun + ((message + 1) as f64 * 1e9 / self.rate) as u64
    }

    /// Returns the number of messages due by then.
    fn due_by(&self, clock: u64) -> u64 {
        (clock.saturating_sub(self.begun) as f64 / 1e9 * self.rate) as u64
    }
}

/// Returns the default bound of messages in flight per sender in an open loop.
///
/// It is high, since the schedule of an open loop must not depend on deliveries.
pub(crate) fn default_outstanding(senders: usize) -> usize {
    DEFAULT_OUTSTANDING.min(max_outstanding(senders))
}

/// Returns the highest possible bound of messages in flight per sender.
pub(crate) fn max_outstanding(senders: usize) -> usize {
    // A message in flight has a slot number of two bytes.
    (usize::from(u16::MAX) / senders.max(1)).max(1)
}

/// Returns the CPU share of this thread above which it counts as saturated.
const BUSY: f64 = 0.95;
/// Delay above which a send is late.
///
/// It does not grow with the interval of a low rate: the delay is part of the measured latency.
pub(crate) const LATE_AFTER: Duration = Duration::from_millis(1);
/// Share of late sends above which a result is invalid.
const MAX_LATE_SHARE: f64 = 0.01;
const DEFAULT_OUTSTANDING: usize = 1024;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Options;
    use super::*;

    const MS: u64 = 1_000_000;

    fn open_loop(rate: f64, senders: usize, outstanding: usize, begun: u64) -> OpenLoop {
        let line = format!(
            "loadgen --port 1 --scenario saturated --senders {senders} --outstanding {outstanding} --rate {rate}"
        );
        OpenLoop::new(&Options::parse_from(line.split(' ')).settings(), rate, begun)
    }

    /// Sends all that is due and returns the messages.
    fn launch(open_loop: &mut OpenLoop, clock: u64) -> Vec<DueMessage> {
        std::iter::from_fn(|| open_loop.next(clock)).collect()
    }

    fn slots(messages: &[DueMessage]) -> Vec<u16> {
        messages.iter().map(|message| message.slot).collect()
    }

    #[test]
    fn messages_are_due_at_fixed_times() {
        // One message per 10 ms, from 5 ms on.
        let mut open_loop = open_loop(100.0, 2, 4, 5 * MS);
        assert_eq!(launch(&mut open_loop, 14 * MS), []);
        assert_eq!(open_loop.wait(14 * MS), MS);
        assert_eq!(launch(&mut open_loop, 15 * MS), [DueMessage { slot: 0, due: 15 * MS }]);
        // A launch that comes late sends all that is due, with its due times.
        let messages = launch(&mut open_loop, 47 * MS);
        assert_eq!(messages.iter().map(|it| it.due / MS).collect::<Vec<_>>(), [25, 35, 45]);
        assert_eq!(slots(&messages), [4, 1, 5], "senders alternate");
        assert_eq!(open_loop.wait(47 * MS), 8 * MS);
    }

    #[test]
    fn blocked_sender_does_not_delay_others() {
        let mut open_loop = open_loop(1000.0, 2, 1, 0);
        open_loop.begin_window(0);
        assert_eq!(slots(&launch(&mut open_loop, 2 * MS)), [0, 1]);
        // Sender 0 gets no answer, sender 1 does.
        open_loop.land(1);
        assert_eq!(slots(&launch(&mut open_loop, 4 * MS)), [1]);
        open_loop.land(1);
        let messages = launch(&mut open_loop, 6 * MS);
        assert_eq!(messages, [DueMessage { slot: 1, due: 6 * MS }]);
        // Its messages keep their due times.
        open_loop.land(0);
        assert_eq!(open_loop.wait(6 * MS), 0);
        assert_eq!(launch(&mut open_loop, 6 * MS), [DueMessage { slot: 0, due: 3 * MS }]);
        open_loop.land(0);
        assert_eq!(launch(&mut open_loop, 6 * MS), [DueMessage { slot: 0, due: 5 * MS }]);
        assert_eq!(open_loop.late, LateSends { generator: 0, bound: 1, max: 3 * MS });
    }

    #[test]
    fn late_sends_are_counted_by_cause() {
        let mut open_loop = open_loop(1000.0, 1, 10, 0);
        launch(&mut open_loop, 5 * MS);
        (0..5).for_each(|slot| open_loop.land(slot));
        open_loop.begin_window(5 * MS);
        // Due at 6, 7, 8 and 9 ms; all but the last are more than a millisecond late.
        assert_eq!(launch(&mut open_loop, 9 * MS + MS / 2).len(), 4);
        assert_eq!(open_loop.late, LateSends { generator: 3, bound: 0, max: 3 * MS + MS / 2 });
        // Six more slots, then the bound.
        assert_eq!((10..=30).map(|at| launch(&mut open_loop, at * MS).len()).sum::<usize>(), 6);
        open_loop.end_window(30 * MS);
        let report = open_loop.report(0.5);
        // Due at 16 to 30 ms and unsent; the last two are not late yet.
        assert_eq!((report.due, report.late_generator, report.late_bound), (25, 3, 13));
        assert_eq!(report.late_max_us, 14_000.0);
    }

    #[test]
    fn tolerance_is_configurable() {
        let settings =
            Options::parse_from("loadgen --port 1 --scenario paced --rate 1000".split(' ')).settings();
        let settings = Settings { late_after: Duration::from_millis(5), ..settings };
        let mut open_loop = OpenLoop::new(&settings, 1000.0, 0);
        open_loop.begin_window(0);
        launch(&mut open_loop, 10 * MS);
        open_loop.end_window(20 * MS);
        let report = open_loop.report(0.0);
        assert_eq!((report.late_after_us, report.due, report.late), (5000.0, 20, 4 + 4));
    }

    #[test]
    fn unseen_messages_at_window_end_are_late() {
        let mut open_loop = open_loop(1000.0, 3, 10, 0);
        open_loop.begin_window(0);
        (1..=4).for_each(|at| assert_eq!(launch(&mut open_loop, at * MS).len(), 1));
        // The generator stands still for the rest of the window.
        open_loop.end_window(20 * MS);
        let report = open_loop.report(0.1);
        assert_eq!((report.due, report.late, report.late_generator), (20, 14, 14));
        assert_eq!(report.invalid, Some(Invalid::GeneratorLate));
        assert_eq!(open_loop.wait(20 * MS), u64::MAX);
    }

    #[test]
    fn names_cause_of_invalid_result() {
        let report = |late: LateSends, busy: f64| {
            let mut open_loop = open_loop(1000.0, 1, 1, 0);
            open_loop.begin_window(0);
            (open_loop.to, open_loop.late) = (1000 * MS, late);
            open_loop.report(busy)
        };
        let late = |generator, bound| LateSends { generator, bound, max: 0 };
        let at_limit = report(late(4, 6), 1.0);
        assert_eq!((at_limit.late_share, at_limit.invalid), (0.01, None));
        assert_eq!(report(late(4, 7), 0.5).invalid, Some(Invalid::InFlightBound));
        assert_eq!(report(late(7, 4), 0.5).invalid, Some(Invalid::GeneratorLate));
        // The bound was reached since the generator did not read in time.
        assert_eq!(report(late(0, 500), 0.99).invalid, Some(Invalid::GeneratorLate));
    }

    #[test]
    fn window_counts_only_its_own_messages() {
        let mut open_loop = open_loop(1000.0, 1, 4, 0);
        // Late before the window.
        launch(&mut open_loop, 4 * MS);
        open_loop.begin_window(5 * MS);
        (0..4).for_each(|slot| open_loop.land(slot));
        assert_eq!(slots(&launch(&mut open_loop, 8 * MS)).len(), 4);
        open_loop.end_window(8 * MS);
        assert!(!open_loop.measures(5 * MS) && open_loop.measures(6 * MS) && !open_loop.measures(9 * MS));
        let report = open_loop.report(0.0);
        assert_eq!((report.due, report.late, report.landed), (3, 1, 4));
        open_loop.land(0);
        assert_eq!(open_loop.report(0.0).landed, 4, "it landed after the window");
    }

    #[test]
    fn default_bound_fits_slot_numbers() {
        for senders in [1, 8, 64, 100, 1000, 65_535] {
            let outstanding = default_outstanding(senders);
            assert!(outstanding >= 1 && outstanding * senders <= usize::from(u16::MAX), "{senders}");
        }
        assert_eq!(default_outstanding(1), 1024);
    }
}
