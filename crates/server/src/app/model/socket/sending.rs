//! Events and acknowledgements sent to one socket.

use roomcast_core::{AckId, Args, Delivery, Dispatched, Event, Overflow, Published, Receipt};

use super::{Socket, SocketState};
use crate::app::error::EmitError;
use crate::host::pace;

impl Socket {
    /// Sends an event to this socket alone.
    #[inline]
    pub(crate) fn hand(&self, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Receipt {
        if self.has_left() {
            return self.hand_on(delivery, overflow, event);
        }
        let ordered = self.0.namespace.order_for(self.id(), delivery, overflow, event);
        if ordered == Some(Published::Accepted) {
            return Receipt { published: Published::Accepted, ..Receipt::default() };
        }
        if self.0.namespace.outgoing.is_used() {
            self.0.namespace.outgoing.notify_one(self, event);
        }
        let router = &self.0.namespace.router;
        let dispatched = match event.ack {
            None => router.send(&self.0.member, delivery, overflow, event),
            // The control handle reports that too many acknowledgements are outstanding.
            Some(_) => router.send(&self.member(), delivery, overflow, event),
        };
        let mut receipt = pace::settle(dispatched, &event.name);
        // Not for each receipt: a receipt that was just written in parts is slow to copy.
        if let Some(ordered) = ordered {
            receipt.published += ordered;
        }
        receipt
    }

    /// Sends an event to the recovered socket, or stores it for a later recovery.
    #[cold]
    fn hand_on(&self, delivery: Delivery, overflow: Overflow, event: &mut Event) -> Receipt {
        let closed = Receipt { closed: 1, ..Receipt::default() };
        let Some(recovery) = self.0.recovery.as_ref().filter(|_| self.0.lifecycle.get() == SocketState::LEFT)
        else {
            return closed;
        };
        // Twice, since the client may recover between the two checks.
        for _ in 0..2 {
            if let Some(successor) = self.0.successor() {
                return successor.hand(delivery, overflow, event);
            }
            if recovery.retainer.queue_for_absent(self.key(), delivery, event) {
                let ordered = self.0.namespace.order_for(self.id(), delivery, overflow, event);
                let published = ordered.unwrap_or_default();
                return Receipt { published, ..Receipt::default() };
            }
        }
        closed
    }

    /// Sends the acknowledgement of an event from the client.
    pub(crate) fn answer(&self, id: AckId, args: &Args) -> Result<(), EmitError> {
        let member = &self.0.member;
        if self.has_left() {
            return Err(EmitError::Disconnected);
        }
        self.0.namespace.budget.admit()?;
        let frame = member.codec.encode_answer(&self.0.namespace.name, id, args).map_err(|error| {
            tracing::debug!(socket = %member.id, %error, "acknowledgement not encodable for client");
            EmitError::Unsupported
        })?;
        let mut dispatched = Dispatched::default();
        dispatched.record(member.outbox.push_protocol(frame), &member.outbox);
        one(pace::settle(dispatched, "an acknowledgement")).map(drop)
    }
}

/// Converts the receipt of an emit to one socket: an error unless the event was queued or validly dropped.
#[inline]
pub(crate) fn one(receipt: Receipt) -> Result<Receipt, EmitError> {
    if receipt.queued > 0 { Ok(receipt) } else { not_queued(receipt) }
}

#[cold]
fn not_queued(receipt: Receipt) -> Result<Receipt, EmitError> {
    match receipt {
        Receipt { overflowed: 1.., .. } => Err(EmitError::OutboxFull),
        Receipt { closed: 1.., .. } => Err(EmitError::Disconnected),
        Receipt { unsupported: 1.., .. } => Err(EmitError::Unsupported),
        _ => Ok(receipt),
    }
}
