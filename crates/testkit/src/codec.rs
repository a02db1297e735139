//! Codec with readable output.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roomcast_core::{AckId, Args, Codec, EncodeError, Event, Frame, Message, Namespace};

/// Encodes events as readable text and counts encodings.
///
/// An event is `label:name[arguments]`, followed by `#id` when an acknowledgement is requested, and by its
/// attachments as binary messages of the same frame. An acknowledgement is `label#id[arguments]`.
#[derive(Debug)]
pub struct TextCodec {
    label: &'static str,
    binary: bool,
    acks: bool,
    encoded: AtomicUsize,
}

impl TextCodec {
    /// Creates a codec that supports every event.
    pub fn new(label: &'static str) -> Arc<Self> {
        Arc::new(Self { label, binary: true, acks: true, encoded: AtomicUsize::new(0) })
    }

    /// Creates a codec that refuses attachments and acks, like that of a plain JSON client.
    pub fn limited(label: &'static str) -> Arc<Self> {
        Arc::new(Self { label, binary: false, acks: false, encoded: AtomicUsize::new(0) })
    }

    /// Returns the number of event encodings, refusals included.
    pub fn encoded(&self) -> usize {
        self.encoded.load(Ordering::Relaxed)
    }

    fn frame(&self, text: String, args: &Args) -> Result<Frame, EncodeError> {
        let attachments = args.attachments();
        if attachments.is_empty() {
            return Ok(Frame::new(text));
        }
        if !self.binary {
            return Err(EncodeError::Binary);
        }
        let mut messages = vec![Message::from(text)];
        messages.extend(attachments.iter().cloned().map(Message::from));
        Ok(Frame::from_messages(messages))
    }
}

impl Codec for TextCodec {
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
        self.encoded.fetch_add(1, Ordering::Relaxed);
        let mut text = format!("{}:{}[{}]", self.label, event.name, event.args.json());
        if let Some(ack) = &event.ack {
            if !self.acks {
                return Err(EncodeError::Ack);
            }
            write!(text, "#{}", ack.id).expect("writing to a string succeeds");
        }
        self.frame(text, &event.args)
    }

    fn encode_answer(&self, _namespace: &Namespace, id: AckId, args: &Args) -> Result<Frame, EncodeError> {
        self.frame(format!("{}#{id}[{}]", self.label, args.json()), args)
    }
}
