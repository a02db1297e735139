//! Numbered events of one size.

use std::ops::Range;

use roomcast_server::{Args, Io};

use crate::support::ROOM;

/// Events `data` with a number and a filler text.
///
/// Arguments are assembled without inspecting each byte, which would dominate the cost of an emit in an unoptimised
/// build.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    filler: String,
}

/// Number of 16 KiB events that exceed the kernel buffers and a strict server's outbox limit.
pub(crate) const FLOOD: usize = 512;
/// Bytes of each event.
pub(crate) const FLOOD_BYTES: usize = 16 * 1024;

impl Events {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { filler: "x".repeat(bytes) }
    }

    /// Returns events of which [`FLOOD`] are a flood.
    pub(crate) fn flood() -> Self {
        Self::new(FLOOD_BYTES)
    }

    /// Returns the arguments of event `number`.
    pub(crate) fn args(&self, number: usize) -> Args {
        Args::from_validated(format!(r#"{number},"{}""#, self.filler).into(), Vec::new())
    }

    /// Returns event `number` as a client receives it.
    pub(crate) fn heard(&self, number: usize) -> Vec<u8> {
        format!(r#"["data",{number},"{}"]"#, self.filler).into()
    }

    /// Emits to the room of all clients and yields to readers after each event.
    pub(crate) async fn emit(&self, io: &Io, numbers: Range<usize>) -> Result<(), String> {
        for number in numbers {
            let emitted = io.to(ROOM).emit("data", self.args(number));
            emitted.map_err(|error| format!("emit {number}: {error}"))?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
