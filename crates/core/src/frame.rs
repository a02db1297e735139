//! Encoded messages shared by many recipients, and their rendered bytes for each transport.

use std::any::TypeId;
use std::cell::RefCell;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use triomphe::UniqueArc;

use crate::Message;
use crate::memory::{self, Charge};

/// Encoded messages shared by all recipients of one codec; cloning increments a reference count.
///
/// A frame is sent whole or not at all. An event and its attachments are one frame, so nothing can come between them. An
/// outbox may join consecutive events of broadcasts into one frame, whose messages are sent one after the other.
/// The first connection that needs the bytes of a transport renders them, and the frame keeps them: a broadcast is
/// rendered once for each [`WireKey`] among its recipients, regardless of their number.
#[derive(Clone)]
pub struct Frame(triomphe::Arc<Inner>);

struct Inner {
    messages: Messages,
    len: usize,
    /// Bytes charged without its renderings; zero once it is cleared.
    charged: usize,
    /// Boxed: few frames have a key, and many frames may be queued.
    key: Option<Box<Arc<str>>>,
    /// Hash of the key; nonzero if there is a key.
    key_hash: u32,
    /// Number of frames that were joined into this one, or one.
    count: u16,
    uncompressed: bool,
    own_payload: bool,
    first: OnceLock<Rendered>,
    // Mixed rooms need a few wires; a room with one kind of client never allocates this.
    more: OnceLock<Box<[OnceLock<Rendered>; EXTRA_RENDERINGS]>>,
}

impl Inner {
    const fn new(messages: Messages, len: usize, charged: usize) -> Self {
        Self {
            messages,
            len,
            charged,
            key: None,
            key_hash: 0,
            count: 1,
            uncompressed: false,
            own_payload: false,
            first: OnceLock::new(),
            more: OnceLock::new(),
        }
    }

    /// Resets everything except the length.
    fn clear(&mut self) {
        memory::release(self.charged());
        self.charged = 0;
        self.messages = Messages::None;
        self.count = 1;
        self.uncompressed = false;
        self.own_payload = false;
        // Few frames have a key or kept renderings.
        if self.key_hash != 0 {
            self.key = None;
            self.key_hash = 0;
        }
        if self.first.get().is_some() {
            self.first = OnceLock::new();
            self.more = OnceLock::new();
        }
    }

    /// Returns the bytes charged for it and its renderings.
    #[inline]
    fn charged(&self) -> usize {
        let Some(first) = self.first.get() else { return self.charged };
        let more = self.more.get().map_or(0, |more| {
            TABLE_COST
                + more
                    .iter()
                    .filter_map(OnceLock::get)
                    .map(|rendered| rendered.charged as usize)
                    .sum::<usize>()
        });
        self.charged + first.charged as usize + more
    }

    /// Returns whether a rendering is a slice of a message, as for text on some wires.
    fn is_part(&self, rendering: &Bytes) -> bool {
        let place = rendering.as_ptr_range();
        self.messages.all().iter().any(|message| {
            let body = message.as_bytes().as_ptr_range();
            body.start <= place.start && place.end <= body.end
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        memory::release(self.charged());
    }
}

/// Returns the cost of a frame without its renderings.
fn body_cost(messages: &Messages, len: usize) -> usize {
    match messages {
        // All of its bytes are in a rendering.
        Messages::None => FRAME_COST,
        Messages::One(_) => FRAME_COST + len,
        Messages::Many(messages) => FRAME_COST + size_of_val(&**messages) + len,
    }
}

/// Allocation of a frame, with its reference count and the allocator's overhead.
const FRAME_COST: usize = size_of::<Inner>() + 32;
/// Table of the renderings after the first.
const TABLE_COST: usize = size_of::<[OnceLock<Rendered>; EXTRA_RENDERINGS]>();

thread_local! {
    /// Memory of frames that were written: cleared, and not shared.
    ///
    /// Saves an allocation per emit, and 16 % of an echo (plain; Socket.IO 8 %). Thread-local rather than a parameter: codecs make frames and sinks drop
    /// them, without a common owner, and a pool shared by threads would need a lock. Bounded by [`MAX_SPARE`] frames per
    /// thread.
    static SPARE: RefCell<Vec<UniqueArc<Inner>>> = const { RefCell::new(Vec::new()) };
}

/// Maximum spare frames per thread: sixteen answers to each of 64 clients in one turn, 160 KiB.
const MAX_SPARE: usize = 1024;

enum Messages {
    None,
    One(Message),
    Many(Box<[Message]>),
}

impl Messages {
    fn all(&self) -> &[Message] {
        match self {
            Self::None => &[],
            Self::One(message) => std::slice::from_ref(message),
            Self::Many(messages) => messages,
        }
    }
}

struct Rendered {
    kind: TypeId,
    params: u32,
    /// Bytes charged for it.
    charged: u32,
    bytes: Bytes,
}

#[cfg(target_pointer_width = "64")]
const _: () =
    assert!(size_of::<Inner>() <= 160, "a flood of small messages queues tens of thousands of frames");

impl Rendered {
    /// Charges the ledger for the bytes, unless they are a slice of a message.
    fn new(WireKey { kind, params }: WireKey, bytes: Bytes, is_part: bool) -> Self {
        // The same saturated number is charged here and released later.
        let charged = if is_part { 0 } else { u32::try_from(bytes.len()).unwrap_or(u32::MAX) };
        memory::charge(charged as usize);
        Self { kind, params, charged, bytes }
    }

    fn is(&self, key: WireKey) -> bool {
        self.kind == key.kind && self.params == key.params
    }
}

/// Wire forms kept after the first. With more kinds in one room, the rest render for each recipient.
const EXTRA_RENDERINGS: usize = 7;

impl Frame {
    /// Creates a frame of one message.
    #[inline]
    pub fn new(message: impl Into<Message>) -> Self {
        let message = message.into();
        let len = message.len();
        Self::build(Messages::One(message), len)
    }

    /// Creates a frame of several messages that belong together, such as an event and its attachments.
    pub fn from_messages(messages: Vec<Message>) -> Self {
        let len = messages.iter().map(Message::len).sum();
        Self::build(Messages::Many(messages.into()), len)
    }

    /// Creates a frame that exists only in the bytes of one transport, such as a WebSocket pong.
    ///
    /// It has no messages. Any other wire renders it as an empty list of messages.
    pub fn of_wire(key: WireKey, bytes: Bytes) -> Self {
        let made = Self::build(Messages::None, bytes.len());
        // The frame is new, so the cell is empty.
        let _ = made.0.first.set(Rendered::new(key, bytes, false));
        made
    }

    /// Joins frames that [may be joined](Self::may_join) into one, with their messages in order.
    ///
    /// The messages are shared with the frames, which have charged them.
    pub(crate) fn join<'a>(frames: impl ExactSizeIterator<Item = &'a Self>) -> Self {
        let count = frames.len();
        let mut len = 0;
        let mut messages = Vec::with_capacity(count);
        for frame in frames {
            len += frame.len();
            messages.extend_from_slice(frame.messages());
        }
        let charged = FRAME_COST + size_of_val(&*messages);
        memory::charge(charged);
        let mut inner = Inner::new(Messages::Many(messages.into()), len, charged);
        inner.count = u16::try_from(count).unwrap_or(u16::MAX);
        Self(triomphe::Arc::new(inner))
    }

    /// Returns whether a queue may join the frame with others: it is one message, and has no key or hint of its own.
    pub(crate) fn may_join(&self) -> bool {
        let inner = &*self.0;
        matches!(inner.messages, Messages::One(_))
            && !(inner.uncompressed || inner.own_payload || inner.key_hash != 0)
    }

    /// Returns the number of frames that were joined into this one, or one.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.0.count.into()
    }

    /// Returns whether both are handles to the same frame.
    #[inline]
    pub(crate) fn is(&self, other: &Self) -> bool {
        triomphe::Arc::ptr_eq(&self.0, &other.0)
    }

    // Inlined, so that the messages are written to their place and not moved there.
    #[inline]
    fn build(messages: Messages, len: usize) -> Self {
        let charged = body_cost(&messages, len);
        memory::charge(charged);
        let Some(mut spare) = Self::spare() else {
            return Self(triomphe::Arc::new(Inner::new(messages, len, charged)));
        };
        // A spare frame has no messages: without a drop, an echo costs 1 % less.
        debug_assert!(matches!(spare.messages, Messages::None));
        std::mem::forget(std::mem::replace(&mut spare.messages, messages));
        spare.len = len;
        spare.charged = charged;
        Self(spare.shareable())
    }

    /// Takes the memory of a written frame, if this thread has any.
    fn spare() -> Option<UniqueArc<Inner>> {
        // A thread that is exiting has no spare frames.
        SPARE.try_with(|spare| spare.borrow_mut().pop()).ok().flatten()
    }

    /// Sets the key by which a newer frame replaces this one in an outbox that keeps only the latest.
    ///
    /// Has no effect on a shared frame.
    #[must_use]
    pub fn with_key(mut self, key: Arc<str>) -> Self {
        if let Some(inner) = triomphe::Arc::get_mut(&mut self.0) {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            inner.key_hash = hasher.finish() as u32 | 1;
            inner.key = Some(Box::new(key));
        }
        self
    }

    /// Returns the key, if any.
    pub fn key(&self) -> Option<&str> {
        self.0.key.as_deref().map(|key| &**key)
    }

    /// Returns the hash of the key, shared by few other keys; zero without a key.
    pub(crate) fn key_hash(&self) -> u32 {
        self.0.key_hash
    }

    /// Asks transports not to compress this frame.
    ///
    /// A hint, for content that is compressed already, or that holds a secret next to data chosen by others. Has no
    /// effect on a shared frame. Default: a transport may compress.
    #[must_use]
    pub fn without_compression(mut self) -> Self {
        if let Some(inner) = triomphe::Arc::get_mut(&mut self.0) {
            inner.uncompressed = true;
        }
        self
    }

    /// Asks transports that join frames in one payload to send this one in a separate payload.
    ///
    /// For a frame that ends a session: a client that handles the last packet of a payload at once, and the others a
    /// little later, would otherwise lose those. Has no effect on a shared frame. Default: a transport may join it with
    /// others.
    #[must_use]
    pub fn in_own_payload(mut self) -> Self {
        if let Some(inner) = triomphe::Arc::get_mut(&mut self.0) {
            inner.own_payload = true;
        }
        self
    }

    /// Returns whether a transport must send it in a separate payload.
    pub fn has_own_payload(&self) -> bool {
        self.0.own_payload
    }

    /// Returns whether a transport may compress it.
    pub fn may_compress(&self) -> bool {
        !self.0.uncompressed
    }

    /// Returns the messages, in the order in which they must arrive.
    pub fn messages(&self) -> &[Message] {
        self.0.messages.all()
    }

    /// Returns the total bytes of all bodies, which count against an outbox.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Returns whether all bodies are empty.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Returns whether other handles to this frame exist.
    ///
    /// A sink may write an unshared frame without keeping the rendering.
    pub fn is_shared(&self) -> bool {
        !self.0.is_unique()
    }

    /// Returns the frame in the bytes of `wire`, rendered by the first connection that asks.
    pub fn wire<W: Wire + ?Sized>(&self, wire: &W) -> Bytes {
        self.cached(wire).cloned().unwrap_or_else(|| wire.render(self.messages()))
    }

    /// Returns the frame in the bytes of `wire`, if it keeps them or has room to keep them.
    ///
    /// Like [`wire`](Self::wire), but renders nothing that the next recipient would have to render again. For a wire
    /// that is expensive to render and has a cheaper fallback.
    pub fn cached<W: Wire + ?Sized>(&self, wire: &W) -> Option<&Bytes> {
        let key = wire.key();
        let render = || {
            let bytes = wire.render(self.messages());
            let is_part = self.0.is_part(&bytes);
            Rendered::new(key, bytes, is_part)
        };
        let first = self.0.first.get_or_init(render);
        if first.is(key) {
            return Some(&first.bytes);
        }
        let more = self.0.more.get_or_init(|| {
            memory::charge(TABLE_COST);
            Box::default()
        });
        let mut slots = more.iter().map(|slot| slot.get_or_init(render));
        slots.find(|rendered| rendered.is(key)).map(|rendered| &rendered.bytes)
    }

    /// Returns the bytes of this wire if they were rendered before.
    pub fn rendered(&self, key: WireKey) -> Option<&Bytes> {
        // The table is filled only after the first.
        let first = self.0.first.get()?;
        if first.is(key) {
            return Some(&first.bytes);
        }
        let mut slots = self.0.more.get()?.iter().filter_map(OnceLock::get);
        slots.find(|rendered| rendered.is(key)).map(|rendered| &rendered.bytes)
    }

    /// Returns the same bytes, [charged](memory) until their last clone or slice is dropped.
    ///
    /// For bytes of a frame, such as a rendering, that go to code without knowledge of frames. The bytes keep a shared
    /// frame alive, so they are charged once for any number of recipients; an unshared frame is dropped. Costs one
    /// allocation.
    pub fn attach(self, bytes: Bytes) -> Bytes {
        if self.is_shared() { memory::owned(bytes, self) } else { Charge::new(bytes.len()).attach(bytes) }
    }

    /// Drops the frame, and keeps its memory for the next frame of this thread unless it is shared.
    ///
    /// For the writer of a frame. Each answer to a client is a separate frame, and sixteen answers at once exceed
    /// what allocators cache per thread.
    pub fn recycle(self) {
        Self::recycle_all(std::iter::once(self));
    }

    /// [Recycles](Self::recycle) several frames at once, at less cost for each.
    pub fn recycle_all(frames: impl Iterator<Item = Self>) {
        // Taken out of its place, since dropping the content of a frame may run foreign code.
        let mut pool = SPARE.try_with(RefCell::take).unwrap_or_default();
        for frame in frames {
            if let Ok(mut spare) = triomphe::Arc::try_unique(frame.0) {
                spare.clear();
                if pool.len() < MAX_SPARE {
                    pool.push(spare);
                }
            }
        }
        // A thread that is exiting keeps none.
        let _ = SPARE.try_with(|spare| drop(spare.replace(pool)));
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("messages", &self.messages()).field("len", &self.0.len).finish()
    }
}

impl<M: Into<Message>> From<M> for Frame {
    fn from(message: M) -> Self {
        Self::new(message)
    }
}

/// Renders messages as the bytes of one transport.
///
/// A transport implements this for its own type. Its [`FrameSink`](crate::FrameSink) passes it to [`Frame::wire`],
/// which renders a frame once for each [`WireKey`] and returns the same bytes to every recipient with that key. So
/// [`render`](Self::render) must depend only on the messages and the key: a connection with other negotiated parameters
/// has another key.
///
/// Rendering cannot fail, since a codec rejects events that its clients cannot receive. It runs on the first thread
/// that writes the frame, while other writers of the same frame wait for the result. It must not block and must not use
/// the frame itself.
///
/// # Examples
///
/// Length-prefixed messages, for a byte stream:
///
/// ```
/// use bytes::{BufMut, Bytes, BytesMut};
/// use roomcast_core::{Frame, Message, Wire, WireKey};
///
/// /// Whether lengths are little-endian, as agreed with the client
/// struct Prefixed(bool);
///
/// impl Wire for Prefixed {
///     fn key(&self) -> WireKey {
///         WireKey::of::<Self>(self.0.into())
///     }
///
///     fn render(&self, messages: &[Message]) -> Bytes {
///         let mut out = BytesMut::new();
///         for message in messages {
///             let length = message.len() as u32; // codecs bound it
///             if self.0 { out.put_u32_le(length) } else { out.put_u32(length) }
///             out.put_slice(message.as_bytes());
///         }
///         out.freeze()
///     }
/// }
///
/// let frame = Frame::new("hello");
/// let first = frame.wire(&Prefixed(false));
/// assert_eq!(*first, *b"\0\0\0\x05hello");
/// assert_eq!(frame.clone().wire(&Prefixed(false)).as_ptr(), first.as_ptr(), "rendered once");
/// assert_eq!(*frame.wire(&Prefixed(true)), *b"\x05\0\0\0hello");
/// ```
pub trait Wire {
    /// Returns the key of everything, besides the messages, that determines the rendered bytes.
    fn key(&self) -> WireKey;

    /// Renders the messages, in order.
    fn render(&self, messages: &[Message]) -> Bytes;
}

/// Identity of a wire form: the transport's own type and the parameters that change its bytes.
///
/// Connections with equal keys can share bytes. Negotiated compression or an older protocol version is a different
/// `params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WireKey {
    kind: TypeId,
    params: u32,
}

impl WireKey {
    /// Creates the key of wire `W` with these parameters.
    pub fn of<W: 'static>(params: u32) -> Self {
        Self { kind: TypeId::of::<W>(), params }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::tests::NET;

    struct Counting<const KIND: u8> {
        params: u32,
        renders: Cell<u32>,
    }

    impl<const KIND: u8> Counting<KIND> {
        fn new(params: u32) -> Self {
            Self { params, renders: Cell::new(0) }
        }
    }

    impl<const KIND: u8> Wire for Counting<KIND> {
        fn key(&self) -> WireKey {
            WireKey::of::<Self>(self.params)
        }

        fn render(&self, messages: &[Message]) -> Bytes {
            self.renders.set(self.renders.get() + 1);
            let mut out = vec![KIND, self.params as u8];
            messages.iter().for_each(|message| out.extend_from_slice(message.as_bytes()));
            out.into()
        }
    }

    #[test]
    fn renders_once_per_wire_key() {
        let (a, b) = (Counting::<1>::new(0), Counting::<2>::new(0));
        let compressed: Vec<_> = (1..=6).map(Counting::<1>::new).collect();
        let frame = Frame::from_messages(vec!["ab".into(), Bytes::from_static(b"c").into()]);
        for _ in 0..3 {
            assert_eq!(&frame.wire(&a)[..], b"\x01\x00abc");
            assert_eq!(&frame.clone().wire(&b)[..], b"\x02\x00abc");
            for (wire, params) in compressed.iter().zip(1..) {
                assert_eq!(&frame.wire(wire)[..], [1, params, b'a', b'b', b'c']);
            }
        }
        assert_eq!((a.renders.get(), b.renders.get()), (1, 1));
        assert!(compressed.iter().all(|wire| wire.renders.get() == 1));
        assert_eq!(frame.len(), 3);
    }

    #[test]
    fn renders_wires_beyond_table() {
        let frame = Frame::new("x");
        for params in 0..40 {
            assert_eq!(&frame.wire(&Counting::<1>::new(params))[..], [1, params as u8, b'x']);
        }
        let late = Counting::<1>::new(40);
        assert_eq!((frame.cached(&late), late.renders.get()), (None, 0));
        assert_eq!(frame.cached(&Counting::<1>::new(7)).map(|bytes| &bytes[..]), Some(&[1, 7, b'x'][..]));
    }

    #[test]
    fn recycled_frame_is_cleared_and_reused() {
        let wire = Counting::<1>::new(0);
        let address = |frame: &Frame| triomphe::Arc::as_ptr(&frame.0).addr();
        let first = Frame::new("first").with_key("key".into()).without_compression();
        assert_eq!(&first.wire(&wire)[..], b"\x01\x00first");
        assert!(first.cached(&Counting::<2>::new(0)).is_some());
        let (place, held) = (address(&first), first.clone());
        first.recycle();
        assert_eq!((held.key(), held.messages()), (Some("key"), &["first".into()][..]));
        assert_ne!(address(&Frame::new("other")), place);
        held.recycle();
        let next = Frame::new("next");
        assert_eq!((address(&next), next.key(), next.may_compress()), (place, None, true));
        assert_eq!((next.rendered(wire.key()), next.len()), (None, 4));
        assert_eq!(&next.wire(&wire)[..], b"\x01\x00next");
        assert_eq!(next.rendered(WireKey::of::<Counting<2>>(0)), None);
    }

    #[test]
    fn bounds_spare_frames_per_thread() {
        let frames: Vec<_> = (0..3 * MAX_SPARE).map(|_| Frame::new("x")).collect();
        frames.into_iter().for_each(Frame::recycle);
        assert_eq!(SPARE.with_borrow(Vec::len), MAX_SPARE);
    }

    #[test]
    fn shared_frame_ignores_compression_hint() {
        let frame = Frame::new("x").without_compression();
        assert!(!frame.may_compress() && !frame.clone().may_compress());
        assert!(!Frame::new("x").with_key("k".into()).without_compression().may_compress());
        let shared = Frame::new("x");
        let other = shared.clone();
        assert!(shared.without_compression().may_compress() && other.may_compress());
    }

    #[test]
    fn wire_frame_is_empty_elsewhere() {
        let (a, b) = (Counting::<1>::new(0), Counting::<2>::new(0));
        let pong = Frame::of_wire(a.key(), Bytes::from_static(b"pong"));
        assert_eq!(&pong.wire(&a)[..], b"pong");
        assert_eq!(&pong.wire(&b)[..], b"\x02\x00");
        assert_eq!(pong.rendered(a.key()).map(|bytes| &bytes[..]), Some(&b"pong"[..]));
    }
    /// Renders a single text as a slice of it, as long-polling does.
    struct Sharing;

    impl Wire for Sharing {
        fn key(&self) -> WireKey {
            WireKey::of::<Self>(0)
        }

        fn render(&self, messages: &[Message]) -> Bytes {
            match messages {
                [Message::Text(text)] => text.as_bytes().slice(..text.len() / 2),
                _ => Bytes::new(),
            }
        }
    }

    #[test]
    fn charges_body_and_renderings_once() {
        let before = NET.get();
        let charged = || (NET.get() - before) as usize;
        let frame = Frame::new("x".repeat(1000));
        assert_eq!(charged(), FRAME_COST + 1000);
        let clones = vec![frame.clone(); 5];
        for frame in &clones {
            frame.wire(&Sharing);
            frame.wire(&Counting::<1>::new(0));
        }
        assert_eq!(charged(), FRAME_COST + 1000 + TABLE_COST + 1002);
        drop(frame);
        assert_eq!(charged(), FRAME_COST + 1000 + TABLE_COST + 1002);
        clones.into_iter().for_each(Frame::recycle);
        assert_eq!(charged(), 0);
        let pong = Frame::of_wire(Sharing.key(), Bytes::from_static(b"pong"));
        assert_eq!(charged(), FRAME_COST + 4);
        let held = pong.clone().attach(Bytes::from_static(b"on"));
        pong.recycle();
        assert_eq!((&held[..], charged()), (&b"on"[..], FRAME_COST + 4));
        drop(held);
        assert_eq!(charged(), 0);
    }

    /// One step of a thread that works with frames.
    #[derive(Debug, Clone)]
    enum Step {
        Make(Vec<usize>),
        OfWire(usize),
        Clone(usize),
        Render(usize, u32),
        Drop(usize),
        Recycle(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => prop::collection::vec(0..3000_usize, 0..4).prop_map(Step::Make),
            1 => (0..200_usize).prop_map(Step::OfWire),
            2 => any::<usize>().prop_map(Step::Clone),
            3 => (any::<usize>(), 0..12_u32).prop_map(|(at, wire)| Step::Render(at, wire)),
            1 => any::<usize>().prop_map(Step::Drop),
            2 => any::<usize>().prop_map(Step::Recycle),
        ]
    }

    /// Performs the steps on these frames.
    fn perform(steps: &[Step], frames: &mut Vec<Frame>) {
        for step in steps {
            let at = |at: usize| at % frames.len().max(1);
            match step {
                Step::Make(lens) => {
                    let messages = lens.iter().map(|len| Message::from("x".repeat(*len)));
                    let frame = match lens[..] {
                        [_] => messages.map(Frame::new).next(),
                        _ => Some(Frame::from_messages(messages.collect())),
                    };
                    frames.extend(frame);
                }
                Step::OfWire(len) => frames.push(Frame::of_wire(Sharing.key(), vec![0; *len].into())),
                _ if frames.is_empty() => {}
                Step::Clone(n) => frames.push(frames[at(*n)].clone()),
                Step::Render(n, 0) => _ = frames[at(*n)].wire(&Sharing),
                Step::Render(n, wire) => _ = frames[at(*n)].wire(&Counting::<1>::new(*wire)),
                Step::Drop(n) => drop(frames.swap_remove(at(*n))),
                Step::Recycle(n) => frames.swap_remove(at(*n)).recycle(),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn charges_balance_across_threads(rounds in prop::collection::vec(
            prop::array::uniform3(prop::collection::vec(step(), 0..30)), 1..4,
        )) {
            let mut all: [Vec<Frame>; 3] = Default::default();
            let mut net = 0;
            for steps in &rounds {
                // Each thread continues with the frames of another one, while others hold clones of them.
                all.rotate_left(1);
                let shared = all.iter().flatten().step_by(3).cloned().collect::<Vec<_>>();
                all[0].extend(shared);
                net += thread::scope(|scope| {
                    let mut threads = Vec::new();
                    for (steps, frames) in steps.iter().zip(&mut all) {
                        threads.push(scope.spawn(move || {
                            perform(steps, frames);
                            NET.get()
                        }));
                    }
                    threads.into_iter().map(|thread| thread.join().expect("a thread")).sum::<isize>()
                });
                let mut distinct: Vec<_> = all.iter().flatten().map(|frame| &*frame.0).collect();
                distinct.sort_by_key(|inner| std::ptr::from_ref(*inner));
                distinct.dedup_by_key(|inner| std::ptr::from_ref(*inner));
                prop_assert_eq!(net, distinct.iter().map(|inner| inner.charged() as isize).sum::<isize>());
            }
            let before = NET.get();
            drop(all);
            prop_assert_eq!(net + NET.get() - before, 0);
        }
    }
}
