//! Events of an application, and codecs that encode them for one kind of client.

use std::fmt;
use std::sync::Arc;

use bytestring::ByteString;

use crate::{AckId, Args, Frame, Namespace, SocketId};

/// Event of an application, before any codec.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs, reason = "codecs read every part")]
pub struct Event {
    /// Namespace of the event.
    pub namespace: Namespace,
    /// Name of the event.
    pub name: ByteString,
    /// Arguments of the event.
    pub args: Args,
    /// Acknowledgement request, if any.
    pub ack: Option<AckRequest>,
    /// Offset in the namespace's log, if connection state recovery is enabled.
    ///
    /// Codecs send it to the client. Socket.IO appends it to the arguments.
    pub offset: Option<ByteString>,
    /// Key by which a newer event replaces this one in an outbox, with [`Overflow::KeepLatest`](crate::Overflow).
    pub key: Option<Arc<str>>,
    /// Whether transports may compress it; a hint, see [`Frame::without_compression`].
    pub compress: bool,
}

impl Event {
    /// Creates an event without an acknowledgement request.
    pub fn new(namespace: Namespace, name: impl Into<ByteString>, args: Args) -> Self {
        Self { namespace, name: name.into(), args, ack: None, offset: None, key: None, compress: true }
    }

    /// Encodes it for the clients of one codec.
    ///
    /// # Errors
    /// Returns an error if this kind of client cannot receive it.
    pub fn frame(&self, codec: &dyn Codec) -> Result<Frame, EncodeError> {
        codec.encode(self).map(|frame| self.marked(frame))
    }

    /// Encodes it for its only recipient. The codec may move the arguments out of the event.
    ///
    /// # Errors
    /// Returns an error if this kind of client cannot receive it.
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

/// Request for acknowledgements, shared by all recipients of an event.
#[derive(Clone)]
#[allow(clippy::exhaustive_structs, reason = "servers build it, codecs read it")]
pub struct AckRequest {
    /// Id that answers refer to.
    pub id: AckId,
    /// Sink of the answers.
    pub answers: Arc<dyn AnswerSink>,
}

impl fmt::Debug for AckRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AckRequest").field(&self.id).finish()
    }
}

/// Sink of the answers to one event.
///
/// Each recipient is announced with [`requested`](Self::requested). Then [`answered`](Self::answered) or [`unanswered`](Self::unanswered)
/// follows, once; neither follows if the request is withdrawn. Called from the tasks of the answering clients, so it
/// must not block.
pub trait AnswerSink: Send + Sync {
    /// Records that the request is about to be sent to `socket`.
    ///
    /// Called under a lock of the router, so it must only record.
    fn requested(&self, socket: &SocketId);

    /// Records the answer of `socket`.
    fn answered(&self, socket: &SocketId, args: Args);

    /// Records that `socket` will not answer: it disconnected, or does not support acknowledgements.
    fn unanswered(&self, socket: &SocketId);
}

/// Encodes events and answers as messages of one protocol.
///
/// The address of the `Arc` is its identity: clients that hold the same one share frames, so an event is encoded once
/// for each codec among its recipients. Keep one in a `static` or in the server, not one for each client. A codec has
/// no per-client state.
///
/// It is called on any thread, under a lock of the router. It must not block, call the router, or push to an outbox.
/// Encoding fails if this kind of client has no form for the event; the other clients still receive it.
///
/// # Examples
///
/// Clients that receive one line, with the event's name and its arguments separated by commas:
///
/// ```
/// use std::sync::Arc;
///
/// use roomcast_core::{AckId, Args, ByteString, Codec, EncodeError, Event, Frame, IntoArgs, Namespace};
///
/// #[derive(Debug)]
/// struct Lines;
///
/// impl Codec for Lines {
///     fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
///         if !event.args.attachments().is_empty() {
///             return Err(EncodeError::Binary);
///         }
///         if event.ack.is_some() {
///             return Err(EncodeError::Ack); // these clients cannot answer
///         }
///         Ok(Frame::new(ByteString::from(format!("{} {}", event.name, event.args.json()))))
///     }
///
///     fn encode_answer(&self, _: &Namespace, _: AckId, _: &Args) -> Result<Frame, EncodeError> {
///         Err(EncodeError::Ack)
///     }
/// }
///
/// let codec: Arc<dyn Codec> = Arc::new(Lines);
/// let event = Event::new(Namespace::main(), "moved", (3, 4).into_args()?);
/// assert_eq!(event.frame(&*codec)?.messages(), ["moved 3,4".into()]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub trait Codec: Send + Sync + fmt::Debug + 'static {
    /// Encodes an event.
    ///
    /// # Errors
    /// Returns an error if this kind of client cannot receive it, such as attachments in a protocol of JSON text only.
    /// The receipt of the broadcast counts the failure; other recipients are not affected.
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError>;

    /// Encodes an event for its only recipient; may move the arguments out of it.
    ///
    /// Default: calls [`encode`](Self::encode) and moves nothing.
    ///
    /// # Errors
    /// Returns an error as [`encode`](Self::encode) does. The event then still has its arguments.
    fn encode_for_one(&self, event: &mut Event) -> Result<Frame, EncodeError> {
        self.encode(event)
    }

    /// Encodes the acknowledgement of the event that the client sent with `id`.
    ///
    /// # Errors
    /// Returns an error if this kind of client cannot receive it.
    fn encode_answer(&self, namespace: &Namespace, id: AckId, args: &Args) -> Result<Frame, EncodeError>;
}

/// Error of an event that this kind of client cannot receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The arguments are binary, and the client's codec has no form for them.
    #[error("codec cannot encode binary arguments")]
    Binary,
    /// The event requests an acknowledgement, and the client's codec has no form for that.
    #[error("codec cannot request an acknowledgement")]
    Ack,
    /// The protocol reserves the event name.
    #[error("event name is reserved by the protocol")]
    Reserved,
}
