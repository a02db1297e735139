//! Rendering of frames as WebSocket bytes.

use bytes::{Bytes, BytesMut};
use roomcast_core::{Message, Wire, WireKey};

use crate::frame::{frame_len, put_message};

/// Renders each message as one unfragmented, unmasked, uncompressed frame.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "it is a marker")]
pub struct WsWire;

impl WsWire {
    /// Returns the cache key of these bytes in a frame.
    pub fn wire_key() -> WireKey {
        WireKey::of::<Self>(0)
    }
}

impl Wire for WsWire {
    fn key(&self) -> WireKey {
        Self::wire_key()
    }

    fn render(&self, messages: &[Message]) -> Bytes {
        let len = messages.iter().map(|message| frame_len(message.len())).sum();
        let mut out = BytesMut::with_capacity(len);
        messages.iter().for_each(|message| put_message(&mut out, message));
        out.freeze()
    }
}
