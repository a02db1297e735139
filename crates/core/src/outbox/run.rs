//! Frames that a thread broadcasts one after the other in one codec, stored once for all queues that hold them.
//!
//! Under load, most recipients of a room wait for the same frames. A queue that holds consecutive frames of a [`Run`]
//! stores only their range, and a writer takes the range as one frame, which is joined and rendered once for all
//! recipients. Per recipient and frame, that saves a reference to the frame, an entry in the queue, and a copy of the
//! bytes: 60 % of the instructions of a saturated broadcast. Each codec has runs of its own, since the clients of a
//! room with several kinds receive only the frames of theirs.
//!
//! # Why a thread-local
//!
//! The frames come from separate calls of [`Router::broadcast`](crate::Router::broadcast), which share no value: the
//! rooms, and even the namespaces, may differ. The values are dropped when a flusher of the thread starts to write, and
//! bounded by [`CODECS`], [`RUN_FRAMES`] and [`RUN_BYTES`] on threads without a flusher.

use std::cell::RefCell;
use std::sync::OnceLock;

use crate::{Codec, Frame, memory};

/// Frame of a broadcast, with its place among the frames that this thread broadcasts in one turn.
///
/// A router creates it once for each codec of a broadcast, and passes it to [`Outbox::push_shared`] for each recipient.
///
/// [`Outbox::push_shared`]: crate::Outbox::push_shared
#[derive(Debug)]
pub struct SharedFrame {
    pub(super) frame: Frame,
    pub(super) place: Option<Place>,
    /// End of the previous run. Dropped with this frame, since dropping a frame may run foreign code, and frames are
    /// created under the lock of a room.
    _ended: Last,
}

/// Position of a frame in a run.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) run: Run,
    /// At least one: a run begins with its second frame.
    pub(super) at: u8,
}

impl SharedFrame {
    /// Creates a frame of the current thread's next broadcast, as `codec` has encoded it.
    pub fn new(frame: Frame, codec: &dyn Codec) -> Self {
        Self::of_codec(frame, std::ptr::from_ref(codec).addr())
    }

    /// Creates a frame of a codec with this address; a wrong one only prevents that frames share a run.
    pub(super) fn of_codec(frame: Frame, codec: usize) -> Self {
        // A thread that is exiting has no turns.
        let place =
            |turns: &RefCell<[Turn; CODECS]>| Turn::of(&mut turns.borrow_mut(), codec).place(&frame, codec);
        let (place, ended) = TURNS.try_with(place).unwrap_or_default();
        Self { frame, place, _ended: ended }
    }
}

/// Consecutive frames of one thread.
#[derive(Clone)]
pub(super) struct Run(triomphe::Arc<Shared>);

struct Shared {
    /// Set in order, by the thread that broadcasts.
    frames: [OnceLock<Frame>; FEW],
    /// Further frames. Separate, since a stalled client may hold many short runs.
    more: OnceLock<Box<More>>,
    /// Ranges that were taken as one frame.
    joined: [OnceLock<Joined>; RANGES],
}

type More = [OnceLock<Frame>; RUN_FRAMES - FEW];

struct Joined {
    from: u8,
    to: u8,
    frame: Frame,
}

impl Run {
    fn new(first: Frame, second: Frame) -> Self {
        memory::charge(size_of::<Shared>());
        let run = Self(triomphe::Arc::new(Shared {
            frames: [const { OnceLock::new() }; FEW],
            more: OnceLock::new(),
            joined: [const { OnceLock::new() }; RANGES],
        }));
        run.set(0, first);
        run.set(1, second);
        run
    }

    fn set(&self, at: usize, frame: Frame) {
        let place = self.0.frames.get(at).unwrap_or_else(|| {
            let more = self.0.more.get_or_init(|| {
                memory::charge(size_of::<More>());
                Box::new([const { OnceLock::new() }; RUN_FRAMES - FEW])
            });
            &more[at - FEW]
        });
        debug_assert!(place.get().is_none(), "each place is set once");
        _ = place.set(frame);
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        triomphe::Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the frame at a place that a queue refers to.
    pub(super) fn frame(&self, at: u8) -> &Frame {
        let at = usize::from(at);
        let place = match self.0.frames.get(at) {
            Some(place) => place.get(),
            None => self.0.more.get().and_then(|more| more[at - FEW].get()),
        };
        place.expect("a place is set before a queue refers to it")
    }

    /// Returns a range as one frame, if several queues hold it.
    pub(super) fn joined(&self, from: u8, to: u8) -> Option<Frame> {
        let held_by_others = triomphe::Arc::strong_count(&self.0) > 1;
        if to - from < 2 || !held_by_others && !self.is_taken() {
            return None;
        }
        let join = || Joined { from, to, frame: Frame::join((from..to).map(|at| self.frame(at))) };
        let mut ranges = self.0.joined.iter().map(|range| range.get_or_init(join));
        ranges.find(|range| (range.from, range.to) == (from, to)).map(|range| range.frame.clone())
    }

    /// Returns whether a writer has taken a range, so that most queues do not hold its end any more.
    fn is_taken(&self) -> bool {
        self.0.joined[0].get().is_some()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        memory::release(size_of::<Self>());
        self.frames.iter_mut().filter_map(OnceLock::take).for_each(Frame::recycle);
        if let Some(mut more) = self.more.take() {
            memory::release(size_of::<More>());
            more.iter_mut().filter_map(OnceLock::take).for_each(Frame::recycle);
        }
    }
}

thread_local! {
    /// Frames that this thread broadcasts before its flusher writes; see the module documentation.
    static TURNS: RefCell<[Turn; CODECS]> = const { RefCell::new([const { Turn::new() }; CODECS]) };
}

/// Latest run of one codec.
struct Turn {
    /// Address of the codec.
    codec: usize,
    last: Last,
    frames: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
enum Last {
    #[default]
    None,
    /// A single frame, so that a turn with one broadcast allocates no run.
    Frame(Frame),
    Run(Run),
}

impl Turn {
    const fn new() -> Self {
        Self { codec: 0, last: Last::None, frames: 0, bytes: 0 }
    }

    /// Returns the turn of a codec, or the one to use for it: an unused one, or else the first.
    fn of(turns: &mut [Self; CODECS], codec: usize) -> &mut Self {
        let own = turns.iter().position(|turn| turn.codec == codec);
        let at = own.or_else(|| turns.iter().position(|turn| matches!(turn.last, Last::None)));
        &mut turns[at.unwrap_or(0)]
    }

    /// Adds the next frame; returns its place unless it is the first of a run, and the run that it ends.
    fn place(&mut self, frame: &Frame, codec: usize) -> (Option<Place>, Last) {
        let fits = self.codec == codec
            && self.frames < RUN_FRAMES
            && self.bytes + frame.len() <= RUN_BYTES
            && frame.may_join();
        let run = match std::mem::take(&mut self.last) {
            Last::Frame(first) if fits => Run::new(first, frame.clone()),
            Last::Run(run) if fits && !run.is_taken() => {
                run.set(self.frames, frame.clone());
                run
            }
            ended => {
                let begins = frame.may_join() && frame.len() <= RUN_BYTES;
                let last = if begins { Last::Frame(frame.clone()) } else { Last::None };
                *self = Self { codec, last, frames: 1, bytes: frame.len() };
                return (None, ended);
            }
        };
        let place = Place { run: run.clone(), at: self.frames as u8 };
        self.last = Last::Run(run);
        self.frames += 1;
        self.bytes += frame.len();
        (Some(place), Last::None)
    }
}

/// Ends the runs of this thread, before its flusher writes.
pub(super) fn end_turn() {
    let end = |turns: &RefCell<[Turn; CODECS]>| {
        turns.borrow_mut().each_mut().map(|turn| std::mem::take(&mut turn.last))
    };
    let lasts = TURNS.try_with(end);
    // Dropped after the borrow, since a frame may run foreign code.
    drop(lasts);
}

/// Codecs of which a thread has runs at a time.
const CODECS: usize = if cfg!(loom) { 1 } else { 4 };

/// Maximum frames of a run.
const RUN_FRAMES: usize = if cfg!(loom) { 4 } else { 64 };
/// Frames stored in the run itself.
const FEW: usize = if cfg!(loom) { 2 } else { 8 };
/// Maximum bytes of a run, since a sink keeps the unwritten rest of a joined frame.
const RUN_BYTES: usize = 16 * 1024;
/// Ranges of a run that are joined; other ranges are taken frame by frame.
const RANGES: usize = 4;

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Run")
    }
}
