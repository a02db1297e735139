//! Incomplete messages.

use bytes::Bytes;
use roomcast_core::Message;

use super::{Opcode, Violation, utf8::PartialText};
use crate::deflate::{Inflated, Inflater, Inflating};

/// An incomplete message: a partial frame, or fragments without the last.
///
/// Fragments are joined as they arrive, so memory depends on bytes, not on the number of fragments: at most twice the
/// bytes received, and three times while the buffer grows.
#[derive(Debug)]
pub(super) struct PartialMessage {
    body: Body,
    fragments: u32,
}

impl PartialMessage {
    pub(super) fn new(opcode: Opcode, compressed: bool) -> Box<Self> {
        let body = match opcode {
            _ if compressed => Body::Compressed(PartialDeflate::new(opcode)),
            Opcode::Text => Body::Text(PartialText::default()),
            _ => Body::Binary(Vec::new()),
        };
        Box::new(Self { body, fragments: 1 })
    }

    /// Returns whether the payload is compressed.
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self.body, Body::Compressed(_))
    }

    /// Returns the number of bytes received so far, before decompression.
    pub(super) fn len(&self) -> usize {
        match &self.body {
            Body::Compressed(deflate) => deflate.received,
            Body::Text(text) => text.len(),
            Body::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns the number of frames so far, empty ones included.
    pub(super) fn fragments(&self) -> u32 {
        self.fragments
    }

    pub(super) fn begin_fragment(&mut self) {
        self.fragments += 1;
    }

    /// Appends bytes, the last ones if the message `ends`; compressed bytes are inflated with `inflating`.
    pub(super) fn push_compressed(
        &mut self,
        chunk: &[u8],
        ends: bool,
        inflating: &mut Inflating,
        max_message: usize,
    ) -> Result<(), Violation> {
        match &mut self.body {
            Body::Compressed(deflate) => deflate.push(chunk, ends, inflating, max_message),
            _ => Err(Violation::MisplacedCompression),
        }
    }

    /// Appends bytes. `ceiling` is the largest size that the message may reach.
    pub(super) fn push(&mut self, chunk: &[u8], ceiling: usize) -> Result<(), Violation> {
        match &mut self.body {
            Body::Text(text) => {
                text.reserve(chunk.len(), |len, capacity, incoming| growth(len, capacity, incoming, ceiling));
                text.push(chunk)
            }
            Body::Binary(bytes) => {
                bytes.reserve_exact(growth(bytes.len(), bytes.capacity(), chunk.len(), ceiling));
                bytes.extend_from_slice(chunk);
                Ok(())
            }
            Body::Compressed(_) => Err(Violation::MisplacedCompression),
        }
    }

    /// Returns the complete message.
    pub(super) fn finish(self) -> Result<Message, Violation> {
        match self.body {
            Body::Text(text) => text.finish().map(Message::Text),
            Body::Binary(bytes) => Ok(Message::Binary(Bytes::from(bytes))),
            Body::Compressed(deflate) => deflate.inflated.finish(),
        }
    }
}

#[derive(Debug)]
enum Body {
    Text(PartialText),
    Binary(Vec<u8>),
    Compressed(Box<PartialDeflate>),
}

/// An incomplete compressed message.
#[derive(Debug)]
struct PartialDeflate {
    /// Compressed bytes received.
    received: usize,
    /// The compressed bytes, while few: the inflated form may be a thousand times larger.
    held: Vec<u8>,
    inflater: Option<Inflater>,
    inflated: Inflated,
}

impl PartialDeflate {
    fn new(opcode: Opcode) -> Box<Self> {
        Box::new(Self { received: 0, held: Vec::new(), inflater: None, inflated: Inflated::new(opcode) })
    }

    fn push(
        &mut self,
        chunk: &[u8],
        ends: bool,
        inflating: &mut Inflating,
        max_message: usize,
    ) -> Result<(), Violation> {
        self.received += chunk.len();
        if !ends && self.inflater.is_none() && self.received <= HELD {
            self.held.extend_from_slice(chunk);
            return Ok(());
        }
        let mut inflater = self.inflater.take().unwrap_or_else(|| inflating.begin());
        for piece in [&std::mem::take(&mut self.held), chunk] {
            inflater.feed(piece, |inflated| self.inflated.push(inflated, max_message))?;
        }
        if ends {
            return inflating.end(inflater, self.received, self.inflated.len());
        }
        self.inflater = Some(inflater);
        Ok(())
    }
}

/// Bytes of a compressed message that are buffered before inflating starts.
///
/// A client with many unfinished messages costs this much for each, not an inflater.
const HELD: usize = 4 * 1024;

/// Returns the number of bytes to reserve: doubling, but never past the ceiling.
///
/// A message in one frame ends in a buffer of exactly its size, and a declared length alone reserves nothing.
pub(crate) fn growth(len: usize, capacity: usize, incoming: usize, ceiling: usize) -> usize {
    let needed = len + incoming;
    if needed <= capacity {
        return 0;
    }
    let doubled = capacity.saturating_mul(2).max(SMALLEST);
    doubled.min(ceiling).max(needed) - len
}

/// Smallest reservation; saves a message that arrives byte by byte its first six reallocations.
const SMALLEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_buffer_up_to_ceiling() {
        assert_eq!(growth(0, 0, 1, 1_000_000), 64);
        assert_eq!(growth(0, 0, 1, 10), 10);
        assert_eq!(growth(10, 64, 54, 1000), 0);
        assert_eq!(growth(64, 64, 1, 1000), 64);
        assert_eq!(growth(600, 640, 100, 1000), 400);
        assert_eq!(growth(64, 64, 500, 10_000), 500);
    }

    #[test]
    fn ends_with_exactly_sized_buffer() {
        let mut partial = PartialMessage::new(Opcode::Binary, false);
        for _ in 0..100 {
            partial.push(&[7; 13], 1300).unwrap();
        }
        let Ok(Message::Binary(bytes)) = partial.finish() else { panic!("not binary") };
        assert_eq!(bytes.len(), 1300);
        assert_eq!(bytes.try_into_mut().unwrap().capacity(), 1300);
    }
}
