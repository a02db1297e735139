//! The state machines on standard input and output, one JSON object a line, for tests with Node's adapters.
//!
//! Each line of input is a command with the field `op`. Its output is one line for each action, and then a line `{}`.
//! Bytes are hexadecimal; arguments are the text of a JSON list and attachments.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufWriter, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use roomcast_core::{Args, Event, Membership, Namespace, Room, SocketId, Target};
use roomcast_node_adapter::{
    Action, AdapterNamespace, Answer, Asker, ClassicConfig, ClassicNamespace, CodecLimits, EntryId, Flags,
    Query, ReadRequest, Recipients, RequestNumber, Response, RestoreStep, Restored, SessionRestore,
    ShardedConfig, ShardedNamespace, SocketDescription, StoredSession, StreamEntry, StreamReader,
    StreamsConfig, StreamsNamespace, SubscriptionMode, cluster_uid, encode_broadcast, encode_session,
    node_uid, session_key,
};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    #[allow(clippy::disallowed_methods, reason = "the protocol needs a clock")]
    let clock = Instant::now;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut bridge = Bridge {
        namespace: Namespace::main(),
        node: Node::Classic(ClassicNamespace::new(Arc::default(), Namespace::main(), &node_uid(0))),
        askers: BTreeMap::new(),
        requests: BTreeMap::new(),
        last: 0,
        restore: None,
    };
    for line in io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        for action in bridge.run(&command, clock())? {
            writeln!(out, "{action}")?;
        }
        writeln!(out, "{{}}")?;
        out.flush()?;
    }
    Ok(())
}

/// Namespace with the adapter that the test selected.
enum Node {
    Classic(ClassicNamespace),
    Sharded(ShardedNamespace),
    Streams(Box<StreamsNamespace>, StreamReader),
}

impl Node {
    fn adapter(&mut self) -> &mut dyn AdapterNamespace {
        match self {
            Self::Classic(node) => node,
            Self::Sharded(node) => node,
            Self::Streams(node, _) => &mut **node,
        }
    }
}

struct Bridge {
    namespace: Namespace,
    node: Node,
    askers: BTreeMap<u64, Asker>,
    requests: BTreeMap<u64, RequestNumber>,
    last: u64,
    restore: Option<SessionRestore>,
}

impl Bridge {
    fn run(&mut self, command: &Value, now: Instant) -> Result<Vec<Value>, Box<dyn Error>> {
        let recipients = || Recipients { rooms: rooms(&command["rooms"]), except: rooms(&command["except"]) };
        let name = text(&command["name"]);
        let mut out = Vec::new();
        if command["op"] == "open" {
            out.push(self.open(command)?);
        }
        let node = self.node.adapter();
        match command["op"].as_str().unwrap_or_default() {
            "open" => {}
            "message" => {
                let payload = bytes(&command["payload"])?;
                let members = rooms(&command["members"]);
                node.handle_message(&text(&command["channel"]), &payload, now, &|room| {
                    members.iter().any(|member| member.as_str() == room)
                });
            }
            "broadcast" => {
                let event = self.event(command)?;
                self.node.adapter().broadcast(&recipients(), &flags(&command["flags"]), &event, now)?;
            }
            "join" => node.update(recipients(), Membership::Join(rooms(&command["change"])), now)?,
            "leave" => node.update(recipients(), Membership::Leave(rooms(&command["change"])), now)?,
            "disconnect" => node.disconnect(recipients(), command["close"] == true, now)?,
            "emit" => node.server_side_emit(&name.into(), &args(command)?)?,
            "count" => self.ask(Query::Count(recipients()), command, now)?,
            "fetch" => self.ask(Query::Fetch(recipients()), command, now)?,
            "ask" => self.ask(Query::ServerSide(name.into(), args(command)?), command, now)?,
            "collect" => {
                let query = Query::Broadcast(recipients(), flags(&command["flags"]), self.event(command)?);
                self.ask(query, command, now)?;
            }
            "nodes" => {
                if let Some(request) = self.requests.get(&command["request"].as_u64().unwrap_or(0)) {
                    node.handle_node_count(*request, command["count"].as_u64(), now);
                }
            }
            "answer" => {
                let asker = &self.askers[&command["asker"].as_u64().unwrap_or(0)];
                node.answer(asker, &response(command)?)?;
            }
            "time" => node.handle_timeout(now),
            "close" => node.close(now),
            "room" => self.change_room(&Room::new(name), command["exists"] == true),
            "read" | "last" | "entries" | "failed" | "unconfirmed" => out.extend(self.stream(command, now)?),
            "store" | "restore" | "session" | "missed" => out.push(self.recover(command)?),
            "generate" => return self.generate(command),
            "metrics" => out.push(json!({ "metrics": format!("{:?}", node.metrics()) })),
            other => return Err(format!("unknown operation {other}").into()),
        }
        while let Some(action) = self.node.adapter().poll_action() {
            out.push(self.show(action));
        }
        Ok(out)
    }

    fn open(&mut self, command: &Value) -> Result<Value, Box<dyn Error>> {
        self.namespace = Namespace::new(text(&command["name"]));
        let random = Rng::new().u64(..);
        Ok(match command["adapter"].as_str().unwrap_or("classic") {
            "classic" => {
                let mut config = ClassicConfig::default();
                config.own_response_channels = command["own"] == true;
                let node = ClassicNamespace::new(Arc::new(config), self.namespace.clone(), &node_uid(random));
                let channels = node.channels();
                let shown = json!({
                    "uid": &**node.uid(), "pattern": &**channels.pattern(), "request": &**channels.request(),
                    "response": &**channels.response(), "own": &**channels.own_response(),
                    "counted": &**channels.request(),
                });
                self.node = Node::Classic(node);
                shown
            }
            "sharded" => {
                let mut config = ShardedConfig::default();
                config.mode = match command["mode"].as_str() {
                    Some("static") => SubscriptionMode::Static,
                    Some("dynamic-private") => SubscriptionMode::DynamicPrivate,
                    _ => SubscriptionMode::Dynamic,
                };
                let node =
                    ShardedNamespace::new(Arc::new(config), self.namespace.clone(), &cluster_uid(random));
                let shown = json!({ "uid": &**node.uid(), "counted": &**node.counted_channel() });
                self.node = Node::Sharded(node);
                shown
            }
            "streams" => {
                let mut config = StreamsConfig::default();
                config.plaintext_only = command["plaintext"] == true;
                config.max_len = command["max_len"].as_u64().unwrap_or(config.max_len);
                let node =
                    StreamsNamespace::new(Arc::new(config), self.namespace.clone(), &cluster_uid(random));
                let shown = json!({ "uid": &**node.uid(), "counted": &**node.counted_channel() });
                self.node = Node::Streams(Box::new(node), StreamReader::new());
                shown
            }
            other => return Err(format!("unknown adapter {other}").into()),
        })
    }

    /// Operations of the stream and its reader.
    fn stream(&mut self, command: &Value, now: Instant) -> Result<Option<Value>, Box<dyn Error>> {
        let Node::Streams(node, reader) = &mut self.node else { return Err("no stream".into()) };
        let last = command["last"].as_str().map(str::parse::<EntryId>).transpose()?;
        let gap = match command["op"].as_str().unwrap_or_default() {
            "read" => {
                if command["reconnect"] == true {
                    reader.handle_reconnect();
                }
                return Ok(Some(match reader.next_request() {
                    ReadRequest::Read { anchor, after } => json!({
                        "do": "read", "anchor": anchor.map(|id| id.to_string()), "after": after.to_string(),
                    }),
                    _ => json!({ "do": "locate" }),
                }));
            }
            "last" => reader.handle_last(last),
            "unconfirmed" => return Ok(Some(json!({ "entries": node.unconfirmed_entries() }))),
            "failed" => {
                node.handle_append_failure(command["number"].as_u64().unwrap_or(0));
                false
            }
            _ => {
                let gap = reader.handle_read(command["anchor"] == true, last);
                for entry in entries(command)? {
                    node.handle_entry(&entry, now);
                }
                gap
            }
        };
        Ok(gap.then(|| json!({ "do": "gap" })))
    }

    /// Operations of sessions, which are stored at a disconnect and restored at a reconnect.
    fn recover(&mut self, command: &Value) -> Result<Value, Box<dyn Error>> {
        const PREFIX: &str = "sio:session:";
        let secret = text(&command["secret"]);
        let outcome = match command["op"].as_str().unwrap_or_default() {
            "store" => {
                let session = StoredSession {
                    id: SocketId::new(text(&command["id"])),
                    secret: secret.clone().into(),
                    rooms: rooms(&command["rooms"]),
                    data: args(command)?,
                };
                let (key, value) = (session_key(PREFIX, &secret), encode_session(&session)?);
                return Ok(json!({ "key": &*key, "value": &*value }));
            }
            "restore" => {
                let offset = text(&command["offset"]);
                let limits = CodecLimits::default();
                SessionRestore::new(PREFIX, self.namespace.clone(), &secret, &offset, 1 << 20, limits).map(
                    |restore| {
                        self.restore = Some(restore);
                        None
                    },
                )
            }
            operation => {
                let restore = self.restore.as_mut().ok_or("no recovery was begun")?;
                if operation == "session" {
                    restore
                        .handle_session(command["stored"].as_str(), command["found"] == true)
                        .map(|()| None)
                } else {
                    let last = command["last"].as_str().map(str::parse::<EntryId>).transpose()?;
                    restore.handle_entries(&entries(command)?, last, command["end"] == true)
                }
            }
        };
        Ok(match outcome {
            Err(error) => json!({ "do": "refused", "reason": error.to_string() }),
            Ok(Some(restored)) => shown_session(&restored),
            Ok(None) => match self.restore.as_ref().ok_or("no recovery was begun")?.next_step() {
                RestoreStep::Take { key, offset } => {
                    json!({ "do": "take", "key": &*key, "offset": offset.to_string() })
                }
                RestoreStep::Range { from, count } => {
                    json!({ "do": "range", "from": from.to_string(), "count": count })
                }
                other => json!({ "do": format!("{other:?}") }),
            },
        })
    }

    fn change_room(&mut self, room: &Room, exists: bool) {
        if let Node::Sharded(node) = &mut self.node {
            if exists {
                node.room_created(room);
            } else {
                node.room_deleted(room);
            }
        }
    }

    fn event(&self, command: &Value) -> Result<Event, Box<dyn Error>> {
        Ok(Event::new(self.namespace.clone(), text(&command["name"]), args(command)?))
    }

    fn ask(&mut self, query: Query, command: &Value, now: Instant) -> Result<(), Box<dyn Error>> {
        let timeout = Duration::from_millis(command["timeout"].as_u64().unwrap_or(5000));
        let request = self.node.adapter().begin(query, timeout, now)?;
        self.requests.insert(command["request"].as_u64().unwrap_or(0), request);
        Ok(())
    }

    fn show(&mut self, action: Action) -> Value {
        let with_target = |mut shown: Value, target: &Target| {
            shown["rooms"] = json!(target.rooms);
            shown["except"] = json!(target.except);
            shown["delivery"] = format!("{:?}", target.delivery).into();
            shown
        };
        match action {
            Action::Publish { channel, payload } => {
                json!({ "do": "publish", "channel": &*channel, "payload": hex(&payload) })
            }
            Action::Append { stream, max_len, fields, number } => {
                let fields: Vec<_> = fields.iter().map(|(name, value)| (name, &**value)).collect();
                json!({ "do": "append", "stream": &*stream, "max_len": max_len, "fields": fields, "number": number })
            }
            Action::Subscribe { channel } => json!({ "do": "subscribe", "channel": &*channel }),
            Action::Unsubscribe { channel } => json!({ "do": "unsubscribe", "channel": &*channel }),
            Action::CountNodes { request } => {
                json!({ "do": "count", "request": self.number(request) })
            }
            Action::Deliver { target, event } => with_target(shown_event("deliver", &event), &target),
            Action::Update { target, change, .. } => {
                let (kind, rooms) = match change {
                    Membership::Join(rooms) => ("join", rooms),
                    Membership::Leave(rooms) => ("leave", rooms),
                };
                with_target(json!({ "do": kind, "change": rooms }), &target)
            }
            Action::Disconnect { target, close, .. } => {
                with_target(json!({ "do": "disconnect", "close": close }), &target)
            }
            Action::Find { asker, target, wanted } => {
                let asker = self.keep(asker);
                with_target(json!({ "do": "find", "asker": asker, "wanted": format!("{wanted:?}") }), &target)
            }
            Action::ServerSide { name, args, asker } => {
                let asker = asker.map(|asker| self.keep(asker));
                json!({
                    "do": "server", "name": &*name, "args": args.json(), "attachments": attachments(&args),
                    "asker": asker,
                })
            }
            Action::DeliverWithAck { asker, target, event, timeout } => {
                let mut shown = with_target(shown_event("collect", &event), &target);
                shown["asker"] = self.keep(asker).into();
                shown["timeout"] = json!(timeout.map(|timeout| timeout.as_millis().to_string()));
                shown
            }
            Action::Answer { request, answer } => {
                let request = self.number(request);
                let answer = match answer {
                    Answer::Count(count) => json!({ "count": count }),
                    Answer::Recipients(count) => json!({ "recipients": count }),
                    Answer::Sockets(sockets) => sockets.iter().map(shown_socket).collect(),
                    Answer::ServerSide(args) | Answer::Ack(args) => {
                        json!({ "args": args.json(), "attachments": attachments(&args) })
                    }
                    other => format!("{other:?}").into(),
                };
                json!({ "do": "answer", "request": request, "answer": answer })
            }
            Action::Done { request, missing, .. } => {
                json!({ "do": "done", "request": self.number(request), "missing": missing })
            }
            other => json!({ "do": format!("{other:?}") }),
        }
    }

    fn keep(&mut self, asker: Asker) -> u64 {
        self.last += 1;
        self.askers.insert(self.last, asker);
        self.last
    }

    fn number(&self, request: RequestNumber) -> Option<u64> {
        self.requests.iter().find(|(_, known)| **known == request).map(|(number, _)| *number)
    }

    /// Generates broadcasts, each with the arguments that Node has to read.
    fn generate(&self, command: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
        let mut rng = Rng::with_seed(command["seed"].as_u64().unwrap_or(0));
        let generated = (0..command["messages"].as_u64().unwrap_or(0)).map(|_| {
            let parts: Vec<_> = (0..rng.usize(..3)).map(|_| Bytes::from(random_bytes(&mut rng))).collect();
            let mut values: Vec<Value> = (0..rng.usize(..4)).map(|_| random_value(&mut rng, 3)).collect();
            values.extend((0..parts.len()).map(|num| json!({ "b": [{ "_placeholder": true, "num": num }] })));
            let list: Vec<String> = values.iter().map(Value::to_string).collect();
            let event =
                Event::new(self.namespace.clone(), "e", Args::from_json(list.join(",").into(), parts)?);
            let recipients = Recipients { rooms: random_rooms(&mut rng), except: random_rooms(&mut rng) };
            let flags =
                Flags { volatile: rng.bool(), compress: rng.bool().then(|| rng.bool()), ..Flags::default() };
            let payload = encode_broadcast("ours00", &recipients, &flags, &event)?;
            let mut shown = shown_event("generated", &event);
            shown["payload"] = hex(&payload).into();
            shown["rooms"] = json!(recipients.rooms);
            shown["except"] = json!(recipients.except);
            Ok(shown)
        });
        generated.collect()
    }
}

fn shown_event(what: &str, event: &Event) -> Value {
    json!({
        "do": what, "name": &*event.name, "args": event.args.json(), "attachments": attachments(&event.args),
        "compress": event.compress, "offset": event.offset.as_deref(),
    })
}

fn shown_socket(socket: &SocketDescription) -> Value {
    json!({ "id": socket.id, "rooms": socket.rooms, "handshake": &*socket.handshake, "data": &*socket.data })
}

fn shown_session(Restored { session, missed, until }: &Restored) -> Value {
    let missed: Vec<Value> = missed.iter().map(|event| shown_event("missed", event)).collect();
    json!({
        "do": "restored", "id": session.id, "secret": &*session.secret, "rooms": session.rooms,
        "args": session.data.json(), "attachments": attachments(&session.data), "missed": missed,
        "until": until.to_string(),
    })
}

/// Reads entries in the form that Redis has in its answers.
fn entries(command: &Value) -> Result<Vec<StreamEntry>, Box<dyn Error>> {
    let mut entries = Vec::new();
    for entry in command["entries"].as_array().into_iter().flatten() {
        let fields: Vec<Bytes> =
            entry[1].as_array().into_iter().flatten().map(|field| Bytes::from(text(field))).collect();
        let pairs = fields.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        entries.extend(StreamEntry::from_fields(text(&entry[0]).parse()?, pairs)?);
    }
    Ok(entries)
}

fn attachments(args: &Args) -> Vec<String> {
    args.attachments().iter().map(|part| hex(part)).collect()
}

fn response(command: &Value) -> Result<Response, Box<dyn Error>> {
    let sockets = command["sockets"].as_array().cloned().unwrap_or_default();
    Ok(match command["kind"].as_str().unwrap_or_default() {
        "ids" => Response::Ids(sockets.iter().map(|socket| SocketId::new(text(&socket["id"]))).collect()),
        "sockets" => Response::Sockets(sockets.iter().map(described).collect()),
        "rooms" => Response::Rooms(rooms(&command["rooms"])),
        "server" => Response::ServerSide(args(command)?),
        "recipients" => Response::ClientCount(command["count"].as_u64().unwrap_or(0)),
        "ack" => Response::Ack(args(command)?),
        other => return Err(format!("unknown answer {other}").into()),
    })
}

fn described(socket: &Value) -> SocketDescription {
    SocketDescription {
        id: SocketId::new(text(&socket["id"])),
        rooms: rooms(&socket["rooms"]),
        handshake: socket["handshake"].to_string().into(),
        data: socket["data"].to_string().into(),
    }
}

fn flags(flags: &Value) -> Flags {
    Flags {
        volatile: flags["volatile"] == true,
        compress: flags["compress"].as_bool(),
        key: flags["key"].as_str().map(Into::into),
        ..Flags::default()
    }
}

fn args(command: &Value) -> Result<Args, Box<dyn Error>> {
    let parts =
        command["attachments"].as_array().into_iter().flatten().map(bytes).collect::<Result<_, _>>()?;
    Ok(Args::from_json(text(&command["args"]).into(), parts)?)
}

fn rooms(list: &Value) -> Vec<Room> {
    list.as_array().into_iter().flatten().map(|name| Room::from(text(name))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn bytes(hex: &Value) -> Result<Bytes, Box<dyn Error>> {
    let hex = hex.as_str().ok_or("bytes are missing")?;
    let pairs = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
    Ok(pairs.collect::<Result<Vec<u8>, _>>()?.into())
}

fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    let len = [0, 1, 31, 255, 256, 300][rng.usize(..6)];
    (0..len).map(|_| rng.u8(..)).collect()
}

fn random_text(rng: &mut Rng) -> String {
    let len = [0, 1, 5, 31, 32, 255, 256][rng.usize(..7)];
    (0..len).map(|_| if rng.bool() { rng.lowercase() } else { rng.char(..) }).collect()
}

fn random_rooms(rng: &mut Rng) -> Vec<Room> {
    let mut names: Vec<String> = (0..rng.usize(..4))
        .map(|_| match rng.u8(..3) {
            0 => rng.i32(..).to_string(),
            1 => "a#b".repeat(rng.usize(..3)),
            _ => random_text(rng),
        })
        .collect();
    names.sort();
    names.dedup();
    names.into_iter().map(Room::from).collect()
}

fn random_value(rng: &mut Rng, depth: usize) -> Value {
    let len = rng.usize(..if depth == 1 { 18 } else { 4 });
    match rng.u8(..if depth == 0 { 8 } else { 10 }) {
        0 => Value::Null,
        1 => rng.bool().into(),
        2 => (rng.i64(..) >> rng.u8(..64)).into(),
        3 => (rng.u64(..) >> rng.u8(..64)).into(),
        4 => rng.i8(..).into(),
        5 => ((rng.f64() - 0.5) * 1e9).into(),
        6 | 7 => random_text(rng).into(),
        8 => (0..len).map(|_| random_value(rng, depth - 1)).collect(),
        _ => (0..len).map(|_| (random_text(rng), random_value(rng, depth - 1))).collect(),
    }
}
