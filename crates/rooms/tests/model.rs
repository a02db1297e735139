//! Random operations, compared with a simple reference router.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};
use roomcast_core::{
    Bytes, Delivery, Event, IntoArgs, MemberKey, Membership, Namespace, Overflow, Room, Router, SocketId,
    Target, WatchFilter,
};
use roomcast_rooms::Rooms;
use roomcast_testkit::{AnswerLog, MemberProbe, MemoryRouter, RoomLog, TextCodec};

const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Three plain rooms, and two with the ids of sockets.
const ROOMS: [&str; 5] = ["r", "s", "t", "a", "b"];
const NAMES: [&str; 9] = ["r", "s", "t", "a", "b", "c", "d", "e", "nobody"];

#[derive(Debug, Clone)]
enum Operation {
    Attach { id: &'static str, kind: usize },
    Detach(Index),
    Join(Index, &'static str),
    Leave(Index, &'static str),
    Update { to: To, join: bool, rooms: Vec<&'static str> },
    Broadcast { to: To, event: Shape },
    Watch(WatchFilter),
    Send(Index, Overflow, Shape),
}

#[derive(Debug, Clone)]
struct To {
    rooms: Vec<&'static str>,
    except: Vec<&'static str>,
    skip: Option<Index>,
    delivery: Delivery,
    overflow: Overflow,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    binary: bool,
    asks: bool,
    keyed: bool,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (select(&IDS[..]), 0..5usize).prop_map(|(id, kind)| Operation::Attach { id, kind }),
        1 => any::<Index>().prop_map(Operation::Detach),
        4 => (any::<Index>(), select(&ROOMS[..])).prop_map(|(who, room)| Operation::Join(who, room)),
        2 => (any::<Index>(), select(&ROOMS[..])).prop_map(|(who, room)| Operation::Leave(who, room)),
        1 => (to(), any::<bool>(), subsequence(&NAMES[..], 1..3))
            .prop_map(|(to, join, rooms)| Operation::Update { to, join, rooms }),
        6 => (to(), shape()).prop_map(|(to, event)| Operation::Broadcast { to, event }),
        1 => filter().prop_map(Operation::Watch),
        1 => (any::<Index>(), overflow(), shape()).prop_map(|(who, how, event)| Operation::Send(who, how, event)),
    ]
}

fn to() -> impl Strategy<Value = To> {
    let delivery = select(&[Delivery::Reliable, Delivery::Volatile][..]);
    // Names may repeat.
    let rooms = proptest::collection::vec(select(&NAMES[..]), 0..4);
    let except = proptest::collection::vec(select(&NAMES[..]), 0..3);
    (rooms, except, any::<Option<Index>>(), delivery, overflow())
        .prop_map(|(rooms, except, skip, delivery, overflow)| To { rooms, except, skip, delivery, overflow })
}

fn filter() -> impl Strategy<Value = WatchFilter> {
    select(&[WatchFilter::Members, WatchFilter::Rooms, WatchFilter::JoinedRooms][..])
}

fn overflow() -> impl Strategy<Value = Overflow> {
    select(&[Overflow::Close, Overflow::DropNewest, Overflow::DropOldest, Overflow::KeepLatest][..])
}

fn shape() -> impl Strategy<Value = Shape> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(binary, asks, keyed)| Shape {
        binary,
        asks,
        keyed,
    })
}

/// Router with a separate copy of each member.
struct Side<R> {
    router: R,
    codecs: [Arc<TextCodec>; 3],
    attached: Vec<(MemberKey, MemberProbe)>,
    logs: Vec<Arc<RoomLog>>,
}

impl<R: Router> Side<R> {
    fn new(router: R) -> Self {
        let codecs = [TextCodec::new("x"), TextCodec::new("y"), TextCodec::limited("z")];
        Self { router, codecs, attached: Vec::new(), logs: Vec::new() }
    }

    fn attach(&mut self, id: &str, kind: usize) {
        let codec = &self.codecs[kind % self.codecs.len()];
        let probe = match kind {
            // Kind 3 overflows soon, and kind 4 has no connection.
            3 => MemberProbe::with_limit(id, codec, 400),
            4 => MemberProbe::detached(id, codec, 400),
            _ => MemberProbe::new(id, codec),
        };
        self.attached.push((self.router.attach(probe.member()), probe));
    }

    fn member(&self, who: &Index) -> Option<&(MemberKey, MemberProbe)> {
        (!self.attached.is_empty()).then(|| who.get(&self.attached))
    }

    fn key(&self, who: &Index) -> MemberKey {
        self.member(who).map_or(MemberKey(u64::MAX), |(key, _)| *key)
    }

    fn target(&self, to: &To) -> Target {
        Target {
            rooms: rooms(&to.rooms),
            except: rooms(&to.except),
            skip: to.skip.as_ref().map(|who| self.key(who)),
            delivery: to.delivery,
            overflow: to.overflow,
            ..Target::default()
        }
    }

    /// Performs an operation; returns everything visible of its outcome, except received events.
    fn perform(&mut self, number: usize, operation: &Operation) -> String {
        let outcome = match operation {
            Operation::Attach { id, kind } => {
                self.attach(id, *kind);
                String::new()
            }
            Operation::Detach(who) => format!("{:?}", self.router.detach(self.key(who))),
            Operation::Join(who, room) => {
                format!("{:?}", self.router.join(self.key(who), &Room::from(*room)))
            }
            Operation::Leave(who, room) => {
                format!("{:?}", self.router.leave(self.key(who), &Room::from(*room)))
            }
            Operation::Update { to, join, rooms: names } => {
                let names = rooms(names);
                let change = if *join { Membership::Join(names) } else { Membership::Leave(names) };
                format!("{:?}", self.router.update(&self.target(to), &change))
            }
            Operation::Broadcast { to, event: shape } => {
                let (event, log) = event(number, *shape);
                let receipt = self.router.broadcast(&self.target(to), &event).flush_backlog();
                format!(
                    "{receipt:?} {:?} {:?} {}",
                    log.requested(),
                    log.unanswered(),
                    self.named(&self.target(to))
                )
            }
            Operation::Watch(filter) => {
                let log = RoomLog::new();
                self.router.watch(log.clone(), *filter);
                self.logs.push(log);
                String::new()
            }
            Operation::Send(who, overflow, shape) => {
                let Some((_, probe)) = self.member(who) else { return String::new() };
                let (mut event, log) = event(number, *shape);
                let receipt = self
                    .router
                    .send(&probe.member(), Delivery::Reliable, *overflow, &mut event)
                    .flush_backlog();
                format!("{receipt:?} {:?} {:?}", log.requested(), log.unanswered())
            }
        };
        // The order of iteration is unspecified; the logs check the order within each room.
        let mut changes: Vec<_> = self.logs.iter().map(|log| log.take()).collect();
        changes.iter_mut().for_each(|changes| changes.sort());
        let counts = NAMES.map(|name| self.router.count(&Room::from(name)));
        let owed: Vec<_> = self.attached.iter().map(|(_, probe)| probe.acks().len()).collect();
        format!("{outcome} {changes:?} {counts:?} {owed:?} {}", self.encoded())
    }

    fn named(&self, target: &Target) -> String {
        let found = self.router.find(target).into_iter().map(|mut found| {
            found.rooms[1..].sort();
            (found.id, found.rooms)
        });
        let mut named: Vec<_> = found.collect();
        named.sort();
        format!("{named:?}")
    }

    fn encoded(&self) -> String {
        format!("{:?}", self.codecs.each_ref().map(|codec| codec.encoded()))
    }

    fn rooms_of(&self, key: MemberKey) -> Vec<Room> {
        let mut of_member = self.router.rooms_of(key);
        // Own room first, the others in no particular order.
        if let [_, joined @ ..] = of_member.as_mut_slice() {
            joined.sort();
        }
        of_member
    }

    fn received(&self) -> Vec<Vec<String>> {
        let each = self.attached.iter().map(|(_, probe)| {
            probe.connect();
            probe.received()
        });
        each.collect()
    }
}

fn event(number: usize, shape: Shape) -> (Event, Arc<AnswerLog>) {
    let args = if shape.binary {
        (number, Bytes::from_static(b"picture")).into_args()
    } else {
        (number,).into_args()
    };
    let mut event = Event::new(Namespace::main(), "news", args.expect("numbers and bytes are arguments"));
    let (request, log) = AnswerLog::request(number as u64);
    event.ack = shape.asks.then_some(request);
    event.key = shape.keyed.then(|| "key".into());
    (event, log)
}

fn rooms(names: &[&str]) -> Vec<Room> {
    names.iter().copied().map(Room::from).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_memory_router(operations in proptest::collection::vec(operation(), 1..80)) {
        let (mut rooms, mut model) = (Side::new(Rooms::default()), Side::new(MemoryRouter::default()));
        for (number, operation) in operations.iter().enumerate() {
            let (here, there) = (rooms.perform(number, operation), model.perform(number, operation));
            prop_assert_eq!(here, there, "operation {}: {:?}", number, operation);
        }
        let mut joined = BTreeSet::new();
        for ((key, probe), (model_key, _)) in rooms.attached.iter().zip(&model.attached) {
            let here = rooms.rooms_of(*key);
            prop_assert_eq!(&here, &model.rooms_of(*model_key), "{}", probe.id());
            joined.extend(here.into_iter().skip(1));
        }
        prop_assert_eq!(rooms.router.room_count(), joined.len());
        prop_assert_eq!(rooms.router.stats(), model.router.stats());
        let names: BTreeSet<_> = rooms.router.room_names().into_iter().collect();
        prop_assert_eq!(names, joined);
        let received = rooms.received();
        prop_assert_eq!(&received, &model.received());

        for (key, _) in &rooms.attached {
            rooms.router.detach(*key);
        }
        prop_assert_eq!((rooms.router.room_count(), rooms.router.member_count()), (0, 0));
        prop_assert!(IDS.iter().all(|id| rooms.router.count(&Room::from(*id)) == 0));
    }
}

#[test]
fn model_delivers_and_reports_answers() {
    // Guards the test above against agreement on nothing.
    let mut side = Side::new(MemoryRouter::default());
    side.attach("a", 0);
    let everybody = To {
        rooms: vec![],
        except: vec![],
        skip: None,
        delivery: Delivery::Reliable,
        overflow: Overflow::Close,
    };
    let shape = Shape { binary: false, asks: true, keyed: false };
    let outcome = side.perform(7, &Operation::Broadcast { to: everybody, event: shape });
    assert!(outcome.starts_with("Receipt { queued: 1,"), "{outcome}");
    assert_eq!(side.received(), [["x:news[7]#7"]]);
    assert_eq!(
        side.named(&Target::default()),
        format!("{:?}", [(SocketId::from("a"), vec![Room::from("a")])])
    );
}
