//! Clients that send more than is written at once: they are slowed down, never closed or stuck.

use roomcast_server::emit::AckError;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Args, Io, Socket};
use tokio::sync::{mpsc, oneshot, watch};

use crate::client::{Client, Output, Wire, halves, hear_all, message};
use crate::support::{
    Combination, NEVER, ROOM, Scene, Setting, combination, config, diagonal_and_more, each, matrix, only,
    patient, single, until, until_it_stands, within,
};

/// Returns a text of this size that starts with its number.
fn text(number: usize, bytes: usize) -> String {
    format!("{number:0bytes$}")
}

fn echoes(io: &Io) {
    io.on("message", async |socket: Socket, text: String| socket.emit("message", text).map(drop));
}

/// Sends each message to all other clients.
fn relays_to_others(io: &Io) {
    io.on("message", async |socket: Socket, text: String| socket.broadcast().emit("message", text).map(drop));
}

/// Bytes that a client writes before it reads.
const UNREAD: usize = 2 * 1024 * 1024;
/// Upper bound: with the overhead of each frame it stays below half of `outbox_max`.
const UNREAD_MOST: usize = 28 * 1024 * 1024;
/// Overhead of a small text frame from a client.
const FRAME_HEADER: usize = 6;

#[test]
fn late_reader_gets_every_echo() {
    each(matrix(Some(combination(Setting::TwoThreads, Wire::SocketIo))), async |combination| {
        // Small frames of this total would exceed the cap by their overhead.
        let bytes = if combination.factor == 16 { 1024 } else { 100 };
        let unread = (UNREAD * combination.factor).min(UNREAD_MOST);
        read_late(combination, unread / (bytes + FRAME_HEADER), bytes).await
    });
}

#[test]
fn late_reader_gets_tiny_echoes() {
    each(vec![combination(Setting::TwoThreads, Wire::Plain)], async |combination| {
        read_late(combination, UNREAD / (10 + FRAME_HEADER), 10).await
    });
}

/// Writes `messages` echoed messages, then reads them all.
async fn read_late(combination: Combination, messages: usize, bytes: usize) -> Result<(), String> {
    let mut scene = Scene::open(combination, patient(), echoes);
    let mut client = scene.connect_narrow(combination.wire).await;
    let sent = client.output.emit_all((0..messages).map(|number| text(number, bytes)));
    let sent = within("the server stops reading", sent).await.and_then(|sent| sent).map_err(|failure| {
        let waiting = client.socket.waiting_bytes();
        format!("{failure}; {waiting} bytes of {messages} messages wait")
    });
    scene.explain(sent)?;
    let heard = |wire, number| message(wire, &text(number, bytes));
    scene.hear(std::slice::from_mut(&mut client), messages, heard).await?;
    scene.all_stay()
}

#[test]
fn mutual_floods_arrive_whole() {
    const MESSAGES: usize = 4_000;
    each(matrix(Some(combination(Setting::TwoThreads, Wire::Plain))), async |combination| {
        let messages = MESSAGES * combination.factor;
        let mut scene = Scene::open(combination, config(), relays_to_others);
        let mut clients = scene.connect_all(combination.wire, 2).await;
        // With two threads there may be more clients; the first and the last are on different threads.
        clients.drain(1..clients.len() - 1).for_each(|client| client.socket.disconnect_client());
        let (inputs, mut outputs) = halves(&mut clients);
        let (other, one) = (outputs.pop().expect("two"), outputs.pop().expect("two"));
        let texts = || (0..messages).map(|number| text(number, 100));
        let bounded = async |output: &mut Output| {
            within("the server stops reading", output.emit_all(texts())).await.and_then(|sent| sent)
        };
        let (sent, sent_back, heard) = tokio::join!(
            bounded(one),
            bounded(other),
            hear_all(inputs, messages, |wire, number| message(wire, &text(number, 100))),
        );
        let waiting: Vec<_> = clients.iter().map(|client| client.socket.waiting_bytes()).collect();
        let outcome = heard.and(sent).and(sent_back);
        scene.explain(outcome.map_err(|failure| format!("{failure}; {waiting:?} bytes wait")))?;
        scene.nothing_follows(&mut clients).await
    });
}

#[test]
fn mutual_floods_end_without_readers() {
    // More than the kernel buffers.
    const MESSAGES: usize = 4_500;
    each(diagonal_and_more(), async |combination| {
        let messages = MESSAGES * combination.factor;
        let mut scene = Scene::open(combination, patient(), relays_to_others);
        let mut clients =
            [scene.connect_narrow(combination.wire).await, scene.connect_narrow(combination.wire).await];
        let [one, other] = &mut clients;
        let texts = || (0..messages).map(|number| text(number, 1024));
        let both = async { tokio::join!(one.output.emit_all(texts()), other.output.emit_all(texts())) };
        let sent = within("the server blocks on an unreading client", both).await;
        scene.explain(sent.and_then(|(one, other)| one.and(other)))?;
        scene.hear(&mut clients, messages, |wire, number| message(wire, &text(number, 1024))).await?;
        scene.all_stay()
    });
}

/// Outcome of an ack request.
type Outcome = Result<String, String>;

fn outcome(answer: Result<Args, AckError>) -> Outcome {
    let args = answer.map_err(|error| error.to_string())?;
    let (text,) = args.parse().map_err(|error| error.to_string())?;
    Ok(text)
}

/// Receives relayed messages with one ack request among them, whose id it passes on at once.
async fn hear_with_question(
    client: &mut Client,
    packets: Vec<String>,
    messages: usize,
) -> Result<(), String> {
    let (asked, question) = oneshot::channel();
    let Client { input, output, .. } = client;
    let writing = async {
        output.send_all(packets).await?;
        let number: String = question.await.map_err(|_| "no question came")?;
        output.send(&format!(r#"43{number}["yes"]"#)).await
    };
    let reading = async {
        let (mut asked, mut heard) = (Some(asked), 0);
        while heard < messages || asked.is_some() {
            let came = input.next().await;
            let came = came.map_err(|end| format!("cut off after {heard} messages: {end:?}"))?;
            if let Some(number) = came.strip_suffix(br#"["question"]"#) {
                let number = String::from_utf8(number.to_vec()).expect("a number");
                asked.take().ok_or("asked twice")?.send(number).map_err(|_| "nobody answers")?;
            } else {
                let wanted = message(input.wire(), &text(heard, 100));
                if came != wanted {
                    return Err(format!("message {heard} is {came:?}"));
                }
                heard += 1;
            }
        }
        Ok::<_, String>(())
    };
    within("the messages and the question", async { tokio::try_join!(writing, reading) }).await?.map(drop)
}

/// Requests an ack from its client on command and reports the outcome.
fn asks(io: &Io, told: mpsc::Sender<Outcome>) {
    io.on("ask", move |socket: Socket| {
        let told = told.clone();
        async move {
            let answer = socket.timeout(NEVER).emit_with_ack("question", ()).await;
            told.try_send(outcome(answer)).expect("the test receives");
        }
    });
}

/// Transports whose clients can send acks.
const ANSWERING: [Wire; 2] = [Wire::SocketIo, Wire::Polling];

fn packet(text: &str) -> String {
    format!(r#"42["message","{text}"]"#)
}

#[test]
fn delivers_ack_behind_flood() {
    const MESSAGES: usize = 4_000;
    let all = matrix(Some(combination(Setting::OneThread, Wire::SocketIo)));
    each(only(all, &ANSWERING), async |combination| {
        let messages = MESSAGES * combination.factor;
        let (told, mut outcomes) = mpsc::channel(1);
        let mut scene = Scene::open(combination, config(), |io| {
            io.on("message", async |socket: Socket, text: String| {
                socket.io().to(ROOM).emit("message", text).map(drop)
            });
            asks(io, told);
        });
        let mut asked = scene.connect(combination.wire).await;
        let mut others = scene.connect_all(combination.wire, 2).await;
        let flood = (0..messages).map(|number| packet(&text(number, 100)));
        let packets = std::iter::once(r#"42["ask"]"#.to_owned()).chain(flood).collect();
        let inputs = others.iter_mut().map(|client| &mut client.input).collect();
        let (heard, all_heard) = tokio::join!(
            hear_with_question(&mut asked, packets, messages),
            hear_all(inputs, messages, |wire, number| message(wire, &text(number, 100))),
        );
        scene.explain(heard.and(all_heard))?;
        let outcome = within("the handler does not end", outcomes.recv()).await?;
        if outcome != Some(Ok("yes".into())) {
            return Err(format!("the handler got {outcome:?}"));
        }
        others.push(asked);
        scene.nothing_follows(&mut others).await?;
        scene.all_stay()
    });
}

/// Waits until the first handler may continue.
async fn pass(mut gate: watch::Receiver<bool>) {
    gate.wait_for(|open| *open).await.expect("the test opens the gate");
}

/// Bytes of events that may wait for handlers.
const EVENT_BYTES: usize = 64 * 1024;
/// Number of 1 KiB events, many times `EVENT_BYTES`.
const EVENTS: usize = 2048;

#[test]
fn waiting_handlers_pause_their_client() {
    each(single(), async |combination| {
        let (open, gate) = watch::channel(false);
        let config = config().limits(|limits| limits.max_event_bytes(EVENT_BYTES));
        let mut scene = Scene::open(combination, config, |io| {
            io.main().serial(true);
            io.on("message", move |socket: Socket, text: String| {
                let gate = gate.clone();
                async move {
                    pass(gate).await;
                    socket.emit("message", text).map(drop)
                }
            });
        });
        let mut client = scene.connect(combination.wire).await;
        let io = scene.io.clone();
        let text = |number| text(number, 1024);
        let received = || io.metrics().bytes_received();
        let Client { input, output, .. } = &mut client;
        let outcome = tokio::try_join!(
            output.emit_all((0..EVENTS).map(text)),
            async {
                until_it_stands("reading pauses", EVENT_BYTES as u64 / 2, received).await?;
                open.send_replace(true);
                Ok(())
            },
            hear_all(vec![input], EVENTS, |wire, number| message(wire, &text(number))),
        );
        scene.explain(outcome.map(drop))?;
        scene.nothing_follows(std::slice::from_mut(&mut client)).await?;
        scene.all_stay()
    });
}

#[test]
fn ack_request_to_paused_client_ends() {
    each(only(single(), &ANSWERING), async |combination| {
        let (open, gate) = watch::channel(false);
        let (told, mut outcomes) = mpsc::channel(EVENTS);
        let config = config().limits(|limits| limits.max_event_bytes(EVENT_BYTES));
        let mut scene = Scene::open(combination, config, |io| {
            io.main().serial(true);
            io.on("message", move |socket: Socket, _: String| {
                let (gate, told) = (gate.clone(), told.clone());
                async move {
                    // The first event's client is paused by now; its ack follows the rest of its events.
                    pass(gate).await;
                    let answer = socket.timeout(NEVER).emit_with_ack("question", ()).await;
                    // Only the first outcome counts.
                    let _ = told.try_send(outcome(answer));
                }
            });
        });
        let client = scene.connect(combination.wire).await;
        let io = scene.io.clone();
        let Client { mut input, mut output, .. } = client;
        let flood = tokio::spawn(async move {
            let _ = output.emit_all((0..EVENTS).map(|number| text(number, 1024))).await;
            // Answers every ack request with its id.
            while let Ok(question) = input.next().await {
                if let Some(number) = question.strip_suffix(br#"["question"]"#) {
                    let number = String::from_utf8_lossy(number).into_owned();
                    let _ = output.send(&format!(r#"43{number}["yes"]"#)).await;
                }
            }
        });
        let received = || io.metrics().bytes_received();
        until_it_stands("reading pauses", EVENT_BYTES as u64 / 2, received).await?;
        open.send_replace(true);
        // The ack is behind more than may wait: it arrives, or the client is closed for the backlog.
        let outcome = within("the handler does not end", outcomes.recv()).await?;
        match outcome {
            Some(Ok(answer)) if answer == "yes" => {}
            Some(Err(_)) => match scene.departure().await? {
                (_, CloseReason::Overloaded) => {}
                (_, other) => return Err(format!("closed as {other:?}")),
            },
            other => return Err(format!("the handler got {other:?}")),
        }
        flood.abort();
        Ok(())
    });
}

/// Hard cap; a client that does not read its echoes is paused at half of it.
const OUTBOX_MAX: usize = 2 * 1024 * 1024;

#[test]
fn unread_echoes_pause_their_client() {
    const MESSAGES: usize = 6 * 1024;
    each(single(), async |combination| {
        let mut scene =
            Scene::open(combination, patient().limits(|limits| limits.outbox_max(OUTBOX_MAX)), echoes);
        let mut client = scene.connect_narrow(combination.wire).await;
        let Client { input, output, socket, .. } = &mut client;
        let text = |number| text(number, 1024);
        let full = || socket.waiting_bytes() >= OUTBOX_MAX / 2 || !socket.is_connected();
        let (sent, heard) = tokio::join!(output.emit_all((0..MESSAGES).map(text)), async {
            until("half of outbox_max waits", full).await?;
            hear_all(vec![input], MESSAGES, |wire, number| message(wire, &text(number))).await
        });
        scene.explain(heard.and(sent))?;
        scene.all_stay()
    });
}
