//! WebSocket frames (RFC 6455 section 5): reading client frames and writing server frames.
//!
//! No I/O. [`FrameReader`] decodes received bytes in place and owns no buffer while no frame is incomplete; the `put_*`
//! functions append whole frames to any [`BufMut`](bytes::BufMut).

mod header;
mod mask;
mod message;
mod reader;
mod utf8;
mod violation;
mod write;

pub use header::Opcode;
pub(crate) use message::growth;
pub(crate) use reader::Items;
pub use reader::{FrameReader, Incoming, ReadLimits};
pub(crate) use utf8::PartialText;
pub use violation::Violation;
pub(crate) use write::put_compressed;
pub use write::{frame_len, header_len, put_close, put_header, put_message, put_ping, put_pong};

/// Maximum payload of a ping, pong or close frame in bytes (RFC 6455 section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;
