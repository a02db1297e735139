//! Output of an incomplete compressed message.

use bytes::Bytes;
use roomcast_core::Message;

use crate::frame::{Opcode, PartialText, Violation, growth};

/// Inflated output of a message, in segments that are not copied as it grows.
///
/// A message over the limit never uses more than the limit plus one segment.
#[derive(Debug)]
pub(crate) struct Inflated {
    len: usize,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Text { full: Vec<String>, last: PartialText },
    Binary { full: Vec<Vec<u8>>, last: Vec<u8> },
}

impl Inflated {
    pub(crate) fn new(opcode: Opcode) -> Self {
        let body = match opcode {
            Opcode::Text => Body::Text { full: Vec::new(), last: PartialText::default() },
            _ => Body::Binary { full: Vec::new(), last: Vec::new() },
        };
        Self { len: 0, body }
    }

    /// Returns the number of bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends output; text is validated incrementally.
    ///
    /// Validates up to the limit, so which error is found first does not depend on how the message was split.
    pub(crate) fn push(&mut self, piece: &[u8], max_message: usize) -> Result<(), Violation> {
        let room = max_message - self.len;
        self.append(&piece[..piece.len().min(room)])?;
        if piece.len() > room { Err(Violation::MessageTooBig { limit: max_message }) } else { Ok(()) }
    }

    fn append(&mut self, piece: &[u8]) -> Result<(), Violation> {
        self.len += piece.len();
        let room = |len: usize, capacity: usize, incoming: usize| growth(len, capacity, incoming, SEGMENT);
        match &mut self.body {
            Body::Text { full, last } => {
                if last.len() + piece.len() > SEGMENT {
                    full.push(last.take_text());
                }
                last.reserve(piece.len(), room);
                last.push(piece)
            }
            Body::Binary { full, last } => {
                if last.len() + piece.len() > SEGMENT {
                    full.push(std::mem::take(last));
                }
                last.reserve_exact(room(last.len(), last.capacity(), piece.len()));
                last.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// Returns the complete message.
    pub(crate) fn finish(self) -> Result<Message, Violation> {
        match self.body {
            Body::Text { full, last } if full.is_empty() => last.finish().map(Message::Text),
            Body::Text { full, last } => {
                let mut whole = String::with_capacity(self.len);
                full.into_iter().for_each(|segment| whole.push_str(&segment));
                whole.push_str(&last.finish()?);
                Ok(whole.into())
            }
            Body::Binary { full, last } if full.is_empty() => Ok(Bytes::from(last).into()),
            Body::Binary { full, last } => {
                let mut whole = Vec::with_capacity(self.len);
                full.into_iter().for_each(|segment| whole.extend_from_slice(&segment));
                whole.extend_from_slice(&last);
                Ok(Bytes::from(whole).into())
            }
        }
    }
}

/// Maximum size of a segment in bytes.
const SEGMENT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_segments_across_cut_characters() {
        let text = "a€".repeat(50_000);
        for size in [7, 1000, 8192] {
            let mut inflated = [Inflated::new(Opcode::Text), Inflated::new(Opcode::Binary)];
            for piece in text.as_bytes().chunks(size) {
                inflated.iter_mut().for_each(|inflated| inflated.push(piece, 1 << 20).unwrap());
            }
            for (inflated, is_text) in inflated.into_iter().zip([true, false]) {
                let message = inflated.finish().unwrap();
                assert_eq!((message.as_bytes(), message.is_text()), (text.as_bytes(), is_text));
            }
        }
    }

    #[test]
    fn enforces_the_message_limit() {
        let mut inflated = Inflated::new(Opcode::Binary);
        inflated.push(&[0; 10], 10).unwrap();
        assert_eq!(inflated.push(&[0], 10), Err(Violation::MessageTooBig { limit: 10 }));
    }
}
