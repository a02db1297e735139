//! Room membership: joining and leaving among many memberships.
//!
//! Measured, on one thread: one member joins one more room and leaves it again; one client is attached, joins a
//! room, and goes away; all in a process that already has so many memberships, in rooms of 100 members, where
//! each member is in 10. Members and rooms are gone through in steps, so that caches help no more than they would
//! in a server. Not measured: threads that meet, and what the application does about it.

mod common;

use criterion::{BatchSize, BenchmarkId, Throughput};
use roomcast_core::{FlushList, Joined, MemberKey, Room, Router};
use roomcast_plain::Mode;
use roomcast_rooms::Rooms;

use common::{member, settings};

const MEMBERSHIPS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ROOMS_OF_EACH: usize = 10;
const MEMBERS_OF_EACH: usize = 100;
/// A step without a common factor with the numbers of members and rooms.
const STEP: usize = 7_919;

fn main() {
    let mut criterion = settings();
    for memberships in MEMBERSHIPS {
        let town = Town::with(memberships);
        let mut group = criterion.benchmark_group("rooms");
        group.throughput(Throughput::Elements(1));
        let mut at = 0;
        group.bench_function(BenchmarkId::new("join_and_leave", memberships), |bencher| {
            bencher.iter(|| {
                at = (at + STEP) % town.keys.len();
                // Behind those that it is in, which follow each other.
                let room = &town.names[(at + ROOMS_OF_EACH) % town.names.len()];
                assert_eq!(town.rooms.join(town.keys[at], room), Joined::Joined);
                town.rooms.leave(town.keys[at], room)
            });
        });
        let (codec, flush) = (Mode::Plain.codec(), FlushList::new());
        let mut number = town.keys.len();
        group.bench_function(BenchmarkId::new("come_and_go", memberships), |bencher| {
            bencher.iter_batched(
                || {
                    number += STEP;
                    (member(number, &codec, &flush), &town.names[number % town.names.len()])
                },
                |(member, room)| {
                    let key = town.rooms.attach(member);
                    town.rooms.join(key, room);
                    town.rooms.detach(key)
                },
                BatchSize::SmallInput,
            );
        });
    }
    criterion.final_summary();
}

/// Members and rooms, every member in ten.
struct Town {
    rooms: Rooms,
    keys: Vec<MemberKey>,
    names: Vec<Room>,
}

impl Town {
    fn with(memberships: usize) -> Self {
        let (codec, flush, rooms) = (Mode::Plain.codec(), FlushList::new(), Rooms::default());
        let members = memberships / ROOMS_OF_EACH;
        // One more than a member is in, so that another room is always available.
        let count = (memberships / MEMBERS_OF_EACH).max(ROOMS_OF_EACH + 1);
        let names: Vec<_> = (0..count).map(|number| Room::new(format!("room-{number}"))).collect();
        let keys: Vec<_> = (0..members).map(|number| rooms.attach(member(number, &codec, &flush))).collect();
        for (at, key) in keys.iter().enumerate() {
            for room in names.iter().cycle().skip(at % count).take(ROOMS_OF_EACH) {
                rooms.join(*key, room);
            }
        }
        Self { rooms, keys, names }
    }
}
