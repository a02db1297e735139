//! Tracks how much of the sent data has reached the client

use std::time::Instant;

use crate::session::recovery::EMIT_SLACK;
use crate::util::clock;

/// Time before which everything sent to a client is known to have arrived.
///
/// A client that answers a ping has received everything written before the ping. Pings overtake the queue, so only a ping
/// sent with an empty queue proves that everything arrived; any other ping proves what the one before it would have.
///
/// Times are seconds of the process, because every client has this state.
#[derive(Debug, Default)]
pub(super) struct DeliveryProof {
    /// Time that an answer to the last ping proves; 0 for none
    sent: u32,
    /// Time that answered pings have proven; 0 for none
    arrived: u32,
}

impl DeliveryProof {
    /// Records a ping that is about to be sent; returns the mark that its answer brings back.
    pub(super) fn ping(&mut self, is_alone: bool, now: Instant) -> u32 {
        if is_alone {
            self.sent = clock::process_seconds(now);
        }
        self.sent
    }

    /// Records the answer to the last ping.
    pub(super) fn answered(&mut self) {
        self.arrived = self.sent;
    }

    /// Records the answer to the ping with this mark; a mark that was never sent proves nothing.
    pub(super) fn answered_with(&mut self, mark: u32) {
        if mark <= self.sent {
            self.arrived = self.arrived.max(mark);
        }
    }

    /// Returns a time before which every emitted event has arrived, if one is known.
    pub(super) fn arrived(&self) -> Option<Instant> {
        let at = self.arrived.checked_sub(EMIT_SLACK)?;
        Some(clock::process_instant(at))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(base: Instant, seconds: u64) -> Instant {
        base + Duration::from_secs(seconds)
    }

    #[test]
    fn answered_ping_proves_earlier_frames() {
        let base = clock::process_instant(1000);
        let mut delivered = DeliveryProof::default();
        assert_eq!(delivered.arrived(), None);
        delivered.ping(true, at(base, 10));
        assert_eq!(delivered.arrived(), None);
        delivered.answered();
        assert_eq!(delivered.arrived(), Some(at(base, 9)));
    }

    #[test]
    fn overtaking_ping_proves_no_more() {
        let base = clock::process_instant(1000);
        let mut delivered = DeliveryProof::default();
        delivered.ping(false, at(base, 5));
        delivered.answered();
        assert_eq!(delivered.arrived(), None);
        delivered.ping(true, at(base, 10));
        delivered.answered();
        delivered.ping(false, at(base, 20));
        delivered.answered();
        assert_eq!(delivered.arrived(), Some(at(base, 9)));
    }

    #[test]
    fn marks_prove_only_their_ping() {
        let base = clock::process_instant(1000);
        let mut delivered = DeliveryProof::default();
        let first = delivered.ping(true, at(base, 10));
        let second = delivered.ping(true, at(base, 20));
        delivered.answered_with(first);
        assert_eq!(delivered.arrived(), Some(at(base, 9)));
        for forged in [second + 1, u32::MAX, 0] {
            delivered.answered_with(forged);
            assert_eq!(delivered.arrived(), Some(at(base, 9)), "{forged}");
        }
        delivered.answered_with(second);
        delivered.answered_with(first);
        assert_eq!(delivered.arrived(), Some(at(base, 19)));
    }
}
