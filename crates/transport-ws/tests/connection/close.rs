//! The close handshake (RFC 6455 sections 5.5.1 and 7).

use std::task::Poll;

use roomcast_core::{CloseReason, ConnectionError, Frame, Received};
use roomcast_transport_ws::{Compression, WebSocket};

use crate::served::Served;
use crate::{CLOSE, PING, TEXT, client_close, client_frame, server_close, server_frame};

/// Ends a connection like a server: writes queued frames, then drops the write half.
fn finish(served: &Served, reason: CloseReason) -> Vec<u8> {
    served.outbox.finish();
    let sent = served.sent();
    served.outbox.close(reason);
    sent
}

#[test]
fn server_sends_close_reason() {
    for (reason, code, text) in [
        (CloseReason::ServerShutdown, 1001, "server shutting down"),
        (CloseReason::PingTimeout, 1001, "ping timeout"),
        (CloseReason::IdleTimeout, 1001, "ping timeout"),
        (CloseReason::ParseError, 1007, "parse error"),
        (CloseReason::ForcedClose, 1008, "forced close"),
        (CloseReason::Refused, 4403, "refused"),
        (CloseReason::TakenOver, 4409, "session taken over"),
        (CloseReason::ConnectTimeout, 1008, "forced close"),
        (CloseReason::SlowConsumer, 1008, "slow consumer"),
        (CloseReason::Overloaded, 1008, "overloaded"),
        (CloseReason::RateLimited, 1008, "rate limited"),
        (CloseReason::MessageTooBig, 1009, ""),
        (CloseReason::ForcedServerClose, 1000, "forced server close"),
        (CloseReason::ServerNamespaceDisconnect, 1000, "server namespace disconnect"),
    ] {
        let mut served = Served::open();
        served.push("before");
        served.connection.start_close(reason, &served.outbox);
        let expected = [server_frame(TEXT, b"before"), server_close(code, text)];
        assert_eq!(finish(&served, reason), expected.concat(), "{reason:?}");
    }
}

#[test]
fn truncates_long_refusals() {
    let long = "é".repeat(100);
    for (message, said) in [("not you", "not you"), ("", "refused"), (&long, &long[..122])] {
        let mut served = Served::open();
        served.connection.start_close_with_message(CloseReason::Refused, message, &served.outbox);
        assert_eq!(finish(&served, CloseReason::Refused), server_close(4403, said));
    }
    let mut served = Served::open_with(&WebSocket::new().bare_close(true), "");
    served.connection.start_close_with_message(CloseReason::Refused, "not you", &served.outbox);
    assert_eq!(finish(&served, CloseReason::Refused), server_frame(CLOSE, b""), "as on Node");
}

#[test]
fn bare_close_hides_selected_reasons() {
    let transport = WebSocket::new().bare_close(true);
    for (reason, expected) in [
        (CloseReason::ForcedServerClose, server_frame(CLOSE, b"")),
        (CloseReason::PingTimeout, server_frame(CLOSE, b"")),
        (CloseReason::ForcedClose, server_frame(CLOSE, b"")),
        (CloseReason::SlowConsumer, server_close(1008, "slow consumer")),
        (CloseReason::ServerShutdown, server_close(1001, "server shutting down")),
    ] {
        let mut served = Served::open_with(&transport, "");
        served.connection.start_close(reason, &served.outbox);
        assert_eq!(finish(&served, reason), expected, "{reason:?}");
    }
}

#[test]
fn waits_for_client_close() {
    let mut served = Served::open();
    served.connection.start_close(CloseReason::ForcedServerClose, &served.outbox);
    finish(&served, CloseReason::ForcedServerClose);
    assert!(served.poll_closed().is_pending());
    assert!(served.wire.is_shut(), "the write direction is shut down");
    // Input in transit is discarded, and so is the reply.
    served.wire.arrive(client_frame(TEXT, b"on its way"));
    served.wire.arrive(client_close(1000));
    assert!(served.was_woken());
    assert!(served.poll_closed().is_pending());
    served.wire.end();
    assert!(served.poll_closed().is_ready());
    assert_eq!(served.wire.written(), b"");
    drop((served.connection, served.outbox));
    assert!(!served.wire.is_held());
}

#[test]
fn stops_waiting_after_connection_reset() {
    let mut served = Served::open();
    served.connection.start_close(CloseReason::ForcedServerClose, &served.outbox);
    finish(&served, CloseReason::ForcedServerClose);
    served.wire.fail(std::io::ErrorKind::ConnectionReset);
    assert!(served.poll_closed().is_ready());
}

#[test]
fn closing_client_delays_no_others() {
    let mut served = Served::open();
    served.connection.start_close(CloseReason::ForcedServerClose, &served.outbox);
    finish(&served, CloseReason::ForcedServerClose);
    served.wire.flood();
    for _ in 0..3 {
        let before = served.wire.reads();
        assert!(served.poll_closed().is_pending());
        let reads = served.wire.reads() - before;
        assert!((1..=100).contains(&reads), "{reads} reads");
        assert!(served.was_woken(), "the connection must wake itself");
    }
}

#[test]
fn answers_client_close_with_code() {
    let coded = |code: u16| (client_close(code), server_close(code, ""));
    let with_reason = client_frame(CLOSE, b"\x03\xe9bye");
    let cases = [
        coded(1000),
        coded(1001),
        coded(3000),
        coded(4999),
        (with_reason, server_close(1001, "")),
        (client_frame(CLOSE, b""), server_frame(CLOSE, b"")),
    ];
    for (close, answer) in cases {
        let mut served = Served::open();
        served.push("before");
        served.wire.arrive([client_frame(TEXT, b"last words"), close, client_frame(TEXT, b"no")].concat());
        assert_eq!(served.read(), ["last words".into()]);
        served.push("answer to them");
        let (outcome, messages) = served.recv();
        assert!(matches!(outcome, Poll::Ready(Ok(Received::Closed))), "{outcome:?}");
        assert_eq!(messages, []);
        served.connection.start_close(CloseReason::TransportClose, &served.outbox);
        let expected = [server_frame(TEXT, b"before"), server_frame(TEXT, b"answer to them"), answer];
        assert_eq!(finish(&served, CloseReason::TransportClose), expected.concat());
        assert!(served.poll_closed().is_pending());
        served.wire.end();
        assert!(served.poll_closed().is_ready());
    }
}

#[test]
fn sends_violation_as_close_reason() {
    let limited = WebSocket::new().max_message(10).max_fragments(2);
    let fragment = |first| client_frame(first, b"a");
    let cases: [(Vec<u8>, u16, &str); 8] = [
        (b"\x81\x02hi".to_vec(), 1002, "client frames must be masked"),
        (client_frame(0xc1, b""), 1002, "a reserved bit is set, but no extension was negotiated"),
        (client_frame(0x83, b""), 1002, "opcode 3 is reserved"),
        (client_close(1005), 1002, "close code 1005 must not be sent"),
        (
            client_frame(CLOSE, b"x"),
            1002,
            "a close frame carries nothing, or a code of two bytes and a reason",
        ),
        (client_frame(TEXT, b"\xff"), 1007, "text must be UTF-8"),
        (client_frame(TEXT, &[b'x'; 11]), 1009, "a message may have 10 bytes at most"),
        (
            [fragment(0x01), fragment(0x00), fragment(0x00)].concat(),
            1008,
            "a message may have 2 fragments at most",
        ),
    ];
    for (offence, code, reason) in cases {
        let mut served = Served::open_with(&limited, "");
        served.push("before");
        served.wire.arrive([client_frame(TEXT, b"fine"), offence, client_frame(TEXT, b"no")].concat());
        assert_eq!(served.read(), ["fine".into()], "earlier messages are delivered");
        served.push("answer to it");
        let (outcome, messages) = served.recv();
        let Poll::Ready(Err(error)) = outcome else { panic!("{reason}: {outcome:?}") };
        match (&error, code) {
            (ConnectionError::TooBig { limit: 10 }, 1009) | (ConnectionError::Misused(_), _) => {}
            _ => panic!("{reason}: {error:?}"),
        }
        assert_eq!(messages, []);
        served.connection.start_close(error.reason(), &served.outbox);
        let expected =
            [server_frame(TEXT, b"before"), server_frame(TEXT, b"answer to it"), server_close(code, reason)];
        assert_eq!(finish(&served, error.reason()), expected.concat());
    }
}

/// Other threads push until they see the disconnect.
#[test]
fn sends_nothing_after_close_frame() {
    type End = fn(&mut Served);
    let ends: [(End, Vec<u8>); 3] = [
        (
            |served| served.connection.start_close(CloseReason::ForcedServerClose, &served.outbox),
            server_close(1000, "forced server close"),
        ),
        (
            |served| {
                served.wire.arrive(client_close(1000));
                assert!(served.recv().0.is_ready());
            },
            server_close(1000, ""),
        ),
        (
            |served| {
                served.wire.arrive(client_frame(TEXT, b"\xff"));
                assert!(served.recv().0.is_ready());
            },
            server_close(1007, "text must be UTF-8"),
        ),
    ];
    let compressing = |keeps_context: bool| {
        let compression = Compression::new().context_takeover(keeps_context);
        Served::offering(&WebSocket::new().compression(compression), "permessage-deflate")
    };
    let opens: [&dyn Fn() -> Served; 3] = [&Served::open, &|| compressing(false), &|| compressing(true)];
    for (open, (end, close)) in opens.iter().flat_map(|open| ends.iter().map(move |end| (open, end))) {
        let push_all = |served: &Served, shared: &Frame| {
            served.push(shared.clone());
            served.push("small");
            served.push("x".repeat(20_000));
            served.connection_ping();
        };
        let shared = Frame::new("to everybody");
        let mut served = open();
        served.push("before");
        end(&mut served);
        push_all(&served, &shared);
        let sent = served.sent();
        assert_eq!(sent, [server_frame(TEXT, b"before"), close.clone()].concat(), "in one batch");
        push_all(&served, &shared);
        served.push(shared.clone());
        assert_eq!(served.sent(), b"", "in later ones");
        served.connection.start_close(CloseReason::ServerShutdown, &served.outbox);
        assert_eq!(served.sent(), b"", "not even a second one");
        assert_eq!(served.outbox.waiting().frames, 0, "later frames are dropped");

        for room in 0..close.len() {
            let mut served = open();
            served.wire.grant(0);
            end(&mut served);
            served.wire.grant(room);
            served.flush();
            push_all(&served, &shared);
            assert!(served.poll_owner().is_pending());
            served.wire.unblock();
            assert!(served.poll_owner().is_pending());
            assert_eq!(served.sent(), *close, "cut at {room}");
        }
    }
}

impl Served {
    /// Pushes a raw ping, as a caller unaware of the close does.
    fn connection_ping(&self) {
        let ping = bytes::Bytes::from_static(&[PING, 0]);
        self.outbox.push_protocol(Frame::of_wire(roomcast_transport_ws::WsWire::wire_key(), ping));
    }
}

#[test]
fn sends_no_ping_after_close() {
    let mut served = Served::open();
    served.connection.start_close(CloseReason::PingTimeout, &served.outbox);
    served.connection.ping(&served.outbox, 0);
    assert_eq!(served.outbox.waiting().frames, 1);
}

#[test]
fn close_waits_for_blocked_stream() {
    let mut served = Served::open();
    served.wire.grant(5);
    served.push("first");
    served.push("second");
    served.flush();
    served.connection.start_close(CloseReason::ServerShutdown, &served.outbox);
    served.outbox.finish();
    let mut sent = served.wire.written();
    assert_eq!(sent.len(), 5);
    while sent.len() < 100 && served.outbox.waiting().frames > 0 {
        served.wire.grant(1);
        assert!(served.poll_owner().is_pending());
        sent.extend(served.wire.written());
    }
    served.wire.unblock();
    assert!(served.poll_owner().is_pending());
    sent.extend(served.wire.written());
    let expected = [
        server_frame(TEXT, b"first"),
        server_frame(TEXT, b"second"),
        server_close(1001, "server shutting down"),
    ];
    assert_eq!(sent, expected.concat());
}
