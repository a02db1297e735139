use std::mem;

use roomcast_loadgen::websocket::{
    FrameHeader, MAX_HEAD, Opcode, append_frame, append_header, apply_mask, head_len, header,
};
use tungstenite::handshake::derive_accept_key;

use super::connection::{Connection, Connections, Gone};
use super::rooms::Rooms;
use super::server::Service;
use super::{Pattern, Send};

/// Plain WebSocket service: broadcast, echo or rooms.
pub(super) struct Frames {
    send: Send,
    pattern: Pattern,
    rooms: Rooms,
    /// Bytes of one write: a frame, or with `Send::Batch` all frames of a turn (of one read for echo).
    out: Vec<u8>,
    /// Unmasked text of a room command.
    command: Vec<u8>,
    /// Connections with queued frames of this turn.
    dirty: Vec<usize>,
}

#[derive(Default)]
pub(super) struct State {
    open: bool,
    dirty: bool,
    rooms: Vec<u32>,
}

impl Frames {
    pub(super) fn new(send: Send, pattern: Pattern) -> Self {
        let (out, command, dirty) = (Vec::new(), Vec::new(), Vec::new());
        Self { send, pattern, rooms: Rooms::default(), out, command, dirty }
    }

    fn frames(
        &mut self,
        connections: &mut Connections<State>,
        index: usize,
        input: &[u8],
    ) -> Result<usize, Gone> {
        let mut taken = 0;
        let connection = connections.at(index).ok_or(Gone)?;
        if !connection.state.open {
            let Some(length) = head_len(input) else {
                return if input.len() > MAX_HEAD { Err(Gone) } else { Ok(0) };
            };
            let key = header(&input[..length], "Sec-WebSocket-Key").ok_or(Gone)?;
            connection.write(switching_protocols(key).as_bytes())?;
            connection.state.open = true;
            taken = length;
        }
        while let Some(frame) = FrameHeader::parse(&input[taken..]).map_err(|_| Gone)? {
            let Some(payload) = input.get(taken + frame.header_len..taken + frame.frame_len()) else { break };
            if frame.compressed {
                return Err(Gone);
            }
            // Clients must mask (RFC 6455, section 5.1).
            let mask = frame.mask.ok_or(Gone)?;
            match frame.opcode {
                Opcode::Text => self.text(connections, index, payload, mask),
                Opcode::Ping => connections.with(index, |connection| {
                    let (mut pong, mut payload) = (Vec::new(), payload.to_vec());
                    apply_mask(&mut payload, mask);
                    append_frame(&mut pong, Opcode::Pong, None, &payload);
                    connection.write(&pong)
                }),
                Opcode::Pong => {}
                Opcode::Binary | Opcode::Close => return Err(Gone),
            }
            taken += frame.frame_len();
        }
        Ok(taken)
    }

    fn text(&mut self, connections: &mut Connections<State>, index: usize, payload: &[u8], mask: [u8; 4]) {
        if self.pattern == Pattern::Room {
            return self.command(connections, index, payload, mask);
        }
        append_header(&mut self.out, Opcode::Text, None, payload.len());
        let start = self.out.len();
        self.out.extend_from_slice(payload);
        apply_mask(&mut self.out[start..], mask);
        if self.send == Send::Write {
            match self.pattern {
                Pattern::Echo => connections.with(index, |connection| connection.write(&self.out)),
                _ => connections.with_all(|connection| write_if_open(connection, &self.out)),
            }
            self.out.clear();
        }
    }

    fn command(&mut self, connections: &mut Connections<State>, index: usize, payload: &[u8], mask: [u8; 4]) {
        let mut command = mem::take(&mut self.command);
        command.clear();
        command.extend_from_slice(payload);
        apply_mask(&mut command, mask);
        match command.split_first() {
            Some((b'J', room)) => connections
                .with(index, |connection| self.rooms.join(room, index, &mut connection.state.rooms)),
            Some((b'R', room_and_text)) => self.say(connections, index, room_and_text),
            _ => connections.with(index, |_| Err(Gone)),
        }
        self.command = command;
    }

    fn say(&mut self, connections: &mut Connections<State>, index: usize, room_and_text: &[u8]) {
        let Some(space) = room_and_text.iter().position(|&byte| byte == b' ') else {
            return connections.with(index, |_| Err(Gone));
        };
        self.out.clear();
        append_frame(&mut self.out, Opcode::Text, None, &room_and_text[space + 1..]);
        for &member in self.rooms.members(&room_and_text[..space]) {
            connections.with(member, |connection| match self.send {
                Send::Write => connection.write(&self.out),
                Send::Batch => {
                    if !mem::replace(&mut connection.state.dirty, true) {
                        self.dirty.push(member);
                    }
                    connection.queue(&self.out)
                }
            });
        }
        self.out.clear();
    }
}

impl Service for Frames {
    type State = State;

    fn receive(
        &mut self,
        connections: &mut Connections<State>,
        index: usize,
        input: &[u8],
    ) -> Result<usize, Gone> {
        let taken = self.frames(connections, index, input);
        if self.pattern == Pattern::Echo && !self.out.is_empty() {
            connections.with(index, |connection| connection.write(&self.out));
            self.out.clear();
        }
        taken
    }

    fn is_collecting(&self) -> bool {
        !self.out.is_empty()
    }

    fn end_turn(&mut self, connections: &mut Connections<State>) {
        if !self.out.is_empty() {
            connections.with_all(|connection| write_if_open(connection, &self.out));
            self.out.clear();
        }
        for index in self.dirty.drain(..) {
            connections.with(index, |connection| {
                connection.state.dirty = false;
                connection.flush()
            });
        }
    }

    fn left(&mut self, index: usize, state: State) {
        self.rooms.leave(index, &state.rooms);
    }
}

fn write_if_open(connection: &mut Connection<State>, frames: &[u8]) -> Result<(), Gone> {
    if connection.state.open { connection.write(frames) } else { Ok(()) }
}

fn switching_protocols(key: &[u8]) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key)
    )
}
