//! Actions of clients in a run, and the invariants checked meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roomcast_core::Capabilities;
use roomcast_server::namespace::Namespace;
use roomcast_server::server::Drain;
use roomcast_server::socket::CloseReason;
use roomcast_server::transport::Polling;
use roomcast_server::{Config, Io, Value};
use roomcast_testkit::transport::MemoryTransport;
use serde_json::json;
use tokio::time::Instant;

use crate::Dice;
use crate::client::Client;
use crate::stage::{Hook, KIND_NAMES, KINDS, MAIN, NAMESPACES, ROOMS, Stage, Standing, Way, name_of};

/// Connections at a time.
const MOST: usize = 6;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// Slack for events that are noticed at once but reported at the next tick of a clock.
const SLACK: Duration = Duration::from_millis(1_500);

/// Connection, and its client's view of its namespaces.
struct Line {
    number: usize,
    client: Client,
    /// Namespaces that the client knows it is in.
    members: HashMap<&'static str, usize>,
    /// Namespaces being joined, with the events received before the welcome if it attempts recovery.
    asked: HashMap<&'static str, Option<Vec<String>>>,
    /// Sockets that it has tried to recover.
    returns: BTreeSet<(&'static str, String)>,
    /// Namespaces that it left or was disconnected from.
    left: BTreeSet<&'static str>,
    /// The connection has not ended.
    sound: bool,
    answers: HashMap<u64, usize>,
    next_ack: u64,
}

pub(crate) struct World {
    dice: Dice,
    io: Io,
    stage: Stage,
    lines: Vec<Line>,
    next_line: usize,
    next_event: u64,
    presence: bool,
    steps: Arc<Mutex<Vec<String>>>,
}

fn prefix(namespace: &str) -> String {
    if namespace == MAIN { String::new() } else { format!("{namespace},") }
}

impl World {
    pub(crate) fn new(seed: u64, steps: Arc<Mutex<Vec<String>>>) -> Self {
        let mut dice = Dice::new(seed);
        let mut config = Config::new()
            .timeouts(|timeouts| {
                timeouts.ping_interval(PING_INTERVAL).ping_timeout(PING_TIMEOUT).close_timeout(CLOSE_TIMEOUT)
            })
            .limits(|limits| limits.max_handlers(1 + dice.below(4)));
        let recovers = dice.one_in(2);
        if recovers {
            config = config.recovery(|recovery| recovery);
        }
        let stage = Stage::new(recovers);
        let ids = stage.clone();
        let websocket = Capabilities { begins: true, upgrades_from: false, upgrades_to: true, polled: false };
        let io = Io::builder()
            .config(config)
            .transport(Polling::new())
            .transport(MemoryTransport::new("memory").capabilities(websocket))
            .generate_socket_id(move |handshake, namespace: &Namespace| {
                ids.generate_id(&handshake.query_value("c").expect("its number"), namespace.as_str())
            })
            .build();
        stage.open(&io);
        if dice.one_in(4) {
            io.main().serial(true);
        }
        Self { dice, io, stage, lines: Vec::new(), next_line: 0, next_event: 0, presence: false, steps }
    }

    fn note(&self, step: impl FnOnce() -> String) {
        self.steps.lock().expect("one thread").push(step());
    }

    pub(crate) async fn step(&mut self) {
        match self.dice.below(40) {
            0..5 if self.lines.len() < MOST => self.connect(),
            0..7 => self.join_namespace(),
            7 => self.leave_namespace(),
            8..12 => self.send_events(),
            12 => self.misbehave(),
            13..15 => self.break_line(),
            15 => self.send_garbage(),
            16 => self.upgrade(),
            17 => self.put_out(),
            18 => self.put_out_room(),
            19..22 => self.change_rooms(),
            22..27 => self.emit(),
            27 => self.set_data(),
            28 => self.ask(),
            29 => self.set_hook(),
            30 => self.pause().await,
            31 => self.listen(),
            32..35 => {
                let wait = self.dice.below(400) as u64;
                self.note(|| format!("pass {wait} ms"));
                self.pass(Duration::from_millis(wait)).await;
            }
            35..37 => {
                self.note(|| "yield".to_owned());
                tokio::task::yield_now().await;
            }
            37 => {
                self.note(|| "pump".to_owned());
                self.pump();
            }
            _ => {
                self.note(|| "settle".to_owned());
                self.settle().await;
            }
        }
        self.check();
    }

    fn check(&self) {
        self.stage.check_now();
        let faults = std::mem::take(&mut self.stage.lock().faults);
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Lets clients read arrived messages.
    fn pump(&mut self) {
        for line in &mut self.lines {
            line.client.pump();
            while let Some(packet) = line.client.heard.pop_front() {
                line.hear(&packet, &self.stage);
            }
        }
        self.lines.retain(|line| !line.client.ended);
    }

    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.pump();
            let now = Instant::now();
            if now >= end {
                return;
            }
            tokio::time::sleep((end - now).min(Duration::from_millis(20))).await;
        }
    }

    /// Waits until servers and clients have read everything sent.
    async fn settle(&mut self) {
        for _ in 0..12 {
            self.pump();
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
        self.pump();
        let mut state = self.stage.lock();
        let ids: BTreeSet<_> = state
            .known
            .iter()
            .filter(|known| {
                known.namespace == MAIN && known.standing == Standing::In && known.rooms.contains(ROOMS[0])
            })
            .map(|known| known.id.clone())
            .collect();
        let mut faults = Vec::new();
        for line in self.lines.iter().filter(|line| line.sound) {
            if !line.asked.is_empty() {
                faults.push(format!("{} got no answer to {:?}", line.number, line.asked));
            }
            for at in line.members.values() {
                let known = &mut state.known[*at];
                if known.standing != Standing::In || known.connection() != line.number {
                    faults.push(format!("{} received no disconnect", known.id));
                    continue;
                }
                known.read_from(line.number);
                if known.heard < known.expected.len() {
                    faults.push(format!("{} did not receive {:?}", known.id, &known.expected[known.heard..]));
                }
                let is_there = known.namespace == MAIN && known.rooms.contains(ROOMS[0]);
                if is_there && known.present.as_ref().is_some_and(|present| *present != ids) {
                    faults.push(format!("{} has presence {:?}, not {ids:?}", known.id, known.present));
                }
            }
        }
        state.faults.extend(faults);
    }

    fn draw_line(&mut self) -> Option<usize> {
        let sound: Vec<_> = (0..self.lines.len()).filter(|at| self.lines[*at].sound).collect();
        if sound.is_empty() { None } else { Some(sound[self.dice.below(sound.len())]) }
    }

    /// Draws a sound connection and a namespace that it is in.
    fn draw_member(&mut self) -> Option<(usize, &'static str, usize)> {
        let line = self.draw_line()?;
        let mut members: Vec<_> = self.lines[line].members.iter().map(|(name, at)| (*name, *at)).collect();
        members.sort_unstable();
        let (name, at) = *members.get(self.dice.below(members.len()))?;
        Some((line, name, at))
    }

    /// Draws a socket, connected or not, and one of its handles with the number of its connection.
    fn draw_handle(&mut self) -> Option<(usize, roomcast_server::Socket, usize)> {
        let count = self.stage.lock().known.len();
        if count == 0 {
            return None;
        }
        // Mostly one of the latest.
        let back = if self.dice.one_in(3) { count } else { count.min(5) };
        let at = count - 1 - self.dice.below(back);
        let handles = self.stage.lock().known[at].handles.clone();
        let (handle, connection) = handles[self.dice.below(handles.len())].clone();
        Some((at, handle, connection))
    }

    fn draw_namespace(&mut self) -> &'static str {
        NAMESPACES[self.dice.below(5) % 3]
    }

    fn connect(&mut self) {
        let number = self.next_line;
        self.next_line += 1;
        let polls = self.dice.one_in(2);
        self.note(|| format!("{number} connects, polls: {polls}"));
        let client = Client::connect(&self.io, number, polls);
        self.lines.push(Line {
            number,
            client,
            members: HashMap::new(),
            asked: HashMap::new(),
            returns: BTreeSet::new(),
            left: BTreeSet::new(),
            sound: true,
            answers: HashMap::new(),
            next_ack: 0,
        });
        for _ in 0..self.dice.below(3) {
            let namespace = self.draw_namespace();
            self.ask_to_join(self.lines.len() - 1, namespace);
        }
    }

    fn join_namespace(&mut self) {
        let Some(line) = self.draw_line() else { return };
        let namespace = self.draw_namespace();
        self.ask_to_join(line, namespace);
    }

    fn ask_to_join(&mut self, line: usize, namespace: &'static str) {
        if self.lines[line].members.contains_key(namespace) || self.lines[line].asked.contains_key(namespace)
        {
            return;
        }
        // Events still sent to its previous socket in this namespace are indistinguishable from missed ones.
        let tries = !self.dice.one_in(4) && !self.lines[line].left.contains(namespace);
        let takes_over = tries && self.dice.one_in(3);
        let back = {
            let state = self.stage.lock();
            let lost = state.known.iter().filter(|known| known.namespace == namespace && known.pid.is_some());
            // Clients disconnected by the application try as well, and some return while they are connected.
            let lost = lost.filter(|known| takes_over || known.standing != Standing::In);
            // Never on two connections at a time, each of which would receive a part.
            let returns =
                |id: &str| self.lines.iter().any(|line| line.returns.contains(&(namespace, id.into())));
            let lost: Vec<_> = lost.filter(|known| !returns(&known.id)).collect();
            let lost = lost.get(self.dice.below(lost.len()));
            lost.map(|known| (known.id.clone(), json!({ "pid": known.pid, "offset": known.offset })))
        };
        // It no longer reads on its previous connection.
        if let Some((id, _)) = &back {
            let at = self.stage.lock().find(namespace, id);
            self.lines.iter_mut().for_each(|line| line.members.retain(|_, known| Some(*known) != at));
            let connection = at.map(|at| self.stage.lock().known[at].connection());
            if takes_over && let Some(connection) = connection {
                self.ends(connection, &[CloseReason::TakenOver, CloseReason::TransportClose]);
            }
        }
        let back = back.filter(|_| tries);
        let line = &mut self.lines[line];
        let auth = back.as_ref().map(|(_, shown)| shown.to_string()).unwrap_or_default();
        self.steps.lock().expect("one thread").push(format!("{} joins {namespace} as {back:?}", line.number));
        line.client.send(&[format!("40{}{auth}", prefix(namespace))]);
        line.asked.insert(namespace, back.as_ref().map(|_| Vec::new()));
        line.returns.extend(back.map(|(id, _)| (namespace, id)));
    }

    fn leave_namespace(&mut self) {
        let Some((line, namespace, _)) = self.draw_member() else { return };
        let events = self.events(line, namespace);
        let line = &mut self.lines[line];
        let again = self.dice.one_in(3);
        self.steps
            .lock()
            .expect("one thread")
            .push(format!("{} leaves {namespace} after {events:?}, again: {again}", line.number));
        self.stage.lock().may_end(line.number, namespace, &[CloseReason::ClientNamespaceDisconnect]);
        let mut packets = events;
        packets.push(format!("41{}", prefix(namespace)));
        line.members.remove(namespace);
        line.left.insert(namespace);
        if again {
            packets.push(format!("40{}", prefix(namespace)));
            line.asked.insert(namespace, None);
        }
        line.client.send(&packets);
    }

    /// Returns packets with some events.
    fn events(&mut self, line: usize, namespace: &'static str) -> Vec<String> {
        let Some(&at) = self.lines[line].members.get(namespace) else { return Vec::new() };
        let mut packets = Vec::new();
        for _ in 0..self.dice.below(5) {
            self.next_event += 1;
            let number = self.next_event;
            let wait = if self.dice.one_in(3) { 0 } else { self.dice.below(300) };
            let kind = self.dice.below(KINDS + 1);
            if let Some(name) = KIND_NAMES.get(kind) {
                let connection = self.lines[line].number;
                self.stage.lock().known[at].sent[kind].push((number, connection));
                packets.push(format!("42{}[\"{name}\",{number},{wait}]", prefix(namespace)));
            } else {
                let line = &mut self.lines[line];
                line.next_ack += 1;
                line.answers.insert(line.next_ack, 0);
                packets.push(format!("42{}{}[\"ask\",{number},{wait}]", prefix(namespace), line.next_ack));
            }
        }
        packets
    }

    fn send_events(&mut self) {
        let Some((line, namespace, _)) = self.draw_member() else { return };
        let events = self.events(line, namespace);
        self.note(|| format!("{} sends {events:?} to {namespace}", self.lines[line].number));
        self.lines[line].client.send(&events);
    }

    /// Records that its client may end the session for these reasons.
    fn all_end(&mut self, line: usize, reasons: &[CloseReason]) {
        self.ends(self.lines[line].number, reasons);
    }

    /// Records that a connection may end for these reasons, whether its client has disconnected or not.
    fn ends(&mut self, connection: usize, reasons: &[CloseReason]) {
        self.lines.iter_mut().filter(|line| line.number == connection).for_each(|line| line.sound = false);
        for namespace in NAMESPACES {
            self.stage.lock().may_end(connection, namespace, reasons);
        }
    }

    /// Sends what gets a client disconnected, followed in the same write by what ends its session anyway.
    fn misbehave(&mut self) {
        let Some((line, namespace, _)) = self.draw_member() else { return };
        let mut packets = self.events(line, namespace);
        packets.push(format!("42{}[\"bad\",{}]", prefix(namespace), self.dice.below(3)));
        let rest = ["", "1", "x", "4x", "41"][self.dice.below(5)];
        if !rest.is_empty() {
            packets.push(if rest == "41" { format!("41{}", prefix(namespace)) } else { rest.to_owned() });
        }
        self.note(|| format!("{} sends {packets:?}", self.lines[line].number));
        if rest == "41" {
            self.stage.lock().may_end(
                self.lines[line].number,
                namespace,
                &[CloseReason::ClientNamespaceDisconnect],
            );
            self.lines[line].members.remove(namespace);
            self.lines[line].left.insert(namespace);
        } else if !rest.is_empty() {
            use CloseReason::{ForcedClose, ParseError, TransportClose, TransportError};
            self.all_end(line, &[ForcedClose, ParseError, TransportClose, TransportError]);
        }
        self.lines[line].client.send(&packets);
    }

    fn break_line(&mut self) {
        let Some(line) = self.draw_line() else { return };
        let how = self.dice.below(5);
        let name = ["close packet", "close", "reset", "stays away", "probe lost"][how];
        self.note(|| format!("{} breaks: {name}", self.lines[line].number));
        let client = &mut self.lines[line].client;
        match how {
            0 => client.send(&["1".to_owned()]),
            1 => client.close(),
            2 => client.reset(),
            3 => client.silent = true,
            _ => {
                client.lose_probe();
                return;
            }
        }
        use CloseReason::{PingTimeout, TransportClose, TransportError};
        // A truncated body is an error, but between two requests no connection can break.
        let polls = self.lines[line].client.is_polling();
        self.all_end(
            line,
            if how == 3 {
                &[PingTimeout]
            } else if polls {
                &[TransportClose, TransportError, PingTimeout]
            } else {
                &[TransportClose]
            },
        );
        self.lines.retain(|line| !line.client.ended);
    }

    fn send_garbage(&mut self) {
        let Some(line) = self.draw_line() else { return };
        let garbage = ["x", "4x", "42[", "0"][self.dice.below(4)];
        self.note(|| format!("{} sends {garbage:?}", self.lines[line].number));
        self.lines[line].client.send(&[garbage.to_owned()]);
        use CloseReason::{ForcedClose, ParseError, TransportClose, TransportError};
        self.all_end(line, &[ForcedClose, ParseError, TransportClose, TransportError]);
    }

    fn upgrade(&mut self) {
        let Some(line) = self.draw_line() else { return };
        let upgrades = self.lines[line].client.upgrade();
        self.note(|| format!("{} upgrades: {upgrades}", self.lines[line].number));
    }

    fn put_out(&mut self) {
        let Some((at, handle, connection)) = self.draw_handle() else { return };
        let whole = self.dice.one_in(3) && self.stage.lock().is_on(at, connection);
        self.note(|| format!("application disconnects {} by {connection}, whole: {whole}", handle.id()));
        self.stage.disconnect(at, &handle, connection, whole);
    }

    fn put_out_room(&mut self) {
        let (namespace, room) = (self.draw_namespace(), ROOMS[self.dice.below(ROOMS.len())]);
        let whole = self.dice.one_in(3);
        self.note(|| format!("application disconnects {room} of {namespace}, whole: {whole}"));
        self.stage.disconnect_room(namespace, room, whole);
    }

    fn change_rooms(&mut self) {
        let Some((at, handle, _)) = self.draw_handle() else { return };
        let room = ROOMS[self.dice.below(ROOMS.len())];
        let joins = !self.dice.one_in(3);
        self.note(|| format!("{} joins {room}: {joins}", handle.id()));
        if joins {
            self.stage.join(at, &handle, room);
        } else {
            self.stage.leave(at, &handle, room);
        }
    }

    fn emit(&mut self) {
        let room = ROOMS[self.dice.below(ROOMS.len())];
        let way = self.dice.below(7);
        if way == 6 {
            self.note(|| "emit to the family".to_owned());
            return self.stage.emit_to_family();
        }
        if way < 2 {
            let namespace = self.draw_namespace();
            let way = if way == 0 { Way::All } else { Way::Room(room) };
            self.note(|| format!("emit {way:?} in {namespace}"));
            return self.stage.emit(namespace, way, None);
        }
        let Some((at, handle, connection)) = self.draw_handle() else { return };
        let way = match way {
            2 => Way::One(at),
            3 => Way::Others(at),
            4 => Way::OthersIn(at, room),
            _ => Way::OthersBut(at, room),
        };
        self.note(|| format!("emit {way:?} by {} of {connection}", handle.id()));
        self.stage.emit(name_of(handle.namespace().name().as_str()), way, Some(&handle));
    }

    fn set_data(&mut self) {
        let Some((at, handle, connection)) = self.draw_handle() else { return };
        self.next_event += 1;
        self.note(|| format!("data of {} by {connection}: {}", handle.id(), self.next_event));
        self.stage.set_data(at, &handle, self.next_event);
    }

    fn ask(&mut self) {
        let namespace = if self.dice.one_in(2) { None } else { Some(self.draw_namespace()) };
        self.note(|| format!("ask {namespace:?}"));
        self.stage.ask(namespace);
    }

    fn set_hook(&mut self) {
        let hooks = [Hook::Join, Hook::KickSocket, Hook::KickClient, Hook::Broadcast];
        let hook = hooks[self.dice.below(hooks.len())];
        self.note(|| format!("next new socket: {hook:?}"));
        self.stage.lock().hook = hook;
    }

    fn listen(&mut self) {
        if self.presence || self.dice.one_in(2) {
            let namespace = self.draw_namespace();
            self.note(|| format!("once in {namespace}"));
            self.stage.listen_once(namespace);
        } else {
            self.note(|| "presence".to_owned());
            self.presence = true;
            self.stage.watch_presence();
        }
    }

    /// Pauses the process while pongs are in flight; it sees the elapsed time before the pongs.
    async fn pause(&mut self) {
        self.note(|| "pause".to_owned());
        self.lines.iter_mut().for_each(|line| line.client.holds_pongs = true);
        self.pass(PING_TIMEOUT / 5 * 4).await;
        tokio::time::advance(PING_INTERVAL + PING_TIMEOUT).await;
        self.lines.iter_mut().for_each(|line| line.client.release_pongs());
        self.settle().await;
    }

    /// Shuts the server down and checks that nothing remains.
    pub(crate) async fn end(&mut self) {
        if self.dice.one_in(2) {
            self.settle().await;
            self.check();
        }
        for line in 0..self.next_line {
            for namespace in NAMESPACES {
                self.stage.lock().may_end(line, namespace, &[CloseReason::ServerShutdown]);
            }
        }
        self.note(|| "drain".to_owned());
        let began = Instant::now();
        let io = self.io.clone();
        let draining = tokio::spawn(async move {
            let drained = io.drain(Drain::default().timeout(Duration::from_secs(60))).await;
            (drained, Instant::now())
        });
        while !draining.is_finished() {
            self.pass(Duration::from_millis(40)).await;
            self.check();
        }
        let (drained, ended) = draining.await.expect("no panic");
        let (running, last_end) = {
            let state = self.stage.lock();
            (state.running, state.last_end)
        };
        assert_eq!((drained.left, running), (0, 0), "drained while handlers run");
        let due = last_end.unwrap_or(began).max(began + CLOSE_TIMEOUT) + SLACK;
        assert!(ended <= due, "drain finished {:?} late", ended - due);
        assert_eq!(self.io.client_count(), 0, "sessions remain");
        // Time for the application's ack requests, and for clients that have not read their end.
        self.pass(Duration::from_secs(5)).await;
        self.stage.lock().check_end();
        self.check();
        let count =
            |name: &str| self.io.metrics().all().find(|(known, _)| *known == name).map(|(_, count)| count);
        assert!(count("sessions_opened").is_some(), "the metric is known");
        assert_eq!(count("sessions_opened"), count("sessions_closed"));
        // They reference each other.
        let mut state = self.stage.lock();
        let held = (state.io.take(), state.parent.take(), std::mem::take(&mut state.known));
        drop(state);
        drop(held);
    }
}

impl Line {
    fn hear(&mut self, packet: &str, stage: &Stage) {
        let (kind, rest) = packet.split_at(1);
        let (namespace, rest) = match rest.split_once(',') {
            Some((name, rest)) if name.starts_with('/') => (name_of(name), rest),
            _ if rest.starts_with('/') => (name_of(rest), ""),
            _ => (MAIN, rest),
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (ack, json) = rest.split_at(digits);
        match kind {
            "0" => self.welcome(namespace, json, stage),
            "1" => {
                if let Some(at) = self.members.remove(namespace) {
                    self.left.insert(namespace);
                    let state = stage.lock();
                    let known = &state.known[at];
                    let left = &known.expected[known.heard..];
                    assert!(left.is_empty(), "{} is disconnected without receiving {left:?}", known.id);
                    assert_eq!(known.standing, Standing::Gone, "{} received a disconnect", known.id);
                }
            }
            "2" => self.event(namespace, packet, ack, json, stage),
            "3" => {
                let times = ack.parse().ok().and_then(|ack: u64| self.answers.get_mut(&ack));
                let times = times.unwrap_or_else(|| panic!("{packet} matches no request"));
                *times += 1;
                assert_eq!(*times, 1, "{packet} arrived twice");
            }
            other => panic!("{} received {other}: {packet}", self.number),
        }
    }

    fn welcome(&mut self, namespace: &'static str, json: &str, stage: &Stage) {
        let welcome: Value = serde_json::from_str(json).expect("JSON");
        let id = welcome["sid"].as_str().expect("an id");
        self.returns.retain(|(name, _)| *name != namespace);
        let early =
            self.asked.remove(namespace).unwrap_or_else(|| panic!("{id} did not ask for {namespace}"));
        let at = {
            let mut state = stage.lock();
            let at = state.find(namespace, id).unwrap_or_else(|| panic!("{id} never connected"));
            state.known[at].pid = welcome["pid"].as_str().map(str::to_owned);
            at
        };
        self.members.insert(namespace, at);
        for packet in early.into_iter().flatten() {
            self.hear(&packet, stage);
        }
    }

    fn event(&mut self, namespace: &'static str, packet: &str, ack: &str, json: &str, stage: &Stage) {
        if let Some(early) = self.asked.get_mut(namespace) {
            // Replayed before the welcome, or sent to its previous socket.
            return early.iter_mut().for_each(|early| early.push(packet.to_owned()));
        }
        let list: Vec<Value> = serde_json::from_str(json).expect("JSON");
        let name = list[0].as_str().expect("an event name");
        if !ack.is_empty() {
            let number = list[1].as_u64().expect("a number");
            // An ack in a namespace it has left would end its session.
            let times = if self.members.contains_key(namespace) { number % 3 } else { 0 };
            for _ in 0..times {
                self.client.send(&[format!("43{}{ack}[{number}]", prefix(namespace))]);
            }
            return;
        }
        // Packets after its leave are ignored.
        let Some(&at) = self.members.get(namespace) else { return };
        let mut state = stage.lock();
        let recovers = state.recovers;
        let known = &mut state.known[at];
        if recovers {
            known.offset = list.last().and_then(Value::as_str).map(str::to_owned);
            assert!(known.offset.is_some(), "{packet} has no offset");
        }
        let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
        match name {
            "e" => {
                let number = list[1].as_u64().expect("a number");
                let expected = known.expected.get(known.heard).copied();
                assert_eq!(expected, Some(number), "{} receives {number}", known.id);
                known.heard += 1;
            }
            "presence:state" => {
                known.present = Some(list[2].as_array().expect("a list").iter().map(id).collect());
            }
            "presence:join" | "presence:leave" => {
                let whom = id(&list[2]);
                if let Some(present) = &mut known.present {
                    let is_new = if name == "presence:join" {
                        present.insert(whom.clone())
                    } else {
                        present.remove(&whom)
                    };
                    assert!(is_new, "{} receives {name} of {whom} twice", known.id);
                }
            }
            other => panic!("{} receives {other}", known.id),
        }
    }
}
