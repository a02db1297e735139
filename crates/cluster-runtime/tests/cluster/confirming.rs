//! Confirmations by the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use roomcast_cluster::{Backplane, BackplaneCommand, BackplaneEvent, Channel};
use roomcast_cluster_runtime::ConnectionConfig;
use roomcast_core::{PublishRefusal, Unconfirmed};
use roomcast_testkit::cluster::{Fault, MemoryBackplane};
use tokio::time::Instant;

use crate::host::Host;
use crate::rig::{Rig, SOON, Server, event, settle, to};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Engine that takes some milliseconds for each command, and for each flush.
#[derive(Debug)]
struct Slow {
    engine: MemoryBackplane,
    /// Publications to rooms that were sent.
    sent: Arc<AtomicUsize>,
    is_stuck: Arc<AtomicBool>,
    ready_at: Instant,
}

impl Slow {
    fn wait(&self, cx: &Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let until = if self.is_stuck.load(Ordering::Relaxed) { now + SOON } else { self.ready_at };
        if until <= now {
            return Poll::Ready(());
        }
        let waker: Waker = cx.waker().clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            waker.wake();
        });
        Poll::Pending
    }
}

impl Backplane for Slow {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait(cx)
    }

    fn send(&mut self, command: BackplaneCommand) {
        let is_room = matches!(command, BackplaneCommand::Publish { channel: Channel::Room(..), .. });
        self.sent.fetch_add(usize::from(is_room), Ordering::Relaxed);
        self.ready_at = Instant::now() + Duration::from_millis(2);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(self.engine.poll_ready(&mut cx).is_ready());
        self.engine.send(command);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait(cx)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<BackplaneEvent> {
        self.engine.poll_event(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn confirmed_publications_were_passed_on() {
    let (mut rig, servers) = Rig::connected(2).await;
    let namespace = &servers[0].namespace;
    namespace.broadcast(&to("a"), &event(1));
    assert_eq!(namespace.confirming().confirm(TIMEOUT).await, Ok(()));
    assert_eq!(servers[0].metric("cluster_published"), 1);
    rig.inject(Fault::Down { on: true, forgets: false });
    namespace.broadcast(&to("a"), &event(2));
    let before = Instant::now();
    assert_eq!(namespace.confirming().confirm(TIMEOUT).await, Err(Unconfirmed::TimedOut));
    assert_eq!(before.elapsed(), TIMEOUT);
    let confirm = namespace.confirming().confirm(TIMEOUT);
    let repair = async {
        tokio::time::sleep(SOON).await;
        rig.inject(Fault::Down { on: false, forgets: false });
    };
    assert_eq!(tokio::join!(confirm, repair).0, Ok(()));
    assert!(before.elapsed() < TIMEOUT + 2 * SOON);
}

#[tokio::test(start_paused = true)]
async fn confirmation_needs_no_idle_queue() {
    let mut rig = Rig::new();
    let (sent, is_stuck) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
    let engine = Slow {
        engine: rig.connect(0),
        sent: sent.clone(),
        is_stuck: is_stuck.clone(),
        ready_at: Instant::now(),
    };
    let first = Server::start(ConnectionConfig::new(), engine, Host::with_sockets(&[]));
    let servers = [first, rig.start(1, Host::with_sockets(&[]))];
    settle(&servers).await;
    let namespace = servers[0].namespace.clone();
    let (load, stop) = (namespace.clone(), Arc::<AtomicBool>::default());
    let stopped = stop.clone();
    // Two new rooms each millisecond, of which the engine takes one in two.
    let load = tokio::spawn(async move {
        for number in (0..).step_by(2) {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            load.broadcast(&to(&format!("room-{number}")), &event(number));
            load.broadcast(&to(&format!("room-{}", number + 1)), &event(number));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = sent.load(Ordering::Relaxed);
    let queued = servers[0].metric("cluster_queue_messages") as usize;
    assert!(queued > 200, "{queued}");
    assert_eq!(namespace.confirming().confirm(TIMEOUT).await, Ok(()));
    let passed = sent.load(Ordering::Relaxed) - before;
    assert!((queued..queued + 10).contains(&passed), "{passed} of {queued}");
    assert!(servers[0].metric("cluster_queue_messages") > 200);

    is_stuck.store(true, Ordering::Relaxed);
    assert_eq!(namespace.confirming().confirm(TIMEOUT).await, Err(Unconfirmed::TimedOut));
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn left_node_confirms_nothing() {
    let (_rig, mut servers) = Rig::connected(2).await;
    let Server { connection, namespace, .. } = servers.remove(0);
    drop(connection);
    tokio::time::sleep(SOON).await;
    assert_eq!(namespace.confirming().confirm(TIMEOUT).await, Err(PublishRefusal::Left.into()));
}
