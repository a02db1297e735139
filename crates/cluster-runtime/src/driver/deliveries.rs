//! Publications of other nodes.

use std::time::Instant;

use roomcast_cluster::Publication;
use roomcast_core::Target;

use super::Driver;
use crate::body::{self, publication};
use crate::shared::count;

impl Driver {
    /// Passes a publication to its host; returns the amount of work.
    pub(super) fn deliver(&mut self, publication: Publication, now: Instant) -> usize {
        let Publication { namespace, rooms, except, kind, body } = publication;
        let Some(host) = self.hosts.get(&namespace) else {
            count(&self.shared.counters.unwanted);
            return 0;
        };
        let target = |rooms, except| Target { rooms, except, ..Target::default() };
        let handled = match kind {
            publication::EVENT => body::decode_event(body, &namespace).map(|event| {
                let target = event.target(rooms, except);
                let recipients = self.hosts.guard(|| host.deliver(&target, &event.event));
                recipients.unwrap_or_default() / RECIPIENTS_PER_WORK
            }),
            publication::UPDATE => body::decode_change(body).map(|change| {
                self.hosts.guard(|| host.update(&target(rooms, except), &change));
                0
            }),
            publication::DISCONNECT => body::decode_close(body).map(|close| {
                self.hosts.guard(|| host.disconnect(&target(rooms, except), close));
                0
            }),
            publication::SERVER_EVENT => body::decode_event(body, &namespace).map(|event| {
                self.run_handler(host, event.event, None, now);
                0
            }),
            // Added by a later version.
            _ => Ok(0),
        };
        handled.unwrap_or_else(|_| {
            count(&self.shared.counters.unreadable);
            0
        })
    }
}

/// Recipients that count as much as one event, towards the end of a turn.
const RECIPIENTS_PER_WORK: usize = 64;
