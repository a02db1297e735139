//! Event encoding for plain WebSocket clients.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{
    AckId, Args, Codec, EncodeError, Event, Frame, Message, Namespace, SocketId, push_quoted,
};

use crate::text::{placeholder, unquote};

/// Encodes events as bare messages, for [`Mode::Plain`](crate::Mode::Plain).
///
/// The event `message` with one string is sent as that text, with one binary argument as those bytes; neither is
/// copied, unless the JSON form of the text has escapes. Any other event is the JSON array `["event",…]`.
/// Acknowledgements are not supported.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct PlainCodec;

impl PlainCodec {
    /// Returns the shared instance, so all clients of this kind share frames.
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<PlainCodec>> = LazyLock::new(Arc::default);
        SHARED.clone()
    }
}

impl Codec for PlainCodec {
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
        if event.ack.is_some() {
            return Err(EncodeError::Ack);
        }
        if is_reserved(&event.name) {
            return Err(EncodeError::Reserved);
        }
        if event.name == MESSAGE
            && let Some(bare) = bare(&event.args)
        {
            return Ok(Frame::new(bare));
        }
        if !event.args.attachments().is_empty() {
            return Err(EncodeError::Binary);
        }
        let mut text = open(event.name.len() + event.args.json().len());
        push_quoted(&mut text, &event.name);
        Ok(Frame::new(close(text, &event.args)))
    }

    fn encode_for_one(&self, event: &mut Event) -> Result<Frame, EncodeError> {
        if event.ack.is_none()
            && event.name == MESSAGE
            && let Some(text) = event.args.take_text()
        {
            return Ok(Frame::new(text));
        }
        self.encode(event)
    }

    /// Returns an error.
    ///
    /// # Errors
    /// Always: clients in plain mode cannot request acknowledgements.
    fn encode_answer(&self, _: &Namespace, _: AckId, _: &Args) -> Result<Frame, EncodeError> {
        Err(EncodeError::Ack)
    }
}

/// Encodes events and acknowledgements as JSON arrays, for [`Mode::Json`](crate::Mode::Json).
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct JsonCodec;

impl JsonCodec {
    /// Returns the shared instance, so all clients of this kind share frames.
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<JsonCodec>> = LazyLock::new(Arc::default);
        SHARED.clone()
    }
}

impl Codec for JsonCodec {
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
        if is_reserved(&event.name) {
            return Err(EncodeError::Reserved);
        }
        let ack = event.ack.as_ref().map(|ack| ack.id);
        let offset = event.offset.as_deref();
        let attachments = event.args.attachments().len();
        let len = event.name.len() + event.args.json().len() + offset.map_or(0, str::len);
        let mut text = open(len);
        if ack.is_some() || offset.is_some() || attachments > 0 {
            let mut header = HeaderWriter::new(&mut text);
            header.number("ack", ack.map(|id| id.0));
            header.string("offset", offset);
            header.number("binary", (attachments > 0).then_some(attachments as u64));
            header.finish();
            text.push(',');
        }
        push_quoted(&mut text, &event.name);
        Ok(with_attachments(close(text, &event.args), &event.args))
    }

    fn encode_answer(&self, _: &Namespace, id: AckId, args: &Args) -> Result<Frame, EncodeError> {
        let attachments = args.attachments().len();
        let mut text = open(args.json().len());
        let mut header = HeaderWriter::new(&mut text);
        header.number("re", Some(id.0));
        header.number("binary", (attachments > 0).then_some(attachments as u64));
        header.finish();
        Ok(with_attachments(close(text, args), args))
    }
}

/// Encodes the first message to an admitted client.
pub(crate) fn welcome(socket: &SocketId, recovery: Option<&str>) -> Frame {
    let mut text = open(socket.as_str().len() + recovery.map_or(0, str::len));
    let mut header = HeaderWriter::new(&mut text);
    header.string("sid", Some(socket.as_str()));
    header.string("pid", recovery);
    header.finish();
    Frame::new(close(text, &Args::empty()))
}

/// Encodes the last message to a rejected client; `error` is a JSON object.
pub(crate) fn error(error: &str) -> Frame {
    Frame::new(format!(r#"[{{"error":{error}}}]"#))
}

/// Returns the JSON object that describes a client's violation.
pub(crate) fn error_object(message: &str) -> String {
    let mut object = String::from(r#"{"message":"#);
    push_quoted(&mut object, message);
    object.push('}');
    object
}

/// Returns whether an event name is reserved for events that clients raise locally.
pub(crate) fn is_reserved(name: &str) -> bool {
    matches!(
        name,
        "connect" | "connect_error" | "disconnect" | "disconnecting" | "newListener" | "removeListener"
    )
}

/// Event name of a bare message.
pub(crate) const MESSAGE: &str = "message";

/// Maximum bytes of an array, a header and their punctuation.
const OVERHEAD: usize = 64;

fn bare(args: &Args) -> Option<Message> {
    if let Some(text) = args.as_text() {
        return Some(Message::Text(text.clone()));
    }
    match args.attachments() {
        [] => unquote(args.list()).map(Message::Text),
        [only] => (placeholder(args.json()) == Some(0)).then(|| Message::Binary(only.clone())),
        _ => None,
    }
}

fn open(len: usize) -> String {
    let mut text = String::with_capacity(len + OVERHEAD);
    text.push('[');
    text
}

fn close(mut text: String, args: &Args) -> ByteString {
    if !args.is_empty() {
        text.push(',');
        text.push_str(args.json());
    }
    text.push(']');
    text.into()
}

fn with_attachments(text: ByteString, args: &Args) -> Frame {
    if args.attachments().is_empty() {
        return Frame::new(text);
    }
    let attachments = args.attachments().iter().map(|bytes: &Bytes| Message::Binary(bytes.clone()));
    Frame::from_messages(std::iter::once(Message::Text(text)).chain(attachments).collect())
}

/// Writes the header members that are present.
struct HeaderWriter<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> HeaderWriter<'a> {
    fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.key(key);
            // Writing to a string cannot fail.
            let _ = write!(self.out, "{value}");
        }
    }

    fn string(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key);
            push_quoted(self.out, value);
        }
    }

    fn key(&mut self, key: &str) {
        if !std::mem::take(&mut self.empty) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn finish(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use roomcast_core::{AckRequest, AnswerSink, IntoArgs};

    use super::*;

    struct Nobody;

    impl AnswerSink for Nobody {
        fn requested(&self, _: &SocketId) {}
        fn answered(&self, _: &SocketId, _: Args) {}
        fn unanswered(&self, _: &SocketId) {}
    }

    fn event(name: &'static str, args: impl IntoArgs) -> Event {
        Event::new(Namespace::main(), name, args.into_args().unwrap())
    }

    fn asking(mut event: Event, id: u64) -> Event {
        event.ack = Some(AckRequest { id: AckId(id), answers: Arc::new(Nobody) });
        event
    }

    fn plain(event: &Event) -> Result<Message, EncodeError> {
        let frame = PlainCodec.encode(event)?;
        assert_eq!(frame.messages().len(), 1);
        Ok(frame.messages()[0].clone())
    }

    fn json(event: &Event) -> Vec<Message> {
        JsonCodec.encode(event).unwrap().messages().to_vec()
    }

    fn bytes() -> Bytes {
        Bytes::from_static(&[1, 2, 3])
    }

    #[test]
    fn sends_single_message_argument_bare() {
        assert_eq!(plain(&event("message", "hello")), Ok("hello".into()));
        assert_eq!(plain(&event("message", "")), Ok("".into()));
        assert_eq!(plain(&event("message", "a\n\"b\"\u{1}")), Ok("a\n\"b\"\u{1}".into()));
        assert_eq!(plain(&event("message", bytes())), Ok(bytes().into()));
    }

    #[test]
    fn sends_bare_text_without_copying() {
        let event = event("message", "hello");
        let Ok(Message::Text(text)) = plain(&event) else { panic!() };
        assert_eq!(text.as_ptr(), event.args.json()[1..].as_ptr());
    }

    #[test]
    fn sends_other_events_as_arrays() {
        assert_eq!(plain(&event("message", ())), Ok(r#"["message"]"#.into()));
        assert_eq!(plain(&event("message", 1)), Ok(r#"["message",1]"#.into()));
        assert_eq!(plain(&event("message", ("a", "b"))), Ok(r#"["message","a","b"]"#.into()));
        assert_eq!(plain(&event("say \"hi\"", ("a",))), Ok(r#"["say \"hi\"","a"]"#.into()));
        let unpaired = Args::from_validated(r#""\ud800""#.into(), vec![]);
        assert_eq!(plain(&event("message", unpaired)), Ok(r#"["message","\ud800"]"#.into()));
    }

    #[test]
    fn plain_mode_rejects_unsupported_events() {
        assert_eq!(plain(&event("upload", bytes())), Err(EncodeError::Binary));
        assert_eq!(plain(&event("message", (bytes(), 1))), Err(EncodeError::Binary));
        assert_eq!(plain(&event("message", ("a", bytes()))), Err(EncodeError::Binary));
        assert_eq!(plain(&event("message", &[bytes()])), Err(EncodeError::Binary));
        assert_eq!(plain(&asking(event("message", "a"), 1)), Err(EncodeError::Ack));
        assert_eq!(plain(&event("connect", "a")), Err(EncodeError::Reserved));
        let answer = PlainCodec.encode_answer(&Namespace::main(), AckId(1), &Args::empty());
        assert_eq!(answer.unwrap_err(), EncodeError::Ack);
    }

    #[test]
    fn sends_offsets_only_in_json_mode() {
        let mut event = event("message", "a");
        event.offset = Some("7-0".into());
        assert_eq!(plain(&event), Ok("a".into()));
        assert_eq!(json(&event), [r#"[{"offset":"7-0"},"message","a"]"#.into()]);
    }

    #[test]
    fn adds_header_only_when_needed() {
        assert_eq!(json(&event("join", ("red", 1))), [r#"["join","red",1]"#.into()]);
        assert_eq!(json(&event("", ())), [r#"[""]"#.into()]);
        assert_eq!(json(&asking(event("who", ()), 0)), [r#"[{"ack":0},"who"]"#.into()]);
        let mut full = asking(event("upload", ("a", bytes(), &[bytes()])), u64::MAX);
        full.offset = Some("\"7\"".into());
        let text = r#"[{"ack":18446744073709551615,"offset":"\"7\"","binary":2},"upload","a",{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}]]"#;
        assert_eq!(json(&full), [text.into(), bytes().into(), bytes().into()]);
        assert_eq!(JsonCodec.encode(&event("disconnect", ())).unwrap_err(), EncodeError::Reserved);
    }

    #[test]
    fn answers_carry_id_instead_of_name() {
        let answer = |args: Args| {
            let frame = JsonCodec.encode_answer(&Namespace::main(), AckId(7), &args).unwrap();
            frame.messages().to_vec()
        };
        assert_eq!(answer(Args::empty()), [r#"[{"re":7}]"#.into()]);
        assert_eq!(answer((1, "b").into_args().unwrap()), [r#"[{"re":7},1,"b"]"#.into()]);
        let text = r#"[{"re":7,"binary":1},{"_placeholder":true,"num":0}]"#;
        assert_eq!(answer(bytes().into_args().unwrap()), [text.into(), bytes().into()]);
    }

    #[test]
    fn encodes_welcome_and_error_frames() {
        let first = |pid| welcome(&"a\"b".into(), pid).messages().to_vec();
        assert_eq!(first(None), [r#"[{"sid":"a\"b"}]"#.into()]);
        assert_eq!(first(Some("p")), [r#"[{"sid":"a\"b","pid":"p"}]"#.into()]);
        let last = error(&error_object("no \"you\""));
        assert_eq!(last.messages(), [r#"[{"error":{"message":"no \"you\""}}]"#.into()]);
    }

    #[test]
    fn shares_one_codec_per_mode() {
        for mode in [crate::Mode::Plain, crate::Mode::Json] {
            assert!(Arc::ptr_eq(&mode.codec(), &mode.codec()));
        }
    }
}
