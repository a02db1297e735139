//! Modes of plain WebSocket clients.

use std::sync::Arc;

use roomcast_core::Codec;

use crate::{JsonCodec, PlainCodec};

/// Message format of a plain WebSocket client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::exhaustive_enums, reason = "sessions match every mode")]
pub enum Mode {
    /// Bare messages: each is the event `message`, and is never parsed.
    #[default]
    Plain,
    /// JSON arrays with acknowledgements and binary: the subprotocol [`SUBPROTOCOL`].
    Json,
}

/// WebSocket subprotocol that selects [`Mode::Json`].
pub const SUBPROTOCOL: &str = "roomcast.json";

impl Mode {
    /// Returns the shared codec of this mode, so all its clients share frames.
    pub fn codec(self) -> Arc<dyn Codec> {
        match self {
            Self::Plain => PlainCodec::shared(),
            Self::Json => JsonCodec::shared(),
        }
    }
}
