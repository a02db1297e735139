//! The default parser.

use std::sync::{Arc, LazyLock};

use roomcast_core::{AckId, Args, Codec, EncodeError, Event, Frame, Namespace, SocketId};

use crate::packet::{self, DefaultDecoder, is_reserved};
use crate::{Decoder, PacketLimits, Parser};

/// Socket.IO's default parser: JSON text, followed by one message for each binary part.
///
/// An event is the text `42["name",…]`, with the namespace and the id in between if needed. With attachments it is
/// `452-["name",…]`, where 2 is their number, and the attachments follow in the same frame. A namespace must not
/// contain a comma: the protocol cannot express it.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct DefaultCodec;

impl DefaultCodec {
    /// Returns the shared instance, so all clients of this kind share frames.
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<DefaultCodec>> = LazyLock::new(Arc::default);
        SHARED.clone()
    }
}

impl Codec for DefaultCodec {
    /// Encodes an event.
    ///
    /// # Errors
    /// [`EncodeError::Reserved`] if the event name is reserved for the protocol.
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
        if is_reserved(&event.name) {
            return Err(EncodeError::Reserved);
        }
        Ok(packet::encode_event(event))
    }

    fn encode_answer(&self, namespace: &Namespace, id: AckId, args: &Args) -> Result<Frame, EncodeError> {
        Ok(packet::encode_answer(namespace, id, args))
    }
}

impl Parser for DefaultCodec {
    fn decoder(&self, limits: &PacketLimits) -> Box<dyn Decoder> {
        Box::new(DefaultDecoder::new(*limits))
    }

    fn encode_connect(&self, namespace: &Namespace, socket: &SocketId, recovery: Option<&str>) -> Frame {
        packet::encode_connect(namespace, socket, recovery)
    }

    fn encode_connect_error(&self, namespace: &Namespace, error: &str) -> Frame {
        packet::encode_connect_error(namespace, error)
    }

    fn encode_disconnect(&self, namespace: &Namespace) -> Frame {
        packet::encode_disconnect(namespace)
    }
}
