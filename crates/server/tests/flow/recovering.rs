//! Clients that were closed for being slow or too fast, and come back

use std::time::Duration;

use roomcast_server::{CloseReason, RecoveryConfig, Socket, Value, json};

use crate::client::{CLOSE_PACKET, Client, Wire};
use crate::support::{Combination, ROOM, Scene, config, only, side_by_side, single, strict, until, within};

/// Bytes of an event
const EVENT: usize = 16 * 1024;
/// Events that are more than what the kernel takes of them and may wait together, and less than what the log keeps
const EVENTS: usize = 512;
/// Events while the client is away
const AWAY: usize = 8;

/// Those whose clients can come back
const RECOVERING: [Wire; 2] = [Wire::SocketIo, Wire::Polling];

fn emit(scene: &Scene, numbers: std::ops::Range<usize>) -> Result<(), String> {
    let filler = "x".repeat(EVENT);
    for number in numbers {
        let emitted = scene.io.to(ROOM).emit("data", (number, &filler));
        emitted.map_err(|error| format!("emit {number}: {error}"))?;
    }
    Ok(())
}

/// Events in their order, and the offset of the last
#[derive(Default)]
struct Heard {
    events: usize,
    offset: String,
    wrong: Option<String>,
}

impl Heard {
    fn hear(&mut self, message: &[u8]) {
        let list: Vec<Value> = serde_json::from_slice(message).unwrap_or_default();
        match &list[..] {
            [name, number, filler, Value::String(offset)]
                if name == "data"
                    && *number == self.events
                    && filler.as_str().map(str::len) == Some(EVENT) =>
            {
                self.events += 1;
                self.offset.clone_from(offset);
            }
            _ => {
                let beginning = String::from_utf8_lossy(&message[..message.len().min(60)]);
                self.wrong.get_or_insert_with(|| format!("`{beginning}` instead of event {}", self.events));
            }
        }
    }

    fn verdict(&mut self) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)
    }

    /// Hears events until there were so many
    async fn hear_to(&mut self, client: &mut Client, events: usize) -> Result<(), String> {
        while self.events < events {
            let message = within("an event", client.input.next()).await?;
            self.hear(&message.map_err(|end| format!("ended with {end:?} after {} events", self.events))?);
            self.verdict()?;
        }
        Ok(())
    }
}

/// Comes back with what the client showed, and holds what it gets against what it was
async fn comes_back(
    scene: &mut Scene,
    combination: Combination,
    client: Client,
    mut heard: Heard,
    events: usize,
) -> Result<(), String> {
    let (pid, sid) = (&client.welcome["pid"], client.welcome["sid"].clone());
    if !pid.is_string() {
        return Err("it was never told how to come back".into());
    }
    let id = client.socket.id().clone();
    let io = scene.io.clone();
    until("the old socket is gone", || io.count(&id) == 0).await?;
    let auth = json!({ "pid": pid, "offset": heard.offset }).to_string();
    let (mut back, missed) = scene.connect_again(combination.wire, &auth).await;
    missed.iter().for_each(|message| heard.hear(message));
    heard.verdict()?;
    if back.welcome["sid"] != sid || !back.socket.recovered() || back.socket.id() != &id {
        return Err(format!("comes back as {} instead of {sid}", back.welcome["sid"]));
    }
    // Its room is still its own.
    emit(scene, events..events + 1)?;
    heard.hear_to(&mut back, events + 1).await?;
    scene.all_stay()
}

#[test]
fn slow_consumer_comes_back_whole() {
    side_by_side(only(single(), &RECOVERING), async |combination| {
        let config = strict().connection_state_recovery(RecoveryConfig::default());
        let mut scene = Scene::open(combination, config, |_| {});
        let mut client = scene.connect_narrow(combination.wire).await;
        let mut heard = Heard::default();
        emit(&scene, 0..1)?;
        heard.hear_to(&mut client, 1).await?;
        emit(&scene, 1..EVENTS)?;
        let (_, reason) = scene.departure().await?;
        if reason != CloseReason::SlowConsumer {
            return Err(format!("closed as {reason:?}"));
        }
        emit(&scene, EVENTS..EVENTS + AWAY)?;
        let end =
            within("the connection does not end", client.input.drain(|message| heard.hear(message))).await?;
        heard.verdict()?;
        let told = if combination.wire == Wire::Polling { CLOSE_PACKET } else { "slow consumer" };
        if end.text != told || heard.events >= EVENTS {
            return Err(format!("ended with {end:?} after {} events", heard.events));
        }
        comes_back(&mut scene, combination, client, heard, EVENTS + AWAY).await
    });
}

#[test]
fn overloaded_client_comes_back_whole() {
    side_by_side(only(single(), &RECOVERING), async |combination| {
        let config = config().connection_state_recovery(RecoveryConfig::default()).max_handlers(1);
        let mut scene = Scene::open(combination, config, |io| {
            io.of("/busy").on_connect(async |_: Socket| tokio::time::sleep(Duration::from_secs(60)).await);
        });
        let mut client = scene.connect(combination.wire).await;
        let mut heard = Heard::default();
        emit(&scene, 0..1)?;
        heard.hear_to(&mut client, 1).await?;
        // It comes and goes elsewhere until too many handlers are under way.
        for _ in 0..8 {
            if client.output.send("40/busy,").await.and(client.output.send("41/busy,").await).is_err() {
                break;
            }
        }
        let (_, reason) = scene.departure().await?;
        if reason != CloseReason::Overloaded {
            return Err(format!("closed as {reason:?}"));
        }
        emit(&scene, 1..1 + AWAY)?;
        let mut told = Vec::new();
        let end =
            within("the connection does not end", client.input.drain(|message| told.push(message.to_vec())))
                .await?;
        let expected = if combination.wire == Wire::Polling { CLOSE_PACKET } else { "overloaded" };
        if end.text != expected || told.iter().any(|packet| packet == b"41") {
            return Err(format!("ended with {end:?}"));
        }
        comes_back(&mut scene, combination, client, heard, 1 + AWAY).await
    });
}
