//! Recovery of clients closed for being slow or overloading.

use roomcast_server::socket::CloseReason;
use roomcast_server::{Socket, json};

use crate::client::{CLOSE_PACKET, Client, Wire};
use crate::events::{Events, FLOOD};
use crate::support::{Combination, NEVER, Scene, config, only, side_by_side, single, strict, until, within};

/// Events while the client is disconnected.
const AWAY: usize = 8;

/// Events per write of a client that sends too much.
const BATCH: usize = 64;
/// Number of 1 KiB events that exceed every limit here.
const TOO_MANY: u64 = 8 * 1024;

/// Transports with recovery.
const RECOVERING: [Wire; 2] = [Wire::SocketIo, Wire::Polling];

/// Events received in order, and the offset of the last.
struct Heard {
    content: Events,
    events: usize,
    offset: String,
    wrong: Option<String>,
}

impl Heard {
    fn new() -> Self {
        Self { content: Events::flood(), events: 0, offset: String::new(), wrong: None }
    }

    /// Records an event, whose last argument is its offset.
    fn hear(&mut self, message: &[u8]) {
        let expected = self.content.heard(self.events);
        let offset = message.strip_prefix(&expected[..expected.len() - 1]);
        match offset.and_then(|rest| rest.strip_prefix(b",\"")?.strip_suffix(b"\"]")) {
            Some(offset) => {
                self.events += 1;
                self.offset = String::from_utf8_lossy(offset).into_owned();
            }
            None => {
                let beginning = String::from_utf8_lossy(&message[..message.len().min(60)]);
                self.wrong.get_or_insert_with(|| format!("`{beginning}` instead of event {}", self.events));
            }
        }
    }

    fn verdict(&mut self) -> Result<(), String> {
        self.wrong.take().map_or(Ok(()), Err)
    }

    /// Receives events up to a total count.
    async fn hear_to(&mut self, client: &mut Client, events: usize) -> Result<(), String> {
        while self.events < events {
            let message = within("an event", client.input.next()).await?;
            self.hear(&message.map_err(|end| format!("ended with {end:?} after {} events", self.events))?);
            self.verdict()?;
        }
        Ok(())
    }
}

/// Reconnects with the client's recovery token and checks the events it receives.
async fn comes_back(
    scene: &mut Scene,
    combination: Combination,
    client: Client,
    mut heard: Heard,
    events: usize,
) -> Result<(), String> {
    let (pid, sid) = (&client.welcome["pid"], client.welcome["sid"].clone());
    if !pid.is_string() {
        return Err("the welcome has no recovery token".into());
    }
    let id = client.socket.id().clone();
    let io = scene.io.clone();
    until("the old socket is gone", || io.count(&id) == 0).await?;
    let auth = json!({ "pid": pid, "offset": heard.offset }).to_string();
    let (mut back, missed) = scene.connect_again(combination.wire, &auth).await;
    missed.iter().for_each(|message| heard.hear(message));
    heard.verdict()?;
    if back.welcome["sid"] != sid || !back.socket.recovered() || back.socket.id() != &id {
        return Err(format!("recovered as {} instead of {sid}", back.welcome["sid"]));
    }
    // The client is still in its room.
    heard.content.emit(&scene.io, events..events + 1).await?;
    heard.hear_to(&mut back, events + 1).await?;
    scene.all_stay()
}

#[test]
fn recovers_slow_consumer_completely() {
    side_by_side(only(single(), &RECOVERING), async |combination| {
        let config = strict().recovery(|recovery| recovery);
        let mut scene = Scene::open(combination, config, |_| {});
        let mut client = scene.connect_narrow(combination.wire).await;
        let mut heard = Heard::new();
        heard.content.emit(&scene.io, 0..1).await?;
        heard.hear_to(&mut client, 1).await?;
        heard.content.emit(&scene.io, 1..FLOOD).await?;
        let (_, reason) = scene.departure().await?;
        if reason != CloseReason::SlowConsumer {
            return Err(format!("closed as {reason:?}"));
        }
        heard.content.emit(&scene.io, FLOOD..FLOOD + AWAY).await?;
        let end =
            within("the connection does not end", client.input.drain(|message| heard.hear(message))).await?;
        heard.verdict()?;
        let told = if combination.wire == Wire::Polling { CLOSE_PACKET } else { "slow consumer" };
        if end.text != told || heard.events >= FLOOD {
            return Err(format!("ended with {end:?} after {} events", heard.events));
        }
        comes_back(&mut scene, combination, client, heard, FLOOD + AWAY).await
    });
}

#[test]
fn recovers_overloaded_client_completely() {
    side_by_side(only(single(), &RECOVERING), async |combination| {
        let config = config()
            .recovery(|recovery| recovery)
            .limits(|limits| limits.max_event_bytes(64 * 1024).outbox_max(1 << 20));
        let mut scene = Scene::open(combination, config, |io| {
            io.main().serial(true);
            // While an ack is pending the server keeps reading, so events for this handler pile up.
            io.on("message", async |socket: Socket| {
                let _ = socket.timeout(NEVER).emit_with_ack("question", ()).await;
            });
        });
        let mut client = scene.connect(combination.wire).await;
        let mut heard = Heard::new();
        heard.content.emit(&scene.io, 0..1).await?;
        heard.hear_to(&mut client, 1).await?;
        let (io, mut sent) = (scene.io.clone(), 0);
        let before = io.metrics().messages_received();
        while io.metrics().overloaded() == 0 {
            // Stops sending once the connection is closed, so that no sent event is left unread.
            if client.output.emit_all((0..BATCH).map(|_| "x".repeat(1024))).await.is_err() {
                break;
            }
            sent += BATCH as u64;
            let dealt_with =
                || io.metrics().messages_received() - before >= sent || io.metrics().overloaded() > 0;
            until("the server reads", dealt_with).await?;
            if sent > TOO_MANY {
                return Err(format!("{sent} events wait for the handler without a close"));
            }
        }
        let (_, reason) = scene.departure().await?;
        if reason != CloseReason::Overloaded {
            return Err(format!("closed as {reason:?}"));
        }
        heard.content.emit(&scene.io, 1..1 + AWAY).await?;
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
