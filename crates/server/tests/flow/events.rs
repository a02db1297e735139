//! Numbered events of one size

use std::ops::Range;

use roomcast_server::{Args, Io};

use crate::support::ROOM;

/// Events `data` with a number and a text that fills them up
///
/// Their arguments are put together without a look at each byte, which would be most of what an emit costs in a build
/// that is not optimised.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    filler: String,
}

/// Events of 16 KiB that are more than what the kernel takes and a strict server lets wait
pub(crate) const FLOOD: usize = 512;
/// Bytes of each of them
pub(crate) const FLOOD_BYTES: usize = 16 * 1024;

impl Events {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { filler: "x".repeat(bytes) }
    }

    /// Those of which [`FLOOD`] are a flood
    pub(crate) fn flood() -> Self {
        Self::new(FLOOD_BYTES)
    }

    /// What event `number` is emitted with
    pub(crate) fn args(&self, number: usize) -> Args {
        Args::from_validated(format!(r#"{number},"{}""#, self.filler).into(), Vec::new())
    }

    /// Event `number` as it is heard
    pub(crate) fn heard(&self, number: usize) -> Vec<u8> {
        format!(r#"["data",{number},"{}"]"#, self.filler).into()
    }

    /// Emits to the room of all clients, and lets them read between any two
    pub(crate) async fn emit(&self, io: &Io, numbers: Range<usize>) -> Result<(), String> {
        for number in numbers {
            let emitted = io.to(ROOM).emit("data", self.args(number));
            emitted.map_err(|error| format!("emit {number}: {error}"))?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
