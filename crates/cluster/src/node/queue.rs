//! Queue of publications, requests and answers towards the engine.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;

use super::outputs::Outputs;
use crate::config::QueueOverflow;
use crate::envelope::{EnvelopeWriter, Frame, OVERHEAD, Position, Tail, encode_frame};
use crate::mutation::Mutation;
use crate::{Channel, ClusterConfig, Incarnation, NodeId, PublishError};

/// Queue of encoded frames by channel, and the numbers of their streams.
///
/// Channels take turns, so a busy room does not delay the others. The frames of a channel that wait together are sent
/// as one message. A frame gets its number when it is queued: if it is dropped later, receivers notice the gap.
#[derive(Debug)]
pub(super) struct SendQueue {
    config: Arc<ClusterConfig>,
    streams: HashMap<Channel, OutStream, RandomState>,
    /// Channels with queued frames, each once.
    ready: VecDeque<Channel>,
    len: usize,
    bytes: usize,
    /// Highest number of forgotten streams. A new stream begins above it, since it may be one of them.
    floor: u64,
    marks: Marks,
}

/// Stream of outgoing frames on one channel.
#[derive(Debug)]
struct OutStream {
    digest: u64,
    /// Number of the last frame, sent, queued or dropped.
    seq: u64,
    /// Number of the first frame of the run.
    first: u64,
    last_at: Instant,
    /// Heartbeats that have listed the end of the stream since its last frame.
    listed: u64,
    queued: VecDeque<Queued>,
}

#[derive(Debug)]
struct Queued {
    position: Position,
    frame: Bytes,
    /// Whether the next frame is a part of the same publication.
    continues: bool,
    /// Number of the publication and of its channels, if it has several.
    copy: Option<(u64, usize)>,
    epoch: u64,
}

/// Queued frames by the marks between which they were queued.
#[derive(Debug)]
struct Marks {
    /// Number of the epoch at the front, from 1.
    first: u64,
    /// Queued frames of each epoch that has some, and of those between them; the last epoch is open.
    queued: VecDeque<usize>,
}

impl Marks {
    fn new() -> Self {
        Self { first: 1, queued: VecDeque::from([0]) }
    }

    /// Counts frames of the open epoch.
    fn add(&mut self, frames: usize) {
        if let Some(open) = self.queued.back_mut() {
            *open += frames;
        }
    }

    fn open(&self) -> u64 {
        self.first + self.queued.len() as u64 - 1
    }

    fn remove(&mut self, epoch: u64) {
        if let Some(count) = self.queued.get_mut((epoch - self.first) as usize) {
            *count -= 1;
        }
        self.forget_ended();
    }

    /// Closes the open epoch, unless it has no frame; returns the last closed one.
    fn close(&mut self) -> u64 {
        if self.queued.back().is_some_and(|open| *open > 0) {
            self.queued.push_back(0);
        }
        self.open() - 1
    }

    fn forget_ended(&mut self) {
        while self.queued.len() > 1 && self.queued.front() == Some(&0) {
            self.queued.pop_front();
            self.first += 1;
        }
    }
}

impl SendQueue {
    pub(super) fn new(config: Arc<ClusterConfig>) -> Self {
        Self {
            config,
            streams: HashMap::default(),
            ready: VecDeque::new(),
            len: 0,
            bytes: 0,
            floor: 0,
            marks: Marks::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Returns a mark behind all frames that have been queued.
    pub(super) fn mark(&mut self) -> u64 {
        self.marks.close()
    }

    /// Returns whether no frame before a mark is queued any more.
    pub(super) fn has_passed(&self, mark: u64) -> bool {
        mark < self.marks.first
    }

    /// Queues the same frame for several channels, or for none if the queue has to reject it.
    pub(super) fn push(
        &mut self,
        channels: &[Channel],
        frame: &Frame,
        now: Instant,
        out: &mut Outputs,
    ) -> Result<(), PublishError> {
        let encoded: Vec<_> = channels.iter().map(|channel| encode_frame(frame, channel)).collect();
        let len = encoded.iter().map(Bytes::len).max().unwrap_or(0);
        let limit = self.config.max_publication;
        if len > limit {
            out.metrics.rejected += 1;
            return Err(PublishError::TooLarge { len, limit });
        }
        let cost: usize = encoded.iter().map(|frame| self.max_cost(frame.len())).sum();
        let is_over = self.bytes + cost > self.config.queue_bytes;
        let is_over = is_over && !self.config.has(Mutation::UnboundedQueue);
        if is_over {
            let fits_alone = cost <= self.config.queue_bytes;
            match self.config.queue_overflow {
                QueueOverflow::DropOldest if fits_alone => self.make_room(cost, out),
                QueueOverflow::DropNewest => {
                    // The numbers are used up, so that receivers notice the gap.
                    for (channel, frame) in channels.iter().zip(&encoded) {
                        let parts = self.parts(frame.len()).max(1);
                        let stream = self.stream(channel, now);
                        stream.seq += parts as u64;
                        stream.touch(now);
                    }
                    out.metrics.dropped += 1;
                    return Ok(());
                }
                _ => {
                    out.metrics.rejected += 1;
                    return Err(PublishError::QueueFull);
                }
            }
        }
        let copy = match frame {
            Frame::Publish { copy, .. } => copy.map(|number| (number, channels.len())),
            _ => None,
        };
        for (channel, frame) in channels.iter().zip(encoded) {
            self.append(channel, frame, copy, now);
        }
        Ok(())
    }

    /// Returns the next message: frames of one channel, as many as fit.
    pub(super) fn pop(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        heartbeat: u64,
    ) -> Option<(Channel, Bytes)> {
        let channel = self.ready.pop_front()?;
        let stream = self.streams.get_mut(&channel)?;
        let mut batch = Vec::new();
        let mut room = self.config.max_payload;
        while let Some(next) = stream.queued.front() {
            let needed = next.frame.len() + OVERHEAD;
            if !batch.is_empty() && (batch.len() >= self.config.batch_count || needed > room) {
                break;
            }
            room = room.saturating_sub(needed);
            batch.extend(stream.queued.pop_front());
        }
        if !stream.queued.is_empty() {
            self.ready.push_back(channel.clone());
        }
        self.len -= batch.len();
        batch.iter().for_each(|queued| self.marks.remove(queued.epoch));
        self.bytes -= batch.iter().map(|queued| queued.frame.len() + FRAME_COST).sum::<usize>();
        if self.config.has(Mutation::ReverseBatches) {
            batch.reverse();
        }
        let mut envelope = EnvelopeWriter::new(id, incarnation, heartbeat);
        batch.iter().for_each(|queued| envelope.push(Some(queued.position), &queued.frame));
        Some((channel, envelope.finish()))
    }

    /// Returns the ends of idle streams for the next heartbeat; with `all`, the ends of all streams for the goodbye.
    ///
    /// The end of a stream is listed in [`ROUNDS`] heartbeats in sequence. After that the stream is forgotten. The
    /// second result is whether some ends did not fit.
    pub(super) fn list_tails(&mut self, all: bool, now: Instant) -> (Vec<Tail>, bool) {
        if self.config.has(Mutation::OmitTails) {
            return (Vec::new(), false);
        }
        let idle = self.config.heartbeat_interval;
        let mut floor = self.floor;
        self.streams.retain(|_, stream| {
            let is_over = stream.listed >= ROUNDS && stream.queued.is_empty();
            if is_over {
                floor = floor.max(stream.seq);
            }
            !is_over
        });
        self.floor = floor;
        let is_listed = |stream: &&mut OutStream| {
            stream.queued.is_empty() && (all || now.saturating_duration_since(stream.last_at) >= idle)
        };
        let mut listed: Vec<_> = self.streams.values_mut().filter(is_listed).collect();
        // Ends that were listed before come first, so that their rounds are in sequence.
        listed.sort_by_key(|stream| (u64::MAX - stream.listed, stream.digest));
        let limit = (self.config.max_payload.saturating_sub(OVERHEAD) / MAX_TAIL).max(1);
        let is_cut = listed.len() > limit;
        listed.truncate(limit);
        let list = |stream: &mut OutStream| {
            stream.listed += 1;
            // A busy stream keeps its memory.
            stream.queued.shrink_to_fit();
            let age = now.saturating_duration_since(stream.last_at);
            Tail { digest: stream.digest, seq: stream.seq, run: stream.seq - stream.first, age }
        };
        (listed.into_iter().map(list).collect(), is_cut)
    }

    /// Renumbers the queued frames for a new incarnation.
    ///
    /// Drops the further copies of publications of which one was sent, since receivers forget it with the old one.
    pub(super) fn restart(&mut self, out: &mut Outputs) {
        self.floor = 0;
        let mut left: HashMap<u64, usize> = HashMap::new();
        for stream in self.streams.values() {
            let ends = stream.queued.iter().filter(|queued| !queued.continues);
            ends.filter_map(|queued| queued.copy)
                .for_each(|(number, _)| *left.entry(number).or_default() += 1);
        }
        let (mut len, mut bytes) = (0, 0);
        for stream in self.streams.values_mut() {
            stream.queued.retain(|queued| {
                let is_kept =
                    queued.copy.is_none_or(|(number, channels)| left.get(&number) == Some(&channels));
                if !is_kept {
                    (len, bytes) = (len + 1, bytes + queued.frame.len() + FRAME_COST);
                    out.metrics.dropped += u64::from(!queued.continues);
                    self.marks.remove(queued.epoch);
                }
                is_kept
            });
        }
        (self.len, self.bytes) = (self.len - len, self.bytes - bytes);
        self.ready
            .retain(|channel| self.streams.get(channel).is_some_and(|stream| !stream.queued.is_empty()));
        self.streams.retain(|_, stream| !stream.queued.is_empty());
        for stream in self.streams.values_mut() {
            (stream.seq, stream.first, stream.listed) = (0, 1, 0);
            for queued in &mut stream.queued {
                stream.seq += 1;
                (queued.position.seq, queued.position.run) = (stream.seq, stream.seq - 1);
            }
        }
    }

    fn append(&mut self, channel: &Channel, frame: Bytes, copy: Option<(u64, usize)>, now: Instant) {
        let parts = self.parts(frame.len());
        let part_len = self.part_len();
        let epoch = self.marks.open();
        let stream = self.stream(channel, now);
        let is_ready = !stream.queued.is_empty();
        let (mut len, mut bytes) = (0, 0);
        let mut append = |stream: &mut OutStream, frame: Bytes, continues| {
            stream.seq += 1;
            let idle = now.saturating_duration_since(stream.last_at);
            stream.touch(now);
            let position = Position { seq: stream.seq, run: stream.seq - stream.first, idle };
            (len, bytes) = (len + 1, bytes + frame.len() + FRAME_COST);
            stream.queued.push_back(Queued { position, frame, continues, copy, epoch });
        };
        if parts <= 1 {
            append(stream, frame, false);
        } else {
            for index in 0..parts {
                let body = frame.slice(index * part_len..frame.len().min((index + 1) * part_len));
                let part =
                    Frame::Part { index: index as u64, count: parts as u64, len: frame.len() as u64, body };
                append(stream, encode_frame(&part, channel), index + 1 < parts);
            }
        }
        if !is_ready {
            self.ready.push_back(channel.clone());
        }
        self.len += len;
        self.marks.add(len);
        self.bytes += bytes;
    }

    /// Drops frames of the channels that have waited longest, until `cost` bytes fit.
    fn make_room(&mut self, cost: usize, out: &mut Outputs) {
        while self.bytes + cost > self.config.queue_bytes {
            let Some(channel) = self.ready.front() else { return };
            let Some(stream) = self.streams.get_mut(channel) else { return };
            while let Some(dropped) = stream.queued.pop_front() {
                self.len -= 1;
                self.marks.remove(dropped.epoch);
                self.bytes -= dropped.frame.len() + FRAME_COST;
                if !dropped.continues {
                    break;
                }
            }
            out.metrics.dropped += 1;
            if stream.queued.is_empty() {
                self.ready.pop_front();
            }
        }
    }

    fn stream(&mut self, channel: &Channel, now: Instant) -> &mut OutStream {
        let floor = self.floor;
        self.streams.entry(channel.clone()).or_insert_with(|| OutStream {
            digest: channel.digest(),
            seq: floor,
            first: floor + 1,
            last_at: now,
            listed: 0,
            queued: VecDeque::new(),
        })
    }

    /// Returns the bytes that a frame takes in the queue, at most.
    fn max_cost(&self, len: usize) -> usize {
        let parts = self.parts(len);
        len + parts * (FRAME_COST + if parts > 1 { PART_OVERHEAD } else { 0 })
    }

    /// Returns the number of parts of a frame; 1 if it is sent whole.
    fn parts(&self, len: usize) -> usize {
        if len + OVERHEAD <= self.config.max_payload { 1 } else { len.div_ceil(self.part_len()) }
    }

    fn part_len(&self) -> usize {
        self.config.max_payload.saturating_sub(OVERHEAD + PART_OVERHEAD).max(MIN_PART)
    }
}

impl OutStream {
    fn touch(&mut self, now: Instant) {
        self.last_at = now;
        self.listed = 0;
    }
}

/// Heartbeats in sequence that list the end of an idle stream.
///
/// A receiver that missed more than these in sequence may have missed the end of a stream too.
pub(super) const ROUNDS: u64 = 4;

/// Memory of a queued frame without its bytes.
const FRAME_COST: usize = 64;
/// Bytes of a part's own fields, at most.
const PART_OVERHEAD: usize = 64;
const MIN_PART: usize = 64;
/// Bytes of a listed end, at most.
const MAX_TAIL: usize = 8 + 3 * 10;

/// Time that is surely no longer than `idle` by the receiver's clock, whose rate may differ by up to 1.5 %.
pub(super) fn at_least(idle: Duration) -> Duration {
    idle - idle / 64
}
