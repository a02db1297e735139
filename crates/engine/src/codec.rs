//! Event encoding for clients of plain Engine.IO.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use roomcast_core::{AckId, Args, Codec, EncodeError, Event, Frame, Message, Namespace};

use crate::packet;
use crate::session::EVENT;

/// Encodes events as message packets.
///
/// Engine.IO knows only messages, so the event must be named `message`; the client gets its argument:
/// - one string: its text,
/// - one binary argument: its bytes,
/// - one other value: its JSON text,
/// - none or several: the JSON text of an array of them.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct EngineCodec;

impl EngineCodec {
    /// Returns the shared instance, so all clients of this kind share frames.
    pub fn shared() -> Arc<dyn Codec> {
        static SHARED: LazyLock<Arc<EngineCodec>> = LazyLock::new(Arc::default);
        SHARED.clone()
    }
}

impl Codec for EngineCodec {
    /// Encodes an event.
    ///
    /// # Errors
    /// [`EncodeError::Reserved`] if it is not named `message`, [`EncodeError::Ack`] if it requests an acknowledgement,
    /// [`EncodeError::Binary`] if a binary argument is not the only argument.
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
        if event.name != EVENT {
            return Err(EncodeError::Reserved);
        }
        if event.ack.is_some() {
            return Err(EncodeError::Ack);
        }
        Ok(Frame::new(packet::message(data(&event.args)?)))
    }

    fn encode_answer(&self, _: &Namespace, _: AckId, _: &Args) -> Result<Frame, EncodeError> {
        Err(EncodeError::Ack)
    }
}

fn data(args: &Args) -> Result<Message, EncodeError> {
    let mut values = args.iter();
    let only = values.next().filter(|_| values.next().is_none());
    match (args.attachments(), only) {
        ([], Some(json)) => Ok(serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()).into()),
        ([], None) => Ok(format!("[{}]", args.json()).into()),
        // An object that is not a placeholder does not read as bytes; a string would.
        ([bytes], Some(json)) if json.starts_with('{') && args.get::<Bytes>(0).is_ok() => {
            Ok(bytes.clone().into())
        }
        _ => Err(EncodeError::Binary),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use roomcast_core::{AckRequest, AnswerSink, IntoArgs, SocketId};

    use super::*;

    fn event(name: &'static str, args: impl IntoArgs) -> Event {
        Event::new(Namespace::main(), name, args.into_args().unwrap())
    }

    fn encoded(args: impl IntoArgs) -> Result<Message, EncodeError> {
        let frame = EngineCodec.encode(&event("message", args))?;
        let [message] = frame.messages() else { panic!("expected one message, got {frame:?}") };
        Ok(message.clone())
    }

    #[test]
    fn sends_strings_and_bytes_unchanged() {
        assert_eq!(encoded("hello"), Ok("4hello".into()));
        assert_eq!(encoded("\"\\ü\n"), Ok("4\"\\ü\n".into()));
        assert_eq!(encoded(""), Ok("4".into()));
        let bytes = Bytes::from_static(b"\x00\xff");
        assert_eq!(encoded(bytes.clone()), Ok(bytes.into()));
    }

    #[test]
    fn sends_other_values_as_json() {
        assert_eq!(encoded(()), Ok("4[]".into()));
        assert_eq!(encoded(7), Ok("47".into()));
        assert_eq!(encoded(("a", 1)), Ok("4[\"a\",1]".into()));
        assert_eq!(encoded(BTreeMap::from([("k", [true])])), Ok("4{\"k\":[true]}".into()));
    }

    #[test]
    fn refuses_events_beyond_message_packets() {
        let bytes = Bytes::from_static(b"x");
        assert_eq!(encoded((bytes.clone(), 1)), Err(EncodeError::Binary));
        assert_eq!(encoded((bytes.clone(), bytes.clone())), Err(EncodeError::Binary));
        assert_eq!(encoded(BTreeMap::from([("nested", bytes.clone())])), Err(EncodeError::Binary));
        let beside = Args::from_validated("\"text\"".into(), vec![bytes]);
        assert_eq!(encoded(beside), Err(EncodeError::Binary));
        assert_eq!(EngineCodec.encode(&event("news", 1)).unwrap_err(), EncodeError::Reserved);

        struct Nobody;
        impl AnswerSink for Nobody {
            fn requested(&self, _: &SocketId) {}
            fn answered(&self, _: &SocketId, _: Args) {}
            fn unanswered(&self, _: &SocketId) {}
        }
        let mut asking = event("message", 1);
        asking.ack = Some(AckRequest { id: AckId(1), answers: Arc::new(Nobody) });
        assert_eq!(EngineCodec.encode(&asking).unwrap_err(), EncodeError::Ack);
        let answer = EngineCodec.encode_answer(&Namespace::main(), AckId(1), &Args::empty());
        assert_eq!(answer.unwrap_err(), EncodeError::Ack);
    }

    #[test]
    fn shares_one_codec_between_clients() {
        assert!(Arc::ptr_eq(&EngineCodec::shared(), &EngineCodec::shared()));
    }
}
