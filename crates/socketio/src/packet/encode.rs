//! Encodes packet text after Engine.IO's type digit for a message.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;
use roomcast_core::{AckId, Args, Event, Frame, Message, Namespace, SocketId, needs_escape};
use serde_json::Value;

/// Encodes an event, whose name must not be reserved, and its attachments.
pub(crate) fn encode_event(event: &Event) -> Frame {
    let name = escape(&event.name);
    let offset = event.offset.as_deref().map(escape);
    let args = event.args.json();
    let attachments = event.args.attachments();
    let head = Head {
        kind: if attachments.is_empty() { '2' } else { '5' },
        attachments: attachments.len(),
        namespace: &event.namespace,
        id: event.ack.as_ref().map(|ack| ack.id),
    };
    let before_args = if args.is_empty() { "" } else { "," };
    let text = match &offset {
        None if head.is_short() && !args.is_empty() => ["42[\"", &name, "\",", args, "]"].concat(),
        None => head.text(&["[\"", &name, "\"", before_args, args, "]"]),
        Some(offset) => head.text(&["[\"", &name, "\"", before_args, args, ",\"", offset, "\"]"]),
    };
    frame(text, attachments)
}

/// Encodes an acknowledgement.
pub(crate) fn encode_answer(namespace: &Namespace, id: AckId, args: &Args) -> Frame {
    let attachments = args.attachments();
    let kind = if attachments.is_empty() { '3' } else { '6' };
    let head = Head { kind, attachments: attachments.len(), namespace, id: Some(id) };
    frame(head.text(&["[", args.json(), "]"]), attachments)
}

/// Encodes a successful response to a CONNECT.
pub(crate) fn encode_connect(namespace: &Namespace, socket: &SocketId, recovery: Option<&str>) -> Frame {
    let socket = escape(socket.as_str());
    let head = Head::plain('0', namespace);
    Frame::new(match recovery.map(escape) {
        None => head.text(&["{\"sid\":\"", &socket, "\"}"]),
        Some(recovery) => head.text(&["{\"sid\":\"", &socket, "\",\"pid\":\"", &recovery, "\"}"]),
    })
}

/// Encodes a failed response to a CONNECT.
pub(crate) fn encode_connect_error(namespace: &Namespace, error: &str) -> Frame {
    Frame::new(Head::plain('4', namespace).text(&[error]))
}

/// Encodes a DISCONNECT from a namespace.
pub(crate) fn encode_disconnect(namespace: &Namespace) -> Frame {
    Frame::new(Head::plain('1', namespace).text(&[]))
}

/// Packet header before the payload.
struct Head<'a> {
    kind: char,
    attachments: usize,
    namespace: &'a Namespace,
    id: Option<AckId>,
}

impl<'a> Head<'a> {
    fn plain(kind: char, namespace: &'a Namespace) -> Self {
        Self { kind, attachments: 0, namespace, id: None }
    }

    /// Returns whether it only marks an event, as nearly all do.
    fn is_short(&self) -> bool {
        self.kind == '2' && self.id.is_none() && self.namespace.is_main()
    }

    /// Returns the whole text, in one allocation of exactly its length.
    fn text(&self, payload: &[&str]) -> String {
        let namespace = Some(self.namespace.as_str()).filter(|_| !self.namespace.is_main());
        let length = 2
            + if self.attachments == 0 { 0 } else { digits(self.attachments as u64) + 1 }
            + namespace.map_or(0, |name| name.len() + 1)
            + self.id.map_or(0, |id| digits(id.0))
            + payload.iter().map(|part| part.len()).sum::<usize>();
        let mut text = String::with_capacity(length);
        text.push('4');
        text.push(self.kind);
        // Writing to a String cannot fail.
        if self.attachments > 0 {
            let _ = write!(text, "{}-", self.attachments);
        }
        if let Some(name) = namespace {
            text.push_str(name);
            text.push(',');
        }
        if let Some(id) = self.id {
            let _ = write!(text, "{id}");
        }
        payload.iter().for_each(|part| text.push_str(part));
        debug_assert_eq!(text.len(), length, "one allocation");
        text
    }
}

fn frame(text: String, attachments: &[Bytes]) -> Frame {
    if attachments.is_empty() {
        return Frame::new(text);
    }
    let mut messages = Vec::with_capacity(1 + attachments.len());
    messages.push(Message::from(text));
    messages.extend(attachments.iter().cloned().map(Message::from));
    Frame::from_messages(messages)
}

/// Escapes a text for the inside of a JSON string.
fn escape(text: &str) -> Cow<'_, str> {
    if !needs_escape(text) {
        return Cow::Borrowed(text);
    }
    let quoted = Value::from(text).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}
