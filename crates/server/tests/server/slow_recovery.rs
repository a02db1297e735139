//! Recovery implementations whose claims wait for a store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_core::{
    Delivery, Dispatched, Event, JoinOutcome, Member, MemberKey, Membership, Overflow, Room, RoomWatcher,
    Router, RouterStats, SocketInfo, Target, WatchFilter,
};
use roomcast_server::recovery::{Claim, Recovery, RecoveryError, Sequencer, SessionInit, SharedData, Usage};
use roomcast_server::{Ack, Args, Config, Io, Socket, Value};

use crate::recovery::Returner;
use crate::support::engine::Engine;
use crate::support::recorder::{Gate, Recorder, arrivals};
use crate::support::serve::{Running, serve, until};
use crate::support::ws::Message;

/// Outcome of a claim once the gate is open.
#[derive(Debug, Clone, Copy)]
enum Store {
    Works,
    Fails,
    Panics,
}

/// Recovery whose claims wait at a gate.
#[derive(Debug)]
struct Slow {
    inner: Arc<Sequencer>,
    gate: Gate,
    store: Store,
}

impl Recovery for Slow {
    fn attach_recoverable(&self, member: Member, session: SessionInit) -> MemberKey {
        self.inner.attach_recoverable(member, session)
    }

    fn detach_and_retain(&self, key: MemberKey, data: SharedData, until: Option<Instant>) -> bool {
        self.inner.detach_and_retain(key, data, until)
    }

    fn forget(&self, key: MemberKey) -> bool {
        self.inner.forget(key)
    }

    fn queue_for_absent(&self, key: MemberKey, delivery: Delivery, event: &Event) -> bool {
        self.inner.queue_for_absent(key, delivery, event)
    }

    fn data_changed(&self, key: MemberKey, data: &SharedData) {
        self.inner.data_changed(key, data);
    }

    fn claim(self: Arc<Self>, secret: &str, offset: Option<&str>, budget: usize) -> Claim {
        // Claimed first, so that a claim which is dropped while it waits has a session to put back.
        let found = self.inner.clone().claim(secret, offset, budget);
        Claim::Pending(Box::pin(async move {
            self.gate.pass().await;
            match self.store {
                Store::Works => found.outcome().await,
                Store::Fails => Err(RecoveryError::Unavailable),
                Store::Panics => panic!("store failed"),
            }
        }))
    }

    fn missed(&self, room: Option<&Room>) {
        self.inner.missed(room);
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

#[rustfmt::skip]
impl Router for Slow {
    fn attach(&self, member: Member) -> MemberKey { self.inner.attach(member) }
    fn detach(&self, key: MemberKey) -> bool { self.inner.detach(key) }
    fn join(&self, key: MemberKey, room: &Room) -> JoinOutcome { self.inner.join(key, room) }
    fn leave(&self, key: MemberKey, room: &Room) -> bool { self.inner.leave(key, room) }
    fn rooms_of(&self, key: MemberKey) -> Vec<Room> { self.inner.rooms_of(key) }
    fn count(&self, room: &Room) -> usize { self.inner.count(room) }
    fn broadcast(&self, target: &Target, event: &Event) -> Dispatched { self.inner.broadcast(target, event) }
    fn send(&self, to: &Member, how: Delivery, full: Overflow, event: &mut Event) -> Dispatched {
        self.inner.send(to, how, full, event)
    }
    fn update(&self, target: &Target, change: &Membership) -> usize { self.inner.update(target, change) }
    fn stats(&self) -> RouterStats { self.inner.stats() }
    fn find(&self, target: &Target) -> Vec<SocketInfo> { self.inner.find(target) }
    fn disconnect(&self, target: &Target, close: bool) -> usize { self.inner.disconnect(target, close) }
    fn watch(&self, watcher: Arc<dyn RoomWatcher>, filter: WatchFilter) { self.inner.watch(watcher, filter) }
    fn survey(&self) { self.inner.survey() }
}

struct Scene {
    io: Io,
    server: Running,
    sockets: Recorder<Socket>,
    gate: Gate,
}

fn open(store: Store, connect_timeout: Duration) -> Scene {
    let gate = Gate::closed();
    let at = gate.clone();
    let config = Config::new()
        .timeouts(|timeouts| timeouts.connect_timeout(connect_timeout))
        .recovery(|recovery| recovery)
        .recovery_factory(move |_, inner| Arc::new(Slow { inner, gate: at.clone(), store }));
    let io = Io::builder().config(config).build();
    io.of("/other").on("echo", |args: Args, ack: Ack| async move { ack.send(args) });
    let sockets = arrivals(&io);
    let server = serve(&io);
    Scene { io, server, sockets, gate }
}

const LONG: Duration = Duration::from_secs(45);

impl Scene {
    /// Connects a client, breaks its connection and emits an event; returns its id and what it shows.
    fn lose(&self) -> (String, Value) {
        let client = Returner::connect(&self.server.dial);
        self.sockets.next();
        let (sid, shows) = client.vanish();
        until(|| self.io.count(&sid) == 0);
        self.io.emit("missed", ()).expect("a valid emit");
        (sid, shows)
    }

    fn returns(&self, shows: &Value) -> Engine {
        let mut engine = Engine::websocket(&self.server.dial, "/socket.io/");
        engine.send(format!("0{shows}").into());
        engine
    }
}

fn text(engine: &mut Engine) -> String {
    match engine.receive() {
        Ok(Message::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn slow_claim_blocks_no_other_namespace() {
    let scene = open(Store::Works, LONG);
    let (sid, shows) = scene.lose();
    let mut engine = scene.returns(&shows);
    // Events of the pending namespace are queued, and everything else is processed.
    engine.send("2[\"early\"]".to_owned().into());
    engine.send("0/other,".to_owned().into());
    assert!(text(&mut engine).starts_with("0/other,{"));
    engine.send("2/other,7[\"echo\",1]".to_owned().into());
    assert_eq!(text(&mut engine), "3/other,7[1]");
    assert_eq!(scene.io.count(&*sid), 0);
    scene.gate.open();
    assert!(text(&mut engine).starts_with("2[\"missed\",\""));
    assert!(text(&mut engine).starts_with(&format!("0{{\"sid\":\"{sid}\"")));
    assert!(scene.sockets.next().recovered());
    assert_eq!(scene.io.metrics().recovered(), 1);
}

#[test]
fn failed_claim_starts_new_session() {
    for store in [Store::Fails, Store::Panics] {
        let scene = open(store, LONG);
        let (sid, shows) = scene.lose();
        let mut engine = scene.returns(&shows);
        scene.gate.open();
        assert!(text(&mut engine).starts_with("0{\"sid\":"));
        let socket = scene.sockets.next();
        assert!(!socket.recovered() && socket.id().as_str() != sid, "{store:?}");
        assert_eq!(scene.io.metrics().recovery_refused(RecoveryError::Unavailable), 1);
    }
}

#[test]
fn client_leaving_during_claim_keeps_its_session() {
    let scene = open(Store::Works, LONG);
    let (sid, shows) = scene.lose();
    let mut engine = scene.returns(&shows);
    engine.send("0/other,".to_owned().into());
    assert!(text(&mut engine).starts_with("0/other,{"));
    drop(engine);
    until(|| scene.io.client_count() == 0);
    scene.gate.open();
    let back = Returner::connect_with(&scene.server.dial, "/", &shows);
    assert_eq!((back.sid, back.missed.len()), (sid, 1));
    assert!(scene.sockets.next().recovered());
}

#[test]
fn endless_claim_is_given_up() {
    let scene = open(Store::Works, Duration::from_secs(2));
    let (sid, shows) = scene.lose();
    let mut engine = scene.returns(&shows);
    assert!(text(&mut engine).starts_with("0{\"sid\":"));
    assert!(!scene.sockets.next().recovered());
    assert_eq!(scene.io.metrics().recovery_refused(RecoveryError::Unavailable), 1);
    // The session went back, so a later attempt finds it.
    scene.gate.open();
    let back = Returner::connect_with(&scene.server.dial, "/", &shows);
    assert_eq!(back.sid, sid);
}
