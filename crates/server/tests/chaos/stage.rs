//! Application of a run: its actions, its observations, and the allowed outcomes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use roomcast_server::emit::{Emit, Receipt};
use roomcast_server::handler::serial;
use roomcast_server::namespace::{NamespaceHandle, ParentNamespace};
use roomcast_server::rooms::{Presence, RoomChange};
use roomcast_server::socket::CloseReason;
use roomcast_server::{Ack, EmitError, Io, Socket, Value};
use tokio::time::Instant;

pub(crate) const MAIN: &str = "/";
/// Namespaces; all after the first are children of one pattern.
pub(crate) const NAMESPACES: [&str; 3] = [MAIN, "/d/1", "/d/2"];
pub(crate) const ROOMS: [&str; 2] = ["red", "blue"];

/// Kinds of client events.
pub(crate) const KINDS: usize = 3;
pub(crate) const KIND_NAMES: [&str; KINDS] = ["work", "turn", "rare"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    In,
    /// Its connection has ended, and it may be recovered.
    Away,
    Gone,
}

/// Next action of the hook for new sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Nothing,
    Join,
    KickSocket,
    KickClient,
    Broadcast,
}

/// Socket, across all its connections.
pub(crate) struct Known {
    pub(crate) namespace: &'static str,
    pub(crate) id: String,
    pub(crate) standing: Standing,
    /// Whether the application disconnected it while connected.
    put_out: bool,
    pub(crate) rooms: BTreeSet<&'static str>,
    pub(crate) data: Option<u64>,
    /// Handle from each connection, with the connection's number.
    pub(crate) handles: Vec<(Socket, usize)>,
    connects: usize,
    partings: usize,
    ends: usize,
    /// Numbers of the events it must receive, in order.
    pub(crate) expected: Vec<u64>,
    pub(crate) heard: usize,
    pub(crate) pid: Option<String>,
    pub(crate) offset: Option<String>,
    /// Events that its client sent, with the connection of each.
    pub(crate) sent: [Vec<(u64, usize)>; KINDS],
    /// Events that were certainly read.
    sure: [BTreeSet<u64>; KINDS],
    pub(crate) started: [Vec<u64>; KINDS],
    /// Whether its events may remain unhandled.
    pub(crate) exempt: bool,
    in_turn: bool,
    /// Members of the first room according to presence events.
    pub(crate) present: Option<BTreeSet<String>>,
}

impl Known {
    pub(crate) fn connection(&self) -> usize {
        self.handles.last().map_or(usize::MAX, |(_, connection)| *connection)
    }

    /// Marks what its client sent on a connection as read.
    pub(crate) fn read_from(&mut self, connection: usize) {
        for (sure, sent) in self.sure.iter_mut().zip(&self.sent) {
            sure.extend(sent.iter().filter(|(_, by)| *by == connection).map(|(number, _)| *number));
        }
    }

    fn was_on(&self, connection: usize) -> bool {
        self.handles.iter().any(|(_, on)| *on == connection)
    }
}

pub(crate) struct State {
    pub(crate) io: Option<Io>,
    pub(crate) parent: Option<ParentNamespace>,
    pub(crate) recovers: bool,
    pub(crate) known: Vec<Known>,
    pub(crate) hook: Hook,
    next: u64,
    /// Allowed close reasons, by connection and namespace.
    pub(crate) causes: HashMap<(usize, &'static str), Vec<CloseReason>>,
    generated: HashMap<(String, String), usize>,
    pub(crate) running: usize,
    pub(crate) last_end: Option<Instant>,
    /// Ack requests of the server still pending.
    pub(crate) asking: usize,
    pub(crate) faults: Vec<String>,
}

/// Recipients of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    All,
    Room(&'static str),
    /// From a socket, through one of its handles.
    One(usize),
    Others(usize),
    OthersIn(usize, &'static str),
    OthersBut(usize, &'static str),
}

#[derive(Clone)]
pub(crate) struct Stage(Arc<Mutex<State>>);

/// Returns whether a client with this close reason may be recovered.
fn is_recoverable(reason: CloseReason) -> bool {
    use CloseReason::{ForcedClose, PingTimeout, ServerShutdown, TakenOver, TransportClose, TransportError};
    matches!(reason, ForcedClose | PingTimeout | ServerShutdown | TakenOver | TransportClose | TransportError)
}

pub(crate) fn name_of(namespace: &str) -> &'static str {
    NAMESPACES.into_iter().find(|name| *name == namespace).expect("one of three")
}

impl Stage {
    pub(crate) fn new(recovers: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            io: None,
            parent: None,
            recovers,
            known: Vec::new(),
            hook: Hook::Nothing,
            next: 0,
            causes: HashMap::new(),
            generated: HashMap::new(),
            running: 0,
            last_end: None,
            asking: 0,
            faults: Vec::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn namespace(&self, name: &str) -> NamespaceHandle {
        let io = self.lock().io.clone().expect("an open stage");
        io.of(name)
    }

    pub(crate) fn check(&self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.lock().faults.push(fault());
        }
    }

    /// Returns an id that is unique in its namespace, but may recur in others.
    pub(crate) fn generate_id(&self, connection: &str, namespace: &str) -> String {
        let mut state = self.lock();
        let times = state.generated.entry((connection.to_owned(), namespace.to_owned())).or_default();
        *times += 1;
        format!("c{connection}-{times}")
    }

    /// Registers the application's hooks and handlers.
    pub(crate) fn open(&self, io: &Io) {
        let parent = io.of_matching(|name| name.as_str().starts_with("/d/"));
        {
            let mut state = self.lock();
            state.io = Some(io.clone());
            state.parent = Some(parent.clone());
        }
        let stage = self.clone();
        io.on_new_namespace(move |namespace| stage.watch(&namespace));
        self.watch(&io.main());
        self.listen(&io.main());
        self.listen(&parent);
    }

    fn watch(&self, namespace: &NamespaceHandle) {
        let stage = self.clone();
        let name = name_of(namespace.name().as_str());
        namespace.on_room_change(move |change| {
            if let RoomChange::Joined { room, socket, .. } = change
                && room.as_str() == socket.as_str()
            {
                let found = stage.namespace(name).socket(socket);
                stage.check(found.is_some(), || format!("{socket} is connected but not found"));
                found.into_iter().for_each(|socket| stage.enters(name, &socket));
            }
        });
    }

    fn listen(&self, namespace: &NamespaceHandle) {
        let stage = self.clone();
        namespace.on_connect(move |socket: &Socket| stage.connected(socket));
        let stage = self.clone();
        namespace.on_disconnecting(move |socket: &Socket| stage.parts(socket));
        let stage = self.clone();
        namespace.on_disconnect(move |socket: &Socket, reason: CloseReason| stage.ended(socket, reason));
        let stage = self.clone();
        namespace.on("work", move |socket: Socket, number: u64, wait: u64| {
            stage.clone().work(socket, 0, number, wait)
        });
        let stage = self.clone();
        let turn = move |socket: Socket, number: u64, wait: u64| stage.clone().work(socket, 1, number, wait);
        namespace.on("turn", serial(turn));
        let stage = self.clone();
        namespace.on_other(move |socket: Socket, number: u64, wait: u64| {
            stage.clone().work(socket, 2, number, wait)
        });
        namespace.on("ask", async |number: u64, wait: u64, ack: Ack| {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            // The requester may be gone.
            let _ = ack.send(number);
        });
        let stage = self.clone();
        namespace.on("bad", move |socket: &Socket, how: usize| stage.punish(socket, how));
    }

    pub(crate) fn listen_once(&self, namespace: &str) {
        let (stage, namespace) = (self.clone(), self.namespace(namespace));
        // A second listener would receive the same event.
        if !namespace.listeners("rare").is_empty() {
            return;
        }
        namespace.once("rare", move |socket: Socket, number: u64, wait: u64| {
            stage.clone().work(socket, 2, number, wait)
        });
    }

    pub(crate) fn watch_presence(&self) {
        self.namespace(MAIN).presence(Presence::in_room(ROOMS[0]));
    }

    fn find(&self, socket: &Socket) -> Option<usize> {
        let namespace = socket.namespace();
        self.lock().find(namespace.name().as_str(), socket.id().as_str())
    }

    fn find_or_fault(&self, socket: &Socket) -> usize {
        self.find(socket).unwrap_or_else(|| {
            self.check(false, || format!("{} never connected", socket.id()));
            panic!("a handler ran for a socket that never connected")
        })
    }

    /// Records a socket that is in the router; its `connect` handlers have not run yet.
    fn enters(&self, namespace: &'static str, socket: &Socket) {
        let connection = socket.handshake().query_value("c").and_then(|text| text.parse().ok());
        let connection = connection.expect("clients give their numbers");
        let (at, hook) = {
            let mut state = self.lock();
            let hook = std::mem::replace(&mut state.hook, Hook::Nothing);
            let at = match state.find(namespace, socket.id().as_str()) {
                Some(at) => {
                    let known = &mut state.known[at];
                    if known.standing != Standing::Away {
                        let fault = format!("{} came back as {:?}", known.id, known.standing);
                        state.faults.push(fault);
                    } else if !socket.recovered() {
                        let fault = format!("{} was not recovered", known.id);
                        state.faults.push(fault);
                    }
                    at
                }
                None => {
                    if socket.recovered() {
                        let fault = format!("{} is recovered but unknown", socket.id());
                        state.faults.push(fault);
                    }
                    state.known.push(Known {
                        namespace,
                        id: socket.id().to_string(),
                        standing: Standing::In,
                        put_out: false,
                        rooms: BTreeSet::new(),
                        data: None,
                        handles: Vec::new(),
                        connects: 0,
                        partings: 0,
                        ends: 0,
                        expected: Vec::new(),
                        heard: 0,
                        pid: None,
                        offset: None,
                        sent: Default::default(),
                        sure: Default::default(),
                        started: Default::default(),
                        exempt: false,
                        in_turn: false,
                        present: None,
                    });
                    state.known.len() - 1
                }
            };
            let known = &mut state.known[at];
            known.standing = Standing::In;
            known.handles.push((socket.clone(), connection));
            (at, hook)
        };
        // Its connection may have ended before it connected.
        let ends = self.lock().causes.contains_key(&(connection, namespace));
        self.check(ends || socket.is_connected(), || format!("new socket {} is not connected", socket.id()));
        match hook {
            Hook::Nothing => {}
            Hook::Join => self.join(at, socket, ROOMS[0]),
            Hook::KickSocket => self.disconnect(at, socket, connection, false),
            Hook::KickClient => self.disconnect(at, socket, connection, true),
            Hook::Broadcast => self.emit(namespace, Way::Others(at), Some(socket)),
        }
    }

    fn connected(&self, socket: &Socket) {
        let at = self.find_or_fault(socket);
        #[derive(serde::Deserialize)]
        struct Shown {
            pid: Option<String>,
        }
        let shown = socket.auth::<Shown>().ok().and_then(|shown| shown.pid);
        let mut state = self.lock();
        let known = &mut state.known[at];
        known.connects += 1;
        let fault = known.connects != known.handles.len() || known.connects != known.ends + 1;
        let fault = fault.then(|| format!("{} connects {} times", known.id, known.connects));
        state.faults.extend(fault);
        if let Some(pid) = shown
            && !socket.recovered()
            && let Some(lost) = state.known.iter().find(|known| known.pid.as_ref() == Some(&pid))
            && lost.standing != Standing::Gone
        {
            let fault = format!("{} is {:?} and was not recovered", lost.id, lost.standing);
            state.faults.push(fault);
        }
    }

    fn parts(&self, socket: &Socket) {
        let at = self.find_or_fault(socket);
        let rooms: BTreeSet<_> = socket.rooms().iter().map(|room| room.to_string()).collect();
        let mut state = self.lock();
        let known = &mut state.known[at];
        known.partings += 1;
        let expected: BTreeSet<_> =
            known.rooms.iter().map(|room| (*room).to_owned()).chain([known.id.clone()]).collect();
        let fault = (rooms != expected).then(|| format!("{} leaves {rooms:?}, not {expected:?}", known.id));
        let twice = known.partings != known.connects;
        let twice = twice.then(|| format!("{} has {} disconnecting events", known.id, known.partings));
        state.faults.extend(fault.into_iter().chain(twice));
        let connection = state.known[at].connection();
        if connection % 5 == 1 && state.known[at].standing == Standing::In {
            // The application's action precedes the handlers being called for it.
            state.puts_out(at, connection, false);
            drop(state);
            socket.disconnect();
        }
    }

    fn ended(&self, socket: &Socket, reason: CloseReason) {
        let at = self.find_or_fault(socket);
        self.check(!socket.is_connected(), || format!("{} is connected on disconnect", socket.id()));
        self.check(socket.rooms().is_empty(), || format!("{} is in rooms on disconnect", socket.id()));
        let connection = {
            let mut state = self.lock();
            let recovers = state.recovers;
            let known = &mut state.known[at];
            known.ends += 1;
            let (connection, id) = (known.connection(), known.id.clone());
            let mut faults = Vec::new();
            if known.ends != known.partings {
                faults.push(format!("{id} ended {} times", known.ends));
            }
            let by_server = reason == CloseReason::ServerNamespaceDisconnect;
            if by_server != known.put_out {
                faults.push(format!("{id} ended with {reason:?}; disconnected: {}", known.put_out));
            }
            if reason == CloseReason::ClientNamespaceDisconnect && !known.exempt {
                known.read_from(connection);
            }
            if known.standing == Standing::In {
                let comes_back = recovers && is_recoverable(reason);
                known.standing = if comes_back { Standing::Away } else { Standing::Gone };
            }
            let namespace = known.namespace;
            let causes = state.causes.get(&(connection, namespace));
            if !by_server && !causes.is_some_and(|causes| causes.contains(&reason)) {
                faults.push(format!("{id} on {connection} ended with {reason:?}, not {causes:?}"));
            }
            state.faults.extend(faults);
            connection
        };
        if connection.is_multiple_of(3) {
            let namespace = name_of(socket.namespace().name().as_str());
            self.emit(namespace, Way::Others(at), Some(socket));
        }
    }

    async fn work(self, socket: Socket, kind: usize, number: u64, wait: u64) {
        let Some(at) = self.find(&socket) else { return };
        {
            let mut state = self.lock();
            state.running += 1;
            let known = &mut state.known[at];
            known.started[kind].push(number);
            let mut faults = Vec::new();
            let sent = known.sent[kind].iter().map(|(number, _)| *number);
            if !is_within(&known.started[kind], sent) {
                faults.push(format!("{} handles {:?} of {:?}", known.id, known.started, known.sent));
            }
            if kind == 1 && std::mem::replace(&mut known.in_turn, true) {
                faults.push(format!("{} runs two serial handlers at once", known.id));
            }
            state.faults.extend(faults);
        }
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let mut state = self.lock();
        state.running -= 1;
        state.last_end = Some(Instant::now());
        if kind == 1 {
            state.known[at].in_turn = false;
        }
    }

    fn punish(&self, socket: &Socket, how: usize) {
        let at = self.find_or_fault(socket);
        let connection = self.lock().known[at].connection();
        match how {
            0 => self.disconnect(at, socket, connection, false),
            1 => {
                let whole = self.lock().is_on(at, connection);
                self.disconnect(at, socket, connection, whole);
            }
            _ => {
                // The socket is found by its room while connected.
                let was_in = self.lock().known[at].standing == Standing::In;
                if was_in {
                    self.lock().puts_out(at, connection, false);
                }
                let namespace = socket.namespace();
                let count = namespace.to(socket.id()).disconnect();
                self.check(count == usize::from(was_in), || {
                    format!("{count} of {} disconnected", socket.id())
                });
                self.check_out(at);
            }
        }
    }

    /// Disconnects a socket through one of its handles.
    pub(crate) fn disconnect(&self, at: usize, handle: &Socket, connection: usize, whole: bool) {
        self.lock().puts_out(at, connection, whole);
        if whole {
            handle.disconnect_client();
        } else {
            handle.disconnect();
        }
        self.check_out(at);
    }

    pub(crate) fn disconnect_room(&self, namespace: &'static str, room: &'static str, whole: bool) {
        let those: Vec<_> = {
            let mut state = self.lock();
            let those = state
                .those(namespace, |_, known| known.standing == Standing::In && known.rooms.contains(room));
            for at in &those {
                let connection = state.known[*at].connection();
                state.puts_out(*at, connection, whole);
            }
            those
        };
        let addressed = self.namespace(namespace).to(room);
        let count = if whole { addressed.disconnect_client() } else { addressed.disconnect() };
        self.check(count == those.len(), || format!("{count} of {} disconnected from {room}", those.len()));
        those.into_iter().for_each(|at| self.check_out(at));
    }

    /// Checks that no state of a disconnected socket remains.
    fn check_out(&self, at: usize) {
        let (handles, namespace, id) = {
            let state = self.lock();
            let known = &state.known[at];
            (known.handles.clone(), known.namespace, known.id.clone())
        };
        let connected = handles.iter().any(|(handle, _)| handle.is_connected() || !handle.rooms().is_empty());
        self.check(!connected, || format!("{id} is connected after its disconnect"));
        let count = self.namespace(namespace).count(id.as_str());
        self.check(count == 0, || format!("{id} is counted after its disconnect"));
    }

    pub(crate) fn join(&self, at: usize, handle: &Socket, room: &'static str) {
        let joined = handle.join(room);
        let mut state = self.lock();
        let known = &mut state.known[at];
        let is_in = known.standing == Standing::In;
        if is_in {
            known.rooms.insert(room);
        }
        let fault = (joined != is_in).then(|| format!("{} joined: {joined}, connected: {is_in}", known.id));
        state.faults.extend(fault);
    }

    pub(crate) fn leave(&self, at: usize, handle: &Socket, room: &'static str) {
        let left = handle.leave(room);
        let mut state = self.lock();
        let known = &mut state.known[at];
        let was_in = known.standing == Standing::In && known.rooms.remove(room);
        let fault = (left != was_in).then(|| format!("{} left: {left}, was a member: {was_in}", known.id));
        state.faults.extend(fault);
    }

    pub(crate) fn emit(&self, namespace: &'static str, way: Way, handle: Option<&Socket>) {
        let (number, here, refused) = {
            let mut state = self.lock();
            state.next += 1;
            let number = state.next;
            let recovers = state.recovers;
            let those = state.those(namespace, |at, known| way.reaches(at, known));
            let mut here = 0;
            let refused = matches!(way, Way::One(at) if those.is_empty() || !recovers && state.known[at].standing != Standing::In);
            for at in those {
                let known = &mut state.known[at];
                known.expected.push(number);
                here += usize::from(known.standing == Standing::In);
            }
            (number, here, refused)
        };
        let handle = || handle.expect("of a socket");
        let emitted = match way {
            Way::All => self.namespace(namespace).emit("e", number),
            Way::Room(room) => self.namespace(namespace).to(room).emit("e", number),
            Way::One(_) => handle().emit("e", number),
            Way::Others(_) => handle().broadcast().emit("e", number),
            Way::OthersIn(_, room) => handle().to(room).emit("e", number),
            Way::OthersBut(_, room) => handle().except(room).emit("e", number),
        };
        let fault = match emitted {
            Err(EmitError::Disconnected) if matches!(way, Way::One(_)) => {
                // Its connection has broken, unnoticed so far.
                (!refused && here == 0).then(|| "refused".to_owned())
            }
            Ok(Receipt { queued, closed, .. }) if !refused => {
                (queued + closed != here).then(|| format!("{queued} queued and {closed} closed of {here}"))
            }
            other => Some(format!("{other:?}")),
        };
        self.check(fault.is_none(), || format!("event {number} by {way:?} in {namespace}: {fault:?}"));
    }

    /// Emits to the children of the pattern.
    pub(crate) fn emit_to_family(&self) {
        let (parent, number) = {
            let mut state = self.lock();
            state.next += 1;
            let number = state.next;
            for known in state.known.iter_mut().filter(|known| known.namespace != MAIN) {
                if known.standing != Standing::Gone {
                    known.expected.push(number);
                }
            }
            (state.parent.clone().expect("an open stage"), number)
        };
        let emitted = parent.emit("e", number);
        self.check(emitted.is_ok(), || format!("event {number} to the children: {emitted:?}"));
    }

    /// Requests acks from all sockets of a namespace, or of all children.
    pub(crate) fn ask(&self, namespace: Option<&'static str>) {
        let (target, mut asked, number): (Emit, Vec<String>, u64) = {
            let mut state = self.lock();
            state.asking += 1;
            state.next += 1;
            let is_asked = |known: &&Known| match namespace {
                Some(namespace) => known.namespace == namespace,
                None => known.namespace != MAIN,
            };
            let asked = state.known.iter().filter(is_asked).filter(|known| known.standing == Standing::In);
            let asked = asked.map(|known| known.id.clone()).collect();
            let target = match namespace {
                Some(namespace) => state.io.as_ref().expect("an open stage").of(namespace).target(),
                None => state.parent.as_ref().expect("an open stage").target(),
            };
            (target, asked, state.next)
        };
        let asking = target.timeout(Duration::from_secs(2));
        let stage = self.clone();
        let mut asking = Box::pin(async move { asking.emit_with_ack("q", number).await });
        // The request is sent now, to the sockets connected now.
        let polled =
            Future::poll(asking.as_mut(), &mut std::task::Context::from_waker(std::task::Waker::noop()));
        tokio::spawn(async move {
            let answers = match polled {
                std::task::Poll::Ready(answers) => answers,
                std::task::Poll::Pending => asking.await,
            };
            let answers = answers.expect("a valid emit");
            let complete = answers.answers.iter().all(|(_, args)| args.get::<u64>(0).ok() == Some(number));
            let answered = answers.answers.iter().map(|(id, _)| id.to_string());
            let others = answers.missing.iter().chain(&answers.gone).map(ToString::to_string);
            let mut accounted: Vec<_> = answered.chain(others).collect();
            accounted.sort();
            asked.sort();
            stage.check(complete && accounted == asked, || {
                format!("ack request {number} to {asked:?}: {answers:?}")
            });
            stage.lock().asking -= 1;
        });
    }

    pub(crate) fn set_data(&self, at: usize, handle: &Socket, value: u64) {
        handle.set_data(&value).expect("valid JSON");
        let mut state = self.lock();
        let recovers = state.recovers;
        let known = &mut state.known[at];
        // Without recovery each handle refers to the same socket, and data lasts as long as the socket.
        if recovers || known.standing == Standing::In || known.handles.len() == 1 {
            known.data = Some(value);
        }
    }

    /// Checks that exactly the connected sockets are found and counted, with their data.
    pub(crate) fn check_now(&self) {
        let mut expected = Vec::new();
        {
            let state = self.lock();
            for namespace in NAMESPACES {
                for room in ROOMS {
                    let count = state.those(namespace, |_, known| {
                        known.standing == Standing::In && known.rooms.contains(room)
                    });
                    expected.push((namespace, Some(room), count.len()));
                }
                let all = state.those(namespace, |_, known| known.standing == Standing::In);
                expected.push((namespace, None, all.len()));
            }
        }
        for (namespace, room, count) in expected {
            let handle = self.namespace(namespace);
            let counted = room.map_or_else(|| handle.sockets().len(), |room| handle.count(room));
            self.check(counted == count, || format!("{counted} in {namespace} {room:?}, not {count}"));
        }
        let handles: Vec<_> = {
            let state = self.lock();
            let alive = state.known.iter().filter(|known| known.standing != Standing::Gone);
            alive.map(|known| (known.handles.clone(), known.data, known.id.clone())).collect()
        };
        for (handles, data, id) in handles {
            for (handle, _) in handles {
                let kept = handle.data::<Value>().expect("valid JSON").and_then(|value| value.as_u64());
                self.check(kept == data, || format!("{id} has data {kept:?}, not {data:?}"));
            }
        }
    }
}

/// Returns whether `these` is a subsequence of `others`.
fn is_within(these: &[u64], mut others: impl Iterator<Item = u64>) -> bool {
    these.iter().all(|number| others.any(|other| other == *number))
}

impl Way {
    fn reaches(self, at: usize, known: &Known) -> bool {
        match self {
            Self::All => true,
            Self::Room(room) => known.rooms.contains(room),
            Self::One(of) => at == of,
            Self::Others(of) => at != of,
            Self::OthersIn(of, room) => at != of && known.rooms.contains(room),
            Self::OthersBut(of, room) => at != of && !known.rooms.contains(room),
        }
    }
}

impl State {
    pub(crate) fn find(&self, namespace: &str, id: &str) -> Option<usize> {
        self.known.iter().position(|known| known.namespace == namespace && known.id == id)
    }

    /// Returns the sockets of a namespace that may receive events and satisfy `holds`.
    fn those(&self, namespace: &str, holds: impl Fn(usize, &Known) -> bool) -> Vec<usize> {
        let is_meant = |at: &usize| {
            let known = &self.known[*at];
            known.namespace == namespace && known.standing != Standing::Gone && holds(*at, known)
        };
        (0..self.known.len()).filter(is_meant).collect()
    }

    /// Records a disconnect before it happens; returns `true` if the socket is connected.
    fn puts_out(&mut self, at: usize, connection: usize, whole: bool) -> bool {
        let known = &self.known[at];
        let was_in = known.standing == Standing::In;
        let last = known.connection();
        self.one_out(at);
        if whole {
            for other in 0..self.known.len() {
                let known = &self.known[other];
                let on_it = known.was_on(connection)
                    && (known.connection() == connection || known.standing == Standing::Away);
                if on_it || was_in && known.connection() == last {
                    self.one_out(other);
                }
            }
        }
        was_in
    }

    /// Returns whether a socket is connected by this connection.
    pub(crate) fn is_on(&self, at: usize, connection: usize) -> bool {
        self.known[at].standing == Standing::In && self.known[at].connection() == connection
    }

    fn one_out(&mut self, at: usize) {
        let known = &mut self.known[at];
        known.put_out |= known.standing == Standing::In;
        known.standing = Standing::Gone;
        known.exempt = true;
    }

    pub(crate) fn may_end(&mut self, connection: usize, namespace: &'static str, reasons: &[CloseReason]) {
        self.causes.entry((connection, namespace)).or_default().extend(reasons);
    }

    /// Checks that every connect has one disconnect, and that every event read was handled.
    pub(crate) fn check_end(&mut self) {
        let mut faults = Vec::new();
        for known in &self.known {
            if known.connects != known.ends || known.connects != known.handles.len() {
                faults.push(format!("{} connects {} times, ends {}", known.id, known.connects, known.ends));
            }
            for kind in 0..KINDS {
                let (sure, started) = (&known.sure[kind], &known.started[kind]);
                if !known.exempt && !sure.iter().all(|number| started.contains(number)) {
                    faults.push(format!("{} handled {started:?}, but {sure:?} were read", known.id));
                }
            }
        }
        if self.running + self.asking > 0 {
            faults.push(format!("{} handlers and {} ack requests remain", self.running, self.asking));
        }
        self.faults.extend(faults);
    }
}
