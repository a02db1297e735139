//! Clients that do not read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use roomcast_server::emit::{Overflow, Receipt};
use roomcast_server::socket::CloseReason;
use roomcast_server::{Ack, Config, Io, Socket};
use roomcast_testkit::wire::{PING, client_frame, upgrade};
use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::support::client::{Client, ClientMessage, Heard, Kind};
use crate::support::dial::Dial;
use crate::support::recorder::{Recorder, ear};
use crate::support::serve::{Running, serve, until};

/// Starts a server that passes its sockets and close reasons to the test.
fn open(outbox_limit: usize) -> (Io, Running, Recorder<Socket>, Recorder<CloseReason>) {
    let (sockets, socket_ear) = ear();
    let (reasons, reason_ear) = ear();
    let config = Config::new()
        .limits(|limits| limits.outbox_limit(outbox_limit))
        .timeouts(|timeouts| timeouts.stall_timeout(STALL_TIMEOUT));
    let io = Io::builder().config(config).build();
    io.on_connect(move |socket: Socket| {
        let _ = sockets.send(socket);
        async {}
    });
    io.on_disconnect(move |reason: CloseReason| {
        let _ = reasons.send(reason);
        async {}
    });
    io.on("echo", async |ack: Ack, text: String| ack.send(text).map(drop));
    let server = serve(&io);
    (io, server, socket_ear, reason_ear)
}

/// Long enough for the poller in these tests to poll again.
const STALL_TIMEOUT: Duration = Duration::from_millis(500);

/// Receives numbered events until another event arrives.
fn numbers(client: &mut Client, name: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match client.event() {
            (heard, args) if heard == name => numbers.push(args[0].as_u64().expect("a number")),
            (heard, _) => {
                assert_eq!(heard, "end");
                return numbers;
            }
        }
    }
}

#[test]
fn closes_slow_client_and_spares_others() {
    let (io, server, _sockets, reasons) = open(256 * 1024);
    let large = "x".repeat(32 * 1024);
    for (closed, kind) in (1..).zip([Kind::WebSocket, Kind::Upgraded, Kind::Json, Kind::Plain, Kind::Polling])
    {
        let mut reader = Client::connect(Kind::WebSocket, &server.dial);
        let mut poller = Client::connect(Kind::Polling, &server.dial);
        let mut slow = Client::connect(kind, &server.dial);
        let mut emitted = 0;
        while io.metrics().slow_consumers() < closed {
            let receipt = io.emit("flood", (emitted, &large)).expect("a valid name");
            assert!(receipt.queued >= 2 && receipt.dropped == 0, "{receipt:?}");
            let expected = json!([emitted, large]);
            reader.expect("flood", expected.clone());
            poller.expect("flood", expected);
            emitted += 1;
        }
        assert_eq!(reasons.next(), CloseReason::SlowConsumer);
        assert_eq!(reasons.all(), []);
        assert_eq!(io.metrics().slow_consumers(), closed);
        // A client that reads again receives the beginning of its backlog and the close reason.
        let mut heard = 0;
        let ended = loop {
            match slow.hear() {
                Heard::Event { args, .. } => {
                    assert_eq!(args[0], json!(heard));
                    heard += 1;
                }
                Heard::Ended(ended) => break ended,
                other => panic!("{other:?}"),
            }
        };
        assert!(heard < emitted, "{kind:?}");
        if kind != Kind::Polling {
            assert_eq!((ended.code, ended.reason.as_str()), (Some(1008), "slow consumer"), "{kind:?}");
        }
        reader.close();
        poller.close();
        reasons.take(2);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a client that writes without end needs a thread")]
fn bounds_pongs_to_unreading_client() {
    const MAX: usize = 1024 * 1024;
    let (sockets, arrived) = ear();
    let (reasons, left) = ear();
    let config = Config::new()
        .limits(|limits| limits.outbox_limit(MAX / 4).outbox_max(MAX))
        .timeouts(|timeouts| timeouts.stall_timeout(STALL_TIMEOUT));
    let io = Io::builder().config(config.timeouts(|timeouts| timeouts.close_timeout(STALL_TIMEOUT))).build();
    io.on_connect(move |socket: Socket| {
        let _ = sockets.send(socket);
        async {}
    });
    io.on_disconnect(move |reason: CloseReason| {
        let _ = reasons.send(reason);
        async {}
    });
    let server = serve(&io);
    // Small kernel buffers, so that they fill quickly on any machine.
    let Dial::Tcp(address) = server.dial else { panic!("it listens on TCP") };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&address.into()).expect("the server listens");
    let mut stream = TcpStream::from(socket);
    stream.write_all(upgrade("/ws").as_bytes()).expect("the server reads requests");
    let socket: Socket = arrived.next();
    let flood = std::thread::spawn(move || {
        let pings = ping().repeat(1000);
        // Writes until the server closes the connection.
        while stream.write_all(&pings).is_ok() {}
    });
    let mut most = 0;
    until(|| {
        most = most.max(socket.waiting_bytes());
        io.metrics().slow_consumers() == 1
    });
    assert_eq!(left.next(), CloseReason::SlowConsumer, "closed by the stall timeout");
    // Reading pauses at half of the hard cap; data of a started read is still processed.
    assert!((MAX / 8..MAX).contains(&most), "{most} bytes waited");
    assert_eq!(io.metrics().outboxes_full(), 0);
    flood.join().expect("it ends with its connection");
}

/// Returns a ping with the largest payload of a control frame.
fn ping() -> Vec<u8> {
    client_frame(PING, &[7; 125])
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a client that writes and reads concurrently needs two threads"
)]
fn answers_every_ping_of_reader() {
    const PINGS: usize = 50_000;
    // Smaller than the pongs of one read, which the server can always write.
    let config = Config::new().limits(|limits| limits.outbox_limit(64 * 1024).outbox_max(256 * 1024));
    let io = Io::builder().config(config).build();
    let server = serve(&io);
    let Dial::Tcp(address) = server.dial else { panic!("it listens on TCP") };
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    stream.write_all(upgrade("/ws").as_bytes()).expect("the server reads requests");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        head.extend(byte);
    }
    let mut writer = stream.try_clone().expect("a second handle");
    let flood = std::thread::spawn(move || {
        writer.write_all(&ping().repeat(PINGS)).expect("the server goes on reading");
    });
    let pong = [&[0x8a, 125][..], &[7; 125]].concat();
    let mut heard = vec![0; pong.len()];
    for number in 0..PINGS {
        stream.read_exact(&mut heard).unwrap_or_else(|error| panic!("{error} after {number} pongs"));
        assert!(heard == pong, "{number}");
    }
    flood.join().expect("all of it was written");
    assert_eq!((io.metrics().outboxes_full(), io.metrics().slow_consumers()), (0, 0));
}

#[test]
fn drops_volatile_events_when_not_writable() {
    let (io, server, sockets, _reasons) = open(64 * 1024 * 1024);
    let mut reader = Client::connect(Kind::Json, &server.dial);
    let reader_socket = sockets.next();
    let mut polling = Client::connect(Kind::Polling, &server.dial);
    let polling_socket = sockets.next();
    // A polling client is writable while a poll is waiting.
    let volatile = |socket: &Socket| socket.volatile().emit("volatile", 1).expect("a valid name");
    let dropped = Receipt { dropped: 1, ..Receipt::default() };
    let queued = Receipt { queued: 1, ..Receipt::default() };
    assert_eq!(volatile(&polling_socket), dropped);
    polling.engine().start_get();
    until(|| volatile(&polling_socket) == queued);
    polling.expect("volatile", json!([1]));

    // A WebSocket is not writable while its connection is full.
    let mut slow = Client::connect(Kind::WebSocket, &server.dial);
    let slow_socket = sockets.next();
    assert_eq!((volatile(&slow_socket), slow_socket.waiting_bytes() < 1000), (queued, true));
    let large = "x".repeat(64 * 1024);
    let mut reliable = 0;
    while slow_socket.waiting_bytes() < 1024 * 1024 {
        slow_socket.emit("number", (reliable, &large)).expect("a valid name");
        reliable += 1;
    }
    until(|| volatile(&slow_socket) == dropped);
    let receipt = io.volatile().emit("volatile", 2).expect("a valid name");
    assert_eq!(receipt, Receipt { queued: 1, dropped: 2, ..Receipt::default() });
    reader.expect("volatile", json!([2]));
    // Another thread may record the write only after the client has read it.
    until(|| reader_socket.waiting_bytes() == 0);
    // Reliable events all arrive in order; dropped ones never do.
    slow_socket.emit("end", ()).expect("a valid name");
    let mut heard = 0;
    loop {
        let (name, args) = slow.event();
        match name.as_str() {
            "number" => {
                assert_eq!(args[0], json!(heard));
                heard += 1;
            }
            "volatile" => assert_eq!(args, json!([1])),
            _ => break,
        }
    }
    assert_eq!(heard, reliable);
    until(|| volatile(&slow_socket) == queued);
    slow.expect("volatile", json!([1]));
}

/// Connects a polling client without a waiting poll, so that the server keeps everything for it.
fn parked(server: &Running, sockets: &Recorder<Socket>) -> (Client, Socket) {
    let client = Client::connect(Kind::Polling, &server.dial);
    (client, sockets.next())
}

const ALL: u64 = 100;

#[test]
fn applies_drop_newest_and_drop_oldest() {
    let (io, server, sockets, reasons) = open(2000);
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let (mut client, socket) = parked(&server, &sockets);
        // Acks are never dropped, wherever they are queued.
        client.say(ClientMessage { namespace: "/", ack: Some(3), name: "echo", args: json!(["x"]) });
        client.sync();
        let mut total = Receipt::default();
        for number in 0..ALL {
            total += io.overflow(overflow).emit("number", number).expect("a valid name");
            assert!(socket.waiting_bytes() <= 2000);
        }
        assert!(socket.waiting_bytes() > 1000);
        assert_eq!(client.hear(), Heard::Answer { namespace: "/".into(), ack: 3, args: json!(["x"]) });
        // A poll answer takes half of the limit, so the following events fit.
        until(|| socket.waiting_bytes() <= 1000);
        socket.emit("end", ()).expect("a valid name");
        let heard = numbers(&mut client, "number");
        assert!(heard.len() > 10 && heard.len() < 30, "{heard:?}");
        let dropped = ALL as usize - heard.len();
        if overflow == Overflow::DropNewest {
            assert!(heard.iter().copied().eq(0..heard.len() as u64), "{heard:?}");
            assert_eq!(total, Receipt { queued: heard.len(), dropped, ..Receipt::default() });
        } else {
            assert!(heard.iter().copied().eq(dropped as u64..ALL), "{heard:?}");
            assert_eq!(total, Receipt { queued: ALL as usize, dropped, ..Receipt::default() });
        }
        client.close();
        reasons.next();
    }
    assert_eq!(io.metrics().slow_consumers(), 0);
}

#[test]
fn keeps_only_latest_per_key() {
    let (io, server, sockets, _reasons) = open(1_000_000);
    let (mut client, socket) = parked(&server, &sockets);
    let latest = |key: &str, value: Value| io.latest(key).emit("latest", (key, value)).expect("a valid name");
    for round in 0..5 {
        let displaced = usize::from(round > 0);
        for key in ["x", "y"] {
            assert_eq!(
                latest(key, json!(round)),
                Receipt { queued: 1, dropped: displaced, ..Receipt::default() }
            );
        }
        io.emit("number", round).expect("a valid name");
    }
    let bytes = socket.waiting_bytes();
    latest("y", json!(5));
    assert_eq!(socket.waiting_bytes(), bytes);
    for round in 0..4 {
        client.expect("number", json!([round]));
    }
    client.expect("latest", json!(["x", 4]));
    client.expect("number", json!([4]));
    client.expect("latest", json!(["y", 5]));
    // A client that keeps up receives each event.
    let mut reader = Client::connect(Kind::WebSocket, &server.dial);
    for round in 0..5 {
        latest("x", json!(round));
        reader.expect("latest", json!(["x", round]));
    }
}

#[test]
fn room_policy_overrides_socket_policy() {
    let (io, server, sockets, reasons) = open(2000);
    let (mut by_socket, socket) = parked(&server, &sockets);
    socket.set_overflow(Overflow::DropOldest);
    let (mut by_room, in_room) = parked(&server, &sockets);
    assert!(in_room.join("room") && socket.join("room"));
    io.main().set_room_overflow("room", Overflow::DropNewest);
    for number in 0..ALL {
        socket.emit("number", number).expect("a valid name");
    }
    assert_eq!(
        socket.emit("number", ALL).expect("a valid name"),
        Receipt { queued: 1, dropped: 1, ..Receipt::default() }
    );
    let heard_first = Receipt { dropped: 1, ..Receipt::default() };
    for number in 0..ALL {
        let receipt = io.to("room").except(socket.id()).emit("number", number).expect("a valid name");
        assert!(receipt.queued == 1 || receipt == heard_first);
    }
    // The policy of the room takes precedence over the socket's: no old event is dropped.
    let receipt = io.to("room").emit("number", ALL + 1).expect("a valid name");
    assert_eq!(receipt, Receipt { dropped: 2, ..Receipt::default() });
    for (client, ends) in [(&mut by_socket, Some(ALL)), (&mut by_room, None)] {
        client.engine().start_get();
        let (_, first) = client.event();
        let socket = if ends.is_some() { &socket } else { &in_room };
        // A poll answer takes half of the limit, so the following events fit.
        until(|| socket.waiting_bytes() <= 1000);
        socket.emit("end", ()).expect("a valid name");
        let heard = numbers(client, "number");
        match ends {
            Some(last) => assert_eq!(heard.last(), Some(&last)),
            None => assert_eq!(first, json!([0])),
        }
    }
    // Elsewhere the default applies: events are queued, and the client is closed once it has stalled too long.
    for number in 0..ALL {
        in_room.emit("number", number).expect("a valid name");
    }
    assert_eq!(reasons.next(), CloseReason::SlowConsumer);
}
