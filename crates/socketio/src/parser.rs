//! Trait for parsers of Socket.IO packets.

use std::fmt;

use bytestring::ByteString;
use roomcast_core::{Codec, Frame, Message, Namespace, SocketId};

use crate::{DecodeError, Packet, PacketLimits};

/// Converts Socket.IO packets to and from Engine.IO messages.
///
/// A server holds one `Arc` of it, which is also the [`Codec`] of all its Socket.IO clients. Frames carry whole
/// Engine.IO packets: text messages begin with the type digit `4`.
///
/// # Custom parsers
///
/// This parser's packets are JSON objects, without binary. Clients need its counterpart: see the `parser` option of
/// `socket.io-client`.
///
/// ```
/// use bytestring::ByteString;
/// use roomcast_core::{
///     AckId, Args, Codec, EncodeError, Event, Frame, Message, Namespace, SocketId,
/// };
/// use roomcast_socketio::{Body, DecodeError, Decoder, PacketLimits, Packet, Parser, is_reserved};
/// use serde_json::{Value, json};
///
/// #[derive(Debug)]
/// struct ObjectParser;
///
/// fn frame(packet: Value) -> Frame {
///     Frame::new(format!("4{packet}")) // `4` is a message to Engine.IO
/// }
///
/// fn values(args: &Args) -> Result<Vec<Value>, EncodeError> {
///     if !args.attachments().is_empty() {
///         return Err(EncodeError::Binary);
///     }
///     Ok(args.iter().filter_map(|json| serde_json::from_str(json).ok()).collect())
/// }
///
/// impl Codec for ObjectParser {
///     fn encode(&self, event: &Event) -> Result<Frame, EncodeError> {
///         if is_reserved(&event.name) {
///             return Err(EncodeError::Reserved);
///         }
///         let mut data = values(&event.args)?;
///         data.insert(0, (&*event.name).into());
///         // A reconnecting client reports the last offset that it received.
///         data.extend(event.offset.as_deref().map(Value::from));
///         let mut packet = json!({ "type": 2, "nsp": event.namespace.as_str(), "data": data });
///         if let Some(ack) = &event.ack {
///             packet["id"] = ack.id.0.into();
///         }
///         Ok(frame(packet))
///     }
///
///     fn encode_answer(&self, namespace: &Namespace, id: AckId, args: &Args) -> Result<Frame, EncodeError> {
///         Ok(frame(json!({ "type": 3, "nsp": namespace.as_str(), "data": values(args)?, "id": id.0 })))
///     }
/// }
///
/// impl Parser for ObjectParser {
///     fn decoder(&self, _: &PacketLimits) -> Box<dyn Decoder> {
///         Box::new(ObjectDecoder)
///     }
///
///     fn encode_connect(&self, namespace: &Namespace, socket: &SocketId, recovery: Option<&str>) -> Frame {
///         let mut data = json!({ "sid": socket.as_str() });
///         if let Some(recovery) = recovery {
///             data["pid"] = recovery.into();
///         }
///         frame(json!({ "type": 0, "nsp": namespace.as_str(), "data": data }))
///     }
///
///     fn encode_connect_error(&self, namespace: &Namespace, error: &str) -> Frame {
///         let error: Value = serde_json::from_str(error).unwrap_or_default();
///         frame(json!({ "type": 4, "nsp": namespace.as_str(), "data": error }))
///     }
///
///     fn encode_disconnect(&self, namespace: &Namespace) -> Frame {
///         frame(json!({ "type": 1, "nsp": namespace.as_str() }))
///     }
/// }
///
/// #[derive(Debug)]
/// struct ObjectDecoder;
///
/// impl Decoder for ObjectDecoder {
///     fn decode(&mut self, message: Message) -> Result<Option<Packet>, DecodeError> {
///         let Message::Text(text) = message else { return Err(DecodeError::AttachmentUnannounced) };
///         let packet: Value = serde_json::from_str(&text).map_err(|_| DecodeError::Payload)?;
///         let namespace = packet["nsp"].as_str().ok_or(DecodeError::Payload)?;
///         let data = || packet["data"].as_array().cloned().ok_or(DecodeError::Payload);
///         let args = |data: Vec<Value>| {
///             let list: Vec<_> = data.iter().map(Value::to_string).collect();
///             Args::from_json(list.join(",").into(), Vec::new()).map_err(|_| DecodeError::Payload)
///         };
///         let id = packet["id"].as_u64().map(AckId);
///         let body = match packet["type"].as_u64() {
///             Some(0) if packet["data"].is_null() => Body::Connect { auth: ByteString::new() },
///             Some(0) if packet["data"].is_object() => Body::Connect { auth: packet["data"].to_string().into() },
///             Some(1) => Body::Disconnect,
///             Some(2) => {
///                 let mut data = data()?;
///                 let name = data.first().and_then(Value::as_str).ok_or(DecodeError::Payload)?;
///                 if is_reserved(name) {
///                     return Err(DecodeError::Reserved);
///                 }
///                 let name = ByteString::from(name);
///                 data.remove(0);
///                 Body::Event { name, args: args(data)?, ack: id }
///             }
///             Some(3) => Body::Ack { id: id.ok_or(DecodeError::AckId)?, args: args(data()?)? },
///             _ => return Err(DecodeError::Type),
///         };
///         Ok(Some(Packet { namespace: namespace.into(), body }))
///     }
///
///     fn is_waiting(&self) -> bool {
///         false
///     }
/// }
///
/// let mut decoder = ObjectParser.decoder(&PacketLimits::default());
/// let said = decoder.decode(r#"{"type":2,"nsp":"/","data":["hi",1],"id":7}"#.into())?;
/// let Some(Packet { body: Body::Event { name, args, ack }, .. }) = said else { panic!("an event") };
/// assert_eq!((&*name, args.json(), ack), ("hi", "1", Some(AckId(7))));
/// # Ok::<(), DecodeError>(())
/// ```
pub trait Parser: Codec {
    /// Creates a decoder for one client's messages.
    fn decoder(&self, limits: &PacketLimits) -> Box<dyn Decoder>;

    /// Encodes a successful CONNECT: the namespace, the socket's id, and the secret recovery token.
    fn encode_connect(&self, namespace: &Namespace, socket: &SocketId, recovery: Option<&str>) -> Frame;

    /// Encodes a rejected CONNECT; `error` is JSON text.
    fn encode_connect_error(&self, namespace: &Namespace, error: &str) -> Frame;

    /// Encodes the removal from a namespace.
    fn encode_disconnect(&self, namespace: &Namespace) -> Frame;
}

/// Decodes the messages of one client into packets.
pub trait Decoder: Send + fmt::Debug {
    /// Decodes the next message, without Engine.IO's type digit; returns `None` for an incomplete packet.
    ///
    /// # Errors
    /// If the client violated the protocol. Close the connection then, and decode nothing more.
    fn decode(&mut self, message: Message) -> Result<Option<Packet>, DecodeError>;

    /// Decodes the next message, which is the text from `at` on, like [`decode`](Self::decode).
    ///
    /// `at` is a character boundary. A parser whose packets are slices of the text saves one of them.
    ///
    /// Default: calls [`decode`](Self::decode) with a slice.
    ///
    /// # Errors
    /// Returns an error as [`decode`](Self::decode) does.
    fn decode_after(&mut self, text: ByteString, at: usize) -> Result<Option<Packet>, DecodeError> {
        self.decode(text.slice_ref(text.get(at..).unwrap_or_default()).into())
    }

    /// Returns whether an incomplete packet awaits further messages.
    fn is_waiting(&self) -> bool;
}
