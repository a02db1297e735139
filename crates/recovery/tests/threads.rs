//! Threads that emit while clients disconnect and recover.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use roomcast_core::Router;
use roomcast_recovery::{Recovery, RecoveryConfig};
use support::{Client, Clock, OffsetCodec, emit, recovery};

const EMITTERS: usize = 4;
const CLIENTS: usize = 6;
const EVENTS: usize = 3_000;

/// Each client receives every event of its rooms once, in the order of the numbers, which is the order of each emitter,
/// even if its connection breaks repeatedly.
#[test]
fn recovers_exactly_once_in_order() {
    let clock = Clock::new();
    let sequencer = recovery(&clock, RecoveryConfig::new().max_log_events(usize::MAX));
    let codec: Arc<OffsetCodec> = Arc::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let client = Client::connect(&sequencer, &format!("c{index}"), &codec);
            client.join(room(index));
            client
        })
        .collect();
    let emitting = AtomicUsize::new(EMITTERS);
    let (sequencer, emitting) = (&*sequencer, &emitting);
    thread::scope(|scope| {
        for emitter in 0..EMITTERS {
            scope.spawn(move || {
                (0..EVENTS).for_each(|number| emit_one(sequencer, emitter, number));
                emitting.fetch_sub(1, Ordering::Release);
            });
        }
        for (index, client) in clients.into_iter().enumerate() {
            scope.spawn(move || come_and_go(client, index, emitting));
        }
    });
    assert_eq!(Router::stats(sequencer).members, CLIENTS);
}

/// Returns the room of a client: one for even indexes, the other for odd ones.
fn room(client: usize) -> &'static str {
    ["even", "odd"][client % 2]
}

fn emit_one(sequencer: &dyn Recovery, emitter: usize, number: usize) {
    let name = format!("{emitter}:{number}");
    match number % 3 {
        0 => emit(sequencer, &[], &name),
        1 => emit(sequencer, &["even"], &name),
        _ => emit(sequencer, &["even", "odd"], &name),
    }
}

fn come_and_go(mut client: Client, index: usize, emitting: &AtomicUsize) {
    let mut rng = fastrand::Rng::with_seed(index as u64);
    loop {
        let done = emitting.load(Ordering::Acquire) == 0;
        client.cut(rng.usize(..8));
        if rng.bool() {
            thread::yield_now();
        }
        client.come_back().expect("all events are retained");
        if done {
            break;
        }
    }
    client.hear();
    let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for name in client.heard.iter().filter(|name| *name != "welcome") {
        let (emitter, number) = name.split_once(':').expect("event name of this test");
        let [emitter, number] = [emitter, number].map(|part| part.parse().expect("a number"));
        next.entry(emitter).or_default().push(number);
    }
    for emitter in 0..EMITTERS {
        let meant = (0..EVENTS).filter(|number| number % 3 != 1 || room(index) == "even");
        assert!(next[&emitter].iter().copied().eq(meant), "client {index}, emitter {emitter}");
    }
}
