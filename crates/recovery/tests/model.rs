//! Random operations, compared with a reference that retains and checks all events.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use roomcast_core::{Room, Target};
use roomcast_recovery::{Recovery, RecoveryConfig, RecoveryError};
use support::{Client, Clock, OffsetCodec, emit_volatile, event, offset, recovery};

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const ROOMS: [&str; 3] = ["r", "s", "t"];
/// Ids are rooms too.
const NAMES: [&str; 7] = ["r", "s", "t", "a", "b", "c", "d"];
const MAX_EVENTS: usize = 12;
const AWAY: Duration = Duration::from_secs(120);
const GRACE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone)]
enum Operation {
    Connect(Index),
    Leave(Index),
    Cut { who: Index, lost: usize },
    ComeBack { who: Index, hears: bool },
    JoinRoom(Index, &'static str),
    LeaveRoom(Index, &'static str),
    Emit { rooms: Vec<&'static str>, except: Vec<&'static str>, skip: Option<Index> },
    Send(Index),
    Volatile,
    Ping(Index),
    Advance(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let who = any::<Index>;
    prop_oneof![
        2 => who().prop_map(Operation::Connect),
        1 => who().prop_map(Operation::Leave),
        6 => (who(), 0..6_usize).prop_map(|(who, lost)| Operation::Cut { who, lost }),
        8 => (who(), any::<bool>()).prop_map(|(who, hears)| Operation::ComeBack { who, hears }),
        4 => (who(), select(&ROOMS[..])).prop_map(|(who, room)| Operation::JoinRoom(who, room)),
        1 => (who(), select(&ROOMS[..])).prop_map(|(who, room)| Operation::LeaveRoom(who, room)),
        12 => (subsequence(&NAMES[..], 0..3), subsequence(&NAMES[..], 0..2), any::<Option<Index>>())
            .prop_map(|(rooms, except, skip)| Operation::Emit { rooms, except, skip }),
        2 => who().prop_map(Operation::Send),
        1 => Just(Operation::Volatile),
        4 => who().prop_map(Operation::Ping),
        2 => (1..100_u64).prop_map(Operation::Advance),
    ]
}

/// Event of the reference, retained forever.
struct Emitted {
    number: u64,
    at: Duration,
    rooms: Vec<&'static str>,
    except: Vec<&'static str>,
    skip: Option<&'static str>,
}

enum Presence {
    Never,
    Here,
    Away { since: Duration },
}

struct Known {
    id: &'static str,
    client: Option<Client>,
    presence: Presence,
    /// Number of the last event before it connected, and before it joined each of its rooms.
    since: u64,
    rooms: BTreeMap<&'static str, u64>,
    /// Past memberships: room, event before the join, and last event before the leave.
    left: Vec<(&'static str, u64, u64)>,
    /// Events that it must have received by now, if all that was sent arrives.
    expected: Vec<String>,
    /// Number of the last event that arrived.
    last: u64,
    /// At its last recovery, all events up to this number had arrived or were not for it.
    settled: u64,
    /// Number of the last event at its last recovery, and the time of the recovery.
    caught_up: Option<(u64, Duration)>,
    /// Time of its last confirmation since it connected or recovered.
    pinged: Option<Duration>,
}

struct Model {
    clock: Clock,
    sequencer: Arc<dyn Recovery>,
    codec: Arc<OffsetCodec>,
    now: Duration,
    emitted: Vec<Emitted>,
    volatiles: usize,
    known: Vec<Known>,
}

impl Model {
    fn new() -> Self {
        let config = RecoveryConfig::new().max_log_events(MAX_EVENTS).max_disconnection(AWAY).grace(GRACE);
        let clock = Clock::new();
        let sequencer = recovery(&clock, config);
        let known = IDS.map(|id| Known {
            id,
            client: None,
            presence: Presence::Never,
            since: 0,
            rooms: BTreeMap::new(),
            left: Vec::new(),
            expected: Vec::new(),
            last: 0,
            settled: 0,
            caught_up: None,
            pinged: None,
        });
        Self {
            clock,
            sequencer,
            codec: Arc::default(),
            now: Duration::ZERO,
            emitted: Vec::new(),
            volatiles: 0,
            known: known.into(),
        }
    }

    fn head(&self) -> u64 {
        self.emitted.len() as u64
    }

    fn apply(&mut self, operation: Operation) {
        let at = |index: Index| index.index(IDS.len());
        match operation {
            Operation::Connect(who) => self.connect(at(who)),
            Operation::Leave(who) => {
                let known = &mut self.known[at(who)];
                if let (Presence::Here, Some(client)) = (&known.presence, &known.client) {
                    self.sequencer.detach(client.key);
                    known.presence = Presence::Never;
                }
            }
            Operation::Cut { who, lost } => self.cut(at(who), lost),
            Operation::ComeBack { who, hears } => self.come_back(at(who), hears),
            Operation::JoinRoom(who, room) => {
                let head = self.head();
                let known = &mut self.known[at(who)];
                if let (Presence::Here, Some(client)) = (&known.presence, &known.client) {
                    client.join(room);
                    known.rooms.entry(room).or_insert(head);
                }
            }
            Operation::LeaveRoom(who, room) => {
                let head = self.head();
                let known = &mut self.known[at(who)];
                if let (Presence::Here, Some(client)) = (&known.presence, &mut known.client) {
                    // Events sent to the room arrive: lost ones are not replayed after the leave.
                    client.hear();
                    known.note();
                    let client = known.client.as_ref().expect("present client");
                    self.sequencer.leave(client.key, &Room::from(room));
                    known.left.extend(known.rooms.remove(room).map(|since| (room, since, head)));
                }
            }
            Operation::Emit { rooms, except, skip } => {
                let skip = skip.map(at).filter(|skip| matches!(self.known[*skip].presence, Presence::Here));
                self.emit(rooms, except, skip);
            }
            Operation::Send(who) => {
                let known = &self.known[at(who)];
                if matches!(known.presence, Presence::Here) {
                    self.emit(vec![known.id], Vec::new(), None);
                }
            }
            Operation::Volatile => {
                self.volatiles += 1;
                let name = format!("volatile {}", self.volatiles);
                emit_volatile(&*self.sequencer, &[], &name);
                // Volatile events are received at once, so that the reference can ignore them.
                for known in self.known.iter_mut() {
                    if let (Presence::Here, Some(client)) = (&known.presence, &mut known.client) {
                        client.hear();
                        assert_eq!(client.heard.pop(), Some(name.clone()));
                        known.note();
                    }
                }
            }
            Operation::Ping(who) => {
                let known = &mut self.known[at(who)];
                if let (Presence::Here, Some(client)) = (&known.presence, &mut known.client) {
                    client.ping(&self.clock);
                    known.pinged = Some(self.now);
                    known.note();
                }
            }
            Operation::Advance(seconds) => {
                let by = Duration::from_secs(seconds);
                self.now += by;
                self.clock.advance(by);
            }
        }
    }

    fn connect(&mut self, who: usize) {
        let head = self.head();
        let known = &mut self.known[who];
        if !matches!(known.presence, Presence::Never) {
            return;
        }
        // A client that reconnects keeps its last offset, as Socket.IO clients do.
        let last = known.client.take().and_then(|client| client.last);
        let mut client = Client::connect(&self.sequencer, known.id, &self.codec);
        client.last = last;
        known.client = Some(client);
        known.presence = Presence::Here;
        known.since = head;
        known.last = head;
        known.settled = head;
        known.caught_up = None;
        known.pinged = None;
        known.rooms.clear();
        known.left.clear();
        known.expected.clear();
    }

    fn emit(&mut self, rooms: Vec<&'static str>, except: Vec<&'static str>, skip: Option<usize>) {
        let number = self.head() + 1;
        let name = number.to_string();
        let key = skip.and_then(|skip| self.known[skip].client.as_ref()).map(|client| client.key);
        let named = |names: &[&str]| names.iter().map(|name| Room::from(*name)).collect();
        let target = Target { rooms: named(&rooms), except: named(&except), skip: key, ..Target::default() };
        self.sequencer.broadcast(&target, &event(&name)).flush_backlog();
        let skip = skip.map(|skip| self.known[skip].id);
        let emitted = Emitted { number, at: self.now, rooms, except, skip };
        for known in self.known.iter_mut().filter(|known| matches!(known.presence, Presence::Here)) {
            if emitted.is_for(known) {
                known.expected.push(name.clone());
            }
        }
        self.emitted.push(emitted);
    }

    fn cut(&mut self, who: usize, lost: usize) {
        let known = &mut self.known[who];
        let (Presence::Here, Some(client)) = (&known.presence, &mut known.client) else { return };
        client.cut(lost);
        known.note();
        let heard = client_heard(known).len();
        // The received events are a prefix of the expected ones.
        assert_eq!(client_heard(known), &known.expected[..heard]);
        known.expected.truncate(heard);
        known.presence = Presence::Away { since: self.now };
    }

    /// Recovers a client; `hears` states whether the replayed events arrive at once.
    fn come_back(&mut self, who: usize, hears: bool) {
        let head = self.head();
        let known = &mut self.known[who];
        let (Presence::Away { since }, Some(client)) = (&known.presence, &mut known.client) else { return };
        let (disconnected_at, seen) = (*since, known.last.max(known.settled));
        let outcome = client.come_back();
        let late = self.now - disconnected_at > AWAY;
        let retention = AWAY + GRACE;
        let has_received = |emitted: &Emitted| {
            let sent = match known.caught_up {
                Some((head, at)) if emitted.number <= head => at.max(emitted.at),
                _ => emitted.at,
            };
            known.pinged.is_some_and(|pinged| sent < pinged)
        };
        let dropped = self.emitted.len().saturating_sub(MAX_EVENTS) as u64;
        let open = |emitted: &&Emitted| emitted.number > seen && !has_received(emitted);
        let is_old = |emitted: &Emitted| self.now - emitted.at > retention;
        let missed: Vec<_> =
            self.emitted.iter().filter(open).filter(|emitted| emitted.is_for(known)).collect();
        let gap = missed.iter().any(|emitted| emitted.number <= dropped || is_old(emitted));
        match outcome {
            Ok(()) => {
                assert!(!late && !gap);
                let settled = missed.first().map_or(head, |first| first.number - 1);
                let missed = missed.iter().map(|emitted| emitted.number.to_string());
                known.expected.extend(missed.chain(["welcome".into()]));
                known.presence = Presence::Here;
                known.settled = known.settled.max(settled);
                known.caught_up = Some((head, self.now));
                known.pinged = None;
                if hears {
                    known.hear();
                    assert_eq!(client_heard(known), &known.expected[..]);
                }
                let client = known.client.as_ref().expect("present client");
                let mut rooms: Vec<_> = known.rooms.keys().copied().chain([known.id]).collect();
                rooms.sort_unstable();
                assert_eq!(client.rooms(), rooms);
            }
            Err(RecoveryError::Unknown | RecoveryError::Expired) => {
                assert!(late, "{} was away for {:?}", known.id, self.now - disconnected_at);
                known.presence = Presence::Never;
            }
            Err(RecoveryError::Overflow) => {
                // Refusing too many clients is allowed, but not because of events that concern none of them.
                let concerns = |emitted: &Emitted| emitted.concerns(known);
                let mut gone = self.emitted[..dropped as usize].iter().filter(open);
                let mut behind = self.emitted.iter().filter(open);
                assert!(gone.any(concerns) || behind.any(is_old), "refused without a gap");
                known.presence = Presence::Never;
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn finish(mut self) {
        for known in self.known.iter_mut().filter(|known| matches!(known.presence, Presence::Here)) {
            known.hear();
            assert_eq!(client_heard(known), &known.expected[..], "{}", known.id);
        }
        let stats = self.sequencer.usage();
        let away = self.known.iter().filter(|known| matches!(known.presence, Presence::Away { .. })).count();
        assert!(stats.sessions <= away && stats.events <= MAX_EVENTS);
    }
}

fn client_heard(known: &Known) -> &[String] {
    known.client.as_ref().map_or(&[], |client| &client.heard)
}

impl Known {
    /// Records the number of the last event that arrived.
    fn note(&mut self) {
        let Some(client) = &self.client else { return };
        let numbers = client.heard.iter().rev().find_map(|name| name.parse().ok());
        self.last = numbers.unwrap_or(self.last).max(self.last);
        if self.last > self.since {
            assert_eq!(client.last.as_deref(), Some(&*offset(self.last)));
        }
    }

    fn hear(&mut self) {
        if let Some(client) = &mut self.client {
            client.hear();
        }
        self.note();
    }
}

impl Emitted {
    fn concerns(&self, known: &Known) -> bool {
        let named = |room: &&str| {
            *room == known.id && self.number > known.since
                || known.rooms.get(room).is_some_and(|since| self.number > *since)
        };
        if self.rooms.is_empty() { self.number > known.since } else { self.rooms.iter().any(named) }
    }

    fn is_for(&self, known: &Known) -> bool {
        let excepted = |room: &&str| {
            let had_left = |(left, since, until): &(&str, u64, u64)| {
                left == room && (since + 1..=*until).contains(&self.number)
            };
            *room == known.id
                || known.rooms.get(room).is_some_and(|since| self.number > *since)
                || known.left.iter().any(had_left)
        };
        self.concerns(known) && self.skip != Some(known.id) && !self.except.iter().any(excepted)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn recovers_like_unbounded_reference(
        operations in proptest::collection::vec(operation(), 1..120),
    ) {
        let mut model = Model::new();
        operations.into_iter().for_each(|operation| model.apply(operation));
        model.finish();
    }
}
