//! Streams of frames from other nodes: duplicates, gaps, and parts of large publications.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use foldhash::fast::RandomState;

use super::ordered::{Ready, Waiting, Waits};
use super::outputs::Outputs;
use super::queue::at_least;
use crate::envelope::{Frame, Position, Tail, decode_whole};
use crate::mutation::Mutation;
use crate::{Channel, ClusterConfig, Incarnation, NodeId, NodeRef};

/// Streams of the subscribed channels.
#[derive(Debug)]
pub(super) struct InStreams {
    pub(super) config: Arc<ClusterConfig>,
    pub(super) channels: HashMap<Channel, Publishers, RandomState>,
    /// Listed ends that had not arrived, by the time when they count as lost, in order.
    suspects: VecDeque<Suspect>,
    /// Bytes of incomplete and waiting publications.
    pub(super) bytes: usize,
    /// Publications that wait for other channels, by publishing node.
    pub(super) waits: BTreeMap<NodeRef, Waits>,
    /// Time at which the first wait ends.
    pub(super) wait_at: Option<Instant>,
    /// Publications to deliver.
    pub(super) ready: VecDeque<Ready>,
}

/// Streams of a channel by publishing node.
///
/// Most channels have few publishers, for which a tree would allocate eleven places at once.
#[derive(Debug, Default)]
pub(super) struct Publishers(Vec<(NodeId, InStream)>);

/// Stream of one node on one channel.
#[derive(Debug, Default)]
pub(super) struct InStream {
    pub(super) incarnation: Incarnation,
    /// Number of the last frame that arrived.
    last: Option<u64>,
    /// Time at which it arrived.
    last_at: Option<Instant>,
    /// Number up to which missing frames have been reported.
    reported: u64,
    partial: Option<Box<Partial>>,
    /// Greatest number of a publication to several rooms that has been delivered to the members of this channel.
    pub(super) passed: u64,
    /// Publications that wait for other channels, in order.
    pub(super) waiting: VecDeque<Waiting>,
}

/// Incomplete publication.
#[derive(Debug)]
struct Partial {
    next: u64,
    count: u64,
    len: usize,
    body: BytesMut,
}

#[derive(Debug)]
struct Suspect {
    at: Instant,
    from: NodeRef,
    channel: Channel,
    tail: Tail,
    /// The last frame arrived on the present subscription.
    is_certain: bool,
}

impl InStreams {
    pub(super) fn new(config: Arc<ClusterConfig>) -> Self {
        Self {
            config,
            channels: HashMap::default(),
            suspects: VecDeque::new(),
            bytes: 0,
            waits: BTreeMap::new(),
            wait_at: None,
            ready: VecDeque::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a frame; returns it if it is to be handled. See [`Interest::receive`](super::interest::Interest).
    #[allow(clippy::too_many_arguments, reason = "each is a different type")]
    pub(super) fn receive(
        &mut self,
        channel: &Channel,
        confirmed_at: Option<Instant>,
        from: NodeRef,
        position: Position,
        frame: Frame,
        now: Instant,
        out: &mut Outputs,
    ) -> Option<Frame> {
        let Position { seq, run, idle } = position;
        let stream = stream(&mut self.channels, &mut self.bytes, channel, from);
        if stream.last.is_some_and(|last| seq <= last) {
            out.metrics.duplicates += 1;
            if !self.config.has(Mutation::DeliverDuplicates) {
                return None;
            }
        }
        if seq <= stream.reported {
            out.metrics.late += 1;
        }
        let first_of_run = seq - run;
        if stream.last.is_none_or(|last| last + 1 < first_of_run) {
            // Listed ends of earlier runs can no longer arrive. If the node was suspended, their timeouts are still
            // due.
            self.suspects.retain(|suspect| {
                let is_over =
                    suspect.tail.seq < first_of_run && suspect.from == from && suspect.channel == *channel;
                if is_over && let Some(lost) = stream.miss(suspect) {
                    out.gap(Some(channel.clone()), Some(from), lost);
                }
                !is_over
            });
        }
        // The frame before this one is expected if it may have been published after the subscription.
        let is_expected = run > 0 && confirmed_at.is_some_and(|at| may_follow(now, idle, at));
        // A frame that arrived on an earlier subscription says little about those that follow.
        let is_certain = stream.last_at >= confirmed_at;
        let lost = match stream.last {
            Some(last) => {
                let missing = (last + 1).max(first_of_run).max(stream.reported + 1);
                (is_expected && missing < seq).then(|| is_certain.then(|| seq - missing))
            }
            None => (is_expected && seq - 1 > stream.reported).then_some(None),
        };
        let is_next = stream.last.is_some_and(|last| last + 1 == seq);
        (stream.last, stream.last_at) = (Some(seq), Some(now));
        if !is_next && !self.config.has(Mutation::JoinPartsAcrossGaps) {
            stream.drop_partial(&mut self.bytes);
        }
        if let Some(lost) = lost
            && !self.config.has(Mutation::HideGaps)
        {
            out.gap(Some(channel.clone()), Some(from), lost);
        }
        let Frame::Part { index, count, len, body } = frame else {
            stream.drop_partial(&mut self.bytes);
            return Some(frame);
        };
        match stream.assemble(Part { index, count, len, body: &body }, &mut self.bytes, &self.config) {
            Assembled::Whole(whole) => match decode_whole(whole, channel) {
                Ok(frame) => return Some(frame),
                Err(_) => out.metrics.unreadable += 1,
            },
            Assembled::Abandoned => out.metrics.abandoned += 1,
            Assembled::Incomplete | Assembled::Ignored => return None,
        }
        out.gap(Some(channel.clone()), Some(from), Some(1));
        None
    }

    /// Compares the end of a stream with the frames that arrived.
    ///
    /// Heartbeats have another channel, so they may overtake the frames: a gap is reported only if it remains one
    /// heartbeat later.
    pub(super) fn compare_tail(
        &mut self,
        channel: &Channel,
        confirmed_at: Option<Instant>,
        from: NodeRef,
        tail: Tail,
        now: Instant,
    ) {
        let stream = self.channels.get(channel).and_then(|streams| streams.get(from.id));
        let stream = stream.filter(|stream| stream.incarnation == from.incarnation);
        let reported = stream.map_or(0, |stream| stream.reported);
        let last = stream.and_then(|stream| stream.last).unwrap_or(0);
        let is_missing =
            tail.seq > last.max(reported) && confirmed_at.is_some_and(|at| may_follow(now, tail.age, at));
        if is_missing && !self.config.has(Mutation::IgnoreTails) {
            let at = now + self.config.heartbeat_interval;
            let is_certain = stream.is_some_and(|stream| stream.last_at >= confirmed_at);
            self.suspects.push_back(Suspect { at, from, channel: channel.clone(), tail, is_certain });
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut Outputs) {
        while self.suspects.front().is_some_and(|suspect| suspect.at <= now)
            && let Some(suspect) = self.suspects.pop_front()
        {
            let stream = stream(&mut self.channels, &mut self.bytes, &suspect.channel, suspect.from);
            if let Some(lost) = stream.miss(&suspect) {
                out.gap(Some(suspect.channel), Some(suspect.from), lost);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.suspects.front().map(|suspect| suspect.at).into_iter().chain(self.wait_at).min()
    }

    pub(super) fn forget_channel(&mut self, channel: &Channel) {
        self.suspects.retain(|suspect| suspect.channel != *channel);
        let streams = self.channels.remove(channel).unwrap_or_default();
        self.bytes -= streams.0.iter().map(|(_, stream)| stream.held_bytes()).sum::<usize>();
        self.forget_waits(channel);
    }

    pub(super) fn forget_node(&mut self, node: NodeRef, out: &mut Outputs) {
        let hides = self.config.has(Mutation::ForgetMissing);
        self.suspects.retain(|suspect| {
            if suspect.from != node {
                return true;
            }
            // Frames that arrive later are dropped.
            let stream = stream(&mut self.channels, &mut self.bytes, &suspect.channel, node);
            if let Some(lost) = stream.miss(suspect)
                && !hides
            {
                out.gap(Some(suspect.channel.clone()), Some(node), lost);
            }
            false
        });
        let (mut freed, mut incomplete) = (0, Vec::new());
        self.channels.retain(|channel, streams| {
            if let Some(stream) = streams.get(node.id)
                && stream.incarnation <= node.incarnation
            {
                freed += stream.held_bytes();
                if stream.partial.is_some() || !stream.waiting.is_empty() {
                    incomplete.push(channel.clone());
                }
                streams.0.retain(|(id, _)| *id != node.id);
            }
            !streams.0.is_empty()
        });
        // The map has no order, and the outputs must not depend on it.
        incomplete.sort_unstable();
        if !hides {
            incomplete.into_iter().for_each(|channel| out.gap(Some(channel), Some(node), None));
        }
        self.bytes -= freed;
        self.waits.retain(|from, _| from.id != node.id || from.incarnation > node.incarnation);
    }
}

struct Part<'a> {
    index: u64,
    count: u64,
    len: u64,
    body: &'a [u8],
}

enum Assembled {
    Incomplete,
    Whole(Bytes),
    /// The beginning is missing, which was reported or preceded the subscription.
    Ignored,
    /// It exceeds a limit, or the parts do not fit.
    Abandoned,
}

impl Publishers {
    pub(super) fn get(&self, node: NodeId) -> Option<&InStream> {
        let place = self.0.binary_search_by_key(&node, |(id, _)| *id).ok()?;
        Some(&self.0[place].1)
    }

    pub(super) fn streams_mut(&mut self) -> impl Iterator<Item = &mut InStream> {
        self.0.iter_mut().map(|(_, stream)| stream)
    }

    fn entry(&mut self, node: NodeId) -> &mut InStream {
        let place = self.0.binary_search_by_key(&node, |(id, _)| *id).unwrap_or_else(|place| {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(place, (node, InStream::default()));
            place
        });
        &mut self.0[place].1
    }
}

impl InStream {
    /// Records that the frames up to a listed end are lost, unless they have arrived or were reported.
    ///
    /// Returns the number of lost frames, if it is known.
    fn miss(&mut self, suspect: &Suspect) -> Option<Option<u64>> {
        let Suspect { tail, is_certain, .. } = *suspect;
        let lost = match self.last {
            Some(last) => {
                let missing = (last + 1).max(tail.seq - tail.run).max(self.reported + 1);
                (missing <= tail.seq).then(|| is_certain.then(|| tail.seq - missing + 1))
            }
            None => (self.reported < tail.seq).then_some(None),
        };
        self.reported = self.reported.max(tail.seq);
        lost
    }

    fn partial_len(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.body.len())
    }

    /// Returns the bytes of publications that are incomplete or wait.
    fn held_bytes(&self) -> usize {
        self.partial_len() + self.waiting.iter().map(Waiting::cost).sum::<usize>()
    }

    fn drop_partial(&mut self, bytes: &mut usize) {
        *bytes -= self.partial_len();
        self.partial = None;
    }

    /// Appends a part; `bytes` is the total of all incomplete publications.
    fn assemble(&mut self, part: Part<'_>, bytes: &mut usize, config: &ClusterConfig) -> Assembled {
        let Part { index, count, len, body } = part;
        let lenient = config.has(Mutation::JoinPartsAcrossGaps);
        if index == 0 && !(lenient && self.partial.is_some()) {
            self.drop_partial(bytes);
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            if len > config.max_publication || len > config.reassembly_bytes.saturating_sub(*bytes) {
                return Assembled::Abandoned;
            }
            self.partial = Some(Box::new(Partial { next: 0, count, len, body: BytesMut::new() }));
        }
        let Some(partial) = &mut self.partial else { return Assembled::Ignored };
        let fits = body.len() <= partial.len - partial.body.len()
            && body.len() <= config.reassembly_bytes.saturating_sub(*bytes);
        let is_next = lenient || (index == partial.next && count == partial.count);
        if !fits || !is_next {
            self.drop_partial(bytes);
            return Assembled::Abandoned;
        }
        partial.body.extend_from_slice(body);
        *bytes += body.len();
        partial.next += 1;
        if partial.next < partial.count {
            return Assembled::Incomplete;
        }
        let is_whole = partial.body.len() == partial.len;
        let whole = std::mem::take(&mut partial.body);
        *bytes -= whole.len();
        self.partial = None;
        if is_whole { Assembled::Whole(whole.freeze()) } else { Assembled::Abandoned }
    }
}

/// Returns the stream of a node's incarnation; a new one replaces that of an older incarnation.
pub(super) fn stream<'a>(
    channels: &'a mut HashMap<Channel, Publishers, RandomState>,
    bytes: &mut usize,
    channel: &Channel,
    from: NodeRef,
) -> &'a mut InStream {
    let stream = channels.entry(channel.clone()).or_default().entry(from.id);
    if stream.incarnation != from.incarnation {
        *bytes -= stream.held_bytes();
        *stream = InStream { incarnation: from.incarnation, ..InStream::default() };
    }
    stream
}

/// Returns whether something that happened `age` ago, at most, may have followed `since`.
pub(super) fn may_follow(now: Instant, age: Duration, since: Instant) -> bool {
    now.checked_sub(at_least(age)).is_some_and(|at| at >= since)
}
