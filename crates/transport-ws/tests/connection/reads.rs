//! Reading.

use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use roomcast_core::{CloseReason, ConnectionError, Message, Received, Transport as _};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_ws::WebSocket;

use crate::served::{Served, without_a_stream};
use crate::{PING, TEXT, client_close, client_frame, server_close, server_frame};

const PONG: u8 = 0x8a;

#[test]
fn reads_messages_as_they_arrive() {
    let mut served = Served::open();
    served.wire.arrive([client_frame(TEXT, b"one"), client_frame(0x82, b"\x00\xff")].concat());
    served.wire.arrive(client_frame(TEXT, b""));
    assert_eq!(served.read(), ["one".into(), Message::Binary(Bytes::from_static(b"\x00\xff"))]);
    assert_eq!(served.read(), ["".into()]);
    assert!(served.recv().0.is_pending());
    served.wire.arrive(client_frame(TEXT, b"more"));
    assert!(served.was_woken());
    assert_eq!(served.read(), ["more".into()]);
}

#[test]
fn partial_message_counts_as_activity() {
    let mut served = Served::open();
    for byte in client_frame(TEXT, b"one") {
        served.wire.arrive([byte]);
    }
    for _ in 0..8 {
        assert_eq!(served.read(), []);
    }
    assert_eq!(served.read(), ["one".into()]);
}

#[test]
fn reads_bytes_sent_with_request() {
    let early = [client_frame(TEXT, b"early"), client_frame(TEXT, b"cut")].concat();
    for at in 0..=early.len() {
        let (before, after) = early.split_at(at);
        let mut served = Served::open_with(&WebSocket::new(), before.to_vec());
        served.wire.arrive(after);
        let mut messages = if before.is_empty() { vec![] } else { served.read() };
        // Served without a read of the stream.
        assert_eq!(served.wire.reads(), 0);
        if !after.is_empty() {
            messages.extend(served.read());
        }
        assert_eq!(messages, ["early".into(), "cut".into()], "cut at {at}");
    }
}

#[test]
fn answers_close_sent_with_request() {
    let mut served = Served::open_with(&WebSocket::new(), client_close(1000));
    assert!(matches!(served.recv().0, Poll::Ready(Ok(Received::Closed))));
    assert_eq!(served.sent(), server_close(1000, ""));
}

#[test]
fn answers_pings_after_queued_frames() {
    let mut served = Served::open();
    served.push("first");
    served.wire.arrive(
        [client_frame(PING, b"1"), client_frame(TEXT, b"between"), client_frame(PING, &[7; 125])].concat(),
    );
    assert_eq!(served.read(), ["between".into()]);
    served.push("last");
    let expected = [
        server_frame(TEXT, b"first"),
        server_frame(PONG, b"1"),
        server_frame(PONG, &[7; 125]),
        server_frame(TEXT, b"last"),
    ];
    assert_eq!(served.sent(), expected.concat());
}

#[test]
fn pong_waits_for_partial_frame() {
    let mut served = Served::open();
    served.wire.grant(4);
    served.push("first");
    served.push("second");
    served.flush();
    served.wire.arrive(client_frame(PING, b"now"));
    assert_eq!(served.read(), []);
    served.wire.unblock();
    assert!(served.poll_owner().is_pending());
    let expected = [server_frame(TEXT, b"first"), server_frame(TEXT, b"second"), server_frame(PONG, b"now")];
    assert_eq!(served.sent(), expected.concat());
}

#[test]
fn closes_client_that_only_pings() {
    let mut served = Served::open();
    served.wire.grant(0);
    for _ in 0..20_000 {
        served.wire.arrive(client_frame(PING, &[0; 125]));
        let (outcome, _) = served.recv();
        assert!(outcome.is_ready());
    }
    assert_eq!(served.outbox.closed(), Some(CloseReason::OutboxFull));
    assert_eq!(served.outbox.waiting().bytes, 0);
}

#[test]
fn pongs_count_only_as_activity() {
    let mut served = Served::open();
    assert!(served.connection.ping(&served.outbox, 0));
    assert_eq!(served.sent(), server_frame(PING, b""));
    served.wire.arrive(client_frame(PONG, b""));
    assert_eq!(served.read(), []);
    assert_eq!(served.sent(), b"");
}

#[test]
fn pong_returns_ping_payload() {
    let mut served = Served::open();
    assert!(served.connection.ping(&served.outbox, 0x0102_0304));
    assert_eq!(served.sent(), server_frame(PING, &[1, 2, 3, 4]));
    for (payloads, expected) in [
        (&[&[1, 2, 3, 4][..]][..], Received::Pong(0x0102_0304)),
        (&[&[0, 0, 0, 1], &[0, 0, 0, 2]], Received::Pong(2)),
        (&[&[1, 2, 3], &[]], Received::Activity),
        (&[&[1, 2, 3, 4, 5]], Received::Activity),
    ] {
        let frames: Vec<u8> = payloads.iter().flat_map(|payload| client_frame(PONG, payload)).collect();
        served.wire.arrive(frames);
        assert!(matches!(served.recv().0, Poll::Ready(Ok(received)) if received == expected), "{payloads:?}");
    }
}

#[test]
fn end_of_stream_closes_connection() {
    for half in [&b""[..], &client_frame(TEXT, b"half a message")[..9]] {
        let mut served = Served::open();
        served.wire.arrive(client_frame(TEXT, b"whole"));
        if !half.is_empty() {
            served.wire.arrive(half);
        }
        served.wire.end();
        assert_eq!(served.read(), ["whole".into()]);
        if !half.is_empty() {
            assert_eq!(served.read(), []);
        }
        let (outcome, messages) = served.recv();
        assert!(matches!(outcome, Poll::Ready(Ok(Received::Closed))), "{outcome:?}");
        assert_eq!(messages, []);
        assert!(served.poll_closed().is_ready(), "no client to wait for");
    }
}

#[test]
fn broken_stream_is_an_error() {
    let mut served = Served::open();
    served.wire.arrive(client_frame(TEXT, b"whole"));
    served.wire.fail(io::ErrorKind::ConnectionReset);
    assert_eq!(served.read(), ["whole".into()]);
    let (outcome, _) = served.recv();
    let Poll::Ready(Err(error @ ConnectionError::Io(_))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.reason(), CloseReason::TransportClose);
    assert!(served.poll_closed().is_ready());
}

#[test]
fn missing_stream_is_an_error() {
    let mut connection = WebSocket::new().open(without_a_stream()).expect("a valid handshake");
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        let Poll::Ready(Err(error)) = connection.poll_open(&mut cx) else {
            panic!("expected a missing stream")
        };
        assert_eq!(error.reason(), CloseReason::TransportClose);
    }
    assert!(connection.poll_closed(&mut cx).is_ready());
}

#[test]
fn refuses_request_without_upgrade_stream() {
    let (exchange, mut answer) = ExchangeBuilder::websocket("/").build();
    let Err(refused) = WebSocket::new().open(exchange) else { panic!("expected a refusal") };
    assert!(refused.rejection.status.is_server_error());
    assert!(answer.now().is_none());
}

#[test]
fn connection_refuses_further_requests() {
    let mut served = Served::open();
    let (exchange, mut answer) = ExchangeBuilder::post("/").build();
    let Err(refused) = served.connection.accept(exchange) else { panic!("expected a refusal") };
    assert!(refused.rejection.status.is_client_error() && !refused.rejection.fatal);
    assert!(answer.now().is_none());
}
