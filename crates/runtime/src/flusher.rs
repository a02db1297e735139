//! The task that writes what waits

use std::collections::VecDeque;
use std::future::poll_fn;
use std::time::Duration;

use roomcast_core::{FlushList, Outbox, Written};

/// Outboxes that are written one after the other
type Round = VecDeque<Outbox>;

/// How many outboxes of one round are written before others have their turn
///
/// Bounds how long a large broadcast keeps everybody else waiting: about a third of a millisecond of writes.
const CHUNK: usize = 128;

/// From so many outboxes on a round is one of a crowd, for which it is worth waiting a little
const CROWD: usize = 64;
/// How much each of a crowd has to have got in one write lately, for more to be expected
const MANY: f64 = 4.0;
/// How much of that has to be there for the crowd to be written at once
const ENOUGH: f64 = 0.75;
/// How often more is waited for, and for how long each time
const WAITS: u32 = 3;
const WAIT: Duration = Duration::from_millis(1);

/// Writes what waits, for as long as the runtime lives
///
/// When something is listed it yields once, so that everything which is ready to run puts its own frames behind
/// it, and each client then gets all of them in one write. What is listed while a large round is being written
/// makes a round of its own and they take turns, so a broadcast to thousands does not hold up a chat of two. Nor does
/// one that was made just before the chat, in the same turn: of a large round those come first that were listed last.
///
/// A crowd that has been getting many frames with each write, and has few of them now, waits for more, a few
/// milliseconds at most: under such a load the rest is on its way through another thread, or through a client that
/// has not had the CPU, and a write of all costs hardly more than a write of half.
pub async fn flush(list: FlushList) {
    let mut rounds: VecDeque<Round> = VecDeque::new();
    let mut held: Option<Held> = None;
    let mut pace = Pace::default();
    // Lists are swapped, not made: a steady state allocates nothing.
    let mut spare = Round::new();
    loop {
        if rounds.is_empty() && held.is_none() {
            pace.settle();
            poll_fn(|cx| list.poll_listed(cx)).await;
        }
        tokio::task::yield_now().await;
        list.wake_deferred();
        let urgent = list.take_urgent();
        list.take(&mut spare);
        if urgent && let Some(Held { crowd, .. }) = held.take() {
            // A sender waits for one of these.
            rounds.push_front(crowd);
        }
        if !spare.is_empty() {
            if !urgent && spare.len() > CHUNK {
                spare.rotate_right(CHUNK);
            }
            let fresh = std::mem::take(&mut spare);
            // One at a time: where several crowds are written in turns there is enough to do.
            if !urgent && rounds.is_empty() && held.is_none() && pace.expects_more(&fresh) {
                held = Some(Held { crowd: fresh, waits: WAITS });
            } else {
                rounds.push_front(fresh);
            }
        }
        for _ in 0..rounds.len() {
            let Some(mut round) = rounds.pop_front() else { break };
            let outboxes = round.len().min(CHUNK);
            let written = FlushList::write_some(&mut round, CHUNK);
            pace.count(outboxes, written);
            list.record(written);
            if round.is_empty() {
                spare = round;
            } else {
                rounds.push_back(round);
            }
        }
        if let Some(Held { crowd, waits }) = &mut held {
            if *waits > 0 && pace.expects_more(crowd) {
                *waits -= 1;
                // Whoever is listed meanwhile does not wait with it.
                let _ = tokio::time::timeout(WAIT, poll_fn(|cx| list.poll_listed(cx))).await;
            } else {
                rounds.push_back(std::mem::take(crowd));
                held = None;
            }
        }
    }
}

/// A crowd that waits for more
struct Held {
    crowd: Round,
    waits: u32,
}

/// How many frames each of a crowd has been getting with one write
#[derive(Default)]
struct Pace {
    usual: f64,
    frames: f64,
    outboxes: f64,
}

impl Pace {
    fn count(&mut self, outboxes: usize, written: Written) {
        if outboxes >= CROWD {
            self.outboxes += outboxes as f64;
            self.frames += written.frames as f64;
        }
    }

    /// Takes what was counted for what is usual: more at once, less by and by
    fn settle(&mut self) {
        if self.outboxes > 0.0 {
            let now = self.frames / self.outboxes;
            self.usual = now.max(f64::midpoint(self.usual, now));
            (self.frames, self.outboxes) = (0.0, 0.0);
        }
    }

    /// Whether there is much less for these than there usually is
    fn expects_more(&self, round: &Round) -> bool {
        let Some(next) = round.front() else { return false };
        self.usual >= MANY && round.len() >= CROWD && (next.waiting().frames as f64) < ENOUGH * self.usual
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Context;

    use roomcast_core::{ConnectionError, Delivery, Frame, FrameSink, Overflow, Pushed, Readiness};
    use tokio::sync::Notify;

    use super::*;
    use crate::clock;

    /// Notes who was written, in which order
    #[derive(Debug)]
    struct Note(usize, Arc<Mutex<Vec<usize>>>);

    impl FrameSink for Note {
        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            batch: &mut VecDeque<Frame>,
        ) -> Result<Readiness, ConnectionError> {
            self.1.lock().unwrap().extend(batch.drain(..).map(|_| self.0));
            Ok(Readiness::Ready)
        }
    }

    #[tokio::test]
    async fn whoever_is_sent_something_just_before_behind_or_during_a_broadcast_waits_for_a_few_chunks_of_it()
    {
        const CROWD: usize = 40 * CHUNK;
        let written = Arc::new(Mutex::new(Vec::new()));
        let list = FlushList::new();
        tokio::spawn(flush(list.clone()));
        let members: Vec<_> = (0..CROWD + 3)
            .map(|number| {
                let outbox = Outbox::new(1 << 10, list.clone());
                outbox.set_sink(Box::new(Note(number, written.clone())));
                outbox
            })
            .collect();
        let push = |number: usize| {
            let pushed = members[number].push(Frame::new("x"), Delivery::Reliable, Overflow::Close);
            assert_eq!(pushed, Pushed::Queued);
        };
        let [before, behind, during] = [CROWD, CROWD + 1, CROWD + 2];
        for _ in 0..3 {
            push(before);
            (0..CROWD).for_each(push);
            push(behind);
            while written.lock().unwrap().len() < 10 * CHUNK {
                tokio::task::yield_now().await;
            }
            let so_far = written.lock().unwrap().len();
            push(during);
            while written.lock().unwrap().len() < members.len() {
                tokio::task::yield_now().await;
            }
            let mut order = std::mem::take(&mut *written.lock().unwrap());
            let at = |number| order.iter().position(|other| *other == number).expect("everybody is written");
            assert!(at(before) <= 2 * CHUNK && at(behind) <= CHUNK, "{} {}", at(before), at(behind));
            assert!(at(during) <= so_far + 2 * CHUNK, "{} after {so_far}", at(during));
            order.sort_unstable();
            assert!(order.into_iter().eq(0..members.len()), "each once");
        }
    }

    /// A crowd, and how many frames each write had for whom
    struct Hall {
        members: Vec<Outbox>,
        log: Arc<Log>,
    }

    #[derive(Debug, Default)]
    struct Log {
        writes: Mutex<Vec<(usize, usize)>>,
        more: Notify,
    }

    #[derive(Debug)]
    struct Count(usize, Arc<Log>);

    impl FrameSink for Count {
        fn poll_send(
            &mut self,
            _: &mut Context<'_>,
            batch: &mut VecDeque<Frame>,
        ) -> Result<Readiness, ConnectionError> {
            self.1.writes.lock().unwrap().push((self.0, batch.len()));
            self.1.more.notify_one();
            batch.clear();
            Ok(Readiness::Ready)
        }
    }

    impl Hall {
        const LONER: usize = 2 * CHUNK;

        fn new() -> Self {
            let list = FlushList::new();
            tokio::spawn(flush(list.clone()));
            let log = Arc::<Log>::default();
            let members = (0..=Self::LONER).map(|number| {
                let outbox = Outbox::new(1 << 20, list.clone());
                outbox.set_sink(Box::new(Count(number, log.clone())));
                outbox
            });
            Self { members: members.collect(), log }
        }

        fn send(&self, to: usize, frames: usize) {
            for _ in 0..frames {
                let _ = self.members[to].push(Frame::new("x"), Delivery::Reliable, Overflow::Close);
            }
        }

        fn broadcast(&self, frames: usize) {
            (0..Self::LONER).for_each(|member| self.send(member, frames));
        }

        fn take(&self) -> Vec<(usize, usize)> {
            std::mem::take(&mut *self.log.writes.lock().unwrap())
        }

        /// How long it took until the whole crowd was written, and how many frames each had
        async fn written(&self) -> (Duration, usize) {
            let begun = clock::now();
            while self.log.writes.lock().unwrap().len() < Self::LONER {
                self.log.more.notified().await;
            }
            let writes = self.take();
            let (_, frames) = writes[0];
            assert!(
                writes.len() == Self::LONER && writes.iter().all(|(_, each)| *each == frames),
                "{writes:?}"
            );
            (clock::now() - begun, frames)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_broadcast_after_the_other_waits_for_nothing() {
        let hall = Hall::new();
        for _ in 0..5 {
            hall.broadcast(1);
            let (took, frames) = hall.written().await;
            assert_eq!((took, frames), (Duration::ZERO, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn under_load_the_second_half_is_waited_for() {
        let hall = Hall::new();
        hall.broadcast(16);
        assert_eq!(hall.written().await.1, 16);
        for _ in 0..3 {
            hall.broadcast(8);
            tokio::time::sleep(WAIT).await;
            hall.broadcast(8);
            let (took, frames) = hall.written().await;
            assert!(took <= WAIT && frames == 16, "{frames} after {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_waited_for_a_few_times_and_not_for_long() {
        let hall = Hall::new();
        hall.broadcast(16);
        let _ = hall.written().await;
        let mut waited = 0;
        for _ in 0..10 {
            hall.broadcast(1);
            let (took, frames) = hall.written().await;
            assert!(took <= 2 * WAIT * WAITS && frames == 1, "{frames} after {took:?}");
            waited += u32::from(took > Duration::ZERO);
        }
        assert!((1..=3).contains(&waited), "{waited}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_with_a_crowd_that_waits() {
        let hall = Hall::new();
        hall.broadcast(16);
        let _ = hall.written().await;
        hall.broadcast(2);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hall.take(), [], "the crowd waits");
        hall.send(Hall::LONER, 1);
        let begun = clock::now();
        while hall.log.writes.lock().unwrap().is_empty() {
            hall.log.more.notified().await;
        }
        assert_eq!((clock::now() - begun, hall.take()), (Duration::ZERO, vec![(Hall::LONER, 1)]));
        let (_, frames) = hall.written().await;
        assert_eq!(frames, 2);
    }
}
