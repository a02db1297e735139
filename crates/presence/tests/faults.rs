//! Fault suite: replicas next to nodes of a cluster, on the engine in memory.
//!
//! Each seed is one run: random joins, leaves and new data on 2 to 5 nodes while the engine delays, loses and duplicates
//! messages, and nodes are partitioned, frozen, killed and restarted. Versions are not announced, so everything heals by
//! what the cluster reports. `PRESENCE_SEED=n` reruns one seed; `PRESENCE_SEEDS=n` runs n seeds.

mod sim;

use std::collections::{BTreeMap, VecDeque};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use fastrand::Rng;
use roomcast_cluster::{
    Asker, ClusterAction, ClusterConfig, ClusterRequest, Incarnation, JoinTicket, Node, NodeId, Publication,
    QueueOverflow, RequestId, first_incarnation,
};
use roomcast_core::{MemberKey, Namespace};
use roomcast_presence::{
    AskId, PresenceAction, PresenceAnswer, PresenceConfig, PresenceReplica, RoomName, WatchId,
};
use roomcast_testkit::cluster::{Fault, Harness, MemoryBackplane, MemoryEngine};

use self::sim::{Members, Server, data, member};

/// Seeds of a test run.
const SEEDS: u64 = 600;
const HEARTBEAT: Duration = Duration::from_millis(50);
/// Time after the end of all faults in which the views converge: the failure detection time, the three heartbeats after
/// which a lost message is noticed, and the pause of a question that was not answered, twice each.
const HEAL: Duration = Duration::from_millis(2 * (5 * 50 + 3 * 50 + 400));

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Process of one node.
struct Process {
    node: Node,
    replica: PresenceReplica,
    server: Server,
    backplane: MemoryBackplane,
    woken: Arc<Woken>,
    tickets: BTreeMap<JoinTicket, (RoomName, WatchId)>,
    asks: BTreeMap<RequestId, AskId>,
    answers: VecDeque<(Asker, PresenceAnswer)>,
    frozen_until: Option<Instant>,
    has_left: bool,
    /// Bytes in the queue towards the engine beyond which publishing waits.
    queue: usize,
    sent: u64,
}

impl Process {
    fn drive(&mut self, now: Instant) -> Result<(), String> {
        if self.frozen_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        self.frozen_until = None;
        let is_woken = self.woken.0.swap(false, Ordering::Relaxed);
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !is_woken && !is_due(self.node.poll_timeout()) && !is_due(self.replica_at(now)) {
            return Ok(());
        }
        if is_due(self.node.poll_timeout()) {
            self.node.handle_timeout(now);
        }
        self.act(now)?;
        self.replica.handle_timeout(now);
        let waker = Waker::from(self.woken.clone());
        loop {
            self.node.exchange(&mut self.backplane, &mut Context::from_waker(&waker), now);
            let worked = self.act(now)? | self.send(now)?;
            if !worked {
                return Ok(());
            }
        }
    }

    /// Returns the time of the replica's next work; while the queue is full, it waits.
    fn replica_at(&self, now: Instant) -> Option<Instant> {
        let at = if self.replica.has_output(now) || !self.answers.is_empty() {
            Some(now)
        } else {
            self.replica.poll_timeout()
        };
        at.map(|at| if self.is_full() { at.max(now + Duration::from_millis(20)) } else { at })
    }

    fn is_full(&self) -> bool {
        self.node.queue_bytes() > self.queue
    }

    fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.frozen_until.is_some() {
            return self.frozen_until;
        }
        if self.woken.0.load(Ordering::Relaxed) {
            return Some(now);
        }
        self.node.poll_timeout().into_iter().chain(self.replica_at(now)).min()
    }

    fn act(&mut self, now: Instant) -> Result<bool, String> {
        let mut worked = false;
        while let Some(action) = self.node.poll_action() {
            worked = true;
            match action {
                ClusterAction::Deliver { from, publication } => {
                    let room = publication.rooms.first().expect("a room").clone();
                    let name = RoomName { namespace: publication.namespace, room };
                    self.replica.receive(from, &name, publication.body, now).expect("it decodes");
                }
                ClusterAction::Gap { channel, from, .. } => self.replica.gap(channel.as_ref(), from, now),
                ClusterAction::Heard { ticket, .. } => {
                    let (name, watch) = self.tickets.remove(&ticket).expect("an awaited join");
                    self.replica.heard(&name, watch, now);
                }
                ClusterAction::Request { asker, body, .. } => {
                    self.answers.push_back((asker, PresenceAnswer::new(body).expect("it decodes")));
                }
                ClusterAction::Answer { request, part, .. } => {
                    let ask = self.asks[&request];
                    self.replica.answer(ask, part, now).expect("it decodes");
                }
                ClusterAction::Done { request, missing, .. } => {
                    // Without the node, it ends before it is known.
                    if let Some(ask) = self.asks.remove(&request) {
                        self.replica.answered(ask, missing.is_empty(), now);
                    }
                }
                ClusterAction::NodeJoined { node } => self.replica.node_joined(node, now),
                ClusterAction::NodeLeft { node, .. } => self.replica.node_left(node),
                ClusterAction::Rejoined { .. } => self.replica.rejoined(now),
                ClusterAction::Left => self.has_left = true,
                other => panic!("unknown action {other:?}"),
            }
        }
        while let Some(action) = self.replica.poll_action() {
            worked = true;
            match action {
                PresenceAction::Watch(name, watch) => {
                    self.node.add_interest(&name.namespace, Some(&name.room), now);
                    let ticket = self.node.await_join(&name.namespace, Some(&name.room), now);
                    self.tickets.insert(ticket, (name.clone(), watch));
                    self.server.watch(name);
                }
                PresenceAction::Unwatch(name) => {
                    self.node.remove_interest(&name.namespace, Some(&name.room), now);
                    self.server.unwatch(&name);
                }
                PresenceAction::Update(name, update) => self.server.update(&name, update)?,
                other => panic!("unknown action {other:?}"),
            }
        }
        Ok(worked)
    }

    fn send(&mut self, now: Instant) -> Result<bool, String> {
        let mut worked = false;
        while !self.is_full()
            && let Some((asker, mut answer)) = self.answers.pop_front()
        {
            worked = true;
            let part = answer.next_part(&self.replica);
            let is_sent = self.node.answer(asker, part.expected, Some(part.body), now).is_ok();
            if is_sent && part.expected.is_none() {
                self.answers.push_back((asker, answer));
            }
        }
        while !self.is_full()
            && let Some(publication) = self.replica.poll_publication(now)
        {
            worked = true;
            self.sent += 1;
            let RoomName { namespace, room } = publication.name;
            let publication =
                Publication { namespace, rooms: vec![room], except: vec![], kind: 5, body: publication.body };
            // A node that leaves publishes no more.
            let _ = self.node.publish(publication, now);
        }
        while !self.is_full()
            && let Some(ask) = self.replica.poll_ask(now)
        {
            worked = true;
            let request =
                ClusterRequest { to: Some(ask.node.id), kind: 5, body: ask.body, timeout: ask.timeout };
            match self.node.request(request, now) {
                Ok(request) => _ = self.asks.insert(request, ask.id),
                Err(_) => self.replica.answered(ask.id, false, now),
            }
        }
        Ok(worked)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    Calm,
    Lossy,
    Partitions,
    Freezes,
    Engine,
    Crashes,
    All,
}

impl Weather {
    fn of(seed: u64) -> Self {
        use Weather::{All, Calm, Crashes, Engine, Freezes, Lossy, Partitions};
        [Calm, Lossy, Partitions, Freezes, Engine, Crashes, All, All][(seed % 8) as usize]
    }

    fn has(self, other: Self) -> bool {
        self == other || self == Self::All
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    operations: u64,
    changes: u64,
    publications: u64,
    /// Longest time after the faults until all views were equal to the truth.
    healed: Duration,
}

struct Run {
    engine: MemoryEngine,
    rng: Rng,
    weather: Weather,
    config: Arc<ClusterConfig>,
    presence: PresenceConfig,
    processes: BTreeMap<usize, Process>,
    lives: u64,
    restarts: Vec<(Instant, usize)>,
    last_key: u64,
    last_data: u64,
    figures: Figures,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut config = ClusterConfig::default();
        config.heartbeat_interval = HEARTBEAT;
        config.node_timeout = 5 * HEARTBEAT;
        config.join_timeout = Duration::from_millis(200);
        config.subscribe_retry = Duration::from_millis(100);
        config.order_timeout = Duration::from_millis(150);
        config.unsubscribe_delay = Duration::from_millis(*rng.choice(&[500, 800]).expect("some"));
        config.queue_overflow = QueueOverflow::Reject;
        let mut presence = PresenceConfig::default();
        presence.batch_interval = Duration::from_millis(*rng.choice(&[0, 20]).expect("some"));
        presence.sync_timeout = Duration::from_millis(250);
        presence.ask_timeout = Duration::from_millis(150);
        presence.retry_interval = Duration::from_millis(25);
        presence.announce_interval = Duration::from_secs(100_000);
        presence.max_bytes = *rng.choice(&[1, 100, 1000]).expect("some");
        presence.max_held = *rng.choice(&[2, 4096]).expect("some");
        presence.max_rooms = *rng.choice(&[1, 2, 512]).expect("some");
        Self {
            engine: MemoryEngine::new(seed),
            rng,
            weather: Weather::of(seed),
            config: Arc::new(config),
            presence,
            processes: BTreeMap::new(),
            lives: 0,
            restarts: Vec::new(),
            last_key: 0,
            last_data: 0,
            figures: Figures::default(),
        }
    }

    fn play(&mut self) -> Result<Figures, String> {
        let delay = *self.rng.choice(&[0, 0, 3, 30]).expect("some");
        self.engine.inject(&Fault::Delay(Duration::from_millis(delay)));
        let slots = 2 + self.rng.usize(..4);
        for slot in 0..slots {
            self.start(slot);
        }
        for _ in 0..20 + self.rng.usize(..60) {
            self.operate();
            self.figures.operations += 1;
            let millis = *self.rng.choice(&[0, 0, 1, 7, 40, 120]).expect("some");
            self.pass(Duration::from_millis(millis))?;
        }
        self.heal(slots)?;
        Ok(self.figures)
    }

    fn start(&mut self, slot: usize) {
        let now = self.engine.now();
        self.lives += 1;
        let incarnation: Incarnation = first_incarnation(Duration::from_millis(self.lives), self.lives);
        let id = NodeId::new(slot as u64 * 7919 + 1);
        let queue =
            if self.weather.has(Weather::Engine) { self.rng.choice([200, 1 << 20]) } else { Some(1 << 20) };
        let process = Process {
            node: Node::new(self.config.clone(), id, incarnation, now),
            replica: PresenceReplica::new(self.presence.clone(), now),
            server: Server::default(),
            backplane: self.engine.connect(slot),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            tickets: BTreeMap::new(),
            asks: BTreeMap::new(),
            answers: VecDeque::new(),
            frozen_until: None,
            has_left: false,
            queue: queue.expect("some"),
            sent: 0,
        };
        self.processes.insert(slot, process);
    }

    fn end(&mut self, slot: usize, now: Instant) {
        if let Some(process) = self.processes.remove(&slot) {
            self.figures.changes += process.server.changes;
            self.figures.publications += process.sent;
            let millis = 10 + self.rng.u64(..800);
            self.restarts.push((now + Duration::from_millis(millis), slot));
        }
    }

    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = self.engine.now() + time;
        loop {
            let now = self.engine.now();
            while let Some(index) = self.restarts.iter().position(|(at, _)| *at <= now) {
                let (_, slot) = self.restarts.swap_remove(index);
                self.start(slot);
            }
            for process in self.processes.values_mut() {
                process.drive(now).map_err(|error| format!("{}: {error}", process.node.node_ref()))?;
            }
            let left = self.processes.iter().filter(|(_, process)| process.has_left).map(|(slot, _)| *slot);
            for slot in left.collect::<Vec<_>>() {
                self.end(slot, now);
            }
            let next = self.processes.values().filter_map(|process| process.next_at(now)).min();
            let next = next.into_iter().chain(self.restarts.iter().map(|(at, _)| *at)).min();
            if now >= until && next.is_none_or(|next| next > now) {
                return Ok(());
            }
            self.engine.advance(next.map_or(until, |next| next.min(until)).max(now));
        }
    }

    fn room(&mut self) -> RoomName {
        // The last one looks like the id of a socket of the first node.
        let own = format!("{}abcdefghijkl", NodeId::new(1).tag());
        let room = *self.rng.choice(&["a", "b", "c", &own]).expect("some");
        RoomName { namespace: Namespace::main(), room: room.into() }
    }

    fn operate(&mut self) {
        let now = self.engine.now();
        let slots: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| process.frozen_until.is_none())
            .map(|(slot, _)| *slot)
            .collect();
        let Some(slot) = self.rng.choice(slots) else { return };
        let weather = self.weather;
        match self.rng.u32(..40) {
            0..4 => (0..self.rng.u32(..20)).for_each(|_| self.change(slot, now)),
            4 => self.empty(slot, now),
            5 | 6 if weather.has(Weather::Partitions) => {
                let groups = match self.rng.u32(..3) {
                    0 => Vec::new(),
                    _ => (0..16).map(|_| self.rng.u8(..2)).collect(),
                };
                self.engine.inject(&Fault::Partition(groups));
            }
            7 | 8 if weather.has(Weather::Freezes) => {
                let millis = *self.rng.choice(&[100, 500, 1500]).expect("some");
                if let Some(process) = self.processes.get_mut(&slot) {
                    process.frozen_until = Some(now + Duration::from_millis(millis));
                }
            }
            9 if weather.has(Weather::Freezes) => {
                let delay = Duration::from_millis(*self.rng.choice(&[0, 100, 400]).expect("some"));
                self.engine.inject(&Fault::Slow { node: slot, delay });
            }
            10 | 11 if weather.has(Weather::Lossy) => {
                self.engine.inject(&Fault::Loss(*self.rng.choice(&[0, 20, 200, 500]).expect("some")));
            }
            12 if weather.has(Weather::Lossy) => {
                self.engine.inject(&Fault::HeartbeatLoss(*self.rng.choice(&[0, 800, 950]).expect("some")));
            }
            13 if weather.has(Weather::Lossy) => {
                self.engine.inject(&Fault::Duplicates(*self.rng.choice(&[0, 300, 1000]).expect("some")));
            }
            14 | 15 if weather.has(Weather::Crashes) => self.end(slot, now),
            16 if weather.has(Weather::Crashes) => {
                if let Some(process) = self.processes.get_mut(&slot) {
                    process.replica.leave_cluster();
                    process.node.leave(now);
                    process.woken.0.store(true, Ordering::Relaxed);
                }
            }
            17 if weather.has(Weather::Engine) => _ = self.engine.inject(&Fault::Disconnect { node: slot }),
            18 if weather.has(Weather::Engine) => {
                self.engine.inject(&Fault::Deaf { node: slot, on: self.rng.bool() });
            }
            19 | 20 if weather.has(Weather::Engine) => {
                self.engine.inject(&Fault::Down { on: self.rng.bool(), forgets: self.rng.bool() });
            }
            _ => self.change(slot, now),
        }
    }

    /// Lets a member join or leave, or changes its data.
    fn change(&mut self, slot: usize, now: Instant) {
        let name = self.room();
        let action = self.rng.u32(..5);
        let Some(process) = self.processes.get_mut(&slot) else { return };
        process.woken.0.store(true, Ordering::Relaxed);
        let own = process.server.own.entry(name.clone()).or_default();
        let keys: Vec<_> = own.keys().copied().collect();
        self.last_data += 1;
        let number = self.last_data;
        match (action, self.rng.choice(keys)) {
            (0 | 1, Some(key)) => {
                own.remove(&key);
                process.replica.leave(&name, key, Some(data(number)), now);
                // Some come back, perhaps before it was published.
                if self.rng.bool() {
                    own.insert(key, number);
                    process.replica.join(&name, key, member(key, number), now);
                }
            }
            (2, Some(key)) => {
                own.insert(key, number);
                process.replica.set_data(&name, key, data(number), now);
            }
            _ => {
                self.last_key += 1;
                let key = MemberKey(self.last_key);
                own.insert(key, number);
                process.replica.join(&name, key, member(key, number), now);
            }
        }
    }

    /// Lets all members of a room leave at once.
    fn empty(&mut self, slot: usize, now: Instant) {
        let name = self.room();
        let Some(process) = self.processes.get_mut(&slot) else { return };
        process.woken.0.store(true, Ordering::Relaxed);
        for key in process.server.own.remove(&name).unwrap_or_default().into_keys() {
            process.replica.leave(&name, key, None, now);
        }
    }

    /// Ends all faults, and waits until all views equal the truth.
    fn heal(&mut self, slots: usize) -> Result<(), String> {
        let faults = [
            Fault::Loss(0),
            Fault::HeartbeatLoss(0),
            Fault::Duplicates(0),
            Fault::Partition(Vec::new()),
            Fault::Down { on: false, forgets: false },
        ];
        faults.iter().for_each(|fault| _ = self.engine.inject(fault));
        for slot in 0..slots {
            self.engine.inject(&Fault::Slow { node: slot, delay: Duration::ZERO });
            self.engine.inject(&Fault::Deaf { node: slot, on: false });
        }
        // Frozen nodes run again, and ended ones are restarted.
        let frozen = self.processes.values().filter_map(|process| process.frozen_until);
        let end = frozen.chain(self.restarts.iter().map(|(at, _)| *at)).max();
        let now = self.engine.now();
        self.pass(end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now)))?;
        // Second deliveries and messages to slow nodes are under way for this time.
        self.pass(Duration::from_millis(400))?;
        let start = self.engine.now();
        let mut outcome = self.compare();
        while self.engine.now() < start + HEAL {
            if outcome.is_ok() {
                let healed = self.engine.now() - start;
                self.figures.healed = self.figures.healed.max(healed);
                break;
            }
            self.pass(Duration::from_millis(10))?;
            outcome = self.compare();
        }
        outcome?;
        // It stays so.
        self.pass(HEAL)?;
        self.compare()?;
        for process in self.processes.values() {
            self.figures.changes += process.server.changes;
            self.figures.publications += process.sent;
        }
        Ok(())
    }

    /// Compares the view of each node with the members of the others.
    fn compare(&self) -> Result<(), String> {
        for (slot, process) in &self.processes {
            let own = process.server.own.iter().filter(|(_, members)| !members.is_empty());
            let own: Vec<_> = own.map(|(name, _)| name.clone()).collect();
            if own != process.server.watched().into_iter().collect::<Vec<_>>() {
                return Err(format!("node {slot} watches other rooms than {own:?}"));
            }
            for name in own {
                let others = self.processes.iter().filter(|(other, _)| *other != slot);
                let truth: Members = others
                    .flat_map(|(_, other)| {
                        let node = other.node.node_ref().id.get();
                        let members = other.server.own.get(&name).into_iter().flatten();
                        members.map(move |(key, number)| {
                            (roomcast_core::RemoteKey { node, member: *key }, *number)
                        })
                    })
                    .collect();
                let known = process.server.members(&name);
                if known != Some(&truth) {
                    return Err(format!("node {slot} in {name:?} has {known:?} instead of {truth:?}"));
                }
            }
        }
        Ok(())
    }
}

fn play(seed: u64) -> Result<Figures, String> {
    catch_unwind(AssertUnwindSafe(|| Run::new(seed).play())).unwrap_or_else(|_| Err("panic".into()))
}

#[test]
fn views_converge_after_faults() {
    let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("PRESENCE_SEED") {
        println!("{:?}", play(seed));
        return play(seed).map(drop).expect("no violation");
    }
    let mut total = Figures::default();
    let seeds = number("PRESENCE_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        let figures = play(seed).unwrap_or_else(|error| panic!("PRESENCE_SEED={seed}: {error}"));
        total.operations += figures.operations;
        total.changes += figures.changes;
        total.publications += figures.publications;
        total.healed = total.healed.max(figures.healed);
    }
    println!("{seeds} seeds: {total:?}");
    // A run without work would find nothing.
    assert!(total.changes > 20 * seeds, "{total:?}");
}
