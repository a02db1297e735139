//! The two ways to speak plain WebSocket

use std::sync::Arc;

use roomcast_core::Codec;

use crate::{JsonCodec, PlainCodec};

/// How a plain WebSocket client speaks
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::exhaustive_enums, reason = "sessions match every mode")]
pub enum Mode {
    /// Bare messages: each one is the event `message`, and is never parsed
    #[default]
    Plain,
    /// JSON arrays, with answers and binary: the subprotocol [`SUBPROTOCOL`]
    Json,
}

/// The WebSocket subprotocol by which a client asks for [`Mode::Json`]
pub const SUBPROTOCOL: &str = "roomcast.json";

impl Mode {
    /// The one codec of this mode, so that all its clients share frames
    pub fn codec(self) -> Arc<dyn Codec> {
        match self {
            Self::Plain => PlainCodec::shared(),
            Self::Json => JsonCodec::shared(),
        }
    }
}
