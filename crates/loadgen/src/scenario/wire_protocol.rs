//! Message formats of the server under test.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::msgpack;
use super::stamp::{Action, Stamp};
use super::{Kind, Scenario};

/// Message formats: templates of client packets, and the payload's position in server packets.
#[derive(Debug)]
pub(crate) struct WireProtocol {
    /// Whether messages are Socket.IO packets.
    sio: bool,
    /// Whether packets are MessagePack; only in the strict dialect.
    msgpack: bool,
    /// Packet that connects to the namespace.
    connect: Vec<u8>,
    /// Prefix of the response to it.
    connected: String,
    message: Template,
    join: Template,
    say: Template,
    /// Position of the payload in the previous message; `None` in the strict dialect of fanout_server.
    last_found: Option<AtomicUsize>,
    payload: usize,
}

/// Text around the payload of a message; `{room}` is replaced by the room name.
#[derive(Debug, Clone, Default)]
struct Template {
    before: String,
    after: String,
}

/// Received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard<'a> {
    /// Message of this run, or a part of one.
    Payload(&'a [u8]),
    /// Message that the server sent on its own.
    Other,
}

impl WireProtocol {
    /// Returns the dialect of the example fanout_server, in which any other message is a fault.
    pub(crate) fn strict(kind: Kind, scenario: Scenario, payload: usize) -> Self {
        let sio = kind != Kind::Plain;
        let [message, join, say] = match (sio, scenario) {
            (false, _) => ["{payload}", "J{room}", "R{room} {payload}"],
            (true, Scenario::Echo) => [r#"["echo","{payload}"]"#, "", ""],
            (true, _) => {
                [r#"["msg","{payload}"]"#, r#"["join","{room}"]"#, r#"["room","{room}","{payload}"]"#]
            }
        };
        Self { last_found: None, ..Self::any(kind, "/", "", [message, join, say], payload) }
    }

    /// Returns a lenient dialect: it sends these templates, and searches received messages for the payload.
    ///
    /// The templates are for a broadcast or echo, a join, and a message to a room; for Socket.IO they are
    /// event arrays. `auth` is empty or JSON.
    pub(crate) fn any(kind: Kind, namespace: &str, auth: &str, texts: [&str; 3], payload: usize) -> Self {
        let sio = kind != Kind::Plain;
        let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let prefix = if sio { format!("42{namespace}") } else { String::new() };
        let [message, join, say] = texts.map(|text| Template::new(&prefix, text));
        Self {
            sio,
            msgpack: kind == Kind::Msgpack,
            connect: match kind {
                Kind::Msgpack => msgpack::CONNECT.into(),
                _ => format!("40{namespace}{auth}").into_bytes(),
            },
            connected: format!("40{namespace}"),
            message,
            join,
            say,
            last_found: Some(AtomicUsize::new(0)),
            payload,
        }
    }

    pub(super) fn connect(&self) -> &[u8] {
        &self.connect
    }

    pub(super) fn is_connected(&self, packet: &[u8]) -> bool {
        packet.starts_with(self.connected.as_bytes())
    }

    /// Returns whether messages of the server's own are allowed.
    pub(super) fn is_lenient(&self) -> bool {
        self.last_found.is_some()
    }

    /// Appends the message that requests `action`.
    pub(super) fn write(&self, action: Action, out: &mut Vec<u8>, write_payload: impl FnOnce(&mut Vec<u8>)) {
        if self.msgpack {
            return msgpack::write(action, out, self.payload, write_payload);
        }
        match action {
            Action::Broadcast | Action::Echo => {
                out.extend_from_slice(self.message.before.as_bytes());
                write_payload(out);
                out.extend_from_slice(self.message.after.as_bytes());
            }
            Action::Join(room) => self.join.write(out, room, |_| ()),
            Action::Room(room) => self.say.write(out, room, write_payload),
        }
    }

    /// Delivers the payload of a text message or an Engine.IO packet, or counts it in `others` if it has none.
    ///
    /// Returns `false` if the dialect does not allow the message.
    pub(super) fn take(&self, text: &[u8], others: &mut u64, deliver: &mut impl FnMut(&[u8])) -> bool {
        match self.hear(text) {
            Some(Heard::Payload(payload)) => deliver(payload),
            Some(Heard::Other) => *others += 1,
            None => return false,
        }
        true
    }

    fn hear<'a>(&self, text: &'a [u8]) -> Option<Heard<'a>> {
        let Some(last_found) = &self.last_found else {
            if !self.sio {
                return Some(Heard::Payload(text));
            }
            if self.msgpack {
                return msgpack::event_payload(text).map(Heard::Payload);
            }
            return event_payload(text, self.payload).map(Heard::Payload);
        };
        // Only messages are allowed, and no disconnect from the namespace.
        if self.sio && (text.first() != Some(&b'4') || text.starts_with(b"41")) {
            return None;
        }
        let at = last_found.load(Ordering::Relaxed);
        if text.get(at..).is_some_and(|rest| Stamp::read(rest).is_some()) {
            return Some(Heard::Payload(self.cut(text, at)));
        }
        let starts = (0..text.len()).filter(|&at| matches!(text[at], b'm' | b'p'));
        let mut stamped = starts.filter(|&at| Stamp::read(&text[at..]).is_some());
        let Some(at) = stamped.next() else { return Some(Heard::Other) };
        last_found.store(at, Ordering::Relaxed);
        Some(Heard::Payload(self.cut(text, at)))
    }

    fn cut<'a>(&self, text: &'a [u8], at: usize) -> &'a [u8] {
        &text[at..text.len().min(at + self.payload)]
    }
}

impl Template {
    fn new(prefix: &str, text: &str) -> Self {
        let (before, after) = text.split_once("{payload}").unwrap_or((text, ""));
        Self { before: format!("{prefix}{before}"), after: after.into() }
    }

    fn write(&self, out: &mut Vec<u8>, room: u16, write_payload: impl FnOnce(&mut Vec<u8>)) {
        let room = format!("r{room}");
        out.extend_from_slice(self.before.replace("{room}", &room).as_bytes());
        write_payload(out);
        out.extend_from_slice(self.after.replace("{room}", &room).as_bytes());
    }
}

/// Returns the payload of an event of fanout_server, which may end with a recovery offset.
fn event_payload(packet: &[u8], payload: usize) -> Option<&[u8]> {
    let args = packet.strip_prefix(MSG).or_else(|| packet.strip_prefix(ECHO))?.strip_suffix(END)?;
    let Some((first, rest)) = args.split_at_checked(payload) else { return Some(args) };
    let is_offset = rest.strip_prefix(NEXT).is_some_and(|offset| !offset.contains(&b'"'));
    Some(if is_offset { first } else { args })
}

const MSG: &[u8] = br#"42["msg",""#;
const ECHO: &[u8] = br#"42["echo",""#;
const END: &[u8] = br#""]"#;
const NEXT: &[u8] = br#"",""#;

#[cfg(test)]
mod tests {
    use super::super::stamp::Filler;
    use super::*;

    #[test]
    fn writes_messages_in_each_dialect() {
        let said = |kind, action: Action| {
            let scenario = if action == Action::Echo { Scenario::Echo } else { Scenario::Rooms };
            let mut out = Vec::new();
            WireProtocol::strict(kind, scenario, 64)
                .write(action, &mut out, |out| out.extend_from_slice(b"text"));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(Kind::Plain, Action::Echo), "text");
        assert_eq!(said(Kind::Plain, Action::Join(3)), "Jr3");
        assert_eq!(said(Kind::Plain, Action::Room(3)), "Rr3 text");
        assert_eq!(said(Kind::Poll, Action::Broadcast), r#"42["msg","text"]"#);
        assert_eq!(said(Kind::Sio, Action::Echo), r#"42["echo","text"]"#);
        assert_eq!(said(Kind::Sio, Action::Join(3)), r#"42["join","r3"]"#);
        assert_eq!(said(Kind::Sio, Action::Room(3)), r#"42["room","r3","text"]"#);
        let wire_protocol = WireProtocol::strict(Kind::Sio, Scenario::Paced, 64);
        for action in [Action::Broadcast, Action::Echo] {
            assert_eq!(wire_protocol.hear(said(Kind::Sio, action).as_bytes()), Some(Heard::Payload(b"text")));
        }
        assert_eq!(wire_protocol.hear(br#"42["other","text"]"#), None);
        let heard = |text: &'static [u8]| WireProtocol::strict(Kind::Sio, Scenario::Paced, 4).hear(text);
        assert_eq!(heard(br#"42["msg","text","a7"]"#), Some(Heard::Payload(b"text")));
        assert_eq!(heard(br#"42["msg","text","a","7"]"#), Some(Heard::Payload(br#"text","a","7"#)));
        assert_eq!(heard(br#"42["msg","texts","a"]"#), Some(Heard::Payload(br#"texts","a"#)));
    }

    #[test]
    fn fills_templates_and_finds_payloads() {
        let texts = [
            r#"["say",{"text":"{payload}","to":"all"}]"#,
            r#"["in","{room}"]"#,
            r#"["to","{room}","{payload}"]"#,
        ];
        let wire_protocol = WireProtocol::any(Kind::Sio, "/chat", r#"{"token":1}"#, texts, 40);
        assert_eq!(wire_protocol.connect(), br#"40/chat,{"token":1}"#);
        assert!(
            wire_protocol.is_connected(br#"40/chat,{"sid":"x"}"#) && !wire_protocol.is_connected(b"40{}")
        );
        let mut payload = Vec::new();
        let stamp = Stamp { probe: false, group: 1, stream: 2, slot: 3, sequence: 4, sent_at: 5 };
        stamp.write(&mut payload, 40, Filler::Dots);
        let mut said = Vec::new();
        wire_protocol.write(Action::Broadcast, &mut said, |out| out.extend_from_slice(&payload));
        assert!(
            said.starts_with(br#"42/chat,["say",{"text":"m0001"#) && said.ends_with(br#"","to":"all"}]"#)
        );
        for before in
            ["42/chat,[\"said\",{\"text\":\"", "42/chat,[\"a\",\"", "42/chat,[\"said\",{\"map\":1,\"pm\":\""]
        {
            let heard = [before.as_bytes(), &payload, b"\"}]"].concat();
            for _ in 0..2 {
                assert_eq!(wire_protocol.hear(&heard), Some(Heard::Payload(&payload)));
            }
            let cut = &heard[..before.len() + 35];
            assert_eq!(wire_protocol.hear(cut), Some(Heard::Payload(&payload[..35])));
        }
        assert_eq!(wire_protocol.hear(br#"42["hello",{"id":"mmmmm"}]"#), Some(Heard::Other));
        assert_eq!(wire_protocol.hear(b"3probe"), None);
        assert_eq!(WireProtocol::any(Kind::Plain, "/", "", texts, 40).hear(b"welcome"), Some(Heard::Other));
    }
}
