//! The parser that every client speaks unless it was given another

use std::sync::{Arc, LazyLock};

use roomcast_core::{AckId, Args, Codec, EncodeError, Event, Frame, Namespace, SocketId};

use crate::packet::{self, DefaultDecoder, is_reserved};
use crate::{Decoder, PacketLimits, Parser};

/// Socket.IO's own parser: JSON text, with each binary part in a message of its own behind it
///
/// An event is the text `42["name",…]`, with namespace and id in between where they are needed. With attachments
/// it is `452-["name",…]`, where 2 is their number, and the attachments follow in the same frame. A namespace
/// must not contain a comma: the protocol has no way to say so.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct DefaultCodec;

impl DefaultCodec {
    /// The one codec of this kind, so that all clients of this kind share frames
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<DefaultCodec>> = LazyLock::new(Arc::default);
        SHARED.clone()
    }
}

impl Codec for DefaultCodec {
    /// Encodes an event
    ///
    /// # Errors
    /// [`EncodeError::Reserved`] if it is called what only the protocol may send.
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
