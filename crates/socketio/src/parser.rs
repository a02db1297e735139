//! The seam for other ways to put packets into messages

use std::fmt;

use roomcast_core::{Codec, Frame, Message, Namespace, SocketId};

use crate::{DecodeError, Limits, Packet};

/// One way to put Socket.IO packets into Engine.IO messages, and back
///
/// A server holds one `Arc` of it, which is also the [`Codec`] of all its Socket.IO clients. Frames carry whole
/// Engine.IO packets: text messages begin with the type digit `4`.
pub trait Parser: Codec {
    /// A decoder for what one client sends
    fn decoder(&self, limits: &Limits) -> Box<dyn Decoder>;

    /// Tells a client that it has joined a namespace, under which id, and by which secret it may come back
    fn encode_connect(&self, namespace: &Namespace, socket: &SocketId, recovery: Option<&str>) -> Frame;

    /// Tells a client that it may not join a namespace; `error` is JSON text
    fn encode_connect_error(&self, namespace: &Namespace, error: &str) -> Frame;

    /// Tells a client that it was taken out of a namespace
    fn encode_disconnect(&self, namespace: &Namespace) -> Frame;
}

/// Makes packets of the messages of one client
pub trait Decoder: Send + fmt::Debug {
    /// Takes in the next message, without Engine.IO's type digit; `None` if its packet is not complete yet
    ///
    /// # Errors
    /// When the client broke the rules. The connection must be closed then, and nothing more decoded.
    fn decode(&mut self, message: Message) -> Result<Option<Packet>, DecodeError>;

    /// Whether a packet has begun of which further messages must follow
    fn is_waiting(&self) -> bool;
}
