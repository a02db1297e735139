//! Random runs of a cluster, by seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_cluster::{
    Channel, ClusterConfig, Incarnation, NodeId, Publication, QueueOverflow, first_incarnation,
};
use roomcast_core::Room;

use super::check::{Expected, Published, body, namespace};
use super::clock::NodeClock;
use super::harness::{Fault, Harness};
use super::process::{ACKS, MEMBERS, Process};
use crate::rng::SeededRng;

pub use super::check::Violation;

/// Limits of a run, to find the shortest one that fails.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Number of operations; `None` for as many as the seed says.
    pub operations: Option<usize>,
}

/// Figures of a run that kept all promises.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeedStats {
    /// Nodes.
    pub nodes: u64,
    /// Operations.
    pub operations: u64,
    /// Publications.
    pub published: u64,
    /// Publications that other nodes delivered.
    pub delivered: u64,
    /// Receptions that were due.
    pub expected: u64,
    /// Receptions among them that were lost, and reported.
    pub reported: u64,
    /// Requests.
    pub requests: u64,
    /// Times that a node rejoined as a new incarnation.
    pub rejoins: u64,
}

impl std::ops::AddAssign for SeedStats {
    fn add_assign(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.operations += other.operations;
        self.published += other.published;
        self.delivered += other.delivered;
        self.expected += other.expected;
        self.reported += other.reported;
        self.requests += other.requests;
        self.rejoins += other.rejoins;
    }
}

/// Plays random operations and faults on 2 to 16 nodes, then checks what the cluster promises.
///
/// Each member receives a publication once, whole, and in the order of its node and each of its rooms. A publication
/// that was begun after an awaited join arrives, or its loss is reported to the member's node; the order of several
/// rooms begins there too. No message of a dead incarnation is
/// handled. No request and no join outlives its deadline; a request waits for no dead node, and names the nodes that
/// did not answer. The queue towards the engine is bounded. After all faults have ended, the nodes agree on the nodes of
/// the cluster, on the members of each room, and on their subscriptions. Without faults no message is lost, and no
/// node is declared dead.
///
/// The run depends on the seed alone, if the engine does. `configure` may change the nodes' settings.
///
/// # Errors
/// Returns the first broken promise.
pub fn run_seed<H: Harness>(
    harness: H,
    seed: u64,
    limits: Limits,
    configure: impl FnOnce(&mut ClusterConfig),
) -> Result<SeedStats, Violation> {
    let mut rng = SeededRng::new(seed);
    let weather = Weather::of(seed);
    let mut config = ClusterConfig::default();
    config.heartbeat_interval = HEARTBEAT;
    config.node_timeout = 5 * HEARTBEAT;
    config.join_timeout = Duration::from_millis(250);
    config.subscribe_retry = Duration::from_millis(150);
    config.order_timeout = Duration::from_millis(150);
    // The engine's second deliveries are at most 400 ms late.
    let delays = if weather.has(Weather::Lossy) { [500, 800] } else { [50, 300] };
    config.unsubscribe_delay = Duration::from_millis(rng.of(&delays));
    config.max_payload = rng.of(&[1024, 4096, 65_536]);
    config.batch_count = rng.of(&[2, 256]);
    config.reassembly_bytes = 256 << 10;
    if weather != Weather::Calm {
        config.queue_bytes = rng.of(&[16 << 10, 1 << 20]);
        config.queue_overflow =
            rng.of(&[QueueOverflow::DropOldest, QueueOverflow::DropNewest, QueueOverflow::Reject]);
    }
    configure(&mut config);
    let slots = match rng.below(20) {
        0 => 9 + rng.below(8),
        1..4 => 5 + rng.below(4),
        _ => 2 + rng.below(3),
    };
    let operations = 20 + rng.below(40);
    let operations = limits.operations.map_or(operations, |limit| limit.min(operations));
    let mut run = Run {
        start: harness.now(),
        harness,
        rng,
        weather,
        config: Arc::new(config),
        processes: BTreeMap::new(),
        incarnations: BTreeMap::new(),
        restarts: Vec::new(),
        ended: BTreeSet::new(),
        messages: Vec::new(),
        last_number: 0,
        stats: SeedStats { nodes: slots as u64, ..SeedStats::default() },
    };
    run.play(slots, operations)?;
    Ok(run.stats)
}

/// Faults that occur in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Delays, clocks apart, and orderly leaves.
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
        match seed % 8 {
            0 | 1 => Self::Calm,
            2 => Self::Lossy,
            3 => Self::Partitions,
            4 => Self::Freezes,
            5 => Self::Engine,
            6 => Self::Crashes,
            _ => Self::All,
        }
    }

    fn has(self, other: Self) -> bool {
        self == other || self == Self::All
    }
}

struct Run<H: Harness> {
    harness: H,
    start: Instant,
    rng: SeededRng,
    weather: Weather,
    config: Arc<ClusterConfig>,
    processes: BTreeMap<usize, Process<H::Backplane>>,
    incarnations: BTreeMap<usize, Incarnation>,
    /// Nodes to start again.
    restarts: Vec<(Instant, usize)>,
    /// Processes that ended without notice.
    ended: BTreeSet<u64>,
    messages: Vec<Published>,
    last_number: u64,
    stats: SeedStats,
}

impl<H: Harness> Run<H> {
    fn play(&mut self, slots: usize, operations: usize) -> Result<(), Violation> {
        let delay = self.rng.of(&[0, 0, 3, 30]);
        self.inject(Fault::Delay(Duration::from_millis(delay)));
        for slot in 0..slots {
            self.start_node(slot);
        }
        self.pass(Duration::from_millis(300))?;
        for _ in 0..operations {
            self.operate()?;
            self.stats.operations += 1;
            let millis = self.rng.of(&[0, 0, 1, 7, 40, 120]);
            self.pass(Duration::from_millis(millis))?;
        }
        self.settle()?;
        self.check_requests()?;
        self.check_subscriptions()?;
        self.check_receptions()
    }

    fn start_node(&mut self, slot: usize) {
        let now = self.harness.now();
        // A clock that was set back gives a restarted process a number that others know as dead.
        let back = self.weather.has(Weather::Crashes) && self.rng.below(3) == 0;
        let clock = self.incarnations.get(&slot).map_or(100, |last| last >> 20);
        let clock = if back { clock - 1 } else { clock + 1 };
        let number = self.number();
        // The number of the process stands for the random bits.
        let incarnation = first_incarnation(Duration::from_millis(clock), number);
        self.incarnations.insert(slot, incarnation);
        let offset = Duration::from_millis(self.rng.below(100_000_000) as u64);
        let drift = self.rng.of(&[0, 0, -3, 5]);
        let clock = NodeClock::new(self.start, offset, drift);
        let id = NodeId::new(slot as u64 * 7919 + 1);
        let backplane = self.harness.connect(slot);
        let mut process = Process::new(number, self.config.clone(), id, incarnation, backplane, clock, now);
        for _ in 0..=self.rng.below(3) {
            process.attach(self.last_number + 1);
            self.last_number += 1;
        }
        self.processes.insert(slot, process);
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn inject(&mut self, fault: Fault) {
        self.harness.inject(&fault);
    }

    /// Lets time pass, and drives all nodes.
    fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        let until = self.harness.now() + time;
        loop {
            let now = self.harness.now();
            while let Some(index) = self.restarts.iter().position(|(at, _)| *at <= now) {
                let (_, slot) = self.restarts.swap_remove(index);
                self.start_node(slot);
            }
            let mut left = Vec::new();
            for (slot, process) in &mut self.processes {
                process.drive(now, &self.messages)?;
                if process.has_left {
                    left.push(*slot);
                }
            }
            for slot in left {
                let millis = 50 + self.rng.below(1500) as u64;
                self.end_process(slot);
                self.restarts.push((now + Duration::from_millis(millis), slot));
            }
            let next = self.processes.values().filter_map(|process| process.next_at(now)).min();
            let next = next.into_iter().chain(self.restarts.iter().map(|(at, _)| *at)).min();
            if now >= until && next.is_none_or(|next| next > now) {
                return Ok(());
            }
            self.harness.advance(next.map_or(until, |next| next.min(until)).max(now));
        }
    }

    fn end_process(&mut self, slot: usize) {
        if let Some(process) = self.processes.remove(&slot) {
            let incarnation = process.node.node_ref().incarnation;
            self.incarnations.insert(slot, incarnation);
            self.stats.rejoins += process.node.metrics().rejoins;
            self.stats.delivered += process.delivered;
        }
    }

    fn operate(&mut self) -> Result<(), Violation> {
        let now = self.harness.now();
        let slots: Vec<usize> = self
            .processes
            .iter()
            .filter(|(_, process)| !process.is_frozen())
            .map(|(slot, _)| *slot)
            .collect();
        if slots.is_empty() {
            return Ok(());
        }
        let slot = self.rng.of(&slots);
        let weather = self.weather;
        match self.rng.below(40) {
            0..8 => self.change_room(slot, now),
            8..10 => self.change_members(slot, now),
            10..21 => self.publish(slot, now),
            21..23 => (0..self.rng.below(30)).for_each(|_| self.publish(slot, now)),
            23 => {
                let room = self.room();
                (0..self.rng.below(6)).for_each(|_| self.publish_to(slot, vec![room.clone()], 7000, now));
            }
            24 | 25 => self.request(slot, now),
            26 => return self.return_late(slot),
            27 => self.burst(slot, now),
            28 => {
                if let Some(process) = self.processes.get_mut(&slot) {
                    process.leave(now);
                }
            }
            29 | 30 if weather.has(Weather::Freezes) => {
                let millis = self.rng.of(&[100, 500, 1500, 3000]);
                if let Some(process) = self.processes.get_mut(&slot) {
                    process.freeze(now + Duration::from_millis(millis));
                }
            }
            31 if weather.has(Weather::Freezes) => {
                let delay = Duration::from_millis(self.rng.of(&[0, 100, 400]));
                self.inject(Fault::Slow { node: slot, delay });
            }
            29..33 if weather.has(Weather::Partitions) => {
                let groups = match self.rng.below(3) {
                    0 => Vec::new(),
                    _ => (0..16).map(|_| self.rng.below(2) as u8).collect(),
                };
                self.inject(Fault::Partition(groups));
            }
            33 | 34 if weather.has(Weather::Lossy) => {
                let loss = self.rng.of(&[0, 20, 200, 500]);
                self.inject(Fault::Loss(loss));
            }
            32 if weather.has(Weather::Lossy) => {
                let loss = self.rng.of(&[0, 800, 950]);
                self.inject(Fault::HeartbeatLoss(loss));
            }
            35 if weather.has(Weather::Lossy) => {
                let duplicates = self.rng.of(&[0, 300, 1000]);
                self.inject(Fault::Duplicates(duplicates));
            }
            36 | 37 if weather.has(Weather::Crashes) && self.processes.len() > 1 => self.crash(slot, now),
            36 if weather.has(Weather::Engine) => self.inject(Fault::Disconnect { node: slot }),
            37 if weather.has(Weather::Engine) => {
                let on = self.rng.below(2) == 0;
                self.inject(Fault::Deaf { node: slot, on });
            }
            38 | 39 if weather.has(Weather::Engine) => {
                let (on, forgets) = (self.rng.below(2) == 0, self.rng.below(2) == 0);
                self.inject(Fault::Down { on, forgets });
            }
            _ => self.publish(slot, now),
        }
        Ok(())
    }

    fn room(&mut self) -> Room {
        Room::from(self.rng.of(&["a", "b", "c", "d", "7", "a.b#c"]))
    }

    fn change_room(&mut self, slot: usize, now: Instant) {
        let (room, joins, awaited) = (self.room(), self.rng.below(3) > 0, self.rng.below(3) > 0);
        let Some(member) = self.member(slot) else { return };
        let Some(process) = self.processes.get_mut(&slot) else { return };
        if joins {
            process.join(member, &room, awaited, now);
        } else {
            process.leave_room(member, &room, now);
        }
    }

    fn member(&mut self, slot: usize) -> Option<u64> {
        let members: Vec<u64> = self.processes.get(&slot)?.members.keys().copied().collect();
        (!members.is_empty()).then(|| self.rng.of(&members))
    }

    fn change_members(&mut self, slot: usize, now: Instant) {
        let number = self.number();
        let gone = if self.rng.below(2) == 0 { self.member(slot) } else { None };
        let Some(process) = self.processes.get_mut(&slot) else { return };
        process.attach(number);
        if let Some(gone) = gone {
            let rooms = process.members.get(&gone).map(|member| member.rooms.clone()).unwrap_or_default();
            rooms.iter().for_each(|room| process.leave_room(gone, room, now));
            process.members.remove(&gone);
        }
    }

    /// Joins and leaves many rooms at once.
    fn burst(&mut self, slot: usize, now: Instant) {
        let Some(member) = self.member(slot) else { return };
        let Some(process) = self.processes.get_mut(&slot) else { return };
        for index in 0..20 {
            let room = Room::from(format!("burst-{index}"));
            process.join(member, &room, false, now);
            process.leave_room(member, &room, now);
            if index % 2 == 0 {
                process.join(member, &room, false, now);
            }
        }
    }

    /// Leaves a room, and joins it again about when its subscription ends.
    fn return_late(&mut self, slot: usize) -> Result<(), Violation> {
        let room = self.room();
        let Some(member) = self.member(slot) else { return Ok(()) };
        let Some(process) = self.processes.get_mut(&slot) else { return Ok(()) };
        process.leave_room(member, &room, self.harness.now());
        let millis = self.rng.below(6) as u64;
        self.pass(self.config.unsubscribe_delay + Duration::from_millis(millis))?;
        if let Some(process) = self.processes.get_mut(&slot).filter(|process| !process.is_frozen()) {
            process.join(member, &room, true, self.harness.now());
        }
        Ok(())
    }

    fn publish(&mut self, slot: usize, now: Instant) {
        let owns: Vec<Room> = self
            .processes
            .values()
            .flat_map(|process| process.members.values().map(|member| member.own.clone()))
            .collect();
        let mut rooms = match self.rng.below(10) {
            0 => Vec::new(),
            1 if !owns.is_empty() => vec![owns[self.rng.below(owns.len() as u64)].clone()],
            2 | 3 => vec![self.room(), self.room(), self.room()],
            _ => vec![self.room()],
        };
        rooms.sort_unstable();
        rooms.dedup();
        let len = match self.rng.below(12) {
            0 => 3000 + self.rng.below(12_000),
            _ => 8 + self.rng.below(200),
        };
        self.publish_to(slot, rooms, len, now);
    }

    fn publish_to(&mut self, slot: usize, rooms: Vec<Room>, len: usize, now: Instant) {
        let id = self.messages.len() as u64;
        let except = if self.rng.below(6) == 0 { vec![self.room()] } else { Vec::new() };
        let mut channels: Vec<_> = rooms.iter().map(|room| Channel::of(&namespace(), Some(room))).collect();
        channels.sort_unstable();
        channels.dedup();
        if rooms.is_empty() {
            channels.push(Channel::of(&namespace(), None));
        }
        let Some(process) = self.processes.get_mut(&slot) else { return };
        let publication = Publication {
            namespace: namespace(),
            rooms: rooms.clone(),
            except: except.clone(),
            kind: 1,
            body: body(id, len),
        };
        let Ok(is_sent) = process.publish(publication, now) else { return };
        let (from, number) = (process.id(), process.number);
        for member in process.members.values_mut().filter(|member| member.matches(&rooms, &except)) {
            member.seen.insert(id);
        }
        let mut message = Published {
            from,
            process: number,
            channels,
            rooms,
            except,
            at: now,
            len,
            is_sent,
            expected: Vec::new(),
        };
        for process in self.processes.values().filter(|process| process.number != number) {
            let hears = |room: &Room| process.confirmed.contains_key(&Channel::of(&namespace(), Some(room)));
            for (member, state) in &process.members {
                let is_heard = match &message.rooms[..] {
                    [] => process.confirmed.contains_key(&Channel::of(&namespace(), None)),
                    rooms => rooms.iter().any(|room| state.is_in(room) && hears(room)),
                };
                if is_heard && state.matches(&message.rooms, &message.except) {
                    let (process, version) = (process.number, state.version);
                    message.expected.push(Expected { process, member: *member, version });
                }
            }
        }
        self.messages.push(message);
        self.stats.published += 1;
    }

    fn request(&mut self, slot: usize, now: Instant) {
        let room = self.room();
        let kind = self.rng.of(&[MEMBERS, MEMBERS, ACKS]);
        let other = self.rng.below(self.stats.nodes);
        let to = (self.rng.below(4) == 0).then(|| NodeId::new(other as u64 * 7919 + 1));
        let timeout = Duration::from_millis(self.rng.of(&[50, 400, 2500]));
        if let Some(process) = self.processes.get_mut(&slot)
            && to != Some(process.id())
            && process.request(to, kind, &room, timeout, now).is_some()
        {
            self.stats.requests += 1;
        }
    }

    fn crash(&mut self, slot: usize, now: Instant) {
        if let Some(process) = self.processes.get(&slot) {
            self.ended.insert(process.number);
            self.end_process(slot);
            // Some never return.
            if let Some(millis) = self.rng.of(&[Some(0), Some(100), Some(2500), None]) {
                self.restarts.push((now + Duration::from_millis(millis), slot));
            }
        }
    }

    /// Ends all faults, and waits until the nodes must have noticed.
    fn settle(&mut self) -> Result<(), Violation> {
        self.inject(Fault::Loss(0));
        self.inject(Fault::HeartbeatLoss(0));
        self.inject(Fault::Duplicates(0));
        self.inject(Fault::Partition(Vec::new()));
        self.inject(Fault::Down { on: false, forgets: false });
        for node in 0..self.stats.nodes as usize {
            self.inject(Fault::Slow { node, delay: Duration::ZERO });
            self.inject(Fault::Deaf { node, on: false });
        }
        // The longest freeze, then a timeout to be declared dead, and one to rejoin.
        let frozen = self.processes.values().any(Process::is_frozen);
        let restarting = !self.restarts.is_empty();
        self.pass(3 * self.config.node_timeout)?;
        if frozen || restarting || !self.restarts.is_empty() {
            self.pass(4 * self.config.node_timeout)?;
        }
        for process in self.processes.values() {
            let others: Vec<_> = self
                .processes
                .values()
                .filter(|other| other.number != process.number)
                .map(|other| other.node.node_ref())
                .collect();
            let mut others = others;
            others.sort_unstable();
            let known: Vec<_> = process.node.peers().collect();
            if known != others {
                return broken(format!(
                    "{:?} knows {known:?} instead of {others:?}",
                    process.node.node_ref()
                ));
            }
            let metrics = process.node.metrics();
            if process.has_pending() || metrics.queue_len > 0 || metrics.degraded > 0 {
                return broken(format!("{:?} has not settled: {metrics:?}", process.node.node_ref()));
            }
            if self.weather == Weather::Freezes && !process.was_frozen && metrics.rejoins > 0 {
                return broken(format!("{:?} was blamed for a freeze: {metrics:?}", process.node.node_ref()));
            }
            if self.weather == Weather::Calm
                && (metrics.rejoins, metrics.nodes_lost, metrics.lost, metrics.duplicates) != (0, 0, 0, 0)
            {
                return broken(format!("false alarms of {:?}: {metrics:?}", process.node.node_ref()));
            }
        }
        Ok(())
    }

    /// Asks each node for the members of each room.
    fn check_requests(&mut self) -> Result<(), Violation> {
        let rooms = ["a", "b", "7"].map(Room::from);
        let mut asked = Vec::new();
        let now = self.harness.now();
        for (slot, process) in &mut self.processes {
            for room in &rooms {
                let request = process.request(None, MEMBERS, room, Duration::from_secs(1), now);
                asked.push((*slot, room.clone(), request));
            }
        }
        self.pass(Duration::from_millis(900))?;
        for (slot, room, request) in asked {
            let Some(process) = self.processes.get(&slot) else { continue };
            let mut members: Vec<String> = self
                .processes
                .values()
                .filter(|other| other.number != process.number)
                .flat_map(|other| other.members.values().filter(|member| member.is_in(&room)))
                .map(|member| member.own.as_str().to_owned())
                .collect();
            members.sort_unstable();
            let Some((missing, found)) = request.and_then(|request| process.found.get(&request)) else {
                let metrics = process.node.metrics();
                return broken(format!(
                    "{request:?} of {:?} has not ended: {metrics:?}",
                    process.node.node_ref()
                ));
            };
            let mut found = found.clone();
            found.sort_unstable();
            if !missing.is_empty() || found != members {
                return broken(format!(
                    "{:?} found {found:?} in {room} without {missing:?}, instead of {members:?}",
                    process.node.node_ref()
                ));
            }
        }
        Ok(())
    }

    fn check_subscriptions(&mut self) -> Result<(), Violation> {
        self.pass(self.config.unsubscribe_delay + Duration::from_millis(100))?;
        for (slot, process) in &self.processes {
            let Some(subscribed) = self.harness.subscriptions(*slot) else { continue };
            let own = [Channel::Nodes, Channel::Inbox(process.id()), Channel::Ids(process.id())];
            let rooms = process.rooms().map(|room| Channel::of(&namespace(), Some(room)));
            let wanted: BTreeSet<_> =
                own.into_iter().chain([Channel::of(&namespace(), None)]).chain(rooms).collect();
            if subscribed != wanted {
                return broken(format!(
                    "{:?} is subscribed to {subscribed:?} instead of {wanted:?}",
                    process.node.node_ref()
                ));
            }
        }
        Ok(())
    }

    fn check_receptions(&mut self) -> Result<(), Violation> {
        let by_number: BTreeMap<u64, _> =
            self.processes.values().map(|process| (process.number, process)).collect();
        for process in self.processes.values() {
            self.stats.rejoins += process.node.metrics().rejoins;
            self.stats.delivered += process.delivered;
        }
        for (id, message) in self.messages.iter().enumerate() {
            for Expected { process, member, version } in &message.expected {
                let Some(process) = by_number.get(process) else { continue };
                let Some(member) = process.members.get(member) else { continue };
                self.stats.expected += 1;
                if member.seen.contains(&(id as u64)) {
                    continue;
                }
                // Whether it was in the room throughout is unknown if its rooms have changed.
                if member.version != *version {
                    continue;
                }
                let may_be_lost = self.weather != Weather::Calm
                    || self.ended.contains(&message.process)
                    || !message.is_sent;
                // A node that has left is reported once; its later publications are lost.
                let is_absent = !process.node.peers().any(|peer| peer.id == message.from);
                // A process that lived and ended in another partition is unknown, so no node can report its messages.
                let is_unknown = !by_number.contains_key(&message.process)
                    && !process.has_known(message.from, message.process);
                let is_absent = is_absent || is_unknown;
                let is_reported = is_absent || process.reports.iter().any(|report| report.covers(message));
                if may_be_lost && is_reported {
                    self.stats.reported += 1;
                    continue;
                }
                return broken(format!(
                    "{} of {:?} missed message {id} of {} to {:?} on {:?}, without a report",
                    member.own,
                    process.node.node_ref(),
                    message.from,
                    message.rooms,
                    message.channels,
                ));
            }
        }
        Ok(())
    }
}

fn broken<T>(what: String) -> Result<T, Violation> {
    Err(Violation(what))
}

/// Heartbeat interval of the nodes under test.
const HEARTBEAT: Duration = Duration::from_millis(200);
