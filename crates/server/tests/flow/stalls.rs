//! Readers among stalled clients, and blocked threads.

use std::time::{Duration, Instant};

use roomcast_server::rooms::Room;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Bytes, Io, Socket};
use tokio::sync::watch;

use crate::client::{Client, Wire, halves, hear_all, message};
use crate::events::{Events, FLOOD, FLOOD_BYTES};
use crate::support::{
    ROOM, STALL_TIMEOUT, Scene, Setting, combination, config, diagonal, each, patient, side_by_side, single,
    strict, within,
};

/// Room of the clients without a stalled member.
const ELSEWHERE: &str = "elsewhere";

/// Relays each message to the room of its sender.
fn relays(io: &Io) {
    io.on("message", async |socket: Socket, text: String| {
        let elsewhere = socket.rooms().contains(&Room::from(ELSEWHERE));
        let room = if elsewhere { ELSEWHERE } else { ROOM };
        socket.io().to(room).emit("message", text).map(drop)
    });
}

/// Returns a text of 1 KiB that starts with its number.
fn kibibyte(number: usize) -> String {
    format!("{number:01024}")
}

/// Measures the time until all readers have received what the first of them sends.
async fn relay_round(scene: &mut Scene, readers: &mut [Client]) -> Result<Duration, String> {
    const MESSAGES: usize = 500;
    let began = Instant::now();
    let (inputs, mut outputs) = halves(readers);
    let (sent, heard) = tokio::join!(
        outputs[0].emit_all((0..MESSAGES).map(kibibyte)),
        hear_all(inputs, MESSAGES, |wire, number| message(wire, &kibibyte(number))),
    );
    let took = began.elapsed();
    scene.explain(heard.and(sent))?;
    Ok(took)
}

#[test]
fn stalled_member_does_not_slow_others() {
    each(diagonal(), async |combination| {
        let events = Events::flood();
        let mut scene = Scene::open_alone(combination, patient(), relays);
        let mut readers = scene.connect_all(combination.wire, 4).await;
        let mut others = scene.connect_all(combination.wire, readers.len()).await;
        // There may be more clients, so that both threads have some.
        for (at, other) in others.iter().enumerate() {
            other.socket.leave(ROOM);
            if at < readers.len() {
                other.socket.join(ELSEWHERE);
            }
        }
        let stalled = scene.connect_narrow(combination.wire).await;
        let (inputs, _) = halves(&mut readers);
        let (emitted, heard) = tokio::join!(
            events.emit(&scene.io, 0..FLOOD),
            hear_all(inputs, FLOOD, |_, number| events.heard(number)),
        );
        scene.explain(heard.and(emitted))?;
        // Other load on the machine disturbs some rounds; a stalled member would disturb all.
        let (mut with, mut without, mut rounds) = (Duration::MAX, Duration::MAX, 0);
        while rounds < 3 || with > without.mul_f32(1.5) {
            with = with.min(relay_round(&mut scene, &mut readers).await?);
            without = without.min(relay_round(&mut scene, &mut others[..readers.len()]).await?);
            rounds += 1;
            if rounds > 20 {
                return Err(format!("a round takes {with:?} instead of {without:?}"));
            }
        }
        println!("a round takes {with:?}, and {without:?} without a stalled member");
        scene.all_stay()?;
        let waiting = stalled.socket.waiting_bytes();
        if waiting < 1024 * 1024 {
            return Err(format!("only {waiting} bytes wait for the client that does not read"));
        }
        readers.append(&mut others);
        scene.nothing_follows(&mut readers).await
    });
}

/// Time for which a thread is blocked; `PATIENCE` is the stall timeout.
const BLOCKED: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_millis(1500);
/// Fills all outboxes and blocks its thread.
fn blocks(io: &Io, done: watch::Sender<bool>) {
    io.on("message", move |socket: Socket, _: String| {
        let events = Events::flood();
        for number in 0..FLOOD {
            let _ = socket.io().to(ROOM).emit("data", events.args(number));
        }
        std::thread::sleep(BLOCKED);
        done.send_replace(true);
        async {}
    });
}

#[test]
fn blocked_thread_closes_no_client() {
    side_by_side(single(), async |combination| {
        let (done, mut woke) = watch::channel(false);
        let events = Events::flood();
        let config = config().timeouts(|timeouts| timeouts.stall_timeout(PATIENCE));
        let mut scene = Scene::open(combination, config, |io| blocks(io, done));
        let mut readers = scene.connect_all(combination.wire, 2).await;
        // A single thread writes to no client while blocked, so one client does not read during that time.
        let mut late = Vec::new();
        if combination.setting == Setting::OneThread {
            late.push(scene.connect_narrow(combination.wire).await);
        }
        let (late_inputs, _) = halves(&mut late);
        let (inputs, mut outputs) = halves(&mut readers);
        let (said, heard, heard_late) = tokio::join!(
            // With polling, this is answered once the thread is free.
            outputs[0].say("block"),
            hear_all(inputs, FLOOD, |_, number| events.heard(number)),
            async {
                within("the thread stays blocked", woke.wait_for(|woke| *woke)).await?.expect("it wakes");
                hear_all(late_inputs, FLOOD, |_, number| events.heard(number)).await
            },
        );
        scene.explain(heard.and(heard_late).and(said))?;
        readers.append(&mut late);
        scene.nothing_follows(&mut readers).await?;
        scene.all_stay()
    });
}

/// Number of clients that do not read.
const CROWD: usize = 200;
/// Factor by which a deadline may be missed on a busy machine.
const SLACK: u32 = 10;

#[test]
fn closes_stalled_crowd_in_time() {
    each(vec![combination(Setting::TwoThreads, Wire::Plain)], async |combination| {
        let budget = 64 * 1024 * 1024;
        let mut scene =
            Scene::open_alone(combination, strict().limits(|limits| limits.memory_budget(budget)), |_| {});
        let mut readers = scene.connect_all(combination.wire, 4).await;
        let mut crowd = Vec::new();
        for number in 0..CROWD {
            crowd.push(scene.connect_narrow([Wire::Plain, Wire::SocketIo][number % 2]).await);
        }
        let before = resident();
        // The first events fill the kernel buffers of each client.
        let (large, small) = (Events::flood(), Events::new(1024));
        let events = |number| if number < 2 * FLOOD / 3 { &large } else { &small };
        let (began, mut emitted, mut gone, mut first, mut most) = (Instant::now(), 0, 0, None, 0);
        while gone < CROWD {
            let receipt = scene.io.to(ROOM).emit("data", events(emitted).args(emitted));
            let receipt = receipt.map_err(|error| error.to_string())?;
            if receipt.dropped > 0 || receipt.queued < readers.len() {
                return Err(format!("emit {emitted}: {receipt:?}"));
            }
            let (inputs, _) = halves(&mut readers);
            let heard = hear_all(inputs, 1, |_, _| events(emitted).heard(emitted)).await;
            scene.explain(heard)?;
            emitted += 1;
            if emitted > FLOOD {
                // The pause bounds the crowd's backlog independently of the machine's speed.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            most = most.max(resident().saturating_sub(before));
            for (id, reason) in scene.departed() {
                let elapsed = began.elapsed();
                first.get_or_insert(elapsed);
                gone += 1;
                if reason != CloseReason::SlowConsumer
                    || readers.iter().any(|reader| *reader.socket.id() == id)
                {
                    return Err(format!("{id} was closed as {reason:?} after {elapsed:?}"));
                }
            }
            if began.elapsed() > (STALL_TIMEOUT + Duration::from_secs(1)) * SLACK {
                return Err(format!("only {gone} were closed in {:?}", began.elapsed()));
            }
        }
        println!(
            "{emitted} events, memory grew by {} KiB, the last left after {:?}",
            most / 1024,
            began.elapsed()
        );
        if first < Some(STALL_TIMEOUT.mul_f32(0.9)) {
            return Err(format!("the first was closed after {first:?}"));
        }
        if most > budget + MEMORY_SLACK {
            return Err(format!("memory grew by {most} bytes"));
        }
        drop(crowd);
        scene.nothing_follows(&mut readers).await
    });
}

/// Memory beyond what the server counts: clients, stacks, allocator overhead.
const MEMORY_SLACK: u64 = 48 * 1024 * 1024;

#[test]
fn budget_evicts_longest_stalled_first() {
    const BUDGET: u64 = 32 * 1024 * 1024;
    const STALLED: usize = 12;
    each(vec![combination(Setting::TwoThreads, Wire::Plain)], async |combination| {
        let config = patient().limits(|limits| limits.memory_budget(BUDGET));
        let mut scene = Scene::open_alone(combination, config, |_| {});
        let mut readers = scene.connect_all(combination.wire, 2).await;
        let before = resident();
        let events = Events::flood();
        let (mut crowd, mut emitted, mut most) = (Vec::new(), 0, 0);
        for _ in 0..STALLED {
            let stalled = scene.connect_narrow(Wire::Plain).await;
            // More than the kernel buffers, separately for each client.
            for _ in 0..FLOOD {
                let _ = stalled.socket.send(Bytes::from(vec![1; FLOOD_BYTES]));
                if emitted % 64 == 0 {
                    let emitted = scene.io.emit("data", events.args(emitted / 64));
                    emitted.map_err(|error| error.to_string())?;
                    most = most.max(resident().saturating_sub(before));
                }
                emitted += 1;
            }
            until_quiet(&stalled.socket).await;
            crowd.push(stalled);
        }
        let heard = hear_all(halves(&mut readers).0, emitted / 64, |_, number| events.heard(number)).await;
        scene.explain(heard)?;
        // The clients stalled in this order, so the evicted ones come first.
        let stays: Vec<_> = crowd.iter().map(|client| client.socket.is_connected()).collect();
        let evicted = stays.iter().filter(|stays| !**stays).count();
        println!("{evicted} of {STALLED} evicted, memory grew by {} KiB", most / 1024);
        if evicted == 0 || !stays.is_sorted() {
            return Err(format!("still connected, in order of stalling: {stays:?}"));
        }
        for _ in 0..evicted {
            let (id, reason) = scene.departure().await?;
            if reason != CloseReason::SlowConsumer {
                return Err(format!("evicted {id} as {reason:?}"));
            }
        }
        scene.all_stay()?;
        if most > BUDGET + MEMORY_SLACK {
            return Err(format!("memory grew by {most} bytes"));
        }
        scene.nothing_follows(&mut readers).await
    });
}

/// Waits until the kernel accepts no more for a client, since any write counts as progress.
async fn until_quiet(socket: &Socket) {
    let (mut waiting, mut since) = (socket.waiting_bytes(), Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if socket.waiting_bytes() != waiting {
            (waiting, since) = (socket.waiting_bytes(), Instant::now());
        }
    }
}

/// Returns the resident memory of this process in bytes, or 0 where it is unknown.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes * 1024
}
