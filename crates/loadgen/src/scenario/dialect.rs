//! Message formats of the server under test.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::stamp::{Action, Stamp};
use super::{Kind, Scenario};

/// Client packets, and the position of the payload in server packets.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// Socket.IO's framing.
    sio: bool,
    /// Packet that requests the namespace.
    connect: String,
    /// Prefix of its response.
    connected: String,
    message: Template,
    join: Template,
    say: Template,
    /// Where the payload was found in the message before; none if it has to be where fanout_server puts it.
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
    /// A message of this run, or a fragment of one.
    Payload(&'a [u8]),
    /// Something of the server's own.
    Other,
}

impl Dialect {
    /// That of the example fanout_server, in which everything else is a fault.
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

    /// That of any server: these texts are sent, and the payload is looked for in all that comes.
    ///
    /// For Socket.IO they are the arrays of events. `auth` is empty or JSON. The texts are those of a message to
    /// everybody or oneself, of joining, and of a message to a room.
    pub(crate) fn any(kind: Kind, namespace: &str, auth: &str, texts: [&str; 3], payload: usize) -> Self {
        let sio = kind != Kind::Plain;
        let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let prefix = if sio { format!("42{namespace}") } else { String::new() };
        let [message, join, say] = texts.map(|text| Template::new(&prefix, text));
        Self {
            sio,
            connect: format!("40{namespace}{auth}"),
            connected: format!("40{namespace}"),
            message,
            join,
            say,
            last_found: Some(AtomicUsize::new(0)),
            payload,
        }
    }

    pub(super) fn connect(&self) -> &str {
        &self.connect
    }

    pub(super) fn is_connected(&self, packet: &[u8]) -> bool {
        packet.starts_with(self.connected.as_bytes())
    }

    /// Whether foreign messages are allowed.
    pub(super) fn is_lenient(&self) -> bool {
        self.last_found.is_some()
    }

    /// Appends the text that makes a server do it.
    pub(super) fn write(&self, action: Action, out: &mut Vec<u8>, write_payload: impl FnOnce(&mut Vec<u8>)) {
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

    /// Hands on the payload of a text message or an Engine.IO packet, or counts it among the `others` that are none of
    /// ours; `false` for what no server may send in this dialect
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
            return event_payload(text, self.payload).map(Heard::Payload);
        };
        // What ends the namespace is no message, and no more than that is expected of a packet.
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

/// The payload of an event as fanout_server delivers it, behind which there may be an offset for those that come back.
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
    fn says_it_in_each_dialect() {
        let said = |kind, action: Action| {
            let scenario = if action == Action::Echo { Scenario::Echo } else { Scenario::Rooms };
            let mut out = Vec::new();
            Dialect::strict(kind, scenario, 64).write(action, &mut out, |out| out.extend_from_slice(b"text"));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(said(Kind::Plain, Action::Echo), "text");
        assert_eq!(said(Kind::Plain, Action::Join(3)), "Jr3");
        assert_eq!(said(Kind::Plain, Action::Room(3)), "Rr3 text");
        assert_eq!(said(Kind::Poll, Action::Broadcast), r#"42["msg","text"]"#);
        assert_eq!(said(Kind::Sio, Action::Echo), r#"42["echo","text"]"#);
        assert_eq!(said(Kind::Sio, Action::Join(3)), r#"42["join","r3"]"#);
        assert_eq!(said(Kind::Sio, Action::Room(3)), r#"42["room","r3","text"]"#);
        let dialect = Dialect::strict(Kind::Sio, Scenario::Paced, 64);
        for action in [Action::Broadcast, Action::Echo] {
            assert_eq!(dialect.hear(said(Kind::Sio, action).as_bytes()), Some(Heard::Payload(b"text")));
        }
        assert_eq!(dialect.hear(br#"42["other","text"]"#), None);
        let heard = |text: &'static [u8]| Dialect::strict(Kind::Sio, Scenario::Paced, 4).hear(text);
        assert_eq!(heard(br#"42["msg","text","a7"]"#), Some(Heard::Payload(b"text")));
        assert_eq!(heard(br#"42["msg","text","a","7"]"#), Some(Heard::Payload(br#"text","a","7"#)));
        assert_eq!(heard(br#"42["msg","texts","a"]"#), Some(Heard::Payload(br#"texts","a"#)));
    }

    #[test]
    fn any_server_is_spoken_to_by_templates_and_understood_by_searching() {
        let texts = [
            r#"["say",{"text":"{payload}","to":"all"}]"#,
            r#"["in","{room}"]"#,
            r#"["to","{room}","{payload}"]"#,
        ];
        let dialect = Dialect::any(Kind::Sio, "/chat", r#"{"token":1}"#, texts, 40);
        assert_eq!(dialect.connect(), r#"40/chat,{"token":1}"#);
        assert!(dialect.is_connected(br#"40/chat,{"sid":"x"}"#) && !dialect.is_connected(b"40{}"));
        let mut payload = Vec::new();
        let stamp = Stamp { probe: false, group: 1, stream: 2, slot: 3, sequence: 4, sent_at: 5 };
        stamp.write(&mut payload, 40, Filler::Dots);
        let mut said = Vec::new();
        dialect.write(Action::Broadcast, &mut said, |out| out.extend_from_slice(&payload));
        assert!(
            said.starts_with(br#"42/chat,["say",{"text":"m0001"#) && said.ends_with(br#"","to":"all"}]"#)
        );
        for before in
            ["42/chat,[\"said\",{\"text\":\"", "42/chat,[\"a\",\"", "42/chat,[\"said\",{\"map\":1,\"pm\":\""]
        {
            let heard = [before.as_bytes(), &payload, b"\"}]"].concat();
            for _ in 0..2 {
                assert_eq!(dialect.hear(&heard), Some(Heard::Payload(&payload)));
            }
            let cut = &heard[..before.len() + 35];
            assert_eq!(dialect.hear(cut), Some(Heard::Payload(&payload[..35])));
        }
        assert_eq!(dialect.hear(br#"42["hello",{"id":"mmmmm"}]"#), Some(Heard::Other));
        assert_eq!(dialect.hear(b"3probe"), None);
        assert_eq!(Dialect::any(Kind::Plain, "/", "", texts, 40).hear(b"welcome"), Some(Heard::Other));
    }
}
