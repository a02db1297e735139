//! Frame reader: decodes received bytes into messages and control frames.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use roomcast_core::Message;

use super::{
    MAX_CONTROL_PAYLOAD, Opcode, Violation,
    header::{self, Header, MAX_HEADER},
    mask,
    message::PartialMessage,
    utf8,
};
use crate::close;
use crate::deflate::Inflating;

/// Limits on a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct ReadLimits {
    /// Maximum bytes of one message, all fragments together. Default: 1,000,000.
    ///
    /// A connection may use at most three times this for an incomplete message. Readers store it in 32 bits: 4 GiB or
    /// more means no limit.
    pub max_message: usize,
    /// Maximum frames of one fragmented message, empty ones included. Default: 16,384.
    ///
    /// Fragments cost no extra memory; the limit ends a message that never finishes.
    pub max_fragments: u32,
}

impl ReadLimits {
    /// Returns the maximum compressed bytes of a message: incompressible data grows a little.
    pub(super) fn max_compressed(&self) -> usize {
        self.max_message.saturating_add(self.max_message / 16).saturating_add(64)
    }
}

/// Limits as each reader stores them.
#[derive(Clone, Copy, Debug)]
struct StoredLimits {
    /// `u32::MAX` means no limit.
    max_message: u32,
    max_fragments: u32,
}

impl StoredLimits {
    fn new(limits: ReadLimits) -> Self {
        let max_message = u32::try_from(limits.max_message).unwrap_or(u32::MAX);
        Self { max_message, max_fragments: limits.max_fragments }
    }

    #[inline]
    fn max_message(self) -> usize {
        if self.max_message == u32::MAX { usize::MAX } else { self.max_message as usize }
    }

    fn get(self) -> ReadLimits {
        ReadLimits { max_message: self.max_message(), max_fragments: self.max_fragments }
    }
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self::new()
    }
}

impl ReadLimits {
    /// Creates limits with the defaults.
    pub const fn new() -> Self {
        Self { max_message: 1_000_000, max_fragments: 16_384 }
    }

    /// Sets [`max_message`](Self#structfield.max_message).
    pub const fn max_message(mut self, max_message: usize) -> Self {
        self.max_message = max_message;
        self
    }

    /// Sets [`max_fragments`](Self#structfield.max_fragments).
    pub const fn max_fragments(mut self, max_fragments: u32) -> Self {
        self.max_fragments = max_fragments;
        self
    }
}

/// A complete message or control frame from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "readers match every kind")]
pub enum Incoming {
    /// A text or binary message with its fragments joined.
    Message(Message),
    /// A ping, to be answered by a pong with the same payload (at most 125 bytes).
    Ping(Bytes),
    /// A pong, solicited or not.
    Pong(Bytes),
    /// A close frame, always the last item. Answer with the same code unless a close frame was already sent.
    Close {
        /// The client's code, if given. Only codes that may be sent (see [`close::is_sendable`]).
        code: Option<u16>,
        /// The client's reason, at most 123 bytes.
        reason: ByteString,
    },
}

/// Receiver of the items that a [`FrameReader`] completes.
pub(crate) trait Items {
    fn push(&mut self, item: Incoming);
}

impl Items for Vec<Incoming> {
    fn push(&mut self, item: Incoming) {
        self.push(item);
    }
}

/// Reads the frames of one client (RFC 6455 section 5).
///
/// A state machine without I/O: [`read`](Self::read) takes the bytes of a socket in pieces of any size. A frame that is
/// complete in its piece costs at most one allocation, for its payload; small frames of one piece share blocks of a
/// kilobyte. The reader buffers only frames cut by the end of a piece, and fragments; between two frames it owns no
/// heap memory.
#[derive(Debug)]
pub struct FrameReader {
    limits: StoredLimits,
    phase: Phase,
    /// Set from the first byte of an incomplete message to its last.
    message: Option<Box<PartialMessage>>,
    control: Option<Box<PartialControl>>,
    inflating: Option<Box<Inflating>>,
}

impl FrameReader {
    /// Creates a reader for a connection after its handshake.
    pub fn new(limits: ReadLimits) -> Self {
        Self {
            limits: StoredLimits::new(limits),
            phase: Phase::BETWEEN,
            message: None,
            control: None,
            inflating: None,
        }
    }

    /// Accepts compressed messages, after permessage-deflate was negotiated (RFC 7692).
    ///
    /// [`max_message`](ReadLimits::max_message) limits the inflated bytes, during inflation. With `keeps_context` each
    /// message is the context of the next, and the reader owns an inflater (47 KiB) from the first message on.
    /// Otherwise it owns an inflater only during a message of more than 4 KiB.
    #[must_use]
    pub fn inflating(mut self, keeps_context: bool) -> Self {
        self.inflating = Some(Box::new(Inflating::new(keeps_context)));
        self
    }

    /// Returns the compressed and inflated bytes since the last call.
    pub(crate) fn take_inflated(&mut self) -> Option<(usize, usize)> {
        self.inflating.as_mut().map(|inflating| inflating.take_counted())
    }

    /// Consumes all of `input` and appends complete items to `items`.
    ///
    /// Payloads are unmasked in place: `input` holds no usable data afterwards. Items own their bytes.
    ///
    /// After a close frame or a violation the reader discards the remaining input and all later input, so the
    /// connection can be drained until the client hangs up.
    ///
    /// # Errors
    ///
    /// Returns a [`Violation`] once: send a close frame with its code, then end the connection. `items` holds the items
    /// completed before it.
    pub fn read(&mut self, input: &mut [u8], items: &mut Vec<Incoming>) -> Result<(), Violation> {
        self.read_into(input, items)
    }

    /// Like [`read`](Self::read), for any receiver of items.
    pub(crate) fn read_into(&mut self, input: &mut [u8], items: &mut impl Items) -> Result<(), Violation> {
        let outcome = self.read_frames(input, items);
        if outcome.is_err() {
            self.end();
        }
        outcome
    }

    /// Returns whether a close frame or a violation has ended the stream.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Returns whether the reader is between two messages or at its end.
    ///
    /// A connection lost at any other point lost part of a message.
    pub fn is_idle(&self) -> bool {
        self.is_ended() || self.is_between()
    }

    /// Returns whether the next byte begins a message.
    fn is_between(&self) -> bool {
        self.message.is_none() && matches!(&self.phase, Phase::Header(partial) if partial.len == 0)
    }

    fn read_frames(&mut self, mut input: &mut [u8], items: &mut impl Items) -> Result<(), Violation> {
        let mut block = Block::default();
        while !input.is_empty() {
            if let Some(small) = header::parse_small(input)
                && self.is_between()
                && small.length <= self.limits.max_message()
            {
                let (frame, rest) = input.split_at_mut(header::SMALL_HEADER + small.length);
                let payload = &mut frame[header::SMALL_HEADER..];
                mask::unmask(payload, small.mask);
                block.follow(rest.len());
                items.push(Incoming::Message(block.message(small.opcode, payload)?));
                input = rest;
                continue;
            }
            let frame = match &mut self.phase {
                Phase::Header(partial) => {
                    let inflates = self.inflating.is_some();
                    let read = partial.read(input, &self.limits.get(), inflates, self.message.as_deref())?;
                    let Some((header, taken)) = read else { return Ok(()) };
                    input = &mut input[taken..];
                    if header.opcode == Opcode::Continuation
                        && let Some(message) = &mut self.message
                    {
                        message.begin_fragment();
                    }
                    Frame::from(header)
                }
                Phase::Payload(frame) => *frame,
                Phase::Ended => return Ok(()),
            };
            let (chunk, rest) = input.split_at_mut(frame.missing.min(input.len()));
            input = rest;
            block.follow(input.len());
            self.read_payload(frame, chunk, &mut block, items)?;
        }
        Ok(())
    }

    fn read_payload(
        &mut self,
        frame: Frame,
        chunk: &mut [u8],
        block: &mut Block,
        items: &mut impl Items,
    ) -> Result<(), Violation> {
        mask::unmask(chunk, frame.mask);
        let missing = frame.missing - chunk.len();
        if missing > 0 {
            self.phase =
                Phase::Payload(Frame { missing, mask: mask::advance(frame.mask, chunk.len()), ..frame });
            // Without any payload byte yet, the payload may still arrive in one piece.
            if chunk.is_empty() {
                return Ok(());
            }
        } else {
            self.phase = Phase::BETWEEN;
        }
        if frame.opcode.is_control() {
            self.read_control(frame, chunk, missing == 0, items)
        } else {
            self.read_data(frame, chunk, missing, block, items)
        }
    }

    fn read_data(
        &mut self,
        frame: Frame,
        chunk: &[u8],
        missing: usize,
        block: &mut Block,
        items: &mut impl Items,
    ) -> Result<(), Violation> {
        let ends = frame.fin && missing == 0;
        let message = match &mut self.message {
            Some(message) => message,
            None if ends && frame.compressed => {
                let inflating = self.inflating.get_or_insert_default();
                items.push(Incoming::Message(inflating.whole(
                    frame.opcode,
                    chunk,
                    self.limits.max_message(),
                )?));
                return Ok(());
            }
            None if ends => {
                items.push(Incoming::Message(block.message(frame.opcode, chunk)?));
                return Ok(());
            }
            none => none.insert(PartialMessage::new(frame.opcode, frame.compressed)),
        };
        if message.is_compressed() {
            let inflating = self.inflating.get_or_insert_default();
            message.push_compressed(chunk, ends, inflating, self.limits.max_message())?;
            if ends && let Some(message) = self.message.take() {
                items.push(Incoming::Message(message.finish()?));
            }
            return Ok(());
        }
        let ceiling =
            if frame.fin { message.len() + chunk.len() + missing } else { self.limits.max_message() };
        message.push(chunk, ceiling)?;
        if ends && let Some(message) = self.message.take() {
            items.push(Incoming::Message(message.finish()?));
        }
        Ok(())
    }

    fn read_control(
        &mut self,
        frame: Frame,
        chunk: &[u8],
        ends: bool,
        items: &mut impl Items,
    ) -> Result<(), Violation> {
        let item = match &mut self.control {
            None if ends => whole_control(frame.opcode, chunk)?,
            partial => {
                partial.get_or_insert_default().push(chunk);
                if !ends {
                    return Ok(());
                }
                let partial = self.control.take().unwrap_or_default();
                whole_control(frame.opcode, partial.payload())?
            }
        };
        if matches!(item, Incoming::Close { .. }) {
            self.end();
        }
        items.push(item);
        Ok(())
    }

    /// Ends the stream and drops an incomplete message.
    ///
    /// A partial control frame needs no cleanup: nothing ends the stream before its last byte.
    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.message = None;
    }
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new(ReadLimits::default())
    }
}

/// Memory for the messages of one piece: adjacent small messages share one allocation.
///
/// A retained message keeps its block alive, so blocks are small; a lone message gets memory of exactly its size.
#[derive(Default)]
struct Block {
    free: BytesMut,
    /// Bytes of the piece after the current frame.
    following: usize,
}

impl Block {
    fn follow(&mut self, following: usize) {
        self.following = following;
    }

    fn message(&mut self, opcode: Opcode, payload: &[u8]) -> Result<Message, Violation> {
        if !(1..=SMALL).contains(&payload.len()) || !self.has_room(payload.len()) {
            return match opcode {
                Opcode::Text => Ok(Message::Text(utf8::check(payload)?.into())),
                _ => Ok(Message::Binary(Bytes::copy_from_slice(payload))),
            };
        }
        self.free.extend_from_slice(payload);
        let bytes = self.free.split();
        match opcode {
            Opcode::Text => {
                Ok(Message::Text(ByteString::try_from(bytes).map_err(|_| Violation::InvalidUtf8)?))
            }
            _ => Ok(Message::Binary(bytes.freeze())),
        }
    }

    /// Returns whether a block has room for the payload, allocating one for it and later payloads if useful.
    fn has_room(&mut self, payload: usize) -> bool {
        if self.free.capacity() < payload {
            if self.following == 0 {
                return false;
            }
            self.free = BytesMut::with_capacity((payload + self.following).min(BLOCK));
        }
        true
    }
}

/// Size of a shared block in bytes.
const BLOCK: usize = 1024;
/// Largest message in a shared block, in bytes.
const SMALL: usize = BLOCK / 4;

fn whole_control(opcode: Opcode, payload: &[u8]) -> Result<Incoming, Violation> {
    match opcode {
        Opcode::Ping => Ok(Incoming::Ping(Bytes::copy_from_slice(payload))),
        Opcode::Pong => Ok(Incoming::Pong(Bytes::copy_from_slice(payload))),
        _ => {
            let (code, reason) = close::parse(payload)?;
            Ok(Incoming::Close { code, reason })
        }
    }
}

#[derive(Debug)]
enum Phase {
    Header(PartialHeader),
    Payload(Frame),
    Ended,
}

impl Phase {
    const BETWEEN: Self = Self::Header(PartialHeader { bytes: [0; MAX_HEADER], len: 0 });
}

/// A frame whose payload is incomplete.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Payload bytes still to arrive.
    missing: usize,
    /// The masking key, rotated for the next of them.
    mask: [u8; 4],
    opcode: Opcode,
    fin: bool,
    compressed: bool,
}

impl From<Header> for Frame {
    fn from(header: Header) -> Self {
        let Header { fin, opcode, compressed, mask, length, .. } = header;
        Self { missing: length, mask, opcode, fin, compressed }
    }
}

/// The beginning of a header cut by the end of the input.
#[derive(Debug)]
struct PartialHeader {
    bytes: [u8; MAX_HEADER],
    len: u8,
}

impl PartialHeader {
    /// Returns the header and its length in `input`, or `None` if all of `input` was buffered.
    fn read(
        &mut self,
        input: &[u8],
        limits: &ReadLimits,
        inflates: bool,
        message: Option<&PartialMessage>,
    ) -> Result<Option<(Header, usize)>, Violation> {
        if self.len == 0
            && let Some(header) = header::parse(input, limits, inflates, message)?
        {
            return Ok(Some((header, header.size)));
        }
        for (before, &byte) in input.iter().enumerate() {
            self.bytes[usize::from(self.len)] = byte;
            self.len += 1;
            let begun = &self.bytes[..usize::from(self.len)];
            if let Some(header) = header::parse(begun, limits, inflates, message)? {
                return Ok(Some((header, before + 1)));
            }
        }
        Ok(None)
    }
}

/// The payload of a control frame cut by the end of the input.
#[derive(Debug)]
struct PartialControl {
    bytes: [u8; MAX_CONTROL_PAYLOAD],
    len: u8,
}

impl PartialControl {
    fn push(&mut self, chunk: &[u8]) {
        let len = usize::from(self.len);
        self.bytes[len..len + chunk.len()].copy_from_slice(chunk);
        // At most 125 bytes, as the header was checked.
        self.len += chunk.len() as u8;
    }

    fn payload(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Default for PartialControl {
    fn default() -> Self {
        Self { bytes: [0; MAX_CONTROL_PAYLOAD], len: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: [u8; 6] = [0x82, 0x80, 0, 0, 0, 0];

    #[test]
    fn idle_reader_stays_small() {
        assert!(size_of::<FrameReader>() <= 56, "{} bytes", size_of::<FrameReader>());
        assert!(size_of::<Incoming>() <= 48, "{} bytes", size_of::<Incoming>());
    }

    #[test]
    fn batches_small_messages_in_one_block() {
        let frame = |opcode: u8, payload: &[u8]| {
            let mut frame = Vec::new();
            crate::frame::put_header(&mut frame, Opcode::Binary, payload.len());
            (frame[0], frame[1]) = (0x80 | opcode, 0x80 | frame[1]);
            frame.extend([0; 4]);
            frame.extend(payload);
            frame
        };
        let large = vec![7; BLOCK];
        let sent: [(u8, &[u8]); 5] =
            [(1, b"one"), (2, b"\xfftwo"), (1, "drei €".as_bytes()), (2, &large), (1, b"last")];
        let mut input: Vec<u8> = sent.iter().flat_map(|(opcode, payload)| frame(*opcode, payload)).collect();
        let mut items = Vec::new();
        FrameReader::default().read(&mut input, &mut items).unwrap();
        let messages: Vec<_> = items
            .iter()
            .map(|item| match item {
                Incoming::Message(message) => message,
                other => panic!("{other:?}"),
            })
            .collect();
        for (message, (opcode, payload)) in messages.iter().zip(sent) {
            assert_eq!((message.is_text(), message.as_bytes()), (opcode == 1, payload));
        }
        let end = |message: &Message| message.as_bytes().as_ptr_range().end;
        assert_eq!(end(messages[0]), messages[1].as_bytes().as_ptr());
        assert_eq!(end(messages[1]), messages[2].as_bytes().as_ptr());
        let mut broken = [frame(1, b"ok"), frame(1, b"\xff"), frame(1, b"unheard")].concat();
        let mut items = Vec::new();
        assert_eq!(FrameReader::default().read(&mut broken, &mut items), Err(Violation::InvalidUtf8));
        assert_eq!(items, [Incoming::Message("ok".into())]);
    }

    #[test]
    fn frees_state_after_complete_message() {
        let mut reader = FrameReader::default();
        let mut items = Vec::new();
        for first in [0x02, 0x00, 0x89, 0x80] {
            let [_, rest @ ..] = EMPTY;
            reader.read(&mut [first], &mut items).unwrap();
            assert!(!reader.is_idle());
            reader.read(&mut rest.clone(), &mut items).unwrap();
            assert_eq!(reader.is_idle(), first == 0x80);
        }
        assert_eq!(items.len(), 2);
        assert!(reader.is_idle() && reader.message.is_none() && reader.control.is_none());
    }

    #[test]
    fn frees_state_after_violation() {
        let begun = [0x01, 0x81, 0, 0, 0, 0, b'a', 0x89, 0x82, 0, 0, 0, 0, b'b'];
        let mut reader = FrameReader::default();
        let mut items = Vec::new();
        reader.read(&mut begun.clone(), &mut items).unwrap();
        assert!(reader.message.is_some() && reader.control.is_some());
        reader.read(&mut [b'b', 0xff], &mut items).unwrap_err();
        assert!(reader.is_ended() && reader.message.is_none() && reader.control.is_none());

        reader.read(&mut EMPTY.clone(), &mut items).unwrap();
        assert_eq!(items, [Incoming::Ping(Bytes::from_static(b"bb"))]);
    }
}
