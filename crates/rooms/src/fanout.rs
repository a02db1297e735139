//! Fan-out of one event to its recipients.

use std::sync::Arc;

use roomcast_core::{
    Codec, Delivery, Dispatched, EncodeError, Event, MemberControl, MemberLimit, Outbox, Overflow,
    PushOutcome, SharedFrame, SocketId,
};

use crate::attached::AsMember;

/// Fan-out of one event: encodes it at most once for each codec among the recipients.
pub(crate) struct Fanout<'a> {
    event: &'a Event,
    delivery: Delivery,
    overflow: Overflow,
    encoded: Encodings,
    dispatched: Dispatched,
    unanswered: Vec<SocketId>,
    /// Members at their limit of pending acknowledgements.
    limited: Vec<Arc<dyn MemberControl>>,
}

/// Frames of the event, one for each codec.
#[derive(Default)]
struct Encodings {
    /// Frame of the codec used last: nearly every room has only one.
    front: Option<Encoded>,
    others: Vec<Encoded>,
}

struct Encoded {
    codec: Arc<dyn Codec>,
    frame: Result<SharedFrame, EncodeError>,
}

impl<'a> Fanout<'a> {
    pub(crate) fn new(event: &'a Event, delivery: Delivery, overflow: Overflow) -> Self {
        Self {
            event,
            delivery,
            overflow,
            encoded: Encodings::default(),
            dispatched: Dispatched::default(),
            unanswered: Vec::new(),
            limited: Vec::new(),
        }
    }

    /// Queues the event for a member; runs under the lock of a list.
    ///
    /// The caller passes the member's `codec` and `outbox` from the nearest copy.
    pub(crate) fn deliver(&mut self, recipient: &impl AsMember, codec: &Arc<dyn Codec>, outbox: &Outbox) {
        let Self { event, delivery, overflow, encoded, dispatched, unanswered, limited } = self;
        let Ok(frame) = encoded.frame(event, codec) else {
            dispatched.receipt.unsupported += 1;
            if let Some(ack) = &event.ack {
                let member = recipient.member();
                ack.answers.requested(&member.id);
                unanswered.push(member.id.clone());
            }
            return;
        };
        let Some(ack) = &event.ack else {
            dispatched.record(outbox.push_shared(frame, *delivery, *overflow), outbox);
            return;
        };
        let member = recipient.member();
        let acks = recipient.acks();
        // Before the push: the answer of a fast client must find the entry.
        if !acks.register(&member.id, ack) {
            let is_gone = acks.is_closed();
            dispatched.receipt.record(if is_gone { PushOutcome::Closed } else { PushOutcome::Dropped });
            limited.extend(recipient.control().filter(|_| !is_gone).cloned());
            unanswered.push(member.id.clone());
            return;
        }
        let pushed = outbox.push_shared(frame, *delivery, *overflow);
        dispatched.record(pushed, outbox);
        let lost = matches!(pushed, PushOutcome::Dropped | PushOutcome::Closed | PushOutcome::Overflowed);
        // If the entry was removed, its remover has notified the sink already.
        if lost && acks.withdraw(ack.id) {
            unanswered.push(member.id.clone());
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
}

impl Encodings {
    /// Returns the frame for a codec; encodes the event on the first call for it.
    #[inline]
    fn frame(&mut self, event: &Event, codec: &Arc<dyn Codec>) -> &Result<SharedFrame, EncodeError> {
        if !self.front.as_ref().is_some_and(|front| Arc::ptr_eq(&front.codec, codec)) {
            self.exchange(event, codec);
        }
        &self.front.as_ref().expect("set above").frame
    }

    #[cold]
    fn exchange(&mut self, event: &Event, codec: &Arc<dyn Codec>) {
        let next = match self.others.iter().position(|encoded| Arc::ptr_eq(&encoded.codec, codec)) {
            Some(at) => self.others.swap_remove(at),
            None => {
                let frame = event.frame(&**codec).map(|frame| SharedFrame::new(frame, &**codec));
                Encoded { codec: codec.clone(), frame }
            }
        };
        self.others.extend(self.front.replace(next));
    }
}
