//! Demo application: rooms and broadcasts.

use roomcast::emit::Receipt;
use roomcast::{Ack, Args, Io, Socket, json};

/// Registers the demo's handlers on the main namespace.
pub(crate) fn install(io: &Io) {
    io.on_connect(hello)
        .on("echo", echo)
        .on("msg", msg)
        .on("join", join)
        .on("leave", leave)
        .on("everyone", everyone)
        .on("others", others)
        .on("room", room)
        .on("room-others", room_others)
        .on("message", message);
    io.main().on_disconnecting(gone);
}

type Outcome = Result<(), roomcast::EmitError>;

async fn hello(socket: Socket) -> Outcome {
    let hello = json!({
        "id": socket.id().as_str(),
        "kind": socket.kind().as_str(),
        "transport": socket.transport().0,
    });
    socket.emit("hello", hello).map(drop)
}

/// Echoes the arguments; the default message of `roomcast bench`.
async fn echo(socket: Socket, args: Args) -> Outcome {
    socket.emit("echo", args).map(drop)
}

/// Broadcasts the arguments; the default message of `roomcast bench --pattern broadcast`.
async fn msg(socket: Socket, args: Args) -> Outcome {
    socket.io().emit("msg", args).map(drop)
}

async fn join(socket: Socket, room: String, ack: Ack) -> Outcome {
    let is_in = socket.rooms().iter().any(|joined| joined.as_str() == room);
    let joins = !is_in && socket.join(room.as_str());
    if joins {
        let members = socket.io().count(room.as_str());
        let id = socket.id().as_str();
        socket.emit("welcome", json!({ "room": room, "id": id, "members": members }))?;
        socket.to(&room).emit("joined", json!({ "room": room, "id": id }))?;
    }
    acknowledge_rooms(&socket, is_in || joins, ack)
}

async fn leave(socket: Socket, room: String, ack: Ack) -> Outcome {
    if socket.leave(room.as_str()) {
        let left = json!({ "room": room, "id": socket.id().as_str() });
        socket.to(&room).emit("left", &left)?;
        socket.emit("bye", &left)?;
    }
    acknowledge_rooms(&socket, true, ack)
}

async fn everyone(socket: Socket, text: String, tag: Option<String>, ack: Ack) -> Outcome {
    let said = said(&socket, None, &text, tag);
    acknowledge(ack, socket.io().emit("everyone", &said)?)
}

async fn others(socket: Socket, text: String, tag: Option<String>, ack: Ack) -> Outcome {
    let said = said(&socket, None, &text, tag);
    acknowledge(ack, socket.broadcast().emit("others", &said)?)
}

async fn room(socket: Socket, room: String, text: String, tag: Option<String>, ack: Ack) -> Outcome {
    let said = said(&socket, Some(&room), &text, tag);
    acknowledge(ack, socket.within(&room).emit("room", &said)?)
}

async fn room_others(socket: Socket, room: String, text: String, tag: Option<String>, ack: Ack) -> Outcome {
    let said = said(&socket, Some(&room), &text, tag);
    acknowledge(ack, socket.to(&room).emit("room-others", &said)?)
}

/// Runs an IRC-like text command. A plain client has only `message` events.
async fn message(socket: Socket, text: String, unwanted: Ack) -> Outcome {
    let (text, tag) = match text.rsplit_once(" #") {
        Some((rest, tag)) if !tag.contains(' ') => (rest, Some(tag.to_owned())),
        _ => (text.as_str(), None),
    };
    let Some((command, rest)) = text.strip_prefix('/').map(|text| text.split_once(' ').unwrap_or((text, "")))
    else {
        return everyone(socket, text.to_owned(), tag, unwanted).await;
    };
    let (name, said) = rest.split_once(' ').unwrap_or((rest, ""));
    match command {
        "join" => join(socket, name.to_owned(), unwanted).await,
        "leave" => leave(socket, name.to_owned(), unwanted).await,
        "others" => others(socket, rest.to_owned(), tag, unwanted).await,
        "room" => room(socket, name.to_owned(), said.to_owned(), tag, unwanted).await,
        "room-others" => room_others(socket, name.to_owned(), said.to_owned(), tag, unwanted).await,
        _ => {
            let help = "Commands: /join ROOM, /leave ROOM, /others TEXT, /room ROOM TEXT, /room-others ROOM TEXT; \
                        anything else goes to everyone";
            socket.emit("message", help).map(drop)
        }
    }
}

async fn gone(socket: Socket) -> Outcome {
    let id = socket.id().as_str();
    for room in socket.rooms().iter().filter(|room| room.as_str() != id) {
        socket.to(room).emit("left", json!({ "room": room.as_str(), "id": id }))?;
    }
    Ok(())
}

fn said(socket: &Socket, room: Option<&str>, text: &str, tag: Option<String>) -> roomcast::Value {
    let mut said = json!({ "from": socket.id().as_str(), "text": text, "via": socket.transport().0 });
    if let Some(room) = room {
        said["room"] = room.into();
    }
    if let Some(tag) = tag {
        said["tag"] = tag.into();
    }
    said
}

fn acknowledge(ack: Ack, receipt: Receipt) -> Outcome {
    let dropped = receipt.dropped + receipt.unsupported + receipt.closed;
    ack.send(json!({ "queued": receipt.queued, "dropped": dropped })).map(drop)
}

fn acknowledge_rooms(socket: &Socket, ok: bool, ack: Ack) -> Outcome {
    let rooms = socket.rooms();
    let own = socket.id().as_str();
    let names: Vec<_> = rooms.iter().map(|room| room.as_str()).filter(|name| *name != own).collect();
    ack.send(json!({ "ok": ok, "rooms": names })).map(drop)
}
