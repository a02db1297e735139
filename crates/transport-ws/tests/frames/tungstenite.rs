//! Interoperability with tungstenite's client in both directions.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use proptest::{collection::vec, prelude::*};
use roomcast_core::Message;
use roomcast_transport_ws::frame::{
    FrameReader, Incoming, ReadLimits, frame_len, put_close, put_message, put_ping, put_pong,
};
use tungstenite::{
    WebSocket,
    protocol::{
        CloseFrame, Role,
        frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use crate::{binary, close, text};

/// In-memory connection with its two directions.
#[derive(Default)]
struct Pipe {
    to_client: io::Cursor<Vec<u8>>,
    to_server: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.to_client.read(out)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to_server.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn client(to_client: Vec<u8>) -> WebSocket<Pipe> {
    let pipe = Pipe { to_client: io::Cursor::new(to_client), to_server: Vec::new() };
    WebSocket::from_raw_socket(pipe, Role::Client, None)
}

fn sent_by(messages: Vec<tungstenite::Message>) -> Vec<Incoming> {
    let mut client = client(Vec::new());
    for message in messages {
        client.send(message).unwrap();
    }
    let mut items = Vec::new();
    let limits = ReadLimits::new().max_message(1 << 20);
    let mut reader = FrameReader::new(limits);
    reader.read(&mut client.get_mut().to_server, &mut items).unwrap();
    assert!(reader.is_idle());
    items
}

#[test]
fn reads_frames_of_tungstenite_client() {
    let fragment = |opcode, payload: &'static [u8], last| {
        tungstenite::Message::Frame(Frame::message(Bytes::from_static(payload), OpCode::Data(opcode), last))
    };
    let code = tungstenite::protocol::frame::coding::CloseCode::Library(4123);
    let items = sent_by(vec![
        tungstenite::Message::text("héllo"),
        tungstenite::Message::binary(vec![7; 70_000]),
        tungstenite::Message::Ping(Bytes::from_static(b"p")),
        fragment(Data::Text, b"\xe2\x82", false),
        tungstenite::Message::Pong(Bytes::new()),
        fragment(Data::Continue, b"\xac", true),
        tungstenite::Message::Close(Some(CloseFrame { code, reason: "enough".into() })),
    ]);
    let expected = [
        text("héllo"),
        binary(vec![7; 70_000]),
        Incoming::Ping(Bytes::from_static(b"p")),
        Incoming::Pong(Bytes::new()),
        text("€"),
        close(4123, "enough"),
    ];
    assert_eq!(items, expected);
}

#[test]
fn tungstenite_client_reads_server_frames() {
    let mut out = Vec::new();
    put_message(&mut out, &Message::from("héllo"));
    put_ping(&mut out, b"sign");
    put_pong(&mut out, &[1; 125]);
    for len in [0, 125, 126, 65535, 65536] {
        put_message(&mut out, &Message::from(Bytes::from(vec![7; len])));
    }
    put_close(&mut out, Some(1013), "try again later");

    let mut client = client(out);
    assert_eq!(client.read().unwrap(), tungstenite::Message::text("héllo"));
    assert_eq!(client.read().unwrap(), tungstenite::Message::Ping(Bytes::from_static(b"sign")));
    assert_eq!(client.read().unwrap(), tungstenite::Message::Pong(vec![1; 125].into()));
    for len in [0, 125, 126, 65535, 65536] {
        assert_eq!(client.read().unwrap(), tungstenite::Message::binary(vec![7; len]));
    }
    let tungstenite::Message::Close(Some(frame)) = client.read().unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1013, "try again later"));
}

proptest! {
    #[test]
    fn messages_survive_round_trip(
        messages in vec(prop_oneof![
            any::<String>().prop_map(Message::from),
            vec(any::<u8>(), 0..2000).prop_map(|body| Message::from(Bytes::from(body))),
        ], 0..6),
    ) {
        let mut out = BytesMut::new();
        let mut len = 0;
        for message in &messages {
            put_message(&mut out, message);
            len += frame_len(message.len());
        }
        prop_assert_eq!(out.len(), len);

        let mut client = client(out.to_vec());
        let echoed: Vec<_> = messages.iter().map(|_| client.read().unwrap()).collect();
        let expected: Vec<_> = messages.into_iter().map(Incoming::Message).collect();
        prop_assert_eq!(sent_by(echoed), expected);
    }
}
