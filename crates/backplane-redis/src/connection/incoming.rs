//! Messages of subscriptions in the bytes of a connection.

use bytes::{Buf, Bytes, BytesMut};

use super::resp::{Head, InvalidReply, message_head};
use crate::metrics::{Counters, add};

/// Reader of messages, which drops messages over a limit.
#[derive(Debug)]
pub(crate) struct Messages {
    max_message: usize,
    /// Bytes of a dropped message that are still to be skipped.
    skip: usize,
}

/// Result of [`Messages::next`]; `N` is the caller's type for a subscription and channel.
#[derive(Debug)]
pub(crate) enum Incoming<N> {
    /// More bytes are needed.
    Incomplete,
    Message(N, Bytes),
    /// A message was dropped.
    Oversized(N),
    /// The bytes start with another reply.
    Reply,
}

impl Messages {
    pub(crate) fn new(max_message: usize) -> Self {
        Self { max_message, skip: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.skip = 0;
    }

    /// Takes the next message from the bytes; drops messages that the caller resolves to no subscription.
    pub(crate) fn next<N>(
        &mut self,
        input: &mut BytesMut,
        counters: &Counters,
        resolve: &mut impl FnMut(Option<&[u8]>, &[u8]) -> Option<N>,
    ) -> Result<Incoming<N>, InvalidReply> {
        loop {
            let skipped = self.skip.min(input.len());
            input.advance(skipped);
            self.skip -= skipped;
            if input.is_empty() {
                return Ok(Incoming::Incomplete);
            }
            let head = match message_head(input)? {
                Head::Incomplete => return Ok(Incoming::Incomplete),
                Head::Other => return Ok(Incoming::Reply),
                Head::Message(head) => head,
            };
            let (start, end) = (head.len, head.len + head.payload);
            if head.payload > self.max_message {
                let name = resolve(head.pattern, head.name);
                input.advance(start);
                self.skip = end + 2 - start;
                add(&counters.oversized, 1);
                if let Some(name) = name {
                    return Ok(Incoming::Oversized(name));
                }
            } else if input.len() < end + 2 {
                return Ok(Incoming::Incomplete);
            } else {
                // Messages on a channel that was unsubscribed may still arrive.
                let name = resolve(head.pattern, head.name);
                add(&counters.received, 1);
                let payload = take_payload(input, start, end);
                if let Some(name) = name {
                    return Ok(Incoming::Message(name, payload));
                }
            }
        }
    }
}

fn take_payload(input: &mut BytesMut, start: usize, end: usize) -> Bytes {
    let payload = if end - start < SHARED_BYTES {
        let payload = Bytes::copy_from_slice(&input[start..end]);
        input.advance(end + 2);
        return payload;
    } else {
        input.advance(start);
        input.split_to(end - start).freeze()
    };
    input.advance(2);
    payload
}

/// Messages from this length on share the memory of the read buffer; smaller ones would keep much of it alive.
const SHARED_BYTES: usize = 16 << 10;
