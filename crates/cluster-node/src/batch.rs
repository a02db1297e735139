//! Publications that share memory.

use roomcast_node_adapter::Broadcast;

use crate::cost::MESSAGE_COST;

/// Publications in the order in which they were pushed, in the same memory.
///
/// The task takes many publications at once. They share memory, so that the publishing threads do not allocate memory
/// for each that the task then frees, and the task passes them to the engine without a copy.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    channels: String,
    payloads: Vec<u8>,
    /// Ends of the channel and of the payload of each publication.
    ends: Vec<(usize, usize)>,
    /// Number of publications that were taken.
    taken: usize,
    /// Ends of the last one that was taken.
    last: (usize, usize),
}

impl Batch {
    /// Appends a publication, unless the batch is full.
    pub(crate) fn push(&mut self, message: &Broadcast<'_>) -> bool {
        let fits = self.payloads.len() + message.payload.len() <= MAX_BYTES && self.ends.len() < MAX_LEN;
        if fits {
            message.channel.iter().for_each(|part| self.channels.push_str(part));
            self.payloads.extend_from_slice(&message.payload);
            self.ends.push((self.channels.len(), self.payloads.len()));
        }
        fits
    }

    /// Returns whether a publication is small enough that a copy costs less than separate memory.
    pub(crate) fn collects(message: &Broadcast<'_>) -> bool {
        message.payload.len() <= MAX_BYTES / 16
    }

    /// Returns the number of publications that were not taken.
    pub(crate) fn len(&self) -> usize {
        self.ends.len() - self.taken
    }

    /// Returns the bytes that the publications that were not taken have in a queue.
    pub(crate) fn cost(&self) -> usize {
        let (channel, payload) = self.last;
        self.channels.len() - channel + self.payloads.len() - payload + self.len() * MESSAGE_COST
    }

    /// Takes the next publication: its channel and its payload.
    pub(crate) fn take(&mut self) -> Option<(&str, &[u8])> {
        let &(channel_end, payload_end) = self.ends.get(self.taken)?;
        let (channel, payload) = std::mem::replace(&mut self.last, (channel_end, payload_end));
        self.taken += 1;
        Some((&self.channels[channel..channel_end], &self.payloads[payload..payload_end]))
    }
}

/// Bytes of the payloads of a batch, at most.
const MAX_BYTES: usize = 64 << 10;
/// Publications of a batch, at most.
const MAX_LEN: usize = 1024;

#[cfg(test)]
mod tests {
    use roomcast_core::{Args, Event, Namespace, Room, Target};
    use roomcast_node_adapter::{ClassicWriter, Composed, Flags, Recipients};

    use super::*;
    use crate::cost::cost;

    #[test]
    fn publications_keep_order_and_bytes() {
        let writer = ClassicWriter::new("p", Namespace::main(), "uid123");
        let mut batch = Batch::default();
        let mut expected = Vec::new();
        loop {
            let number = expected.len();
            let rooms = vec![Room::from(format!("é{number}")); number % 3];
            let event = Event::new(Namespace::main(), "e", Args::from_text("x".repeat(number % 300).into()));
            let recipients = Recipients { rooms: rooms.clone(), except: Vec::new() };
            let target = Target { rooms, ..Target::default() };
            let message = writer.compose(&target, &Flags::default(), &event).expect("encodes");
            let composed = writer.broadcast(&recipients, &Flags::default(), &event).expect("encodes");
            if !batch.push(&message) {
                break;
            }
            assert_eq!(Composed::from(message), composed);
            expected.push(composed);
        }
        assert!(expected.len() > 100);
        let mut left: usize = expected.iter().map(cost).sum();
        for (index, composed) in expected.iter().enumerate() {
            assert_eq!((batch.len(), batch.cost()), (expected.len() - index, left));
            assert_eq!(batch.take(), Some((&*composed.channel, &*composed.payload)));
            left -= cost(composed);
        }
        assert_eq!((batch.len(), batch.cost(), batch.take()), (0, 0, None));
    }
}
