//! Results of emits to clients that no longer receive events.

use roomcast_server::EmitError;
use roomcast_server::emit::{Overflow, Receipt};
use roomcast_server::socket::CloseReason;

use crate::client::{CLOSE_PACKET, End, Wire, halves, hear_all};
use crate::events::{Events, FLOOD_BYTES};
use crate::support::{ROOM, Scene, Setting, combination, each, patient, single, until, within};

#[test]
fn emit_fails_for_closed_client() {
    each(single(), async |combination| {
        let mut scene = Scene::open(combination, patient(), |_| {});
        let client = scene.connect(combination.wire).await;
        let socket = client.socket.clone();
        let queued = socket.emit("data", 0).map_err(|error| error.to_string())?;
        if queued != (Receipt { queued: 1, ..Receipt::default() }) {
            return Err(format!("before the close: {queued:?}"));
        }
        socket.disconnect_client();
        scene.departure().await?;
        let kinds = [
            ("emit", socket.emit("data", 1)),
            ("send", socket.send("data")),
            ("overflow", socket.overflow(Overflow::Close).emit("data", 1)),
        ];
        for (kind, emitted) in kinds {
            match emitted {
                Err(EmitError::Disconnected) => {}
                other => return Err(format!("{kind} after the close: {other:?}")),
            }
        }
        Ok(())
    });
}

/// Hard cap that is reached quickly.
const OUTBOX_MAX: usize = 1024 * 1024;
/// Number of events that exceed the kernel buffers and the hard cap together.
const EVENTS: usize = 1024;

#[test]
fn emit_beyond_hard_cap_fails() {
    each(single(), async |combination| {
        let config = patient().limits(|limits| limits.outbox_limit(64 * 1024).outbox_max(OUTBOX_MAX));
        let mut scene = Scene::open(combination, config, |_| {});
        let mut stalled = scene.connect_narrow(combination.wire).await;
        let (events, mut queued) = (Events::flood(), 0);
        let failed = loop {
            let before = stalled.socket.waiting_bytes();
            match stalled.socket.emit("data", events.args(queued)) {
                Ok(Receipt { queued: 1, closed: 0, dropped: 0, .. }) => queued += 1,
                Err(EmitError::OutboxFull) => break before,
                other => return Err(format!("emit {queued}, with {before} bytes waiting: {other:?}")),
            }
            if queued > EVENTS {
                return Err("no emit to an unreading client fails".into());
            }
        };
        // The first frame that does not fit, and the frames a writer holds: they count, but are not reported as
        // waiting. They are up to half of `outbox_limit` and the rest of a frame.
        if failed < OUTBOX_MAX - 4 * FLOOD_BYTES {
            return Err(format!("an emit failed when {failed} bytes waited"));
        }
        let (_, reason) = scene.departure().await?;
        if reason != CloseReason::OutboxFull {
            return Err(format!("closed as {reason:?}"));
        }
        let mut heard = 0;
        let reading = stalled.input.drain(|message| heard += usize::from(message == events.heard(heard)));
        let End { text, .. } = within("the connection does not end", reading).await?;
        let told = if combination.wire == Wire::Polling { CLOSE_PACKET } else { "outbox full" };
        if text != told || heard > queued {
            return Err(format!("ended with {text:?} after {heard} of {queued} events"));
        }
        Ok(())
    });
}

#[test]
fn room_receipt_counts_closed_members() {
    each(vec![combination(Setting::TwoThreads, Wire::Plain)], async |combination| {
        let config = patient().limits(|limits| limits.outbox_limit(64 * 1024).outbox_max(OUTBOX_MAX));
        let mut scene = Scene::open(combination, config, |_| {});
        let mut reader = [scene.connect(Wire::Plain).await];
        let stalled = [scene.connect_narrow(Wire::Plain).await, scene.connect_narrow(Wire::SocketIo).await];
        let (events, mut emitted, mut closed) = (Events::flood(), 0, 0);
        while closed < stalled.len() {
            let receipt = scene.io.to(ROOM).emit("data", events.args(emitted));
            let receipt = receipt.map_err(|error| error.to_string())?;
            if receipt.queued + receipt.closed > 3 || receipt.queued == 0 || receipt.dropped > 0 {
                return Err(format!("emit {emitted}: {receipt:?}"));
            }
            if closed == 0 && receipt.queued + receipt.closed != 3 {
                return Err(format!("emit {emitted} lost a member: {receipt:?}"));
            }
            closed += receipt.overflowed;
            hear_all(halves(&mut reader).0, 1, |_, _| events.heard(emitted)).await?;
            emitted += 1;
            if emitted > EVENTS {
                return Err(format!("only {closed} were counted as closed"));
            }
        }
        let io = scene.io.clone();
        until("both have left the room", || io.count(ROOM) == 1).await?;
        let receipt = io.to(ROOM).emit("data", events.args(emitted)).map_err(|error| error.to_string())?;
        if receipt != (Receipt { queued: 1, ..Receipt::default() }) {
            return Err(format!("receipt of the remaining client: {receipt:?}"));
        }
        hear_all(halves(&mut reader).0, 1, |_, _| events.heard(emitted)).await?;
        scene.nothing_follows(&mut reader).await
    });
}
