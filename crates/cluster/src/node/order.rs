//! Order of publications to several rooms, whose copies arrive on several channels.
//!
//! A copy waits until the other channels have reached it, with all that follows it on its channel. A channel has reached
//! a copy if the copy arrived there, or a frame that was published later. All frames tell the number of the last
//! publication to several rooms before them, so this is known also if the copy itself was lost.
//!
//! If a copy is lost on one channel and arrives on another when the first is past it, the members of the first channel's
//! rooms are excluded, and a gap is reported there.
//!
//! The waits of one node cannot be circular: its publications have one order, and each channel keeps that order.

use std::time::Instant;

use super::ordered::{Expectation, Ordered, Ready, Waiting, channels, others};
use super::outputs::Outputs;
use super::streams::{InStream, InStreams, stream};
use crate::mutation::Mutation;
use crate::{Channel, NodeRef};

impl InStreams {
    /// Takes the next publication of a stream, and makes all publications ready that need not wait.
    pub(super) fn order(
        &mut self,
        channel: &Channel,
        from: NodeRef,
        ordered: Ordered,
        expect: &dyn Fn(&Channel) -> Expectation,
        now: Instant,
        out: &mut Outputs,
    ) {
        let until = now + self.config.order_timeout;
        let is_ordered = match expect(channel) {
            Expectation::None => {
                out.metrics.unwanted += 1;
                return;
            }
            expectation => expectation.is_ordered(),
        };
        let at_once = self.config.has(Mutation::DeliverFirstCopy);
        let stream = stream(&mut self.channels, &mut self.bytes, channel, from);
        if ordered.number() < stream.passed && !self.config.has(Mutation::DeliverOvertaken) {
            // A later publication was delivered without waiting for this one.
            out.metrics.late += 1;
            out.gap(Some(channel.clone()), Some(from), None);
            return;
        }
        let has_waits = self.waits.contains_key(&from);
        if at_once || ordered.copy.is_none() && !has_waits {
            if is_ordered {
                stream.passed = stream.passed.max(ordered.number());
            }
            let Ordered { publication, copy, .. } = ordered;
            let ready = Ready { channel: channel.clone(), from, publication, copy, overtaken: Vec::new() };
            self.ready.push_back(ready);
            return;
        }
        let is_head = stream.waiting.is_empty();
        let waits = self.waits.entry(from).or_default();
        waits.channels.insert(channel.clone());
        if let Some(number) = ordered.copy {
            waits.copies.insert(number, channels(&ordered.publication));
        }
        let waiting = Waiting { ordered, until };
        self.bytes += waiting.cost();
        stream.waiting.push_back(waiting);
        if is_head {
            self.settle(from, expect);
        }
        while self.bytes > self.config.reassembly_bytes && self.waits.contains_key(&from) {
            self.force(from, expect);
        }
        if is_head {
            self.note_next_wait();
        }
    }

    /// Restarts the order of a channel for members that have just joined.
    pub(super) fn begin_order(&mut self, channel: &Channel) {
        if let Some(publishers) = self.channels.get_mut(channel) {
            publishers.streams_mut().for_each(|stream| stream.passed = 0);
        }
    }

    /// Drops the publications that wait on an unsubscribed channel.
    pub(super) fn forget_waits(&mut self, channel: &Channel) {
        let nodes = self.waits.iter().filter(|(_, waits)| waits.channels.contains(channel));
        let nodes: Vec<NodeRef> = nodes.map(|(node, _)| *node).collect();
        for from in nodes {
            let mut waits = self.waits.remove(&from).unwrap_or_default();
            waits.channels.remove(channel);
            waits.copies.clear();
            let streams = waits.channels.iter().filter_map(|channel| self.find(channel, from));
            for Ordered { publication, copy, .. } in
                streams.flat_map(|stream| stream.waiting.iter().map(|waiting| &waiting.ordered))
            {
                if let Some(number) = copy {
                    waits.copies.insert(*number, channels(publication));
                }
            }
            if !waits.channels.is_empty() {
                self.waits.insert(from, waits);
            }
        }
    }

    /// Ends the waits that have lasted too long.
    pub(super) fn end_waits(&mut self, expect: &dyn Fn(&Channel) -> Expectation, now: Instant) {
        if self.wait_at.is_none_or(|at| at > now) {
            return;
        }
        let nodes: Vec<NodeRef> = self.waits.keys().copied().collect();
        for from in nodes {
            // A subscription may have ended in the meantime.
            self.settle(from, expect);
            while self.next_wait(from).is_some_and(|at| at <= now) {
                self.force(from, expect);
            }
        }
        self.note_next_wait();
    }

    /// Makes all publications of a node ready that need not wait any longer.
    fn settle(&mut self, from: NodeRef, expect: &dyn Fn(&Channel) -> Expectation) {
        let Some(waits) = self.waits.get(&from) else { return };
        let mut waiting: Vec<Channel> = waits.channels.iter().cloned().collect();
        let mut has_progress = true;
        while std::mem::take(&mut has_progress) {
            waiting.retain(|channel| {
                while let Some(head) = self.head(channel, from) {
                    if !self.may_go(channel, from, head, expect) {
                        return true;
                    }
                    self.pop(channel, from, expect);
                    has_progress = true;
                }
                false
            });
        }
        if waiting.is_empty() {
            self.waits.remove(&from);
        } else if let Some(waits) = self.waits.get_mut(&from) {
            waits.channels = waiting.into_iter().collect();
        }
    }

    /// Returns whether the first publication that waits on a channel may be delivered.
    fn may_go(
        &self,
        channel: &Channel,
        from: NodeRef,
        head: &Ordered,
        expect: &dyn Fn(&Channel) -> Expectation,
    ) -> bool {
        let Some(waits) = self.waits.get(&from) else { return true };
        // Behind an earlier one that waits elsewhere, and whose copy on a common channel did not arrive.
        let is_behind = |number: u64, own: &[Channel]| {
            let mut earlier = waits.copies.range(..number);
            let is_common = |other: &Channel| own.contains(other) && expect(other).is_ordered();
            earlier.any(|(_, channels)| channels.iter().any(is_common))
        };
        let Some(number) = head.copy else {
            return !is_behind(head.after + 1, std::slice::from_ref(channel));
        };
        let channels = channels(&head.publication);
        let has_reached = |other: &Channel| {
            other == channel || expect(other) != Expectation::Awaited || self.has_reached(other, from, number)
        };
        channels.iter().all(has_reached) && !is_behind(number, &channels)
    }

    /// Ends the wait for the earliest publication of a node that waits.
    fn force(&mut self, from: NodeRef, expect: &dyn Fn(&Channel) -> Expectation) {
        let Some(waits) = self.waits.get(&from) else { return };
        let heads = waits.channels.iter().filter_map(|channel| {
            let head = self.head(channel, from)?;
            // One with a single channel follows that with its number.
            Some((head.number(), head.copy.is_none(), channel.clone()))
        });
        if let Some((_, _, channel)) = heads.min() {
            self.pop(&channel, from, expect);
        }
        self.settle(from, expect);
    }

    /// Makes the first publication that waits on a channel ready. Earlier ones on its other channels are then too late.
    fn pop(&mut self, channel: &Channel, from: NodeRef, expect: &dyn Fn(&Channel) -> Expectation) {
        let stream_of = stream(&mut self.channels, &mut self.bytes, channel, from);
        let Some(waiting) = stream_of.waiting.pop_front() else { return };
        if expect(channel).is_ordered() {
            stream_of.passed = stream_of.passed.max(waiting.ordered.number());
        }
        self.bytes -= waiting.cost();
        let Ordered { publication, copy, .. } = waiting.ordered;
        let mut overtaken = Vec::new();
        if let Some(number) = copy {
            if let Some(waits) = self.waits.get_mut(&from) {
                waits.copies.remove(&number);
            }
            let others = others(&publication, channel).into_iter().filter(|other| expect(other).is_ordered());
            for other in others {
                if self.find(&other, from).is_some_and(|stream| stream.passed >= number) {
                    if !self.config.has(Mutation::DeliverOvertaken) {
                        overtaken.push(other);
                    }
                } else if !self.has_reached(&other, from, number) {
                    let other = stream(&mut self.channels, &mut self.bytes, &other, from);
                    other.passed = other.passed.max(number);
                }
            }
        }
        self.ready.push_back(Ready { channel: channel.clone(), from, publication, copy, overtaken });
    }

    /// Returns the first publication that waits on a channel.
    fn head(&self, channel: &Channel, from: NodeRef) -> Option<&Ordered> {
        self.find(channel, from)?.waiting.front().map(|waiting| &waiting.ordered)
    }

    /// Returns whether a copy, or something later, has arrived on a channel and nothing precedes it there.
    fn has_reached(&self, channel: &Channel, from: NodeRef, number: u64) -> bool {
        self.find(channel, from).is_some_and(|stream| {
            let head = stream.waiting.front().map(|waiting| waiting.ordered.number());
            stream.passed.max(head.unwrap_or(0)) >= number
        })
    }

    fn find(&self, channel: &Channel, from: NodeRef) -> Option<&InStream> {
        let stream = self.channels.get(channel)?.get(from.id)?;
        (stream.incarnation == from.incarnation).then_some(stream)
    }

    /// Returns the time at which the first wait of a node ends.
    fn next_wait(&self, from: NodeRef) -> Option<Instant> {
        let channels = &self.waits.get(&from)?.channels;
        channels.iter().filter_map(|channel| Some(self.find(channel, from)?.waiting.front()?.until)).min()
    }

    fn note_next_wait(&mut self) {
        self.wait_at = self.waits.keys().filter_map(|from| self.next_wait(*from)).min();
    }
}
