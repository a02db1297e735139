//! MessagePack parser.

use std::sync::{Arc, LazyLock};

use roomcast_core::{AckId, Args, Codec, EncodeError, Event, Frame, Message, Namespace, SocketId};
use roomcast_socketio::{DecodeError, Decoder, Packet, PacketLimits, Parser, is_reserved};

use crate::{decode, encode};

/// Socket.IO parser for MessagePack packets.
///
/// ```
/// use roomcast_core::{Args, Codec, Event, Namespace};
/// use roomcast_socketio_msgpack::MsgpackCodec;
///
/// let event = Event::new(Namespace::main(), "hi", Args::empty());
/// let frame = MsgpackCodec::shared().encode(&event)?;
/// assert_eq!(frame.messages()[0].as_bytes(), b"\x83\xa4type\x02\xa4data\x91\xa2hi\xa3nsp\xa1/");
/// # Ok::<(), roomcast_core::EncodeError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct MsgpackCodec;

impl MsgpackCodec {
    /// Returns the shared instance, so all clients of this kind share frames.
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<MsgpackCodec>> = LazyLock::new(Arc::default);
        SHARED.clone()
    }
}

impl Codec for MsgpackCodec {
    /// Encodes an event.
    ///
    /// # Errors
    /// [`EncodeError::Reserved`] if the event name is reserved for the protocol.
    fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
        if is_reserved(&event.name) {
            return Err(EncodeError::Reserved);
        }
        Ok(frame(encode::event(event)))
    }

    fn encode_answer(&self, namespace: &Namespace, id: AckId, args: &Args) -> Result<Frame, EncodeError> {
        Ok(frame(encode::answer(namespace, id, args)))
    }
}

impl Parser for MsgpackCodec {
    fn decoder(&self, limits: &PacketLimits) -> Box<dyn Decoder> {
        Box::new(MsgpackDecoder { limits: *limits })
    }

    fn encode_connect(&self, namespace: &Namespace, socket: &SocketId, recovery: Option<&str>) -> Frame {
        frame(encode::connect(namespace, socket, recovery))
    }

    fn encode_connect_error(&self, namespace: &Namespace, error: &str) -> Frame {
        frame(encode::connect_error(namespace, error))
    }

    fn encode_disconnect(&self, namespace: &Namespace) -> Frame {
        frame(encode::disconnect(namespace))
    }
}

fn frame(packet: Vec<u8>) -> Frame {
    Frame::new(Message::Binary(packet.into()))
}

/// Stateless decoder, since each packet is one message.
#[derive(Debug)]
struct MsgpackDecoder {
    limits: PacketLimits,
}

impl Decoder for MsgpackDecoder {
    fn decode(&mut self, message: Message) -> Result<Option<Packet>, DecodeError> {
        match message {
            Message::Binary(bytes) => decode::packet(&bytes, &self.limits).map(Some),
            // A client with the default parser.
            Message::Text(_) => Err(DecodeError::Payload),
        }
    }

    fn is_waiting(&self) -> bool {
        false
    }
}
