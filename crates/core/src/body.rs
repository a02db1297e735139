//! Response bodies, and the progress of writing them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use crate::{BoxError, Frame};

/// Body of a response: complete in memory, or streamed.
///
/// The HTTP library gets a complete body in slices of at most [`SLICE`](Self::SLICE) bytes, without copying, so it
/// takes the next slice only when its write buffer has room. A body of up to one slice is passed on unchanged.
#[derive(Debug, Default)]
#[allow(clippy::exhaustive_enums, reason = "transports match every kind of body")]
pub enum ResponseBody {
    /// Empty body.
    #[default]
    Empty,
    /// Complete body.
    Full(Bytes),
    /// Complete body, rendered by a transport from one frame.
    ///
    /// A server can keep derived forms, such as a compressed one, with the frame for its other recipients.
    Rendered(Frame, Bytes),
    /// Complete body whose written bytes are counted; see [`track`](Self::track).
    Tracked(Box<TrackedBody>),
    /// Body produced over time, such as server-sent events.
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl ResponseBody {
    /// Maximum bytes passed to the HTTP library at once.
    ///
    /// hyper takes slices while its write buffer holds fewer than 16 of them and less than its `max_buf_size`, so it
    /// holds up to 128 KiB of a long body by default, and 72 KiB in this project's own HTTP server. Progress is visible
    /// in steps of a slice, so a slice is smaller than the default minimum that a client must read within the stall
    /// timeout.
    pub const SLICE: usize = 8 * 1024;

    /// Counts in `progress` the bytes of this body that the HTTP library has written.
    ///
    /// Has no effect on a body of one slice or a stream: the library takes a single slice at once, which shows no
    /// progress of the client. Costs one allocation for the body and one for each slice.
    #[must_use]
    pub fn track(self, progress: &BodyProgress) -> Self {
        let (frame, bytes) = match self {
            Self::Full(bytes) if bytes.len() > Self::SLICE => (None, bytes),
            Self::Rendered(frame, bytes) if bytes.len() > Self::SLICE => (Some(frame), bytes),
            other => return other,
        };
        Self::Tracked(Box::new(TrackedBody { frame, bytes, progress: progress.clone() }))
    }

    /// Returns the rest of a complete body; `None` for a stream.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Empty | Self::Stream(_) => None,
            Self::Full(bytes) | Self::Rendered(_, bytes) => Some(bytes),
            Self::Tracked(tracked) => Some(&tracked.bytes),
        }
    }

    /// Returns the frame, if the whole body was rendered from one.
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Rendered(frame, _) => Some(frame),
            Self::Tracked(tracked) => tracked.frame.as_ref(),
            Self::Empty | Self::Full(_) | Self::Stream(_) => None,
        }
    }

    /// Replaces the whole body, for example with its compressed form; a tracked body stays tracked.
    pub fn replace(&mut self, bytes: impl Into<Self>) {
        let body = bytes.into();
        *self = match std::mem::take(self) {
            Self::Tracked(tracked) => body.track(&tracked.progress),
            _ => body,
        };
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl From<&'static str> for ResponseBody {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<String> for ResponseBody {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        // Bytes of a frame inside the HTTP library stay charged, except for a single slice.
        *this = match std::mem::take(this) {
            Self::Rendered(frame, bytes) if bytes.len() > Self::SLICE => Self::Full(frame.attach(bytes)),
            other => other,
        };
        let (slice, is_last) = match this {
            Self::Empty => return Poll::Ready(None),
            Self::Full(bytes) | Self::Rendered(_, bytes) => (next_slice(bytes), bytes.is_empty()),
            Self::Tracked(tracked) => (tracked.next_slice(), tracked.bytes.is_empty()),
            Self::Stream(stream) => return Pin::new(stream).poll_frame(cx),
        };
        if is_last {
            *this = Self::Empty;
        }
        Poll::Ready(Some(Ok(http_body::Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) | Self::Rendered(..) | Self::Tracked(_) => false,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) | Self::Rendered(_, bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Tracked(tracked) => SizeHint::with_exact(tracked.bytes.len() as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// Takes the first slice out of `bytes`, or all of them if they fit in one.
fn next_slice(bytes: &mut Bytes) -> Bytes {
    if bytes.len() <= ResponseBody::SLICE {
        std::mem::take(bytes)
    } else {
        bytes.split_to(ResponseBody::SLICE)
    }
}

/// Complete body of more than one slice whose written bytes are counted; made by [`ResponseBody::track`].
#[derive(Debug)]
pub struct TrackedBody {
    frame: Option<Frame>,
    bytes: Bytes,
    progress: BodyProgress,
}

impl TrackedBody {
    fn next_slice(&mut self) -> Bytes {
        // Only the bytes are needed from here on, and they stay charged. An unshared frame drops its messages.
        if let Some(frame) = self.frame.take() {
            self.bytes = frame.attach(std::mem::take(&mut self.bytes));
        }
        Bytes::from_owner(Slice { bytes: next_slice(&mut self.bytes), progress: self.progress.clone() })
    }
}

/// Counter of the response bytes that the HTTP library has written, shared by a sink and its responses.
///
/// A slice of a [tracked](ResponseBody::track) body is counted when the HTTP library drops it. hyper, for HTTP/1 and
/// HTTP/2, keeps a slice until the underlying stream, such as a TCP socket, has accepted its last byte. A stream
/// without vectored writes makes hyper copy each slice on arrival, and a layer that transforms bodies consumes them.
/// The counter then runs ahead by the content of their buffers.
///
/// Cloning gives another handle to the same counter.
#[derive(Debug, Clone, Default)]
pub struct BodyProgress(Arc<AtomicU64>);

impl BodyProgress {
    /// Creates a counter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of bytes written so far; wraps around at 2⁶⁴.
    ///
    /// Slices that the HTTP library drops because its connection broke are counted too: at most its write buffer, once
    /// for each response. Bytes that it has not taken are never counted.
    pub fn moved(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Slice inside the HTTP library, counted on drop.
struct Slice {
    bytes: Bytes,
    progress: BodyProgress,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        // Relaxed, since a reader only compares two values.
        self.progress.0.fetch_add(self.bytes.len() as u64, Ordering::Relaxed);
    }
}
