//! Decoding and handling of a client event by each protocol.
//!
//! Measured: a received message through the protocol's state machine, up to the action with the event for the
//! application. Not measured: the WebSocket frame, the driver, and the handler.

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, Throughput};
use roomcast_core::{
    Action, Command, ConnectionRole, Message, Namespace, Session, Sid, SocketId, TransportName,
};
use roomcast_engine::{EngineSession, OpenPacket, Version};
use roomcast_plain::{Mode, PlainSession};
use roomcast_socketio::SocketIoSession;

use common::{settings, size_name, text};

const WEBSOCKET: TransportName = TransportName("websocket");

fn main() {
    let mut criterion = settings();
    for bytes in [64, 1024] {
        let text = text(bytes);
        let sid = || OpenPacket { sid: Sid::new("s3cret"), version: Version::V4 };
        let plain = |mode| PlainSession::new(mode, Arc::default(), Namespace::main());

        let event = format!(r#"42["message","{text}"]"#);
        bench(&mut criterion, "socket_io", bytes, SocketIoSession::new(Arc::default(), sid()), event);
        bench(
            &mut criterion,
            "engine_io",
            bytes,
            EngineSession::new(Arc::default(), sid()),
            format!("4{text}"),
        );
        bench(&mut criterion, "plain", bytes, plain(Mode::Plain), text.to_string());
        bench(&mut criterion, "json", bytes, plain(Mode::Json), format!(r#"["message","{text}"]"#));
    }
    criterion.final_summary();
}

fn bench(criterion: &mut Criterion, name: &str, bytes: usize, mut session: impl Session, event: String) {
    let now = start();
    session.handle_connection_opened(ConnectionRole::Primary, WEBSOCKET, now);
    while session.poll_action().is_some() {}
    if name == "socket_io" {
        session.handle_message(ConnectionRole::Primary, "40".into(), now);
    }
    let (namespace, socket) = (Namespace::main(), SocketId::new("socket"));
    session.handle_command(Command::Accept { namespace, socket, recovery: None }, now);
    while session.poll_action().is_some() {}

    let event = Message::from(event);
    let mut group = criterion.benchmark_group("session/event");
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new(name, size_name(bytes)), |bencher| {
        bencher.iter(|| {
            session.handle_message(ConnectionRole::Primary, event.clone(), now);
            let action = session.poll_action();
            assert!(matches!(action, Some(Action::Event(_))) && session.poll_action().is_none());
            black_box(action)
        });
    });
}

#[expect(clippy::disallowed_methods, reason = "a starting time is needed")]
fn start() -> Instant {
    Instant::now()
}
