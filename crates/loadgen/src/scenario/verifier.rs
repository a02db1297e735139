use std::collections::BTreeSet;

use crate::Faults;

/// Checks each delivery against the sent messages.
///
/// Each client belongs to one group, and a message goes to all clients of a group. The messages of a sender (a stream)
/// to a group are numbered without gaps, so the number alone shows which messages a client has missed.
pub(super) struct Verifier {
    group_of: Vec<u16>,
    streams: usize,
    /// Whether the sender of a stream, the client with the same number, receives none of it.
    without_sender: bool,
    /// Number of messages sent, per group and stream.
    sent: Vec<u32>,
    /// Next expected sequence number, per client and stream.
    next: Vec<u32>,
    /// Client, stream and sequence number of skipped messages, which may still arrive.
    skipped: BTreeSet<(u32, u16, u32)>,
    faults: Faults,
}

impl Verifier {
    /// Creates a verifier; `group_of` is the group of each client.
    pub(super) fn new(group_of: Vec<u16>, streams: usize, without_sender: bool) -> Self {
        let groups = group_of.iter().max().map_or(0, |&last| usize::from(last) + 1);
        let (sent, next) = (vec![0; groups * streams], vec![0; group_of.len() * streams]);
        Self {
            group_of,
            streams,
            without_sender,
            sent,
            next,
            skipped: BTreeSet::new(),
            faults: Faults::default(),
        }
    }

    /// Registers a message to be sent and returns its sequence number.
    pub(super) fn send(&mut self, group: u16, stream: u16) -> u32 {
        let sent = &mut self.sent[usize::from(group) * self.streams + usize::from(stream)];
        *sent += 1;
        *sent - 1
    }

    /// Checks a received message; returns whether it counts as a delivery.
    pub(super) fn receive(&mut self, client: usize, group: u16, stream: u16, sequence: u32) -> bool {
        let index = usize::from(group) * self.streams + usize::from(stream);
        if usize::from(stream) >= self.streams || self.sent.get(index).is_none_or(|&sent| sequence >= sent) {
            self.faults.unknown += 1;
            return false;
        }
        if self.group_of[client] != group || self.without_sender && client == usize::from(stream) {
            self.faults.misdelivered += 1;
            return false;
        }
        let next = &mut self.next[client * self.streams + usize::from(stream)];
        if sequence == *next {
            *next += 1;
            return true;
        }
        let expected = *next;
        let client = client as u32;
        if sequence > expected {
            *next = sequence + 1;
            for skipped in expected..sequence {
                if self.skipped.len() < MOST_SKIPPED {
                    self.skipped.insert((client, stream, skipped));
                } else {
                    self.faults.lost += 1;
                }
            }
            return true;
        }
        let late = self.skipped.remove(&(client, stream, sequence));
        if late {
            self.faults.reordered += 1;
        } else {
            self.faults.duplicate += 1;
        }
        late
    }

    /// Counts a message with the wrong length or content.
    pub(super) fn damaged(&mut self) {
        self.faults.damaged += 1;
    }

    /// Returns the faults, with all missing messages as lost.
    pub(super) fn finish(&self) -> Faults {
        let mut faults = self.faults;
        faults.lost += self.skipped.len() as u64;
        for (client, &group) in self.group_of.iter().enumerate() {
            for stream in (0..self.streams).filter(|&stream| !self.without_sender || stream != client) {
                let sent = self.sent[usize::from(group) * self.streams + stream];
                faults.lost += u64::from(sent - self.next[client * self.streams + stream]);
            }
        }
        faults
    }
}

/// Limit of skipped messages; bounds memory when most messages are lost.
const MOST_SKIPPED: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clients in one room, two in another; two senders.
    fn verifier() -> Verifier {
        Verifier::new(vec![0, 0, 0, 1, 1], 2, false)
    }

    /// Sends `count` messages per room and sender; returns all deliveries in a valid order.
    fn deliveries(verifier: &mut Verifier, count: u32) -> Vec<(usize, u16, u16, u32)> {
        let mut deliveries = Vec::new();
        for _ in 0..count {
            for (group, clients) in [(0, 0..3), (1, 3..5)] {
                for stream in 0..2 {
                    let sequence = verifier.send(group, stream);
                    deliveries.extend(clients.clone().map(|client| (client, group, stream, sequence)));
                }
            }
        }
        deliveries
    }

    fn check(verifier: &mut Verifier, deliveries: &[(usize, u16, u16, u32)]) -> Faults {
        for &(client, group, stream, sequence) in deliveries {
            verifier.receive(client, group, stream, sequence);
        }
        verifier.finish()
    }

    #[test]
    fn correct_deliveries_have_no_faults() {
        let mut verifier = verifier();
        let all = deliveries(&mut verifier, 10);
        assert!(check(&mut verifier, &all).is_empty());
    }

    #[test]
    fn detects_lost_messages() {
        let count = deliveries(&mut verifier(), 4).len();
        for at in 0..count {
            let mut verifier = verifier();
            let mut all = deliveries(&mut verifier, 4);
            all.remove(at);
            assert_eq!(check(&mut verifier, &all), Faults { lost: 1, ..Faults::default() }, "without {at}");
        }
    }

    #[test]
    fn detects_duplicate_deliveries() {
        let count = deliveries(&mut verifier(), 4).len();
        for at in 0..count {
            for again in [at + 1, count] {
                let mut verifier = verifier();
                let mut all = deliveries(&mut verifier, 4);
                all.insert(again, all[at]);
                let expected = Faults { duplicate: 1, ..Faults::default() };
                assert_eq!(check(&mut verifier, &all), expected, "{at} again at {again}");
            }
        }
    }

    #[test]
    fn detects_reordered_messages() {
        let count = deliveries(&mut verifier(), 4).len();
        for at in 0..count {
            let mut verifier = verifier();
            let mut all = deliveries(&mut verifier, 4);
            let (client, _, stream, _) = all[at];
            let Some(later) = (at + 1..count).find(|&later| (all[later].0, all[later].2) == (client, stream))
            else {
                continue;
            };
            all.swap(at, later);
            let expected = Faults { reordered: 1, ..Faults::default() };
            assert_eq!(check(&mut verifier, &all), expected, "{at} after {later}");
        }
    }

    #[test]
    fn detects_misdelivered_messages() {
        let count = deliveries(&mut verifier(), 4).len();
        for at in 0..count {
            let mut verifier = verifier();
            let mut all = deliveries(&mut verifier, 4);
            all[at].0 = if all[at].1 == 0 { 3 } else { 0 };
            let expected = Faults { misdelivered: 1, lost: 1, ..Faults::default() };
            assert_eq!(check(&mut verifier, &all), expected, "delivery {at}");
        }
    }

    #[test]
    fn detects_messages_never_sent() {
        let mut verifier = verifier();
        let mut all = deliveries(&mut verifier, 2);
        all.extend([(0, 0, 0, 2), (0, 2, 0, 0), (0, 0, 2, 0)]);
        assert_eq!(check(&mut verifier, &all), Faults { unknown: 3, ..Faults::default() });
    }

    #[test]
    fn excludes_senders_from_their_streams() {
        let mut verifier = Verifier::new(vec![0, 0, 0], 2, true);
        for stream in 0..2 {
            verifier.send(0, stream);
        }
        for (client, stream) in [(1, 0), (2, 0), (0, 1), (2, 1)] {
            assert!(verifier.receive(client, 0, stream, 0));
        }
        assert!(verifier.finish().is_empty());
        verifier.receive(0, 0, 0, 0);
        assert_eq!(verifier.finish(), Faults { misdelivered: 1, ..Faults::default() });
    }

    #[test]
    fn allows_reordering_across_senders() {
        let mut verifier = verifier();
        let mut all = deliveries(&mut verifier, 4);
        all.sort_by_key(|&(client, _, stream, sequence)| (client, stream, sequence));
        assert!(check(&mut verifier, &all).is_empty());
    }

    #[test]
    fn bounds_memory_for_skipped_messages() {
        let mut verifier = Verifier::new(vec![0], 1, false);
        let last = (0..=2 * MOST_SKIPPED as u32).map(|_| verifier.send(0, 0)).last().unwrap();
        verifier.receive(0, 0, 0, last);
        assert_eq!(verifier.skipped.len(), MOST_SKIPPED);
        assert_eq!(verifier.finish().lost, 2 * MOST_SKIPPED as u64);
    }
}
