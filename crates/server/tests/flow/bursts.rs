//! Bursts larger than a flusher writes at once: from clients, handlers, tasks, threads, and at connect.

use std::sync::{Arc, Mutex};

use roomcast_server::{Io, Socket};
use tokio::sync::mpsc;

use crate::client::{Wire, halves, hear_all, message};
use crate::events::Events;
use crate::support::{
    Combination, ROOM, Scene, Setting, combination, config, diagonal_and_more, each, matrix, within,
};

/// Returns one-byte texts in a cycle whose length is no power of two.
fn letter(number: usize) -> &'static str {
    const LETTERS: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxy";
    let at = number % LETTERS.len();
    &LETTERS[at..=at]
}

/// Relays each message to all clients, including the sender.
fn relays(io: &Io) {
    io.on("message", async |socket: Socket, text: String| socket.io().emit("message", text).map(drop));
}

#[test]
fn small_frame_burst_reaches_every_client() {
    const FRAMES: usize = 20_000;
    each(matrix(Some(combination(Setting::TwoThreads, Wire::Plain))), async |combination| {
        let mut scene = Scene::open(combination, config(), relays);
        // The sender uses the wire with the smallest frames; the combination's wire is that of the receivers.
        let mut clients = vec![scene.connect(Wire::Plain).await];
        // Higher load means more frames, so fewer receivers suffice.
        let others = match (combination.factor, combination.wire) {
            (1, Wire::Plain) => 7,
            (16, _) => 1,
            _ => 2,
        };
        clients.extend(scene.connect_all(combination.wire, others).await);
        let frames = FRAMES * combination.factor;
        let (inputs, mut outputs) = halves(&mut clients);
        let texts = (0..frames).map(|number| letter(number).to_owned());
        let (sent, heard) = tokio::join!(
            outputs[0].emit_all(texts),
            hear_all(inputs, frames, |wire, number| message(wire, letter(number))),
        );
        scene.explain(heard.and(sent))?;
        scene.nothing_follows(&mut clients).await?;
        scene.all_stay()
    });
}

#[test]
fn large_messages_reach_both_threads() {
    const MESSAGES: usize = 20;
    let text = |number: usize| format!("{number:04}{}", "x".repeat(100 * 1024 - 4));
    each(matrix(Some(combination(Setting::TwoThreads, Wire::SocketIo))), async |combination| {
        let mut scene = Scene::open(combination, config(), relays);
        let mut clients = scene.connect_all(combination.wire, 4).await;
        let messages = MESSAGES * combination.factor;
        let (inputs, mut outputs) = halves(&mut clients);
        let (sent, heard) = tokio::join!(
            outputs[0].emit_all((0..messages).map(text)),
            hear_all(inputs, messages, |wire, number| message(wire, &text(number))),
        );
        scene.explain(heard.and(sent))?;
        scene.nothing_follows(&mut clients).await?;
        scene.all_stay()
    });
}

/// Events of one size, emitted without a pause.
#[derive(Debug, Clone, Copy)]
struct Burst {
    events: usize,
    bytes: usize,
}

/// By default each burst exceeds the limit for a client that does not read.
const BURSTS: [Burst; 4] = [
    Burst { events: 1_100, bytes: 1024 },
    Burst { events: 2, bytes: 600 * 1024 },
    Burst { events: 11, bytes: 100 * 1024 },
    Burst { events: 5_800, bytes: 100 },
];

/// Recipients of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum To {
    Itself,
    Room,
}

/// Source of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Handler,
    Task,
    /// A thread without a runtime.
    Thread,
}

impl Burst {
    fn times(self, factor: usize) -> Self {
        Self { events: self.events * factor, ..self }
    }

    fn content(self) -> Events {
        Events::new(self.bytes)
    }

    /// Emits the whole burst without waiting.
    fn emit(self, socket: &Socket, to: To) -> Result<(), String> {
        let content = self.content();
        for number in 0..self.events {
            let emitted = match to {
                To::Itself => socket.emit("data", content.args(number)),
                To::Room => socket.io().to(ROOM).emit("data", content.args(number)),
            };
            match emitted {
                Ok(receipt) if receipt.closed == 0 => {}
                other => return Err(format!("emit {number} gave {other:?}")),
            }
        }
        Ok(())
    }
}

type Told = mpsc::Sender<Result<(), String>>;

/// Emits the burst in `plan` when a client sends any message.
fn bursts(plan: &Arc<Mutex<(Burst, To, From)>>, told: Told) -> impl FnOnce(&Io) + use<> {
    let plan = plan.clone();
    move |io| {
        io.on("message", move |socket: Socket, _: String| {
            let (burst, to, from) = *plan.lock().expect("no panic");
            let told = told.clone();
            let emit = move || {
                let emitted = burst.emit(&socket, to);
                told.try_send(emitted).expect("the test receives");
            };
            match from {
                From::Handler => emit(),
                From::Task => drop(tokio::spawn(async move { emit() })),
                From::Thread => drop(std::thread::spawn(emit)),
            }
            async {}
        });
    }
}

/// Emits every burst in each combination, in sequence on the same server.
async fn emits_arrive(combination: Combination, to: To, from: From, clients: usize) -> Result<(), String> {
    let plan = Arc::new(Mutex::new((BURSTS[0], to, from)));
    let (told, mut outcomes) = mpsc::channel(1);
    let mut scene = Scene::open(combination, config(), bursts(&plan, told));
    let mut clients = scene.connect_all(combination.wire, clients).await;
    for burst in BURSTS {
        let burst = burst.times(combination.factor);
        *plan.lock().expect("no panic") = (burst, to, from);
        clients[0].output.say("burst").await?;
        let content = burst.content();
        let hearing = if to == To::Itself { &mut clients[..1] } else { &mut clients[..] };
        let inputs = hearing.iter_mut().map(|client| &mut client.input).collect();
        let heard = hear_all(inputs, burst.events, |_, number| content.heard(number)).await;
        let emitted = within("the burst is not emitted", outcomes.recv()).await?.expect("the server runs");
        let outcome = heard.and(emitted).map_err(|failure| format!("{burst:?} to {to:?}: {failure}"));
        scene.explain(outcome)?;
        // Other clients received nothing.
        scene.nothing_follows(&mut clients).await?;
    }
    scene.all_stay()
}

#[test]
fn handler_burst_reaches_its_client() {
    let largest = combination(Setting::OneThread, Wire::Plain);
    each(matrix(Some(largest)), async |combination| {
        emits_arrive(combination, To::Itself, From::Handler, 1).await
    });
}

#[test]
fn handler_burst_reaches_a_room() {
    each(matrix(Some(combination(Setting::TwoThreads, Wire::SocketIo))), async |combination| {
        let members = if combination.factor == 16 { 2 } else { 4 };
        emits_arrive(combination, To::Room, From::Handler, members).await
    });
}

#[test]
fn spawned_task_burst_arrives_whole() {
    each(diagonal_and_more(), async |combination| {
        emits_arrive(combination, To::Itself, From::Task, 1).await?;
        emits_arrive(combination, To::Room, From::Task, 2).await
    });
}

#[test]
fn plain_thread_burst_arrives_whole() {
    each(diagonal_and_more(), async |combination| {
        emits_arrive(combination, To::Itself, From::Thread, 1).await?;
        emits_arrive(combination, To::Room, From::Thread, 2).await
    });
}

#[test]
fn initial_dump_arrives_whole() {
    each(matrix(Some(combination(Setting::Mounted, Wire::Polling))), async |combination| {
        let (told, mut outcomes) = mpsc::channel(1);
        let plan = Arc::new(Mutex::new(BURSTS[0]));
        let dumped = plan.clone();
        let mut scene = Scene::open(combination, config(), move |io| {
            io.on_connect(move |socket: Socket| {
                let burst = *dumped.lock().expect("no panic");
                told.try_send(burst.emit(&socket, To::Itself)).expect("the test receives");
                async {}
            });
        });
        for burst in BURSTS {
            let burst = burst.times(combination.factor);
            *plan.lock().expect("no panic") = burst;
            let mut client = scene.connect(combination.wire).await;
            let content = burst.content();
            let hearing = std::slice::from_mut(&mut client);
            let heard = scene.hear(hearing, burst.events, |_, number| content.heard(number)).await;
            let emitted = within("nothing is dumped", outcomes.recv()).await?.expect("the server runs");
            heard.and(emitted).map_err(|failure| format!("{burst:?}: {failure}"))?;
            scene.all_stay()?;
            // The next client connects alone.
            client.socket.disconnect_client();
            scene.departure().await?;
        }
        Ok(())
    });
}
