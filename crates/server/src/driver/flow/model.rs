//! Flow control in virtual time: senders, recipients and threads as actors, connected by real outboxes
//!
//! Each seed is one run. A failing seed is printed; `FLOW_SEED=n` runs it alone, `FLOW_SEEDS=n` sets the number of
//! runs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use roomcast_core::{
    Backlog, Bounds, CloseReason, ConnectionError, Delivery, FlushList, Flusher, Frame, FrameSink, Outbox,
    Overflow, PushOutcome, Readiness,
};

use roomcast_runtime::{Stall, StallLimits};

use crate::util::clock;

const LIMITS: StallLimits = StallLimits { timeout: Duration::from_secs(10), min_rate: 1024 };
const LIMIT: usize = 64 * 1024;
const MAX: usize = 4 * 1024 * 1024;
const SEEDS: u64 = 2_000;

/// Seeded random choices.
struct Dice(fastrand::Rng);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0.u64(..most.max(1))
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Reading behaviour of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Reads this many bytes per millisecond
    Reads(usize),
    /// Reads this much every five seconds
    Gulps(usize),
    /// Reads single bytes occasionally
    Drips,
    Stalls,
}

/// Kernel buffer of a client, and the bytes it has read.
#[derive(Debug, Default)]
struct Line {
    room: usize,
    /// Remaining bytes of a partially written frame
    rest: usize,
    held: usize,
    moved: u64,
    got: Vec<u32>,
    waiting: Option<Waker>,
    /// Pushes by another thread while the sink is in use
    intrusions: Vec<(Outbox, Frame)>,
    intruded: Vec<(Outbox, PushOutcome)>,
}

#[derive(Debug, Clone)]
struct Carrier(Arc<Mutex<Line>>);

impl Carrier {
    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.0.lock().unwrap()
    }

    fn read(&self, bytes: usize) {
        let waker = {
            let mut line = self.line();
            let read = bytes.min(line.held);
            line.held -= read;
            line.room += read;
            if read > 0 { line.waiting.take() } else { None }
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl FrameSink for Carrier {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        let intrusions = std::mem::take(&mut self.line().intrusions);
        for (outbox, frame) in intrusions {
            let pushed = outbox.push(frame, Delivery::Reliable, Overflow::Inherit);
            self.line().intruded.push((outbox, pushed));
        }
        let mut line = self.line();
        let line = &mut *line;
        loop {
            let taken = line.rest.min(line.room);
            line.rest -= taken;
            line.room -= taken;
            line.held += taken;
            line.moved += taken as u64;
            if line.rest > 0 || line.room == 0 && !batch.is_empty() {
                line.waiting = Some(cx.waker().clone());
                return Ok(Readiness::Blocked);
            }
            let Some(frame) = batch.pop_front() else { return Ok(Readiness::Ready) };
            let bytes = frame.messages()[0].as_bytes();
            line.got.push(u32::from_be_bytes(bytes[..4].try_into().unwrap()));
            line.rest = bytes.len();
        }
    }

    fn moved(&self) -> u64 {
        self.line().moved
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Client {
    outbox: Outbox,
    carrier: Carrier,
    habit: Habit,
    thread: usize,
    woken: Arc<Woken>,
    stall: Option<Stall>,
    due: Option<u64>,
    pushed: Vec<u32>,
    /// The carrier refused the queue some time ago
    stalled: bool,
    /// When the queue first exceeded the limit without progress
    over_since: Option<u64>,
    gone: Option<CloseReason>,
}

struct Thread {
    list: FlushList,
    flusher: Flusher,
    busy_until: u64,
    /// Outboxes this thread's sender has to flush before it continues
    unpaid: Backlog,
}

struct World {
    dice: Dice,
    start: Instant,
    now: u64,
    threads: Vec<Thread>,
    clients: Vec<Client>,
    next: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(fastrand::Rng::with_seed(seed));
        let threads: Vec<_> = (0..=dice.below(2))
            .map(|_| {
                let list = FlushList::new();
                let flusher = Flusher::new(list.clone());
                Thread { list, flusher, busy_until: 0, unpaid: Backlog::default() }
            })
            .collect();
        let clients = (0..3 + dice.below(6))
            .map(|_| {
                let habit = match dice.below(6) {
                    0 => Habit::Stalls,
                    1 => Habit::Drips,
                    2 => Habit::Gulps(60_000 + dice.below(100_000) as usize),
                    _ => Habit::Reads(20 + dice.below(100_000) as usize),
                };
                let thread = dice.below(threads.len() as u64) as usize;
                // A gulp must find enough.
                let least = if matches!(habit, Habit::Gulps(_)) { 60_000 } else { 4_096 };
                let room = least + dice.below(300_000) as usize;
                let carrier = Carrier(Arc::new(Mutex::new(Line { room, ..Line::default() })));
                let outbox = Outbox::new(Bounds::new(LIMIT, MAX), threads[thread].list.clone());
                outbox.set_sink(Box::new(carrier.clone()));
                Client {
                    outbox,
                    carrier,
                    habit,
                    thread,
                    woken: Arc::new(Woken(AtomicBool::new(true))),
                    stall: None,
                    due: None,
                    pushed: Vec::new(),
                    stalled: false,
                    over_since: None,
                    gone: None,
                }
            })
            .collect();
        Self { dice, start: clock::now(), now: 0, threads, clients, next: 0 }
    }

    fn frame(&mut self, size: usize) -> (u32, Frame) {
        self.next += 1;
        let mut body = vec![b'x'; size.max(4)];
        body[..4].copy_from_slice(&self.next.to_be_bytes());
        (self.next, Frame::new(roomcast_core::Bytes::from(body)))
    }

    /// Emits some events to all clients, as a driver processing a read does.
    fn send(&mut self, thread: usize) {
        if self.threads[thread].busy_until > self.now {
            return;
        }
        self.threads[thread].unpaid.flush_backlog();
        if !self.threads[thread].unpaid.is_empty() {
            return;
        }
        // The hard cap is left to the application: this sender stays within what a reader may lag.
        let behind = |client: &Client| client.is_reader() && client.outbox.waiting().bytes > MAX / 4;
        if self.clients.iter().any(behind) {
            return;
        }
        let size = [1, 100, 1_000, 30_000][self.dice.below(4) as usize];
        let most = if size > 1_000 {
            12
        } else if self.dice.one_in(6) {
            400
        } else {
            30
        };
        let events = 1 + self.dice.below(most);
        for _ in 0..events {
            let (number, frame) = self.frame(size);
            if self.dice.one_in(20) {
                self.intrude(size);
            }
            let mut backlog = Backlog::default();
            for client in self.clients.iter_mut().filter(|client| client.gone.is_none()) {
                match client.outbox.push(frame.clone(), Delivery::Reliable, Overflow::Inherit) {
                    PushOutcome::Queued => client.pushed.push(number),
                    PushOutcome::Backlogged => {
                        client.pushed.push(number);
                        backlog.add(&client.outbox);
                    }
                    PushOutcome::Overflowed => {
                        assert!(!client.is_reader(), "{:?} overflowed", client.habit);
                    }
                    PushOutcome::Closed => {}
                    other => panic!("{other:?}"),
                }
            }
            backlog.flush_backlog();
            self.collect_intrusions(thread);
            if !backlog.is_empty() {
                self.threads[thread].unpaid.append(backlog);
                return;
            }
        }
    }

    /// Makes another thread push to a client the next time its sink is in use.
    fn intrude(&mut self, size: usize) {
        let at = self.dice.below(self.clients.len() as u64) as usize;
        for _ in 0..1 + self.dice.below(300) {
            let (_, frame) = self.frame(size.min(1_000));
            let client = &self.clients[at];
            let mut line = client.carrier.line();
            if line.intrusions.len() < 300 {
                line.intrusions.push((client.outbox.clone(), frame));
            }
        }
    }

    fn collect_intrusions(&mut self, thread: usize) {
        for client in &mut self.clients {
            // Concurrent pushes are ordered by the queue alone, so the order is read from there.
            for (outbox, pushed) in std::mem::take(&mut client.carrier.line().intruded) {
                if pushed == PushOutcome::Backlogged {
                    self.threads[thread].unpaid.add(&outbox);
                }
            }
        }
    }

    fn flush(&mut self, thread: usize) {
        if self.threads[thread].busy_until > self.now {
            return;
        }
        self.threads[thread].flusher.write(usize::MAX);
        self.collect_intrusions(thread);
    }

    fn owner(&mut self, at: usize) {
        let (now, instant) = (self.now, self.start + Duration::from_millis(self.now));
        let client = &mut self.clients[at];
        let due = client.due.is_some_and(|due| due <= now);
        let busy = self.threads[client.thread].busy_until > now;
        if client.gone.is_some() || busy || !due && !client.woken.0.swap(false, Ordering::Relaxed) {
            return;
        }
        let waker = Waker::from(client.woken.clone());
        let attended = client.outbox.attend(&mut Context::from_waker(&waker));
        if let Some(reason) = attended.closed {
            client.leave(reason);
            return;
        }
        if attended.writable || attended.stalled == 0 {
            client.stall = None;
            client.due = None;
            return;
        }
        let stall = client.stall.get_or_insert_with(|| Stall::new(instant));
        let verdict = stall.observe(&attended, instant, LIMITS);
        if verdict.mark {
            client.outbox.set_stalled();
        }
        if verdict.evict {
            client.outbox.evict(CloseReason::SlowConsumer);
            client.leave(CloseReason::SlowConsumer);
            return;
        }
        client.due = stall.deadline(LIMITS).map(|at| (at - self.start).as_millis() as u64 + 1);
    }

    /// Advances time; clients read.
    fn pass(&mut self, milliseconds: u64) {
        let before = self.now;
        self.now += milliseconds;
        let times = |every: u64| (self.now / every - before / every) as usize;
        for client in &self.clients {
            client.carrier.read(match client.habit {
                Habit::Reads(bytes) => bytes * milliseconds as usize,
                Habit::Gulps(bytes) => bytes * times(5_000),
                Habit::Drips => times(500),
                Habit::Stalls => 0,
            });
        }
    }

    fn step(&mut self) {
        let thread = self.dice.below(self.threads.len() as u64) as usize;
        match self.dice.below(12) {
            0..=3 => self.send(thread),
            4..=7 => self.flush(thread),
            8 if self.dice.one_in(30) => {
                // A handler blocks its thread.
                self.threads[thread].busy_until = self.now + self.dice.below(15_000);
            }
            8 | 9 => {
                let milliseconds = self.dice.below(400);
                self.pass(milliseconds);
            }
            _ => {
                let at = self.dice.below(self.clients.len() as u64) as usize;
                self.owner(at);
            }
        }
        self.check();
    }

    fn check(&mut self) {
        for client in &mut self.clients {
            if client.gone.is_none()
                && let Some(reason) = client.outbox.closed()
            {
                client.leave(reason);
            }
            if client.is_reader() {
                assert_eq!(client.gone, None, "{:?} was closed", client.habit);
                let status = client.outbox.status();
                client.stalled = !status.writable || client.stalled && status.bytes > 0;
                if !client.stalled {
                    // High water, one visit of a sender, and concurrent pushes.
                    let bytes = client.outbox.waiting().bytes;
                    assert!(bytes < 2 * 1024 * 1024, "{bytes} bytes of backlog");
                }
            }
            let status = client.outbox.status();
            let over = !status.writable && status.bytes > LIMIT && client.gone.is_none();
            client.over_since = if over { client.over_since.or(Some(self.now)) } else { None };
        }
    }

    /// Returns whether the queue is empty and no stall clock runs.
    fn is_quiet(&self) -> bool {
        self.clients.iter().all(|client| {
            let waits = if client.is_reader() { 0 } else { LIMIT };
            client.gone.is_some() || client.outbox.status().bytes <= waits
        })
    }

    /// Stops all senders and runs until the system is quiet.
    fn rest(&mut self) {
        let end = self.now + 100_000;
        while self.now < end && !self.is_quiet() {
            let threads = self.threads.len();
            for thread in 0..threads {
                self.threads[thread].unpaid.flush_backlog();
                self.flush(thread);
            }
            (0..self.clients.len()).for_each(|at| self.owner(at));
            self.pass(25);
            self.check();
        }
        self.check();
        for client in &self.clients {
            let got = client.carrier.line().got.clone();
            if client.is_reader() {
                // The client may still be reading slowly: the rest must be next, in order, exactly once.
                let known: Vec<_> =
                    got.iter().filter(|number| client.pushed.binary_search(number).is_ok()).collect();
                assert!(known.is_sorted_by(|one, next| one < next), "{:?} in order and once", client.habit);
                let left = client.outbox.waiting().frames;
                assert!(known.len() + left >= client.pushed.len(), "{:?} lost something", client.habit);
                assert!(got.len() + left >= known.len());
            } else if client.gone.is_none() {
                let since = client.over_since.unwrap_or(self.now);
                assert!(self.now - since < 35_000, "{:?} should have been let go", client.habit);
            }
        }
    }
}

impl Client {
    /// Returns whether the client reads fast enough to count as a reader.
    fn is_reader(&self) -> bool {
        matches!(self.habit, Habit::Reads(_) | Habit::Gulps(_))
    }

    fn leave(&mut self, reason: CloseReason) {
        self.gone = Some(reason);
        self.stall = None;
        self.due = None;
    }
}

#[test]
fn keeps_readers_and_closes_stalled_clients() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seeds = match number("FLOW_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FLOW_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..250).for_each(|_| world.step());
            world.rest();
        });
        assert!(ran.is_ok(), "seed {seed}");
    }
}
