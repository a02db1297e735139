//! Clients that do not read are closed after their stall timeout, neither early nor much later.

use std::time::{Duration, Instant};

use roomcast_server::socket::CloseReason;

use crate::client::{CLOSE_PACKET, Client, End, Wire, hear_all};
use crate::events::{Events, FLOOD};
use crate::support::{
    STALL_TIMEOUT, Scene, Setting, combination, only, side_by_side, single, strict, within,
};

/// Waits until the client is closed as slow and checks the time since `from`.
async fn let_go(scene: &mut Scene, client: &Client, from: Instant) -> Result<(), String> {
    let (id, reason) = scene.departure().await?;
    let after = from.elapsed();
    if (&id, reason) != (client.socket.id(), CloseReason::SlowConsumer) {
        return Err(format!("closed {id} as {reason:?} after {after:?}"));
    }
    // Timers may be off by a tenth of the timeout.
    if after < STALL_TIMEOUT.mul_f32(0.9) {
        return Err(format!("closed after {after:?}, before its stall timeout"));
    }
    if after > STALL_TIMEOUT * SLACK {
        return Err(format!("closed only after {after:?}"));
    }
    scene.all_stay()
}

/// Factor by which a deadline may be missed on a busy machine.
const SLACK: u32 = 10;

/// Reads what a closed client still receives: the beginning of its backlog and the close reason.
async fn hear_the_end(client: &mut Client, wanted: &End) -> Result<(), String> {
    let (events, mut heard, mut wrong) = (Events::flood(), 0, None);
    let reading = client.input.drain(|message| {
        if message == events.heard(heard) {
            heard += 1;
        } else {
            wrong.get_or_insert_with(|| {
                String::from_utf8_lossy(&message[..message.len().min(80)]).into_owned()
            });
        }
    });
    let end = within("the connection does not end", reading).await?;
    match wrong {
        Some(wrong) => Err(format!("after {heard} events came `{wrong}`")),
        None if end != *wanted => Err(format!("ended with {end:?} after {heard} events")),
        None if heard == FLOOD => Err("nothing was missed".into()),
        None => Ok(()),
    }
}

/// Returns the end of a WebSocket.
fn policy_violation() -> End {
    End { code: Some(1008), text: "slow consumer".into() }
}

fn close_packet() -> End {
    End { code: None, text: CLOSE_PACKET.into() }
}

#[test]
fn closes_client_that_never_reads() {
    side_by_side(only(single(), &[Wire::Plain, Wire::SocketIo]), async |combination| {
        let events = Events::flood();
        let mut scene = Scene::open(combination, strict(), |_| {});
        let mut reader = scene.connect(combination.wire).await;
        let mut stalled = scene.connect_narrow(combination.wire).await;
        let began = Instant::now();
        let (emitted, heard) = tokio::join!(
            events.emit(&scene.io, 0..FLOOD),
            hear_all(vec![&mut reader.input], FLOOD, |_, number| events.heard(number)),
        );
        scene.explain(heard.and(emitted))?;
        let_go(&mut scene, &stalled, began).await?;
        hear_the_end(&mut stalled, &policy_violation()).await?;
        scene.nothing_follows(std::slice::from_mut(&mut reader)).await
    });
}

#[test]
fn closes_single_byte_reader() {
    // TLS is left out, since it reads whole records.
    let mut all = only(single(), &[Wire::Plain, Wire::SocketIo]);
    all.retain(|combination| !combination.tls);
    side_by_side(all, async |combination| {
        let events = Events::flood();
        let mut scene = Scene::open(combination, strict(), |_| {});
        let mut stalled = scene.connect_narrow(combination.wire).await;
        let began = Instant::now();
        events.emit(&scene.io, 0..FLOOD).await?;
        let input = &mut stalled.input;
        let trickle = async {
            // Ten times the intended pace, and a hundredth of the required one.
            while input.trickle().await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending().await
        };
        let departed = tokio::select! {
            departed = scene.departure() => departed,
            never = trickle => never,
        };
        let after = began.elapsed();
        match departed? {
            (_, CloseReason::SlowConsumer) if after >= STALL_TIMEOUT.mul_f32(0.9) => {}
            other => return Err(format!("{other:?} after {after:?}")),
        }
        let rest = within("the connection does not end", stalled.input.rest()).await?;
        if !rest.ends_with(b"\x88\x0f\x03\xf0slow consumer") {
            return Err(format!("ends with {}", rest[rest.len().saturating_sub(20)..].escape_ascii()));
        }
        Ok(())
    });
}

#[test]
fn closes_absent_poller() {
    side_by_side(only(single(), &[Wire::Polling]), async |combination| {
        let events = Events::flood();
        let mut scene = Scene::open(combination, strict(), |_| {});
        let mut reader = scene.connect(Wire::Polling).await;
        let mut absent = scene.connect(Wire::Polling).await;
        events.emit(&scene.io, 0..1).await?;
        absent.input.poll().await.map_err(|end| format!("the first poll: {end:?}"))?;
        let began = Instant::now();
        let (emitted, heard) = tokio::join!(
            events.emit(&scene.io, 1..FLOOD),
            hear_all(vec![&mut reader.input], FLOOD, |_, number| events.heard(number)),
        );
        scene.explain(heard.and(emitted))?;
        let_go(&mut scene, &absent, began).await?;
        hear_the_end(&mut absent, &close_packet()).await?;
        scene.nothing_follows(std::slice::from_mut(&mut reader)).await
    });
}

#[test]
fn closes_slow_reader_of_answer() {
    side_by_side(only(single(), &[Wire::Polling]), async |combination| {
        let events = Events::flood();
        let mut scene = Scene::open(combination, strict(), |_| {});
        let mut stalled = scene.connect_narrow(Wire::Polling).await;
        events.emit(&scene.io, 0..FLOOD).await?;
        // Sends a poll and does not read the answer.
        stalled.input.ask().await.map_err(|end| format!("the poll: {end:?}"))?;
        let began = Instant::now();
        events.emit(&scene.io, FLOOD..2 * FLOOD).await?;
        let_go(&mut scene, &stalled, began).await
    });
}

#[test]
fn keeps_client_with_small_backlog() {
    side_by_side(vec![combination(Setting::OneThread, Wire::Polling)], async |combination| {
        let events = Events::flood();
        let mut scene = Scene::open(combination, strict(), |_| {});
        let mut away = [scene.connect(Wire::Polling).await];
        // Half of the backlog below which the stall clock does not run.
        events.emit(&scene.io, 0..2).await?;
        tokio::time::sleep(STALL_TIMEOUT.mul_f32(2.5)).await;
        scene.all_stay()?;
        scene.hear(&mut away, 2, |_, number| events.heard(number)).await
    });
}

#[test]
fn keeps_steady_slow_reader() {
    side_by_side(only(single(), &[Wire::Plain, Wire::SocketIo]), async |combination| {
        let events = Events::flood();
        let mut scene = Scene::open(combination, strict(), |_| {});
        let mut steady = [scene.connect_narrow(combination.wire).await];
        events.emit(&scene.io, 0..FLOOD).await?;
        let began = Instant::now();
        for number in 0..FLOOD {
            let heard = hear_all(vec![&mut steady[0].input], 1, |_, _| events.heard(number)).await;
            scene.explain(heard)?;
            // Two megabytes per second, for four times the stall timeout.
            tokio::time::sleep_until((began + Duration::from_millis(8) * number as u32).into()).await;
        }
        scene.nothing_follows(&mut steady).await?;
        scene.all_stay()
    });
}
