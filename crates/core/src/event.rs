//! What an application emits, and how one kind of client is told

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

use crate::{AckId, Args, Frame, Namespace, SocketId};

/// What an application emits, before any codec
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "codecs read every part")]
pub struct Event {
    /// The namespace it is emitted in
    pub namespace: Namespace,
    /// Its name
    pub name: ByteString,
    /// Its arguments
    pub args: Args,
    /// Set when the recipients are asked for an answer
    pub ack: Option<AckRequest>,
    /// Its place in the log of the namespace, when connection state recovery is on
    ///
    /// Codecs hand it to the client (Socket.IO: as one more argument, the last).
    pub offset: Option<ByteString>,
    /// What a newer event takes the place of in an outbox, with [`Overflow::KeepLatest`](crate::Overflow)
    pub key: Option<Arc<str>>,
    /// Whether transports may compress it; a hint, see [`Frame::without_compression`]
    pub compress: bool,
}

impl Event {
    /// An event that asks for no answer
    pub fn new(namespace: Namespace, name: impl Into<ByteString>, args: Args) -> Self {
        Self { namespace, name: name.into(), args, ack: None, offset: None, key: None, compress: true }
    }

    /// Encodes it for the clients of one codec
    ///
    /// # Errors
    /// When this kind of client cannot carry it.
    pub fn frame(&self, codec: &dyn Codec) -> Result<Frame, EncodeError> {
        codec.encode(self).map(|frame| self.marked(frame))
    }

    /// Encodes it for the one client that it goes to; its arguments may be taken out
    ///
    /// # Errors
    /// When this kind of client cannot carry it.
    pub fn frame_for_one(&mut self, codec: &dyn Codec) -> Result<Frame, EncodeError> {
        codec.encode_for_one(self).map(|frame| self.marked(frame))
    }

    fn marked(&self, mut frame: Frame) -> Frame {
        if let Some(key) = &self.key {
            frame = frame.with_key(key.clone());
        }
        if self.compress { frame } else { frame.without_compression() }
    }
}

/// The wish for an answer, one for all recipients of an event
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, codecs read it")]
pub struct AckRequest {
    /// The id that answers name
    pub id: AckId,
    /// Where answers go
    pub answers: Arc<dyn AnswerSink>,
}

impl fmt::Debug for AckRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AckRequest").field(&self.id).finish()
    }
}

/// Takes the answers to one event
///
/// Each recipient is announced with `asked`, and then either answers or is said to be gone, once; neither follows if
/// the wish is withdrawn. Called from the tasks of the clients that answer; must not block.
pub trait AnswerSink: Send + Sync {
    /// `socket` is going to be asked
    ///
    /// Called under a lock of the router: it may only take note.
    fn asked(&self, socket: &SocketId);

    /// `socket` answered
    fn answered(&self, socket: &SocketId, args: Args);

    /// `socket` went away, or could not be asked, so it will not answer
    fn gone(&self, socket: &SocketId);
}

/// One way to put events and answers into messages
///
/// The address of the `Arc` is its identity: clients that hold the same one share frames, so an event is encoded
/// once for each codec among its recipients. Called under a lock of the router, so it must not call back.
pub trait Codec: Send + Sync + fmt::Debug + 'static {
    /// Encodes an event
    ///
    /// # Errors
    /// When this kind of client cannot carry it, such as attachments where there is only JSON text. That is
    /// counted in the receipt of the broadcast and is no error for anybody else.
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError>;

    /// Encodes an event that goes to one client alone; its arguments may be taken out of it
    ///
    /// Default: as [`encode`](Self::encode) does, and takes nothing.
    ///
    /// # Errors
    /// As there. The event has its arguments still.
    fn encode_for_one(&self, event: &mut Event) -> Result<Frame, EncodeError> {
        self.encode(event)
    }

    /// Encodes the answer to an event that the client sent with `id`
    ///
    /// # Errors
    /// When this kind of client cannot carry it.
    fn encode_answer(&self, namespace: &Namespace, id: AckId, args: &Args) -> Result<Frame, EncodeError>;
}

/// A client of this kind cannot be told this event
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Binary arguments, and the client's codec has no form for them
    #[error("this client's codec cannot carry binary arguments")]
    Binary,
    /// An answer is asked for, and the client's codec has no form for that
    #[error("this client's codec cannot ask for an answer")]
    Ack,
    /// The event name is one that the protocol keeps for itself
    #[error("this event name is reserved by the protocol; choose another")]
    Reserved,
}
