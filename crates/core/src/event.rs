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

/// Encodes events and answers as messages of one protocol.
///
/// The address of the `Arc` is its identity: clients that hold the same one share frames, so an event is encoded once for each
/// codec among its recipients. Keep one in a `static` or in the server, not one for each client. A codec has no state of a
/// client.
///
/// It is called on any thread, under a lock of the router: it must not block, call the router, or push to an outbox. Encoding
/// fails where the kind of client has no form for the event; the others still receive it.
///
/// # Examples
///
/// Clients that receive one line: the name of the event, and its arguments separated by commas:
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
