//! Ordered queue of one client's frames, with byte accounting and overflow policies.

use std::collections::VecDeque;

use super::bounds::Bounds;
use super::policy::{Delivery, Overflow};
use super::ring::Ring;
use super::run::{Place, Run};
use super::written::WriteStats;
use crate::Frame;

/// Ordered queue of one client's frames.
#[derive(Default)]
pub(super) struct Queue {
    // The first frame is stored inline and the rest in the ring, so a client that keeps up never allocates the ring.
    // Invariant: `head` is `None` only if `tail` is empty.
    head: Option<Entry>,
    tail: Ring<Entry>,
    /// Bytes of queued frames and of the batch in flight; the batch keeps its room in case the sink returns it.
    bytes: usize,
    /// Part of `bytes` that no policy may drop.
    undroppable: usize,
    /// Part of `undroppable` that is in flight.
    in_flight: usize,
    /// Queued frames, without those in flight.
    frames: usize,
}

enum Entry {
    Frame {
        /// Hash of the frame's key, so that a search of the queue does not dereference each frame.
        key_hash: u32,
        delivery: Delivery,
        frame: Frame,
    },
    /// Frames of broadcasts, which no policy protects.
    Range { from: u8, to: u8, run: Run },
}

/// Outcome of [`Queue::admit`].
pub(super) enum Admission {
    /// The frame fits; this many older frames were dropped for it.
    Admitted(u32),
    /// The frame is dropped.
    Refused,
    /// The frame would exceed the hard cap.
    Overflowed,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    pub(super) fn frames(&self) -> usize {
        self.frames
    }

    /// Returns the queued bytes, without those in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes - self.in_flight
    }

    /// Returns the queued bytes, including those in flight.
    pub(super) fn reserved_bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the queue is at high water, so that pushers have to write themselves.
    #[inline]
    pub(super) fn is_high(&self) -> bool {
        self.frames >= HIGH_WATER_FRAMES || self.bytes() >= HIGH_WATER_BYTES
    }

    /// Returns whether the queue is at or below low water, so that waiting senders may continue.
    pub(super) fn is_low(&self) -> bool {
        self.frames() <= HIGH_WATER_FRAMES / 2 && self.bytes() <= HIGH_WATER_BYTES / 2
    }

    /// Decides whether a frame may be queued, and drops older frames for it as its policy allows.
    ///
    /// Frames queued for a writable carrier are the server's debt, so only the hard cap applies to them. An empty queue
    /// accepts a frame of any size.
    #[inline]
    pub(super) fn admit(
        &mut self,
        frame: &Frame,
        delivery: Delivery,
        overflow: Overflow,
        bounds: Bounds,
        writable: bool,
    ) -> Admission {
        let bytes = self.bytes.saturating_add(cost(frame));
        let limit = if writable { bounds.max() } else { bounds.limit() };
        if overflow != Overflow::KeepLatest && (bytes <= limit || self.bytes == self.in_flight) {
            return Admission::Admitted(0);
        }
        self.make_room(frame, delivery, overflow, limit, bounds.max())
    }

    fn make_room(
        &mut self,
        frame: &Frame,
        delivery: Delivery,
        overflow: Overflow,
        limit: usize,
        max: usize,
    ) -> Admission {
        let protocol = delivery == Delivery::Protocol;
        let (cost, in_flight) = (cost(frame), self.in_flight);
        let within = |reserved_bytes: usize, most| {
            reserved_bytes == in_flight || reserved_bytes.saturating_add(cost) <= most
        };
        let keeps_latest = overflow == Overflow::KeepLatest && !protocol && frame.key().is_some();
        let stale = if keeps_latest { self.bytes_with_key(frame) } else { 0 };
        if within(self.bytes - stale, limit) {
            return Admission::Admitted(if stale > 0 { self.remove_with_key(frame) } else { 0 });
        }
        match (delivery, overflow) {
            (Delivery::Volatile, _) => Admission::Refused,
            (Delivery::Protocol, _) | (_, Overflow::Close | Overflow::Inherit) if within(self.bytes, max) => {
                Admission::Admitted(0)
            }
            (Delivery::Protocol, _) | (_, Overflow::Close | Overflow::Inherit) => Admission::Overflowed,
            (_, Overflow::DropOldest) if within(self.undroppable, limit) => {
                Admission::Admitted(self.remove_oldest(|reserved_bytes| within(reserved_bytes, limit)))
            }
            (_, Overflow::DropOldest | Overflow::DropNewest | Overflow::KeepLatest) => Admission::Refused,
        }
    }

    #[inline]
    pub(super) fn push_back(&mut self, frame: Frame, delivery: Delivery) {
        // Counted before it is an entry, which is then built in its place: a processor waits for small stores that a
        // wider load covers, as when a new entry is moved.
        let cost = cost(&frame);
        self.bytes += cost;
        self.undroppable += if delivery == Delivery::Protocol { cost } else { 0 };
        self.frames += frame.count();
        self.append(Entry::new(frame, delivery));
    }

    /// Appends the frame of a broadcast, if it follows the last queued frame in a run and stays within `max` bytes.
    #[inline]
    pub(super) fn extend(&mut self, place: &Place, cost: usize, max: usize) -> bool {
        let bytes = self.bytes.saturating_add(cost);
        if bytes <= max
            && let Some(last) = self.tail.back_mut().or(self.head.as_mut())
            && last.extend(place)
        {
            self.bytes = bytes;
            self.frames += 1;
            return true;
        }
        false
    }

    #[inline]
    fn append(&mut self, entry: Entry) {
        if self.head.is_none() {
            self.head = Some(entry);
        } else {
            self.tail.push_back(entry);
        }
    }

    /// Moves the next frames into the empty `batch`; returns their number and message bytes.
    ///
    /// Joins frames only up to `most()` bytes. The frames stay counted until [`put_back`](Self::put_back) gets the frames
    /// that were not written.
    pub(super) fn take_batch(
        &mut self,
        batch: &mut VecDeque<Frame>,
        limit: usize,
        most: impl Fn() -> usize,
    ) -> WriteStats {
        // No policy may drop a batch, so half of the limit stays available to policies that drop older frames.
        let enough = BATCH_BYTES.min(limit / 2);
        let (mut in_flight, mut frames, mut bytes) = (self.in_flight, 0, 0);
        let mut rest = self.head.take();
        loop {
            let room = || most().min(enough.saturating_sub(in_flight));
            let frame;
            let is_protocol;
            match rest.take() {
                Some(entry) => (frame, is_protocol, rest) = entry.take_first(room),
                None => match self.tail.pop_front() {
                    // The common entry is taken apart where it is, not moved first.
                    Some(Entry::Frame { frame: next, delivery, .. }) => {
                        (frame, is_protocol) = (next, delivery == Delivery::Protocol);
                    }
                    Some(range) => (frame, is_protocol, rest) = range.take_first(room),
                    None => break,
                },
            }
            let cost = cost(&frame);
            self.undroppable += if is_protocol { 0 } else { cost };
            in_flight += cost;
            frames += frame.count();
            bytes += frame.len();
            batch.push_back(frame);
            if batch.len() >= BATCH_FRAMES || in_flight >= enough {
                break;
            }
        }
        self.head = rest.or_else(|| self.tail.pop_front());
        self.in_flight = in_flight;
        self.frames -= frames;
        let used = RETAINED_CAPACITY.max(RETAINED_FACTOR * batch.len());
        // A call on an empty queue keeps the ring.
        if !batch.is_empty() && self.head.is_none() && self.tail.capacity() > used {
            self.tail.free();
        }
        WriteStats { frames: frames as u64, bytes: bytes as u64 }
    }

    /// Puts the unwritten rest of a batch back at the front, in order.
    ///
    /// If the queue was freed while the batch was in flight, the rest is dropped, even if new frames were queued since.
    pub(super) fn put_back(&mut self, batch: &mut VecDeque<Frame>) {
        if self.in_flight == 0 {
            // Zero means that the queue was freed meanwhile: every frame in flight counts.
            return batch.clear();
        }
        self.bytes -= self.in_flight;
        self.undroppable -= self.in_flight;
        self.in_flight = 0;
        while let Some(frame) = batch.pop_back() {
            // The frame was in flight and counts as sent, so no policy may drop it.
            let entry = Entry::new(frame, Delivery::Protocol);
            self.count(&entry);
            self.push_front(entry);
        }
    }

    /// Returns the bytes of queued frames with the key of `frame`.
    fn bytes_with_key(&self, frame: &Frame) -> usize {
        let entries = self.head.iter().chain(self.tail.iter());
        entries.filter(|entry| entry.has_key_of(frame)).map(Entry::cost).sum()
    }

    /// Removes queued frames with the key of `frame`; returns their number.
    fn remove_with_key(&mut self, frame: &Frame) -> u32 {
        let mut removed = 0;
        let mut freed = 0;
        let mut keep = |entry: &Entry| {
            let is_stale = entry.has_key_of(frame);
            if is_stale {
                removed += 1;
                freed += entry.cost();
            }
            !is_stale
        };
        if self.head.as_ref().is_some_and(|head| !keep(head)) {
            self.head = None;
        }
        self.tail.retain(keep);
        if self.head.is_none() {
            self.head = self.tail.pop_front();
        }
        self.bytes -= freed;
        self.frames -= removed as usize;
        removed
    }

    /// Removes the oldest droppable frames until `enough` accepts the remaining bytes; returns their number.
    fn remove_oldest(&mut self, enough: impl Fn(usize) -> bool) -> u32 {
        let mut removed = 0;
        let mut passed = Vec::new();
        while !enough(self.bytes) {
            let Some(entry) = self.pop_front() else { break };
            if entry.undroppable() > 0 {
                passed.push(entry);
                continue;
            }
            let (first, rest) = entry.split_first();
            self.uncount(&first);
            rest.into_iter().for_each(|rest| self.push_front(rest));
            removed += 1;
        }
        passed.into_iter().rev().for_each(|entry| self.push_front(entry));
        removed
    }

    fn pop_front(&mut self) -> Option<Entry> {
        let next = self.tail.pop_front();
        std::mem::replace(&mut self.head, next)
    }

    fn push_front(&mut self, entry: Entry) {
        if let Some(second) = self.head.replace(entry) {
            self.tail.push_front(second);
        }
    }

    fn count(&mut self, entry: &Entry) {
        self.bytes += entry.cost();
        self.undroppable += entry.undroppable();
        self.frames += entry.frames();
    }

    fn uncount(&mut self, entry: &Entry) {
        self.bytes -= entry.cost();
        self.undroppable -= entry.undroppable();
        self.frames -= entry.frames();
    }
}

impl Entry {
    #[inline]
    fn new(frame: Frame, delivery: Delivery) -> Self {
        Self::Frame { key_hash: frame.key_hash(), delivery, frame }
    }

    /// Takes out the first frame, or a whole range that costs at most `most()`; returns whether it is of the protocol,
    /// and the rest.
    fn take_first(self, most: impl FnOnce() -> usize) -> (Frame, bool, Option<Self>) {
        match self {
            Self::Frame { frame, delivery, .. } => (frame, delivery == Delivery::Protocol, None),
            Self::Range { from, to, run } => {
                let (frame, rest) = split(from, to, run, most());
                (frame, false, rest)
            }
        }
    }

    /// Adds the frame at `place` if it follows the last frame of the entry; returns whether it did.
    #[inline]
    fn extend(&mut self, place: &Place) -> bool {
        match self {
            Self::Range { to, run, .. } if *to == place.at && run.is(&place.run) => *to += 1,
            Self::Frame { delivery, frame, .. }
                if *delivery != Delivery::Protocol && frame.is(place.run.frame(place.at - 1)) =>
            {
                *self = Self::Range { from: place.at - 1, to: place.at + 1, run: place.run.clone() };
            }
            _ => return false,
        }
        true
    }

    /// Separates the first frame of a range.
    fn split_first(self) -> (Self, Option<Self>) {
        let Self::Range { from, to, run } = self else { return (self, None) };
        let rest = (from + 1 < to).then(|| Self::Range { from: from + 1, to, run: run.clone() });
        (Self::Range { from, to: from + 1, run }, rest)
    }

    fn has_key_of(&self, other: &Frame) -> bool {
        // A frame with a key is in no run.
        let Self::Frame { key_hash, delivery, frame } = self else { return false };
        *key_hash == other.key_hash() && *delivery != Delivery::Protocol && frame.key() == other.key()
    }

    fn frames(&self) -> usize {
        match self {
            Self::Frame { frame, .. } => frame.count(),
            Self::Range { from, to, .. } => usize::from(to - from),
        }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Frame { frame, .. } => cost(frame),
            Self::Range { from, to, run } => (*from..*to).map(|at| cost(run.frame(at))).sum(),
        }
    }

    fn undroppable(&self) -> usize {
        match self {
            Self::Frame { delivery: Delivery::Protocol, frame, .. } => cost(frame),
            _ => 0,
        }
    }
}

/// Takes a whole range as one frame if it costs at most `most`, otherwise its first frame; returns the rest.
#[inline(never)]
fn split(from: u8, to: u8, run: Run, most: usize) -> (Frame, Option<Entry>) {
    if let Some(joined) = run.joined(from, to)
        && cost(&joined) <= most
    {
        return (joined, None);
    }
    let first = run.frame(from).clone();
    let rest = (from + 1 < to).then(|| Entry::Range { from: from + 1, to, run });
    (first, rest)
}

#[inline]
pub(super) fn cost(frame: &Frame) -> usize {
    frame.len() + ENTRY_COST * frame.count()
}

/// Cost of a frame besides its bytes, so that empty messages are bounded too.
pub(super) const ENTRY_COST: usize = 64;
/// Backlog from which on a pusher writes itself: the most that one write carries, or one run of a driver emits.
const HIGH_WATER_BYTES: usize = 64 * 1024;
const HIGH_WATER_FRAMES: usize = if cfg!(loom) { 2 } else { 256 };
/// Maximum frames that a lease takes out of the queue at a time.
pub(super) const BATCH_FRAMES: usize = if cfg!(loom) { 1 } else { 64 };
pub(super) const BATCH_BYTES: usize = 256 * 1024;
/// Ring capacity that a drained queue always keeps.
const RETAINED_CAPACITY: usize = 16;
/// Ratio of ring capacity to the last batch above which the ring is freed.
///
/// A ring that fills again and again is kept: allocators are slow when one thread allocates and another frees.
const RETAINED_FACTOR: usize = 4;

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outbox::run::{self, SharedFrame};

    /// Step of a pusher or a writer.
    #[derive(Debug, Clone)]
    enum Step {
        Push {
            len: usize,
            key: Option<u8>,
            delivery: Delivery,
            overflow: Overflow,
            writable: bool,
            /// Whether a router broadcasts it.
            shared: bool,
        },
        EndTurn,
        Take,
        /// Maximum frames of the batch that the sink leaves.
        PutBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let delivery = prop::sample::select(vec![Delivery::Reliable, Delivery::Volatile, Delivery::Protocol]);
        let policies =
            vec![Overflow::Close, Overflow::DropNewest, Overflow::DropOldest, Overflow::KeepLatest];
        let len = prop_oneof![8 => 0..200_usize, 1 => Just(LIMIT), 1 => Just(3 * LIMIT)];
        let policy = prop::sample::select(policies);
        let key = prop_oneof![2 => Just(None), 1 => (0..3_u8).prop_map(Some)];
        let push = (len, key, delivery, policy, any::<bool>(), prop::bool::weighted(0.8));
        prop_oneof![
            12 => push.prop_map(|(len, key, delivery, overflow, writable, shared)| {
                Step::Push { len, key, delivery, overflow, writable, shared }
            }),
            1 => Just(Step::EndTurn),
            2 => Just(Step::Take),
            2 => (0..100_usize).prop_map(Step::PutBack),
        ]
    }

    fn costs<'a>(frames: impl Iterator<Item = &'a Frame>) -> usize {
        frames.map(cost).sum()
    }

    proptest! {
        #[test]
        fn counts_match_queue_contents(steps in prop::collection::vec(step(), 1..120)) {
            let mut queue = Queue::default();
            // Receives the same broadcasts, so that both queues share runs.
            let mut other = Queue::default();
            let (mut batch, mut is_out, mut largest) = (VecDeque::new(), false, 0);
            for step in steps {
                match step {
                    Step::Push { len, key, delivery, overflow, writable, shared } => {
                        let frame = Frame::new("x".repeat(len));
                        let frame = key.iter().fold(frame, |frame, key| frame.with_key(key.to_string().into()));
                        let (before, count) = (queue.bytes(), queue.frames());
                        match queue.admit(&frame, delivery, overflow, Bounds::new(LIMIT, MAX), writable) {
                            Admission::Admitted(displaced) => {
                                prop_assert_eq!(queue.frames() + displaced as usize, count);
                                largest = largest.max(cost(&frame));
                                if shared {
                                    let shared = SharedFrame::of_codec(frame, 0);
                                    for queue in [&mut queue, &mut other] {
                                        let place = shared.place.as_ref().filter(|_| delivery != Delivery::Protocol);
                                        if !place.is_some_and(|place| queue.extend(place, cost(&shared.frame), MAX)) {
                                            queue.push_back(shared.frame.clone(), delivery);
                                        }
                                    }
                                } else {
                                    queue.push_back(frame, delivery);
                                }
                            }
                            Admission::Refused => prop_assert_eq!((queue.bytes(), queue.frames()), (before, count)),
                            Admission::Overflowed => {
                                prop_assert!(delivery != Delivery::Volatile && queue.bytes() == before);
                                prop_assert!(queue.reserved_bytes() + cost(&frame) > MAX);
                            }
                        }
                    }
                    Step::EndTurn => {
                        run::end_turn();
                        other = Queue::default();
                    }
                    Step::Take if !is_out => {
                        queue.take_batch(&mut batch, LIMIT, || MAX);
                        is_out = true;
                    }
                    Step::PutBack(left) if is_out => {
                        batch.drain(..batch.len().saturating_sub(left));
                        queue.put_back(&mut batch);
                        is_out = false;
                    }
                    Step::Take | Step::PutBack(_) => {}
                }
                let entries = || queue.head.iter().chain(queue.tail.iter());
                let waiting = entries().map(Entry::cost).sum::<usize>();
                let undroppable = entries().map(Entry::undroppable).sum::<usize>();
                let out = costs(batch.iter());
                prop_assert_eq!((queue.bytes(), queue.frames()), (waiting, entries().map(Entry::frames).sum()));
                prop_assert_eq!((queue.bytes, queue.undroppable, queue.in_flight), (waiting + out, undroppable + out, out));
                prop_assert!(waiting <= MAX + 2 * largest);
            }
        }
    }

    const LIMIT: usize = 1000;
    const MAX: usize = 4000;

    #[test]
    fn frees_ring_memory_after_drain() {
        let mut queue = Queue::default();
        let mut batch = VecDeque::new();
        let (few, many) = (RETAINED_CAPACITY / 2, 100 * RETAINED_CAPACITY);
        let load = [(few, false), (many, true), (BATCH_FRAMES, false), (BATCH_FRAMES, false), (1, true)];
        for (frames, given_back) in load {
            (0..frames).for_each(|_| queue.push_back(Frame::new("x"), Delivery::Reliable));
            while !queue.is_empty() {
                queue.take_batch(&mut batch, usize::MAX, || usize::MAX);
                batch.clear();
                queue.put_back(&mut batch);
            }
            queue.take_batch(&mut batch, usize::MAX, || usize::MAX);
            assert_eq!((queue.tail.capacity() == 0, queue.bytes), (given_back, 0), "{frames}");
        }
    }
}
