//! Flusher task: writes the frames queued in the outboxes of one list.

use std::future::poll_fn;

use roomcast_core::{FlushList, Flusher};

/// Number of outboxes of one round that are written before other tasks run.
///
/// Bounds the delay that a large broadcast causes to about a third of a millisecond of writing.
const CHUNK: usize = 128;

/// Drives the [`Flusher`] of a list for the lifetime of the runtime.
///
/// Spawn one for each list on the runtime that carries the connections. Never returns. Needs a runtime with time
/// enabled.
pub async fn flush(list: FlushList) {
    let mut flusher = Flusher::new(list);
    loop {
        let max_wait = flusher.max_wait();
        let ready = poll_fn(|cx| flusher.poll_ready(cx));
        match max_wait {
            None => ready.await,
            // Outboxes listed after the round started do not wait for a round that yields for more frames.
            Some(limit) => tokio::time::timeout(limit, ready).await.unwrap_or_default(),
        }
        // Ready tasks add their frames first, so each client gets them in one write.
        tokio::task::yield_now().await;
        flusher.write(CHUNK);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};
    use std::task::Context;
    use std::time::Duration;

    use roomcast_core::{
        ConnectionError, Delivery, Frame, FrameSink, Outbox, Overflow, PushOutcome, Readiness,
    };
    use tokio::sync::Notify;

    use super::*;
    use crate::clock;

    /// Maximum number of waits of a recipient group, and the length of each.
    const WAITS: u32 = 3;
    const WAIT: Duration = Flusher::WAIT;

    /// Records the recipients of writes, in order.
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
    async fn broadcast_delays_other_clients_briefly() {
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
            assert_eq!(pushed, PushOutcome::Queued);
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
            let at =
                |number| order.iter().position(|other| *other == number).expect("every client is written");
            assert!(at(before) <= 2 * CHUNK && at(behind) <= CHUNK, "{} {}", at(before), at(behind));
            assert!(at(during) <= so_far + 2 * CHUNK, "{} after {so_far}", at(during));
            order.sort_unstable();
            assert!(order.into_iter().eq(0..members.len()), "each once");
        }
    }

    /// A group of recipients, and the number of frames in each write.
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

        /// Returns the time until the whole group was written, and the number of frames each received.
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
    async fn sequential_broadcasts_flush_without_wait() {
        let hall = Hall::new();
        for _ in 0..5 {
            hall.broadcast(1);
            let (took, frames) = hall.written().await;
            assert_eq!((took, frames), (Duration::ZERO, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_second_half_under_load() {
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
    async fn bounds_waits_for_missing_frames() {
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
    async fn waiting_group_does_not_delay_others() {
        let hall = Hall::new();
        hall.broadcast(16);
        let _ = hall.written().await;
        hall.broadcast(2);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hall.take(), [], "group still waits");
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
