//! Memory charged for sinks; a separate binary, since all tests of a binary share the ledger.

use roomcast_core::memory;
use roomcast_core::{Frame, Wire as _};
use roomcast_transport_ws::{Compression, WebSocket, WsWire};

use crate::served::Served;

#[allow(dead_code, reason = "used by the connection tests")]
#[path = "connection/served.rs"]
mod served;
#[allow(dead_code, reason = "used by the connection tests")]
#[path = "connection/wire.rs"]
mod wire;

#[test]
fn sinks_keep_held_bytes_charged() {
    let text = "x".repeat(50_000);
    let rendered = WsWire.render(Frame::new(text.clone()).messages()).len();
    assert_eq!(memory::in_use(), 0);

    // A frame for one client: when partly written, its rendering is retained and the frame is dropped.
    let mut alone = Served::open();
    alone.wire.grant(10);
    alone.push(text.clone());
    alone.flush();
    assert_eq!(memory::in_use(), rendered + 10);
    alone.wire.unblock();
    assert!(alone.poll_owner().is_pending());
    assert_eq!(memory::in_use(), 0);

    // A frame with many recipients is charged once, although each of their sinks holds a rest of it.
    let mut many: Vec<_> = (0..10).map(|_| Served::open()).collect();
    let frame = Frame::new(text.clone());
    for client in &many {
        client.wire.grant(10);
        client.push(frame.clone());
        client.flush();
    }
    drop(frame);
    let held = memory::in_use();
    assert!((text.len() + rendered..text.len() + rendered + 1000).contains(&held), "{held}");
    for client in &mut many[1..] {
        client.wire.unblock();
        assert!(client.poll_owner().is_pending());
    }
    assert_eq!(memory::in_use(), held - 9 * 10);
    drop(many);
    assert_eq!(memory::in_use(), 0);

    // Bytes buffered by a stream such as TLS, and the rest for a client with its own context.
    let transport = WebSocket::new().compression(Compression::new().context_takeover(true));
    let mut context = Served::offering(&transport, "permessage-deflate");
    let reserved = memory::in_use();
    assert!((300_000..600_000).contains(&reserved), "{reserved}");
    // Two frames queued at once leave a ring in the queue.
    for _ in 0..2 {
        context.push(Frame::new("plain").without_compression());
    }
    context.flush();
    let (contexts, reserved) = (reserved, memory::in_use());
    assert!((contexts + 1..contexts + 1000).contains(&reserved), "{reserved} after {contexts}");
    context.wire.grant(1);
    context.push(Frame::new("plain").without_compression());
    context.push(Frame::new(text).without_compression());
    context.flush();
    assert_eq!(memory::in_use(), reserved + 1 + (7 + rendered - 1));
    context.wire.clog();
    context.wire.grant(1 << 20);
    assert!(context.poll_owner().is_pending());
    assert_eq!(memory::in_use(), reserved + 7 + rendered);
    context.wire.unblock();
    assert!(context.poll_owner().is_pending());
    assert_eq!(memory::in_use(), reserved);
    drop(context);
    assert_eq!(memory::in_use(), 0);

    // Contexts leave half of the budget to messages.
    memory::limit_to(2 * contexts);
    let first = Served::offering(&transport, "permessage-deflate");
    let _second = Served::offering(&transport, "permessage-deflate");
    assert_eq!(memory::in_use(), contexts);
    drop(first);
    assert_eq!(memory::in_use(), 0);
}
