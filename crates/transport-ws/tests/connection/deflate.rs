//! Compression from the handshake to the last byte.

use std::task::Poll;

use bytes::Bytes;
use roomcast_core::{CloseReason, ConnectionError, Frame, Message, Transport};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_ws::frame::{FrameReader, Incoming, ReadLimits};
use roomcast_transport_ws::{Compression, WebSocket};
use zlib_rs::{Deflate, DeflateFlush};

use crate::served::Served;
use crate::{FIN, TEXT, server_close};

const COMPRESSED: u8 = 0x40;
const ALONE: &str = "permessage-deflate";
const ANSWER_WITHOUT_CONTEXTS: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn compressing() -> WebSocket {
    WebSocket::new().compression(Compression::new())
}

/// Builds a masked client frame.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x1d, 0x00, 0xfe, 0x77];
    let mut frame = vec![first];
    match payload.len() {
        len @ ..=125 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(len).expect("not so long a payload").to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn json(size: usize) -> String {
    (0..)
        .map(|number| format!(r#"{{"user":"{number}","text":"hello"}},"#))
        .scan(0, |all, piece| {
            *all += piece.len();
            (*all <= size).then_some(piece)
        })
        .collect()
}

/// Decodes the server's bytes with a reader in the role of the client.
fn read_as_client(sent: &[u8], keeps_context: bool) -> Vec<Incoming> {
    let mut items = Vec::new();
    let mut reader = FrameReader::new(ReadLimits::default()).inflating(keeps_context);
    let mut rest = sent;
    while let [first, second, ..] = *rest {
        let (header, len) = match second {
            126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
            127 => (10, u64::from_be_bytes(rest[2..10].try_into().unwrap()) as usize),
            short => (2, usize::from(short)),
        };
        reader.read(&mut client_frame(first, &rest[header..header + len]), &mut items).unwrap();
        rest = &rest[header + len..];
    }
    items
}

fn texts(messages: &[&str]) -> Vec<Incoming> {
    messages.iter().map(|text| Incoming::Message(Message::from((*text).to_owned()))).collect()
}

#[test]
fn negotiates_compression_only_when_enabled() {
    let answer = |transport: &WebSocket, offer: Option<&str>| {
        let mut builder = ExchangeBuilder::websocket("/");
        if let Some(offer) = offer {
            builder = builder.header("sec-websocket-extensions", offer);
        }
        let (exchange, mut answer) = builder.upgrade(crate::wire::Wire::default(), "").build();
        let connection = transport.open(exchange).expect("a valid handshake");
        let answered = answer.now().expect("an immediate response");
        assert_eq!(answered.status, 101);
        drop(connection);
        answered.headers.get("sec-websocket-extensions").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(answer(&WebSocket::new(), Some(ALONE)), None);
    assert_eq!(answer(&compressing(), None), None);
    assert_eq!(answer(&compressing(), Some("permessage-deflate; server_max_window_bits=8")), None);
    assert_eq!(answer(&compressing(), Some(ALONE)).as_deref(), Some(ANSWER_WITHOUT_CONTEXTS));
}

#[test]
fn compresses_broadcast_once_without_copying() {
    let transport = compressing();
    let members = [ALONE, ALONE, "permessage-deflate; server_max_window_bits=9"]
        .map(|offer| Served::offering(&transport, offer));
    let plain = Served::open();
    let event = json(2000);
    let frame = Frame::new(event.clone());
    for member in members.iter().chain([&plain]) {
        member.push(frame.clone());
        member.flush();
    }
    let writes = members.each_ref().map(|member| member.wire.writes()[0].clone());
    assert_eq!(writes[0].address, writes[1].address);
    assert_ne!(writes[0].address, writes[2].address);
    for write in &writes {
        assert!(write.bytes.len() < 500, "{}", write.bytes.len());
        assert_eq!(read_as_client(&write.bytes, false), texts(&[&event]));
    }
    let sent = plain.sent();
    assert_eq!(sent[0], TEXT);
    assert_eq!(read_as_client(&sent, false), texts(&[&event]));
}

#[test]
fn mixes_compressed_and_plain_in_order() {
    let served = Served::offering(&compressing(), ALONE);
    let (large, excepted) = (json(3000), json(2500));
    for text in ["small", &large, "small again"] {
        served.push(text.to_owned());
    }
    served.push(Frame::new(excepted.clone()).without_compression());
    served.push(large.clone());
    served.flush();
    let writes = served.wire.writes();
    assert_eq!(writes.len(), 1);
    let sent = &writes[0].bytes;
    assert!(sent.len() < 2500 + 1500);
    assert_eq!(read_as_client(sent, false), texts(&["small", &large, "small again", &excepted, &large]));
}

#[test]
fn slow_client_receives_every_byte() {
    for takeover in [false, true] {
        let compression = Compression::new().context_takeover(takeover).threshold(10);
        let mut served = Served::offering(&WebSocket::new().compression(compression), ALONE);
        let messages: Vec<String> = (1..40).map(|at| json(at * 97 + 30)).collect();
        served.wire.grant(0);
        for message in &messages {
            served.push(message.clone());
        }
        served.flush();
        for room in (1..97).cycle().take(300) {
            served.wire.grant(room);
            assert!(served.poll_owner().is_pending());
        }
        served.wire.unblock();
        assert!(served.poll_owner().is_pending());
        let expected: Vec<&str> = messages.iter().map(String::as_str).collect();
        assert_eq!(read_as_client(&served.sent(), takeover), texts(&expected));
    }
}

#[test]
fn shared_context_shrinks_similar_messages() {
    let compression = Compression::new().context_takeover(true).threshold(100);
    let transport = WebSocket::new().compression(compression.clone());
    let mut served = Served::offering(&transport, ALONE);
    assert!(compression.compressed().context_memory > 400_000);
    let event = json(1000);
    let mut sent = Vec::new();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        served.push(event.clone());
        let more = served.sent();
        sizes.push(more.len());
        sent.extend(more);
    }
    assert!(sizes[0] > 100 && sizes[1] < 30 && sizes[2] < 30, "{sizes:?}");

    // Pongs and the close frame stay uncompressed and in order.
    served.wire.arrive(client_frame(FIN | 0x9, b"?"));
    served.read();
    served.push(event.clone());
    served.connection.start_close(CloseReason::ServerShutdown, &served.outbox);
    served.push("too late");
    sent.extend(served.sent());
    let items = read_as_client(&sent, true);
    assert_eq!(items[..3], texts(&[&event, &event, &event]));
    assert_eq!(items[3], Incoming::Pong(Bytes::from_static(b"?")));
    assert_eq!(items[4..5], texts(&[&event]));
    assert!(matches!(items[5], Incoming::Close { code: Some(1001), .. }) && items.len() == 6, "{items:?}");
    assert_eq!(compression.compressed().deflated_from, 4 * event.len() as u64);
    drop(served);
    assert_eq!(compression.compressed().context_memory, 0);
}

#[test]
fn inflates_and_counts_compressed_messages() {
    let compression = Compression::new();
    let mut served = Served::offering(&WebSocket::new().compression(compression.clone()), ALONE);
    let text = json(4000);
    let mut payload = vec![0; 4000];
    let mut client = Deflate::new(6, false, 15);
    client.compress(text.as_bytes(), &mut payload, DeflateFlush::SyncFlush).unwrap();
    payload.truncate(client.total_out() as usize - 4);
    served.wire.arrive(client_frame(COMPRESSED | TEXT, &payload));
    assert_eq!(served.read(), [Message::from(text.clone())]);
    let counted = compression.compressed();
    assert_eq!((counted.inflated_from, counted.inflated_to), (payload.len() as u64, text.len() as u64));
}

#[test]
fn reports_violations_in_compressed_messages() {
    let bomb = {
        let mut payload = vec![0; 10_000];
        let mut client = Deflate::new(9, false, 15);
        client.compress(&vec![0; 2_000_000], &mut payload, DeflateFlush::SyncFlush).unwrap();
        payload.truncate(client.total_out() as usize - 4);
        payload
    };
    for (payload, code, text) in [
        (&[0xff; 9][..], 1007, "a compressed message is not valid DEFLATE"),
        (&bomb, 1009, "a message may have 1000000 bytes at most"),
    ] {
        let mut served = Served::offering(&compressing(), ALONE);
        served.wire.arrive(client_frame(COMPRESSED | TEXT, payload));
        let (outcome, messages) = served.recv();
        assert_eq!(messages, []);
        let Poll::Ready(Err(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(matches!(error, ConnectionError::TooBig { limit: 1_000_000 }), code == 1009);
        assert_eq!(served.sent(), server_close(code, text));
    }
}

#[test]
fn early_bytes_are_inflated_in_portions() {
    let bomb = compressed(&vec![b'x'; 100_000]);
    let frame = client_frame(FIN | COMPRESSED | TEXT, &bomb);
    let frames = 60_000 / frame.len();
    let mut served = Served::offering_with(&compressing(), ANSWER_WITHOUT_CONTEXTS, frame.repeat(frames));
    let (mut messages, mut most) = (0, 0);
    while messages < frames {
        let read = served.read().len();
        (messages, most) = (messages + read, most.max(read));
    }
    assert!(most <= 4096 / frame.len() + 1, "{most} of {frames} messages in one read");
}

/// Compresses a message as a client without context does.
fn compressed(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0; message.len() + 64];
    let mut deflate = Deflate::new(6, false, 15);
    deflate.compress(message, &mut out, DeflateFlush::SyncFlush).expect("the buffer has room");
    out.truncate(deflate.total_out() as usize);
    out.truncate(out.len() - 4);
    out
}
