//! Envelope: the message of one node on one channel, with frames of that channel's stream.
//!
//! # Format
//!
//! A byte with the version, [`VERSION`], then fields. A field is its number, shifted left by one bit, plus 1 if it is a
//! byte string; then a number, or a length and the bytes. All numbers are varints: seven bits a byte, least significant
//! first, the top bit set in all bytes but the last. The fields of an envelope are 1 node, 2 incarnation, 3 number of
//! the node's last heartbeat, 4 frame, 5 note of a node on several servers; the fields of a frame are listed in
//! `frame.rs`. Readers skip fields and kinds of frames that they do not know, so fields may be added without a new
//! version. An envelope of another version is rejected.

mod error;
mod frame;
pub mod wire;

use bytes::Bytes;

pub use self::error::DecodeError;
pub(crate) use self::fields::SHARDS;
use self::fields::{FRAME, HEARTBEAT, INCARNATION, NODE};
pub(crate) use self::frame::{Frame, MAX_ROOMS, Omission, Position, Tail};
use self::frame::{decode, encode, write_position};
use self::wire::{FieldReader, FieldWriter};
use crate::{Channel, Incarnation, NodeId, NodeRef};

/// Version of the format.
pub const VERSION: u8 = 1;

/// Decoded header of a message; its frames are decoded one at a time.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) node: NodeRef,
    /// Number of the last heartbeat of the node.
    pub(crate) heartbeat: u64,
    rest: FieldReader,
}

impl Envelope {
    /// Decodes the header, and checks the outline of the rest.
    pub(crate) fn decode(payload: &Bytes) -> Result<Self, DecodeError> {
        let version = *payload.first().ok_or(DecodeError::Truncated)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let rest = FieldReader::new(payload.slice(1..));
        let (mut node, mut incarnation, mut heartbeat) = (None, None, 0);
        let mut fields = rest.clone();
        while let Some((field, value)) = fields.next_field()? {
            match field {
                NODE => node = Some(value.number()?),
                INCARNATION => incarnation = Some(value.number()?),
                HEARTBEAT => heartbeat = value.number()?,
                _ => {}
            }
        }
        let id = NodeId::new(node.ok_or(DecodeError::Missing("node"))?);
        let incarnation = incarnation.ok_or(DecodeError::Missing("incarnation"))?;
        Ok(Self { node: NodeRef { id, incarnation }, heartbeat, rest })
    }

    /// Decodes the next frame; `None` at the end.
    ///
    /// An error concerns one frame; the next call returns the frame behind it.
    pub(crate) fn next_frame(
        &mut self,
        channel: &Channel,
    ) -> Option<Result<(Option<Position>, Frame), DecodeError>> {
        loop {
            match self.rest.next_field() {
                Ok(Some((FRAME, value))) => {
                    return Some(value.bytes().and_then(|bytes| decode(bytes, channel)));
                }
                Ok(Some(_)) => {}
                // The outline was checked, so there is no error.
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

/// Encoder of one envelope.
#[derive(Debug)]
pub(crate) struct EnvelopeWriter(FieldWriter);

impl EnvelopeWriter {
    pub(crate) fn new(id: NodeId, incarnation: Incarnation, heartbeat: u64) -> Self {
        let mut out = FieldWriter::with_capacity(128);
        out.raw(&[VERSION]);
        out.number(NODE, id.get());
        out.number(INCARNATION, incarnation);
        out.number(HEARTBEAT, heartbeat);
        Self(out)
    }

    /// Appends an encoded frame.
    pub(crate) fn push(&mut self, position: Option<Position>, frame: &[u8]) {
        let mut head = FieldWriter::with_capacity(24);
        if let Some(position) = position {
            write_position(&mut head, position);
        }
        self.0.bytes_header(FRAME, head.len() + frame.len());
        self.0.raw(&head.into_bytes());
        self.0.raw(frame);
    }

    pub(crate) fn finish(self) -> Bytes {
        self.0.into_bytes()
    }
}

/// Encodes a frame for a channel, without its position.
pub(crate) fn encode_frame(frame: &Frame, channel: &Channel) -> Bytes {
    encode(frame, channel)
}

/// Decodes a frame that was split.
pub(crate) fn decode_whole(bytes: Bytes, channel: &Channel) -> Result<Frame, DecodeError> {
    decode(bytes, channel).map(|(_, frame)| frame)
}

/// Decodes a message of a channel completely, and returns the number of its frames.
///
/// For fuzzing: no input panics, and memory is bounded by a multiple of the input's length.
///
/// # Errors
/// Returns the first error.
#[doc(hidden)]
pub fn check_message(channel: &Channel, payload: &Bytes) -> Result<usize, DecodeError> {
    let mut envelope = Envelope::decode(payload)?;
    let mut frames = 0;
    while let Some(frame) = envelope.next_frame(channel) {
        let (_, frame) = frame?;
        frames += 1;
        if frame != Frame::Unknown {
            let again = decode_whole(encode_frame(&frame, channel), channel);
            assert_eq!(again.as_ref(), Ok(&frame), "frame is encoded differently");
        }
    }
    Ok(frames)
}

/// Bytes of an envelope's header, and of a frame's length and position, at most.
pub(crate) const OVERHEAD: usize = 1 + 3 * 11 + 11 + 3 * 11;

/// Fields of an envelope. A number is never reused for another meaning or type.
pub(crate) mod fields {
    pub(crate) const NODE: u64 = 1;
    pub(crate) const INCARNATION: u64 = 2;
    pub(crate) const HEARTBEAT: u64 = 3;
    pub(crate) const FRAME: u64 = 4;
    /// Note of a node whose engine is several servers; see `shards/note.rs`.
    pub(crate) const SHARDS: u64 = 5;
}

#[cfg(test)]
mod tests;
