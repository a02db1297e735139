//! Messages of subscriptions in the bytes of a connection.

use bytes::{Buf, Bytes, BytesMut};

use roomcast_node_adapter::DroppedMessages;

use super::resp::{Head, InvalidReply, message_head};
use crate::metrics::{Counters, add};

/// Reader of messages, which drops messages over a limit.
#[derive(Debug)]
pub(crate) struct Messages {
    max_message: usize,
    /// Bytes of a dropped message that are still to be skipped.
    skip: usize,
    /// Messages by a pattern that begin with these bytes are dropped, unless there are none.
    own_prefix: Bytes,
    own: DroppedMessages,
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
        Self { max_message, skip: 0, own_prefix: Bytes::new(), own: DroppedMessages::default() }
    }

    /// Drops messages by a pattern that begin with these bytes.
    pub(crate) fn drop_own(&mut self, prefix: Bytes) {
        self.own_prefix = prefix;
    }

    /// Returns the messages dropped for their prefix since the last call.
    pub(crate) fn take_own(&mut self) -> DroppedMessages {
        std::mem::take(&mut self.own)
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
            } else if head.pattern.is_some()
                && !self.own_prefix.is_empty()
                && input[start..end].starts_with(&self.own_prefix)
            {
                self.own.messages += 1;
                self.own.bytes += head.payload as u64;
                add(&counters.received, 1);
                input.advance(end + 2);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn push(out: &mut BytesMut, head: &str, payload: &str) {
        out.extend_from_slice(format!("{head}$1\r\na\r\n${}\r\n{payload}\r\n", payload.len()).as_bytes());
    }

    #[test]
    fn own_messages_are_dropped_and_counted() {
        const PATTERN: &str = "*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n";
        const CHANNEL: &str = "*3\r\n$7\r\nmessage\r\n";
        let mut input = BytesMut::new();
        for (head, payload) in [(PATTERN, "own1"), (PATTERN, "ow"), (PATTERN, "own"), (CHANNEL, "own3")] {
            push(&mut input, head, payload);
        }
        let (mut messages, counters) = (Messages::new(100), Counters::default());
        messages.drop_own(Bytes::from_static(b"own"));
        let mut read = Vec::new();
        let mut resolve = |_: Option<&[u8]>, name: &[u8]| (name == b"a").then_some(());
        while let Incoming::Message((), payload) =
            messages.next(&mut input, &counters, &mut resolve).expect("messages")
        {
            read.push(payload);
        }
        assert!(input.is_empty());
        assert_eq!(read, ["ow", "own3"]);
        assert_eq!(messages.take_own(), DroppedMessages { messages: 2, bytes: 7 });
        assert_eq!(messages.take_own(), DroppedMessages::default());
        assert_eq!(counters.snapshot().received, 4);
    }
}
