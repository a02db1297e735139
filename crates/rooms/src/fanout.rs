//! Fan-out of one event to its recipients.

use std::sync::Arc;

use roomcast_core::{
    Codec, Delivery, Dispatched, EncodeError, Event, Frame, Member, MemberControl, MemberLimit, Outbox,
    Overflow, PushOutcome, SocketId,
};

/// Fan-out of one event: encodes it at most once for each codec among the recipients.
pub(crate) struct Fanout<'a> {
    event: &'a Event,
    delivery: Delivery,
    overflow: Overflow,
    /// Frame of the codec used last: nearly every room has only one.
    front: Option<Encoded>,
    others: Vec<Encoded>,
    dispatched: Dispatched,
    unanswered: Vec<SocketId>,
    /// Members at their limit of pending acknowledgements.
    limited: Vec<Arc<dyn MemberControl>>,
}

struct Encoded {
    codec: Arc<dyn Codec>,
    frame: Result<Frame, EncodeError>,
}

impl<'a> Fanout<'a> {
    pub(crate) fn new(event: &'a Event, delivery: Delivery, overflow: Overflow) -> Self {
        Self {
            event,
            delivery,
            overflow,
            front: None,
            others: Vec::new(),
            dispatched: Dispatched::default(),
            unanswered: Vec::new(),
            limited: Vec::new(),
        }
    }

    /// Queues the event for a member; runs under the lock of a list.
    ///
    /// The caller passes the member's `codec` and `outbox` from the nearest copy.
    pub(crate) fn deliver(&mut self, member: &Member, codec: &Arc<dyn Codec>, outbox: &Outbox) {
        let Ok(frame) = self.frame(codec) else {
            self.dispatched.receipt.unsupported += 1;
            if let Some(ack) = &self.event.ack {
                ack.answers.requested(&member.id);
                self.unanswered.push(member.id.clone());
            }
            return;
        };
        let Some(ack) = &self.event.ack else {
            self.dispatched.record(outbox.push(frame, self.delivery, self.overflow), outbox);
            return;
        };
        // Before the push: the answer of a fast client must find the entry.
        if !member.acks.register(&member.id, ack) {
            let is_gone = member.acks.is_closed();
            self.dispatched.receipt.record(if is_gone { PushOutcome::Closed } else { PushOutcome::Dropped });
            self.limited.extend(member.control.clone().filter(|_| !is_gone));
            self.unanswered.push(member.id.clone());
            return;
        }
        let pushed = outbox.push(frame, self.delivery, self.overflow);
        self.dispatched.record(pushed, outbox);
        let lost = matches!(pushed, PushOutcome::Dropped | PushOutcome::Closed | PushOutcome::Overflowed);
        // If the entry was removed, its remover has notified the sink already.
        if lost && member.acks.withdraw(ack.id) {
            self.unanswered.push(member.id.clone());
        }
    }

    /// Notifies the sink of missing answers, and the members at their limit. Runs under no lock, since both may call
    /// back.
    pub(crate) fn finish(self) -> Dispatched {
        if let Some(ack) = &self.event.ack {
            self.unanswered.iter().for_each(|socket| ack.answers.unanswered(socket));
            self.limited.iter().for_each(|control| control.limited(MemberLimit::Answers));
        }
        self.dispatched
    }

    fn frame(&mut self, codec: &Arc<dyn Codec>) -> Result<Frame, EncodeError> {
        let known = |encoded: &Encoded| Arc::ptr_eq(&encoded.codec, codec);
        if let Some(front) = self.front.as_ref().filter(|front| known(front)) {
            return front.frame.clone();
        }
        let next = match self.others.iter().position(known) {
            Some(at) => self.others.swap_remove(at),
            None => Encoded { codec: codec.clone(), frame: self.event.frame(&**codec) },
        };
        let frame = next.frame.clone();
        self.others.extend(self.front.replace(next));
        frame
    }
}
