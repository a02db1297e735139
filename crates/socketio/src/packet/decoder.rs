//! Assembles packets and their attachments.

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::{Args, Message};

use super::{Body, DecodeError, Packet, PacketLimits, attachment_order, decode};
use crate::Decoder;

/// Decoder of the default parser.
#[derive(Debug)]
pub(crate) struct DefaultDecoder {
    limits: PacketLimits,
    /// Boxed, since it is rare and sessions are many.
    partial: Option<Box<Partial>>,
}

/// A packet with missing attachments.
#[derive(Debug)]
struct Partial {
    packet: Packet,
    expected: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
}

impl DefaultDecoder {
    pub(crate) fn new(limits: PacketLimits) -> Self {
        Self { limits, partial: None }
    }

    fn take_text(&mut self, text: &ByteString, at: usize) -> Result<Option<Packet>, DecodeError> {
        if self.partial.is_some() {
            return Err(DecodeError::AttachmentMissing);
        }
        let (packet, expected) = decode::decode(text, at, &self.limits)?;
        if expected == 0 {
            return Ok(Some(packet));
        }
        self.partial =
            Some(Box::new(Partial { packet, expected, attachments: Vec::new(), bytes: text.len() - at }));
        Ok(None)
    }

    fn take_attachment(&mut self, attachment: Bytes) -> Result<Option<Packet>, DecodeError> {
        let mut partial = self.partial.take().ok_or(DecodeError::AttachmentUnannounced)?;
        partial.bytes = partial.bytes.saturating_add(attachment.len());
        if partial.bytes > self.limits.packet_bytes {
            return Err(DecodeError::TooLarge { limit: self.limits.packet_bytes });
        }
        partial.attachments.push(attachment);
        if partial.attachments.len() < partial.expected {
            self.partial = Some(partial);
            return Ok(None);
        }
        let Partial { mut packet, attachments, .. } = *partial;
        if let Body::Event { args, .. } | Body::Ack { args, .. } = &mut packet.body {
            *args = with_attachments(args, attachments)?;
        }
        Ok(Some(packet))
    }
}

impl Decoder for DefaultDecoder {
    fn decode(&mut self, message: Message) -> Result<Option<Packet>, DecodeError> {
        match message {
            Message::Text(text) => self.take_text(&text, 0),
            Message::Binary(attachment) => self.take_attachment(attachment),
        }
    }

    fn decode_after(&mut self, text: ByteString, at: usize) -> Result<Option<Packet>, DecodeError> {
        self.take_text(&text, at)
    }

    fn is_waiting(&self) -> bool {
        self.partial.is_some()
    }
}

fn with_attachments(args: &Args, attachments: Vec<Bytes>) -> Result<Args, DecodeError> {
    let args = Args::from_validated(args.list().clone(), attachments);
    args.check_placeholders().map_err(DecodeError::Placeholders)?;
    attachment_order::in_order(args)
}
