//! Cases for acknowledgements.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use roomcast_core::{
    AckId, AckRequest, AckTable, AnswerSink, Args, CloseReason, Delivery, FlushList, JoinOutcome, MemberKey,
    MemberLimit, Outbox, Receipt, Room, SocketId, Target,
};

use super::{Subject, asking, attach, attach_all, emit, emit_event, event, queued};
use crate::{AnswerLog, ControlProbe, MemberProbe, TextCodec};

/// An acknowledgement finds its receiver however fast the client is.
pub async fn registers_ack_before_event_leaves(router: Subject) {
    /// Simulates a flusher that writes, and a client that answers, at the moment the outbox is listed.
    struct Flusher {
        acks: AckTable,
        owed: Mutex<Vec<usize>>,
    }
    impl Wake for Flusher {
        fn wake(self: Arc<Self>) {
            let owed = self.acks.len();
            self.owed.lock().expect("lock is not poisoned").push(owed);
        }
    }

    let codec = TextCodec::new("t");
    let probe = MemberProbe::new("a", &codec);
    let (list, mut member) = (FlushList::new(), probe.member());
    member.outbox = Outbox::new(1 << 20, list.clone());
    member.outbox.set_sink(probe.sink().boxed());
    let flusher = Arc::new(Flusher { acks: member.acks().clone(), owed: Mutex::default() });
    let waker = Waker::from(flusher.clone());
    let mut writer = roomcast_core::Flusher::new(list);
    assert!(writer.poll_ready(&mut Context::from_waker(&waker)).is_pending());
    let key = router.attach(member.clone());

    let (request, log) = AnswerLog::request(7);
    assert_eq!(
        router.broadcast(&Target::default(), &asking("question", &request)).flush_backlog(),
        queued(1)
    );
    assert_eq!(*flusher.owed.lock().expect("lock is not poisoned"), [1]);
    writer.write_all();
    assert_eq!(probe.sink().take_texts(), ["t:question[]#7"]);
    assert!(member.acks().answer(&member.id, AckId(7), Args::empty()));
    assert_eq!(log.answered(), [(member.id.clone(), Args::empty())]);
    // Detaching concerns only receivers that still wait.
    let (second, second_log) = AnswerLog::request(8);
    assert_eq!(router.broadcast(&Target::default(), &asking("question", &second)).flush_backlog(), queued(1));
    router.detach(key);
    member.acks().close(&member.id);
    assert_eq!((log.unanswered(), second_log.unanswered()), (vec![], vec![member.id.clone()]));
}

/// A member that was not reached owes no acknowledgement, and the receiver is notified once.
pub async fn unreached_members_owe_no_ack(router: Subject) {
    let (able, limited) = (TextCodec::new("able"), TextCodec::limited("limited"));
    let [(requested, _), (closed, _)] = attach_all(&router, &able, ["asked", "closed"]);
    let (unable, _) = attach(&router, "unable", &limited);
    closed.outbox().close(CloseReason::TransportClose);
    let owing = MemberProbe::new("owing", &able).with_acks(AckTable::with_limit(0));
    let gone = MemberProbe::new("gone", &able);
    gone.acks().close(gone.id());
    let away = MemberProbe::detached("away", &able, 1 << 20);
    for probe in [&owing, &gone, &away] {
        router.attach(probe.member());
    }
    let (request, log) = AnswerLog::request(1);
    let target = Target { delivery: Delivery::Volatile, ..Target::default() };
    let receipt = router.broadcast(&target, &asking("question", &request)).flush_backlog();
    assert_eq!(receipt, Receipt { queued: 1, dropped: 2, unsupported: 1, closed: 2, ..Receipt::default() });
    assert_eq!(log.unanswered(), ["away", "closed", "gone", "owing", "unable"].map(SocketId::from));
    // Each is announced first, so the receiver can count down.
    assert_eq!(log.requested(), ["asked", "away", "closed", "gone", "owing", "unable"].map(SocketId::from));
    assert_eq!(requested.received(), ["able:question[]#1"]);
    for probe in [&unable, &closed, &owing, &gone, &away] {
        assert_eq!((probe.acks().len(), probe.received().len()), (0, 0), "{}", probe.id());
    }
    assert_eq!(requested.acks().len(), 1);
}

/// A member over its limit of pending acknowledgements is reported; a detached one is not.
pub async fn reports_member_over_ack_limit(router: Subject) {
    let codec = TextCodec::new("t");
    let controls = ["owing", "gone", "able"].map(|id| {
        let (control, limit) = (ControlProbe::new("{}"), usize::from(id == "able"));
        let probe = MemberProbe::new(id, &codec).with_acks(AckTable::with_limit(limit));
        let member = probe.with_control(control.clone()).member();
        if id == "gone" {
            member.acks().close(&member.id);
        }
        router.attach(member);
        control
    });
    let (request, _log) = AnswerLog::request(1);
    router.broadcast(&Target::default(), &asking("question", &request)).flush_backlog();
    router.broadcast(&Target::default(), &event("no question")).flush_backlog();
    assert_eq!(controls.map(|control| control.limited()), [vec![MemberLimit::Answers], vec![], vec![]]);
}

/// Ack receivers are called without a lock held, so they may use the router.
///
/// # Panics
///
/// Panics if the router deadlocks, after ten seconds.
pub async fn ack_receiver_may_call_router(router: Subject) {
    struct Caller {
        router: Subject,
        key: MemberKey,
        called: AtomicBool,
    }
    impl AnswerSink for Caller {
        fn requested(&self, _socket: &SocketId) {}

        fn answered(&self, _socket: &SocketId, _args: Args) {}

        fn unanswered(&self, _socket: &SocketId) {
            let room = Room::from("r");
            assert!(self.router.leave(self.key, &room));
            assert_eq!(self.router.join(self.key, &room), JoinOutcome::Joined);
            assert_eq!(emit(&self.router, ["r"], "from within"), queued(1));
            assert!(self.router.detach(self.key));
            self.called.store(true, Ordering::Relaxed);
        }
    }

    let codec = TextCodec::limited("limited");
    let (probe, key) = attach(&router, "a", &codec);
    router.join(key, &Room::from("r"));
    let caller = Arc::new(Caller { router: router.clone(), key, called: AtomicBool::new(false) });
    let request = AckRequest { id: AckId(1), answers: caller.clone() };
    let (done, finished) = mpsc::sync_channel(1);
    #[expect(clippy::disallowed_methods, reason = "a deadlock must not block the test thread")]
    std::thread::spawn(move || {
        let receipt = emit_event(&router, ["r"], &asking("question", &request));
        done.send(receipt)
    });
    let receipt = finished.recv_timeout(Duration::from_secs(10)).expect("the router deadlocked");
    assert_eq!(receipt, Receipt { unsupported: 1, ..Receipt::default() });
    assert!(caller.called.load(Ordering::Relaxed));
    assert_eq!(probe.received(), ["limited:from within[]"]);
}
