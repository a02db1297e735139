//! Packets to MessagePack.

use roomcast_core::{AckId, Args, Event, Namespace, SocketId};
use roomcast_msgpack::{JsonValues, Writer};

/// Encodes an event, whose name must not be reserved.
pub(crate) fn event(event: &Event) -> Vec<u8> {
    let args = JsonValues::new(event.args.json(), event.args.attachments());
    let offset = event.offset.as_deref();
    let id = event.ack.as_ref().map(|ack| ack.id);
    let mut packet = begin(2, event.args.byte_len() + event.name.len(), 3 + u32::from(id.is_some()));
    packet.text("data");
    packet.array(1 + args.len() + usize::from(offset.is_some()));
    packet.text(&event.name);
    packet.values(&args);
    if let Some(offset) = offset {
        packet.text(offset);
    }
    finish(packet, &event.namespace, id)
}

/// Encodes an acknowledgement.
pub(crate) fn answer(namespace: &Namespace, id: AckId, args: &Args) -> Vec<u8> {
    let list = JsonValues::new(args.json(), args.attachments());
    let mut packet = begin(3, args.byte_len(), 4);
    packet.text("data");
    packet.array(list.len());
    packet.values(&list);
    finish(packet, namespace, Some(id))
}

/// Encodes a successful response to a CONNECT.
pub(crate) fn connect(namespace: &Namespace, socket: &SocketId, recovery: Option<&str>) -> Vec<u8> {
    let mut packet = begin(0, 64, 3);
    packet.text("data");
    packet.map(1 + u32::from(recovery.is_some()));
    packet.text("sid");
    packet.text(socket.as_str());
    if let Some(recovery) = recovery {
        packet.text("pid");
        packet.text(recovery);
    }
    finish(packet, namespace, None)
}

/// Encodes a failed response to a CONNECT; `error` is one JSON value.
pub(crate) fn connect_error(namespace: &Namespace, error: &str) -> Vec<u8> {
    let mut packet = begin(4, error.len(), 3);
    packet.text("data");
    packet.values(&JsonValues::new(error, &[]));
    finish(packet, namespace, None)
}

/// Encodes a DISCONNECT from a namespace.
pub(crate) fn disconnect(namespace: &Namespace) -> Vec<u8> {
    finish(begin(1, 0, 2), namespace, None)
}

/// Begins a packet with this many keys.
fn begin(kind: u64, payload: usize, keys: u32) -> Writer {
    let mut packet = Writer::with_capacity(payload + OVERHEAD);
    packet.map(keys);
    packet.text("type");
    packet.uint(kind);
    packet
}

fn finish(mut packet: Writer, namespace: &Namespace, id: Option<AckId>) -> Vec<u8> {
    packet.text("nsp");
    packet.text(namespace.as_str());
    if let Some(id) = id {
        packet.text("id");
        packet.uint(id.0);
    }
    packet.finish()
}

/// Maximum bytes of the keys, id and punctuation of a packet with a usual namespace.
const OVERHEAD: usize = 64;
