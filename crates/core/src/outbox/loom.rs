//! Loom models of the threads around an outbox.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p roomcast-core --lib loom --release --target-dir target/loom`.
//!
//! Each model runs a few threads, then polls only woken tasks until all sleep. If a frame has not arrived by then, a
//! wake-up was lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use ::loom::sync::Mutex;
use ::loom::thread;

use crate::{
    CloseReason, ConnectionError, Delivery, FlushList, Frame, FrameSink, Message, Outbox, Overflow,
    PushOutcome, Readiness, SharedFrame,
};

#[test]
fn keeps_order_across_pushers_and_flusher() {
    check_up_to(5, || {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        outbox.set_sink(carrier.sink());
        let pushers = ["a", "b"].map(|name| {
            let outbox = outbox.clone();
            thread::spawn(move || push_two(&outbox, name))
        });
        flusher.run();
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        flusher.rest();
        ["a", "b"].iter().for_each(|name| assert_eq!(carrier.of(name), two(name)));
        assert_eq!(carrier.written().len(), 4);
    });
}

#[test]
fn shared_frames_keep_order() {
    check(|| {
        let (flusher, outbox) = outbox();
        let other = Outbox::new(1 << 20, flusher.list.clone());
        let carriers = [&outbox, &other].map(|outbox| {
            let carrier = Carrier::default();
            outbox.set_sink(carrier.sink());
            carrier
        });
        let pusher = thread::spawn(move || {
            super::run::end_turn();
            for text in two("a") {
                let shared = SharedFrame::of_codec(Frame::new(text), 0);
                for outbox in [&outbox, &other] {
                    let pushed = outbox.push_shared(&shared, Delivery::Reliable, Overflow::Close);
                    assert!(matches!(pushed, PushOutcome::Queued | PushOutcome::Backlogged), "{pushed:?}");
                }
            }
        });
        flusher.run();
        pusher.join().unwrap();
        flusher.rest();
        carriers.iter().for_each(|carrier| assert_eq!(carrier.written().concat(), two("a").concat()));
    });
}

#[test]
fn resumes_blocked_sink() {
    check(|| {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        carrier.block_once();
        outbox.set_sink(carrier.sink());
        let owner = Owner::of(&outbox);
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || push_two(&outbox, "a"))
        };
        let polling = {
            let owner = owner.clone();
            thread::spawn(move || assert!(owner.poll().is_pending()))
        };
        flusher.run();
        pusher.join().unwrap();
        polling.join().unwrap();
        rest(&flusher, &owner, &carrier);
        assert_eq!(carrier.written(), two("a"));
    });
}

#[test]
fn unparks_sink_during_lease() {
    check(|| {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        carrier.park();
        outbox.set_sink(carrier.sink());
        let owner = Owner::of(&outbox);
        assert!(owner.poll().is_pending());
        push_two(&outbox, "a");
        let polling = {
            let (owner, carrier) = (owner.clone(), carrier.clone());
            thread::spawn(move || {
                carrier.unpark();
                assert!(owner.poll().is_pending());
            })
        };
        flusher.run();
        polling.join().unwrap();
        rest(&flusher, &owner, &carrier);
        assert_eq!(carrier.written(), two("a"));
    });
}

#[test]
fn sink_that_parks_is_polled_for_next_request() {
    check_next_request(|owner| assert!(owner.poll().is_pending()));
}

#[test]
fn next_request_unparks_without_owner() {
    check_next_request(|owner| owner.outbox.unpark());
}

/// Checks a sink that parks after each answer; `resume` follows the next request.
fn check_next_request(resume: fn(&Owner)) {
    check(move || {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        carrier.park_after_each();
        outbox.set_sink(carrier.sink());
        let owner = Owner::of(&outbox);
        assert!(owner.poll().is_pending());
        push(&outbox, "a1");
        let requesting = {
            let (owner, carrier) = (owner.clone(), carrier.clone());
            thread::spawn(move || {
                // The next request arrives, possibly while the flusher answers the first one.
                carrier.unpark();
                resume(&owner);
            })
        };
        flusher.run();
        push(&outbox, "a2");
        requesting.join().unwrap();
        rest(&flusher, &owner, &carrier);
        // Parked if the request arrived before the first answer.
        assert!(carrier.written().len() == 2 || carrier.is_parked(), "the request is not answered");
        carrier.unpark();
        resume(&owner);
        rest(&flusher, &owner, &carrier);
        assert_eq!(carrier.written(), two("a"));
    });
}

#[test]
fn unpark_without_owner_loses_no_frame() {
    check(|| {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        carrier.park();
        outbox.set_sink(carrier.sink());
        let owner = Owner::of(&outbox);
        assert!(owner.poll().is_pending());
        push(&outbox, "a1");
        let requesting = {
            let (outbox, carrier) = (outbox.clone(), carrier.clone());
            thread::spawn(move || {
                carrier.unpark();
                outbox.unpark();
            })
        };
        flusher.run();
        push(&outbox, "a2");
        requesting.join().unwrap();
        rest(&flusher, &owner, &carrier);
        assert_eq!(carrier.written(), two("a"));
    });
}

#[test]
fn replaced_sink_continues_without_loss() {
    check(|| {
        let (flusher, outbox) = outbox();
        let (old, new) = (Carrier::default(), Carrier::default());
        outbox.set_sink(old.sink());
        push_two(&outbox, "a");
        let changing = {
            let (outbox, new) = (outbox.clone(), new.sink());
            thread::spawn(move || outbox.set_sink(new))
        };
        flusher.run();
        push(&outbox, "a3");
        changing.join().unwrap();
        let by_old = old.written();
        flusher.rest();
        assert_eq!(old.written(), by_old, "a replaced sink gets no frames");
        assert!(!old.is_held());
        assert_eq!([by_old, new.written()].concat(), ["a1", "a2", "a3"]);
    });
}

#[test]
fn replaces_blocked_sink_without_loss() {
    check(|| {
        let (flusher, outbox) = outbox();
        let (old, new) = (Carrier::default(), Carrier::default());
        old.block_once();
        outbox.set_sink(old.sink());
        let owner = Owner::of(&outbox);
        push_two(&outbox, "a");
        let changing = {
            let (outbox, new, owner) = (outbox.clone(), new.sink(), owner.clone());
            thread::spawn(move || {
                assert!(owner.poll().is_pending());
                outbox.set_sink(new);
            })
        };
        flusher.run();
        changing.join().unwrap();
        rest(&flusher, &owner, &new);
        assert_eq!([old.written(), new.written()].concat(), two("a"));
    });
}

#[test]
fn keeps_order_with_all_threads_active() {
    check_up_to(4, || {
        let (flusher, outbox) = outbox();
        let (old, new) = (Carrier::default(), Carrier::default());
        old.block_once();
        outbox.set_sink(old.sink());
        let owner = Owner::of(&outbox);
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                push_two(&outbox, "a");
                push(&outbox, "a3");
            })
        };
        let polling = {
            let owner = owner.clone();
            thread::spawn(move || assert!(owner.poll().is_pending()))
        };
        let changing = {
            let (outbox, new) = (outbox.clone(), new.sink());
            thread::spawn(move || outbox.set_sink(new))
        };
        flusher.run();
        for thread in [pusher, polling, changing] {
            thread.join().unwrap();
        }
        rest(&flusher, &owner, &new);
        assert_eq!([old.written(), new.written()].concat(), ["a1", "a2", "a3"]);
    });
}

#[test]
fn close_frees_queue_and_sink() {
    check(|| {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        outbox.set_sink(carrier.sink());
        push(&outbox, "a1");
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                let pushed = outbox.push(Frame::new("a2"), Delivery::Reliable, Overflow::Close);
                assert!(matches!(
                    pushed,
                    PushOutcome::Queued | PushOutcome::Backlogged | PushOutcome::Closed
                ));
            })
        };
        let closing = {
            let outbox = outbox.clone();
            thread::spawn(move || outbox.close(CloseReason::ServerShutdown))
        };
        flusher.run();
        pusher.join().unwrap();
        closing.join().unwrap();
        flusher.rest();
        assert_eq!(outbox.closed(), Some(CloseReason::ServerShutdown));
        assert_eq!((outbox.waiting().frames, outbox.waiting().bytes), (0, 0));
        assert!(!carrier.is_held());
        assert!(two("a").starts_with(&carrier.written()));
    });
}

#[test]
fn drops_sink_set_after_close() {
    check(|| {
        let (flusher, outbox) = outbox();
        let (old, new) = (Carrier::default(), Carrier::default());
        outbox.set_sink(old.sink());
        push(&outbox, "a1");
        let changing = {
            let (outbox, new) = (outbox.clone(), new.sink());
            thread::spawn(move || outbox.set_sink(new))
        };
        let closing = {
            let outbox = outbox.clone();
            thread::spawn(move || outbox.close(CloseReason::ServerShutdown))
        };
        flusher.run();
        changing.join().unwrap();
        closing.join().unwrap();
        assert!(!old.is_held() && !new.is_held());
    });
}

#[test]
fn wakes_owner_when_drained() {
    for blocks in [false, true] {
        check(move || {
            let (flusher, outbox) = outbox();
            let carrier = Carrier::default();
            carrier.0.lock().unwrap().blocks = blocks;
            outbox.set_sink(carrier.sink());
            let owner = Owner::of(&outbox);
            let drain = {
                let (owner, carrier) = (owner.clone(), carrier.clone());
                move || owner.drain().map(|()| assert_eq!(carrier.written(), two("a"))).is_ready()
            };
            let draining = {
                let (drain, outbox) = (drain.clone(), outbox.clone());
                thread::spawn(move || {
                    push_two(&outbox, "a");
                    outbox.finish();
                    drain()
                })
            };
            flusher.run();
            let mut drained = draining.join().unwrap();
            while owner.is_woken() | carrier.make_room() | flusher.is_woken() {
                flusher.run_if_woken();
                drained |= owner.take_woken() && drain();
            }
            assert!(drained);
            assert_eq!(
                outbox.push(Frame::new("late"), Delivery::Reliable, Overflow::Close),
                PushOutcome::Closed
            );
        });
    }
}

#[test]
fn wakes_owner_on_overflow() {
    check(|| {
        let flusher = Flusher::default();
        let outbox = Outbox::new(crate::Bounds::new(100, 100), flusher.list.clone());
        let owner = Owner::of(&outbox);
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                push(&outbox, "a1");
                outbox.push(Frame::new("a2"), Delivery::Reliable, Overflow::Close)
            })
        };
        let mut closed = owner.poll().is_ready();
        assert_eq!(pusher.join().unwrap(), PushOutcome::Overflowed);
        if owner.take_woken() {
            closed |= owner.poll() == Poll::Ready(CloseReason::OutboxFull);
        }
        assert!(closed);
    });
}

#[test]
fn owner_takes_leased_sink_after_wake() {
    check(|| {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        outbox.set_sink(carrier.sink());
        let owner = Owner::of(&outbox);
        push_two(&outbox, "a");
        let taking = {
            let (owner, outbox) = (owner.clone(), outbox.clone());
            thread::spawn(move || {
                assert!(owner.poll().is_pending());
                outbox.take_sink()
            })
        };
        flusher.run();
        let mut taken = taking.join().unwrap();
        while taken.is_none() && owner.take_woken() {
            assert!(owner.poll().is_pending());
            taken = outbox.take_sink();
        }
        assert!(taken.is_some());
        // Frames that it had not accepted go to the next sink.
        let next = Carrier::default();
        outbox.set_sink(next.sink());
        flusher.rest();
        assert_eq!([carrier.written(), next.written()].concat(), two("a"));
    });
}

#[test]
fn keeps_order_when_pusher_relieves() {
    check_up_to(4, || {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        outbox.set_sink(carrier.sink());
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                push_two(&outbox, "a");
                // No frame may be lost, whether it wrote or another writer had the sink.
                let _ = outbox.flush_backlog();
                push(&outbox, "a3");
            })
        };
        flusher.run();
        pusher.join().unwrap();
        flusher.rest();
        assert_eq!(carrier.written(), ["a1", "a2", "a3"]);
    });
}

#[test]
fn writes_held_frames_after_hold() {
    check_up_to(4, || {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        outbox.set_sink(carrier.sink());
        push(&outbox, "a1");
        let announcing = {
            let (outbox, carrier) = (outbox.clone(), carrier.clone());
            thread::spawn(move || {
                let hold = outbox.hold();
                push(&outbox, "a2");
                // The announced state is established here.
                assert!(carrier.written().iter().all(|written| *written != "a2"));
                drop(hold);
            })
        };
        flusher.run();
        let _ = outbox.flush_backlog();
        announcing.join().unwrap();
        flusher.rest();
        assert_eq!(carrier.written(), two("a"));
    });
}

#[test]
fn wakes_owner_when_relief_blocks() {
    check_up_to(3, || {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        carrier.block_once();
        outbox.set_sink(carrier.sink());
        let owner = Owner::of(&outbox);
        assert!(owner.poll().is_pending());
        let pusher = {
            let outbox = outbox.clone();
            thread::spawn(move || {
                push_two(&outbox, "a");
                let _ = outbox.flush_backlog();
            })
        };
        flusher.run();
        pusher.join().unwrap();
        rest(&flusher, &owner, &carrier);
        assert_eq!(carrier.written(), two("a"));
    });
}

#[test]
fn sends_heartbeat_exactly_once() {
    check_up_to(4, || {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        carrier.block_once();
        outbox.set_sink(carrier.sink());
        let owner = Owner::of(&outbox);
        push(&outbox, "a1");
        let beating = {
            let (owner, outbox) = (owner.clone(), outbox.clone());
            thread::spawn(move || {
                outbox.push_heartbeat(Frame::new("ping"));
                assert!(owner.poll().is_pending());
            })
        };
        flusher.run();
        beating.join().unwrap();
        rest(&flusher, &owner, &carrier);
        let mut written = carrier.written();
        written.sort();
        assert_eq!(written, ["a1", "ping"]);
    });
}

#[test]
fn wakes_sender_at_low_water() {
    check_up_to(3, || {
        let (flusher, outbox) = outbox();
        let carrier = Carrier::default();
        outbox.set_sink(carrier.sink());
        // Under loom, two frames exceed low water.
        push_two(&outbox, "a");
        let sender = Owner::of(&outbox);
        let waiting = {
            let sender = sender.clone();
            thread::spawn(move || sender.writable().is_ready())
        };
        flusher.run();
        let mut ready = waiting.join().unwrap();
        flusher.rest();
        ready |= sender.take_woken() && sender.writable().is_ready();
        assert!(ready);
    });
}

/// Checks every interleaving.
fn check(model: impl Fn() + Send + Sync + 'static) {
    ::loom::model::Builder::new().check(model);
}

/// Checks every interleaving with at most this many preemptions.
fn check_up_to(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(model);
}

fn outbox() -> (Flusher, Outbox) {
    let flusher = Flusher::default();
    let outbox = Outbox::new(1 << 20, flusher.list.clone());
    (flusher, outbox)
}

fn push(outbox: &Outbox, text: &str) {
    let pushed = outbox.push(Frame::new(text.to_owned()), Delivery::Reliable, Overflow::Close);
    assert!(matches!(pushed, PushOutcome::Queued | PushOutcome::Backlogged));
}

fn push_two(outbox: &Outbox, name: &str) {
    two(name).iter().for_each(|text| push(outbox, text));
}

fn two(name: &str) -> Vec<String> {
    vec![format!("{name}1"), format!("{name}2")]
}

/// Polls woken tasks until all sleep.
fn rest(flusher: &Flusher, owner: &Owner, carrier: &Carrier) {
    while owner.is_woken() | carrier.make_room() | flusher.is_woken() {
        flusher.run_if_woken();
        if owner.take_woken() {
            assert!(owner.poll().is_pending());
        }
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Flusher task; it sleeps without work until it is woken.
#[derive(Default)]
struct Flusher {
    list: FlushList,
    woken: Arc<Woken>,
}

impl Flusher {
    fn run(&self) {
        let waker = Waker::from(self.woken.clone());
        let mut outboxes = VecDeque::new();
        while self.list.poll_listed(&mut Context::from_waker(&waker)).is_ready() {
            self.list.take(&mut outboxes);
            for group in outboxes.make_contiguous().chunks(super::lease::GROUP) {
                Outbox::flush_group(group, &[]);
            }
            outboxes.clear();
        }
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }

    fn run_if_woken(&self) {
        if self.woken.0.swap(false, Ordering::SeqCst) {
            self.run();
        }
    }

    fn rest(&self) {
        while self.is_woken() {
            self.run_if_woken();
        }
    }
}

/// Task that owns the connection.
#[derive(Clone)]
struct Owner {
    outbox: Outbox,
    woken: Arc<Woken>,
}

impl Owner {
    fn of(outbox: &Outbox) -> Self {
        Self { outbox: outbox.clone(), woken: Arc::default() }
    }

    fn poll(&self) -> Poll<CloseReason> {
        let waker = Waker::from(self.woken.clone());
        self.outbox.poll_owner(&mut Context::from_waker(&waker))
    }

    fn drain(&self) -> Poll<()> {
        let waker = Waker::from(self.woken.clone());
        self.outbox.poll_drained(&mut Context::from_waker(&waker))
    }

    fn writable(&self) -> Poll<()> {
        let waker = Waker::from(self.woken.clone());
        self.outbox.poll_writable(&mut Context::from_waker(&waker))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }

    fn take_woken(&self) -> bool {
        self.woken.0.swap(false, Ordering::SeqCst)
    }
}

/// Carrier behind a sink.
///
/// It uses loom's lock, so that its operations are interleaved too.
#[derive(Clone, Debug, Default)]
struct Carrier(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    written: Vec<String>,
    blocks: bool,
    parked: bool,
    /// Whether it parks with the frames that it takes.
    parks: bool,
    waiting: Option<Waker>,
}

impl Carrier {
    fn sink(&self) -> Box<dyn FrameSink> {
        Box::new(self.clone())
    }

    fn block_once(&self) {
        self.0.lock().unwrap().blocks = true;
    }

    fn park(&self) {
        self.0.lock().unwrap().parked = true;
    }

    fn is_parked(&self) -> bool {
        self.0.lock().unwrap().parked
    }

    fn park_after_each(&self) {
        self.0.lock().unwrap().parks = true;
    }

    fn unpark(&self) {
        self.0.lock().unwrap().parked = false;
    }

    /// Wakes the registered waker; returns whether there was one.
    fn make_room(&self) -> bool {
        let waiting = self.0.lock().unwrap().waiting.take();
        waiting.map(Waker::wake).is_some()
    }

    fn written(&self) -> Vec<String> {
        self.0.lock().unwrap().written.clone()
    }

    fn of(&self, name: &str) -> Vec<String> {
        self.written().into_iter().filter(|text| text.starts_with(name)).collect()
    }

    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl FrameSink for Carrier {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut VecDeque<Frame>,
    ) -> Result<Readiness, ConnectionError> {
        Ok(self.0.lock().unwrap().take(cx, batch))
    }
}

impl Line {
    fn take(&mut self, cx: &Context<'_>, batch: &mut VecDeque<Frame>) -> Readiness {
        if self.parked {
            return Readiness::Parked;
        }
        if self.blocks && !batch.is_empty() {
            // Accepts one frame, then blocks.
            self.blocks = false;
            self.written.extend(batch.pop_front().as_ref().map(text));
            self.waiting = Some(cx.waker().clone());
            return Readiness::Blocked;
        }
        self.parked = self.parks && !batch.is_empty();
        self.written.extend(batch.drain(..).map(|frame| text(&frame)));
        if self.parked { Readiness::Parked } else { Readiness::Ready }
    }
}

fn text(frame: &Frame) -> String {
    let text = |message: &Message| match message {
        Message::Text(text) => text.to_string(),
        other => panic!("expected text: {other:?}"),
    };
    frame.messages().iter().map(text).collect()
}
