//! Sockets that connect, leave, are disconnected and recover, checked against a minimal model.
//!
//! Each seed is one run. A failing seed is printed; `MODEL_SEED=n` reruns it alone, and `MODEL_SEEDS=n` runs n seeds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use roomcast_server::emit::Receipt;
use roomcast_server::socket::CloseReason;
use roomcast_server::{Config, EmitError, Io, Socket};
use serde_json::{Value, json};

use crate::recovery::{Returner, event};
use crate::support::recorder::{Recorder, arrivals, ear};
use crate::support::serve::{Running, serve};
use crate::support::ws::Message;

const SEEDS: u64 = 300;
const STEPS: usize = 60;
const MOST: usize = 8;
const ROOMS: [&str; 2] = ["red", "blue"];
/// Next action of the hook for new sockets.
const NOTHING: u8 = 0;
const JOIN: u8 = 1;
const KICK: u8 = 2;
const KICK_CLIENT: u8 = 3;
const BROADCAST: u8 = 4;
const PUT_OUT_ROOM: u8 = 5;
/// Event that the hook emits to all other sockets.
const NEWCOMER: &str = "newcomer";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Here,
    Away,
    /// Disconnected by the application and never recovered.
    Gone,
}

/// Client, across all its connections.
struct Known {
    sid: String,
    standing: Standing,
    rooms: BTreeSet<&'static str>,
    /// Handle from each of its connections.
    handles: Vec<Socket>,
    client: Option<Returner>,
    shows: Value,
    offset: Option<String>,
    /// Events not yet received.
    expected: Vec<String>,
    data: Option<usize>,
}

struct Model {
    rng: fastrand::Rng,
    io: Io,
    server: Running,
    sockets: Recorder<Socket>,
    ends: Recorder<(String, CloseReason)>,
    hook: Arc<AtomicU8>,
    known: Vec<Known>,
    events: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let config = Config::new().recovery(|recovery| recovery);
        let io = Io::builder().config(config).build();
        let hook = Arc::new(AtomicU8::new(NOTHING));
        let (all, next) = (io.clone(), hook.clone());
        io.on_join_room(move |room, id| {
            if room.as_str() != id.as_str() {
                return;
            }
            let socket = all.socket(id).expect("a connected socket");
            match next.swap(NOTHING, Ordering::SeqCst) {
                JOIN => assert!(socket.join(ROOMS[0])),
                KICK => socket.disconnect(),
                KICK_CLIENT => socket.disconnect_client(),
                BROADCAST => _ = socket.broadcast().emit(NEWCOMER, ()).expect("a valid name"),
                PUT_OUT_ROOM => assert_eq!(all.to(id).disconnect(), 1),
                _ => {}
            }
        });
        let (told, ends) = ear();
        io.on_disconnect(move |socket: &Socket, reason: CloseReason| {
            let _ = told.send((socket.id().to_string(), reason));
        });
        io.on("bad", |socket: &Socket, whole: bool| {
            if whole {
                socket.disconnect_client()
            } else {
                socket.disconnect()
            }
            assert!(!socket.is_connected() && socket.namespace().count(socket.id()) == 0);
        });
        io.on("sync", |ack: roomcast_server::Ack| ack.send(()).map(drop));
        let sockets = arrivals(&io);
        let server = serve(&io);
        let rng = fastrand::Rng::with_seed(seed);
        Self { rng, io, server, sockets, ends, hook, known: Vec::new(), events: 0 }
    }

    fn draw(&mut self, below: usize) -> usize {
        self.rng.usize(..below)
    }

    /// Draws a client in this state.
    fn draw_one(&mut self, standing: Standing) -> Option<usize> {
        let those: Vec<_> = (0..self.known.len()).filter(|at| self.known[*at].standing == standing).collect();
        if those.is_empty() { None } else { Some(those[self.draw(those.len())]) }
    }

    /// Draws a client and a handle from any of its connections.
    fn draw_handle(&mut self) -> Option<(usize, Socket)> {
        let of = self.draw(self.known.len().max(1));
        let handles = self.known.get(of)?.handles.len();
        let handle = self.draw(handles);
        Some((of, self.known[of].handles[handle].clone()))
    }

    fn step(&mut self) {
        match self.draw(18) {
            0..=1 if self.known.len() < MOST => self.come(None),
            2..=3 => self.break_one(),
            4..=6 => {
                if let Some(of) = self.draw_one(Standing::Away) {
                    self.come(Some(of));
                }
            }
            7 => self.kick(),
            8 => self.misbehave(),
            9 => self.break_and_kick(),
            10..=11 => self.change_rooms(),
            12 => self.set_data(),
            13 => self.kick_room(),
            _ => self.emit(),
        }
        self.check();
    }

    /// Connects a new client, or recovers one with its token.
    fn come(&mut self, back: Option<usize>) {
        let hooks = [NOTHING, NOTHING, NOTHING, JOIN, KICK, KICK_CLIENT, BROADCAST, PUT_OUT_ROOM];
        let hook = hooks[self.draw(hooks.len())];
        self.hook.store(hook, Ordering::SeqCst);
        let shows = back.map_or_else(|| json!({}), |of| self.known[of].shows.clone());
        let client = Returner::connect_with(&self.server.dial, "/", &shows);
        let socket = self.sockets.next();
        assert_eq!((socket.id().as_str(), socket.recovered()), (&*client.sid, back.is_some()));
        let of = back.unwrap_or_else(|| {
            self.known.push(Known {
                sid: client.sid.clone(),
                standing: Standing::Here,
                rooms: BTreeSet::new(),
                handles: Vec::new(),
                client: None,
                shows: Value::Null,
                offset: None,
                expected: Vec::new(),
                data: None,
            });
            self.known.len() - 1
        });
        let known = &mut self.known[of];
        assert_eq!(known.sid, client.sid);
        known.handles.push(socket);
        known.standing = Standing::Here;
        known.shows = client.shows(None);
        for message in &client.missed {
            let Message::Text(text) = message else { panic!("no text") };
            known.hear(text);
        }
        assert_eq!(known.expected, [""; 0], "missed");
        known.client = Some(client);
        match hook {
            JOIN => _ = known.rooms.insert(ROOMS[0]),
            BROADCAST => {
                let others = self.known.iter_mut().enumerate().filter(|(at, _)| *at != of);
                let others = others.filter(|(_, known)| known.standing != Standing::Gone);
                others.for_each(|(_, known)| known.expected.push(NEWCOMER.to_owned()));
            }
            KICK | KICK_CLIENT | PUT_OUT_ROOM => self.ended(of, &[CloseReason::ServerNamespaceDisconnect]),
            _ => {}
        }
    }

    /// Records a server-side disconnect: a connected client receives it, and the client never recovers.
    fn ended(&mut self, of: usize, reasons: &[CloseReason]) {
        let known = &mut self.known[of];
        if known.standing == Standing::Here {
            let (sid, reason) = self.ends.next();
            assert!(sid == known.sid && reasons.contains(&reason), "{reason}");
        }
        if let Some(mut client) = known.client.take() {
            known.hear_all(&mut client, "1");
        }
        known.standing = Standing::Gone;
        known.expected.clear();
        let shows = known.shows.clone();
        let stranger = Returner::connect_with(&self.server.dial, "/", &shows);
        assert_ne!(stranger.sid, self.known[of].sid);
        assert!(!self.sockets.next().recovered());
        let sid = stranger.sid.clone();
        drop(stranger);
        assert_eq!(self.ends.next().0, sid);
    }

    fn break_one(&mut self) {
        let Some(of) = self.draw_one(Standing::Here) else { return };
        self.sync(of);
        let known = &mut self.known[of];
        drop(known.client.take());
        assert_eq!(self.ends.next(), (known.sid.clone(), CloseReason::TransportClose));
        known.standing = Standing::Away;
    }

    fn kick(&mut self) {
        let Some((of, handle)) = self.draw_handle() else { return };
        let (how, elsewhere) = (self.draw(3), self.draw(2) == 0);
        let here = self.known[of].standing == Standing::Here;
        let io = self.io.clone();
        let put_out = move || match how {
            0 => handle.disconnect(),
            1 => handle.disconnect_client(),
            _ if here => assert_eq!(io.to(handle.id()).disconnect(), 1),
            _ => handle.disconnect(),
        };
        if elsewhere {
            thread::scope(|scope| _ = scope.spawn(put_out));
        } else {
            put_out();
        }
        assert_eq!(self.io.count(&*self.known[of].sid), 0);
        if self.known[of].standing != Standing::Gone {
            self.ended(of, &[CloseReason::ServerNamespaceDisconnect]);
        }
    }

    /// Disconnects all members of a room at once.
    fn kick_room(&mut self) {
        let room = ROOMS[self.draw(ROOMS.len())];
        let is_in = |known: &Known| known.standing == Standing::Here && known.rooms.contains(room);
        let those: Vec<_> = (0..self.known.len()).filter(|at| is_in(&self.known[*at])).collect();
        if those.len() != 1 {
            return;
        }
        let addressed = self.io.to(room);
        let count = if self.draw(2) == 0 { addressed.disconnect_client() } else { addressed.disconnect() };
        assert_eq!(count, 1);
        assert_eq!(self.io.count(room), 0);
        self.ended(those[0], &[CloseReason::ServerNamespaceDisconnect]);
    }

    /// Sets data through any handle and checks it on all of them.
    fn set_data(&mut self) {
        let Some((of, handle)) = self.draw_handle() else { return };
        if self.known[of].standing != Standing::Gone {
            self.events += 1;
            handle.set_data(&self.events).expect("valid JSON");
            self.known[of].data = Some(self.events);
        }
    }

    /// Sends what gets a client disconnected, followed in the same write by what ends its session anyway.
    fn misbehave(&mut self) {
        let Some(of) = self.draw_one(Standing::Here) else { return };
        let (whole, after) = (self.draw(2) == 0, ["1", "x", "4x"][self.draw(3)]);
        let client = self.known[of].client.as_mut().expect("a local socket");
        client.engine.send_packets(vec![format!("42[\"bad\",{whole}]").into(), after.into()]);
        self.ended(of, &[CloseReason::ServerNamespaceDisconnect]);
    }

    /// Disconnects a client from another thread while its connection breaks.
    fn break_and_kick(&mut self) {
        let Some(of) = self.draw_one(Standing::Here) else { return };
        self.sync(of);
        let known = &mut self.known[of];
        let (handle, client) = (known.handles[0].clone(), known.client.take());
        let begin = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                begin.wait();
                handle.disconnect();
                assert_eq!(handle.namespace().count(handle.id()), 0);
            });
            begin.wait();
            drop(client);
        });
        self.ended(of, &[CloseReason::ServerNamespaceDisconnect, CloseReason::TransportClose]);
    }

    fn change_rooms(&mut self) {
        let Some((of, handle)) = self.draw_handle() else { return };
        let (room, joins) = (ROOMS[self.draw(ROOMS.len())], self.draw(3) > 0);
        let known = &mut self.known[of];
        let here = known.standing == Standing::Here;
        if joins {
            assert_eq!(handle.join(room), here);
            if here {
                known.rooms.insert(room);
            }
        } else {
            assert_eq!(handle.leave(room), here && known.rooms.remove(room));
        }
        assert_eq!(handle.rooms().len(), if here { 1 + known.rooms.len() } else { 0 });
    }

    fn emit(&mut self) {
        let name = format!("event {}", self.events);
        self.events += 1;
        let room = ROOMS[self.draw(ROOMS.len())];
        let Some((of, handle)) = self.draw_handle() else { return };
        let way = self.draw(6);
        let emit = || match way {
            0 => self.io.emit(&name, ()),
            1 => self.io.to(room).emit(&name, ()),
            2 => handle.broadcast().emit(&name, ()),
            3 => handle.to(room).emit(&name, ()),
            4 => handle.except(room).emit(&name, ()),
            _ => handle.emit(&name, ()),
        };
        let elsewhere = self.events.is_multiple_of(2);
        let emitted = if elsewhere {
            thread::scope(|scope| scope.spawn(emit).join().expect("no panic"))
        } else {
            emit()
        };
        let mut queued = 0;
        for (at, known) in self.known.iter_mut().enumerate() {
            let is_for = match way {
                0 => true,
                1 => known.rooms.contains(room),
                2 => at != of,
                3 => at != of && known.rooms.contains(room),
                4 => at != of && !known.rooms.contains(room),
                _ => at == of,
            };
            if is_for && known.standing != Standing::Gone {
                known.expected.push(name.clone());
                queued += usize::from(known.standing == Standing::Here);
            }
        }
        if way == 5 && self.known[of].standing == Standing::Gone {
            assert!(matches!(emitted, Err(EmitError::Disconnected)), "{emitted:?}");
        } else {
            let expected = Receipt { queued, ..Receipt::default() };
            assert_eq!(emitted.expect("a valid name"), expected, "way {way}");
        }
    }

    /// Receives all pending events of a client.
    fn sync(&mut self, of: usize) {
        let known = &mut self.known[of];
        if let Some(mut client) = known.client.take() {
            client.engine.send("20[\"sync\"]".into());
            known.hear_all(&mut client, "30[]");
            assert_eq!(known.expected, [""; 0], "events were not received");
            known.shows = client.shows(known.offset.as_deref());
            known.client = Some(client);
        }
    }

    /// Checks immediately that no state of disconnected sockets remains.
    fn check(&self) {
        let here = |known: &&Known| known.standing == Standing::Here;
        for room in ROOMS {
            let count = self.known.iter().filter(here).filter(|known| known.rooms.contains(room)).count();
            assert_eq!(self.io.count(room), count, "{room}");
        }
        assert_eq!(self.io.sockets().len(), self.known.iter().filter(here).count());
        for known in self.known.iter().filter(|known| known.standing != Standing::Gone) {
            let rooms = if known.standing == Standing::Here { 1 + known.rooms.len() } else { 0 };
            for handle in &known.handles {
                assert_eq!(handle.data::<usize>().expect("a number"), known.data);
                assert_eq!(handle.rooms().len(), rooms);
            }
        }
    }
}

impl Known {
    /// Receives events until another message arrives, which must equal `last`.
    fn hear_all(&mut self, client: &mut Returner, last: &str) {
        loop {
            match client.engine.receive() {
                Ok(Message::Text(text)) if text.starts_with("2[") => self.hear(&text),
                heard => return assert_eq!(heard, Ok(last.into())),
            }
        }
    }

    fn hear(&mut self, text: &str) {
        let (list, offset) = event(text);
        let name = list[0].as_str().expect("an event name");
        assert_eq!(self.expected.first().map(String::as_str), Some(name), "of {:?}", self.expected);
        self.expected.remove(0);
        self.offset = Some(offset);
    }
}

#[test]
fn sockets_behave_like_their_model() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seeds = match number("MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MODEL_SEEDS").unwrap_or(SEEDS),
    };
    thread::scope(|scope| {
        for part in 0..4 {
            let seeds = seeds.clone();
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % 4 == part) {
                    let played = std::panic::catch_unwind(|| {
                        let mut model = Model::new(seed);
                        (0..STEPS).for_each(|_| model.step());
                        (0..model.known.len()).for_each(|of| model.sync(of));
                    });
                    assert!(played.is_ok(), "MODEL_SEED={seed}");
                }
            });
        }
    });
}
