//! Byte stream of one HTTP connection, and its deadlines

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use memchr::memchr_iter;
use roomcast_core::{BoxError, ResponseBody};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::repeated_poll::{AnswerPoll, LONGEST_HEAD, RepeatedPolls};
use crate::util::clock;
use crate::util::coop::yield_now;

/// State of one HTTP connection that its stream, its bodies and its task share.
///
/// Each direction has its own clock. A request head that has begun must be complete within the header timeout, also
/// behind a request in progress; so must the response to a client that has closed its side. A blocked write must make
/// progress within the keep-alive timeout. An otherwise idle connection is closed after the keep-alive timeout.
///
/// Only one task accesses it, so memory ordering is irrelevant.
pub(crate) struct Activity {
    began: Instant,
    header_timeout: Duration,
    keep_alive_timeout: Duration,
    /// A request is being answered
    busy: AtomicBool,
    /// Unread bytes of that request's body; all ones if unknown
    body_left: AtomicU64,
    /// That request is useless once the client disconnects
    ends_with_client: AtomicBool,
    /// A part of a request head has arrived, or the first one is awaited
    in_header: AtomicBool,
    /// Writes are blocked
    blocked: AtomicBool,
    /// The client has disconnected
    peer_closed: AtomicBool,
    /// The stream holds back data until the request has been answered
    keeps: AtomicBool,
    /// Waker of the task, if it waits for that data
    reader: Mutex<Option<Waker>>,
    /// Milliseconds from `began` to the start of the current clock
    since: AtomicU64,
    requests: AtomicUsize,
    /// The request in progress may be a poll that the stream can remember
    may_repeat: AtomicBool,
    /// A repeated poll is being answered, without the HTTP library
    answers_poll: AtomicBool,
    /// The request in progress leaves HTTP: its response is kept for the transport, which sends it with first frames
    leaves_http: AtomicBool,
    /// Answers to the repetitions of the poll that was answered last, for the stream
    answers: Mutex<Option<Box<dyn AnswerPoll>>>,
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activity").field("busy", &self.busy).finish_non_exhaustive()
    }
}

impl Activity {
    pub(crate) fn new(header_timeout: Duration, keep_alive_timeout: Duration) -> Self {
        Self {
            began: clock::now(),
            header_timeout,
            keep_alive_timeout,
            busy: AtomicBool::new(false),
            body_left: AtomicU64::new(0),
            ends_with_client: AtomicBool::new(false),
            in_header: AtomicBool::new(true),
            blocked: AtomicBool::new(false),
            peer_closed: AtomicBool::new(false),
            keeps: AtomicBool::new(false),
            reader: Mutex::new(None),
            since: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            may_repeat: AtomicBool::new(false),
            answers_poll: AtomicBool::new(false),
            leaves_http: AtomicBool::new(false),
            answers: Mutex::new(None),
        }
    }

    /// Returns the number of requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Records the start of a request: its body's length if known, and whether a disconnect makes it useless.
    pub(crate) fn request_began(&self, body: Option<u64>, ends_with_client: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        set(&self.in_header, false);
        self.body_left.store(body.unwrap_or(u64::MAX), Ordering::Relaxed);
        set(&self.ends_with_client, ends_with_client);
        set(&self.busy, true);
    }

    /// Returns whether the stream can [remember](Self::remember) the request in progress.
    pub(crate) fn may_repeat(&self) -> bool {
        get(&self.may_repeat)
    }

    /// Lets the repetitions of a poll that was answered with success bypass the HTTP library.
    pub(crate) fn remember(&self, answers: Box<dyn AnswerPoll>) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
    }

    /// Returns whether a poll is being answered that the HTTP library does not know of.
    pub(crate) fn answers_poll(&self) -> bool {
        get(&self.answers_poll)
    }

    /// Makes the stream keep the response to the request in progress, for the transport that takes the connection over.
    pub(crate) fn leave_http(&self) {
        set(&self.leaves_http, true);
    }

    fn request_ended(&self) {
        set(&self.busy, false);
        if !self.is_in_header() {
            self.mark();
        }
        if self.keeps.swap(false, Ordering::Relaxed) {
            let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
            reader.into_iter().for_each(Waker::wake);
        }
    }

    /// Wakes the task once the request has been answered.
    fn keep_back(&self, cx: &Context<'_>) {
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        set(&self.keeps, true);
    }

    fn head_began(&self) {
        if !self.in_header.swap(true, Ordering::Relaxed) {
            self.mark();
        }
    }

    fn head_ended(&self) {
        set(&self.in_header, false);
    }

    /// Records the outcome of a write.
    fn wrote(&self, blocked: bool) {
        let was_blocked = self.blocked.swap(blocked, Ordering::Relaxed);
        // An awaited head keeps its clock, unless a blocked write prevented the client from sending it.
        if was_blocked != blocked || blocked || !get(&self.busy) && !self.is_in_header() {
            self.mark();
        }
    }

    fn mark(&self) {
        // Rounded up, so that no deadline is early.
        let since = clock::now().saturating_duration_since(self.began).as_nanos().div_ceil(1_000_000);
        self.since.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Returns whether a request head is awaited or incomplete.
    pub(crate) fn is_in_header(&self) -> bool {
        get(&self.in_header)
    }

    /// Returns the client's deadline; `None` while no request is awaited.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timeout = match (get(&self.blocked), get(&self.busy), self.is_in_header()) {
            // The peer may be gone.
            (_, true, _) if get(&self.peer_closed) => self.header_timeout,
            // The session enforces its own deadlines for the response.
            (true, true, _) | (false, true, false) => return None,
            (false, _, true) => self.header_timeout,
            (true, false, _) | (false, false, false) => self.keep_alive_timeout,
        };
        let since = self.began + Duration::from_millis(self.since.load(Ordering::Relaxed));
        // A timeout that overflows is none.
        since.checked_add(timeout)
    }

    /// Returns the unread bytes of the current request's body; `None` without a request in progress.
    fn body_left(&self) -> Option<u64> {
        get(&self.busy).then(|| self.body_left.load(Ordering::Relaxed))
    }
}

fn set(flag: &AtomicBool, value: bool) {
    flag.store(value, Ordering::Relaxed);
}

fn get(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

/// Request body that records its completion.
pub(crate) struct ArrivingBody {
    body: Incoming,
    activity: Arc<Activity>,
}

impl ArrivingBody {
    pub(crate) fn new(body: Incoming, activity: Arc<Activity>) -> Self {
        Self { body, activity }
    }
}

impl Body for ArrivingBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.activity.body_left.store(0, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Response body; its drop ends the request.
pub(crate) struct ActiveBody {
    body: ResponseBody,
    activity: Arc<Activity>,
}

impl ActiveBody {
    pub(crate) fn new(body: ResponseBody, activity: Arc<Activity>) -> Self {
        // An event stream has no end: it ends with its client.
        if Body::size_hint(&body).exact().is_none() {
            set(&activity.ends_with_client, true);
        }
        Self { body, activity }
    }
}

impl Body for ActiveBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if get(&self.activity.peer_closed) && get(&self.activity.ends_with_client) {
            return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ActiveBody {
    fn drop(&mut self) {
        self.activity.request_ended();
    }
}

/// Byte stream that hands the HTTP library one request at a time.
///
/// The library takes the end of the stream for the end of the current exchange, and misses it behind bytes already
/// buffered. So it gets only the head of a request, and the body on demand, until that request is answered. Later data
/// is read ahead, up to [`AHEAD`] bytes. The end of the stream is reported at once to a waiting request, such as a
/// poll, and to others after their response. A client that sends a whole request and closes its side still gets its
/// response.
#[derive(Debug)]
pub(crate) struct HttpStream<S> {
    stream: S,
    activity: Arc<Activity>,
    /// Bytes behind the current request
    ahead: BytesMut,
    /// Bytes of the current request that the HTTP library has not read yet
    input: Vec<u8>,
    /// Response that leaves HTTP, not yet sent
    unsent: Vec<u8>,
    /// End of the stream, not yet reported to the HTTP library
    end: Option<io::Result<()>>,
    head: HeadEnd,
    /// The task has yielded since the stream ended
    gave_way: bool,
    polls: RepeatedPolls,
}

/// Bytes read ahead behind a request in progress
const AHEAD: usize = 16 * 1024;
/// Repeated polls answered in one turn before the connection yields to others
const POLLS_IN_A_ROW: usize = 8;

impl<S> HttpStream<S> {
    pub(crate) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            ahead: BytesMut::new(),
            input: Vec::new(),
            unsent: Vec::new(),
            end: None,
            head: HeadEnd::default(),
            gave_way: false,
            polls: RepeatedPolls::default(),
        }
    }

    /// Returns the stream, the data read ahead, and the response that is still to be sent.
    pub(crate) fn into_parts(self) -> (S, Bytes, Bytes) {
        (self.stream, self.ahead.freeze(), self.unsent.into())
    }
}

impl<S: AsyncRead + Unpin> HttpStream<S> {
    /// Reads ahead; ready with the end of the stream if the current request ends with it.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [MaybeUninit::uninit(); 1024];
        while self.end.is_none() && self.ahead.len() < AHEAD {
            let mut buf = ReadBuf::uninit(&mut chunk);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if buf.filled().is_empty() => self.end = Some(Ok(())),
                Poll::Ready(Ok(())) => self.ahead.extend_from_slice(buf.filled()),
                Poll::Ready(Err(error)) => self.end = Some(Err(error)),
            }
        }
        if !self.ahead.is_empty() {
            if HeadEnd::default().find(&self.ahead).is_some() {
                self.activity.head_ended();
            } else {
                self.activity.head_began();
            }
        }
        if self.end.is_some() || !self.ahead.is_empty() {
            // The HTTP library polls again only when woken.
            self.activity.keep_back(cx);
        }
        if self.end.is_none() {
            return Poll::Pending;
        }
        if !self.activity.peer_closed.swap(true, Ordering::Relaxed) {
            self.activity.mark();
        }
        if !get(&self.activity.ends_with_client) {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.gave_way, true) {
            // Its response may be on the way.
            yield_now(cx);
            return Poll::Pending;
        }
        self.end.take().map_or(Poll::Pending, Poll::Ready)
    }

    /// Holds back the part of `buf` after the first `len` bytes.
    fn keep_back(&mut self, buf: &mut ReadBuf<'_>, len: usize) {
        let rest = &buf.filled()[len..];
        if !rest.is_empty() {
            // Precedes earlier held-back data, which came later in the stream.
            let mut ahead = BytesMut::from(rest);
            ahead.unsplit(std::mem::take(&mut self.ahead));
            self.ahead = ahead;
            buf.set_filled(len);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> HttpStream<S> {
    /// Answers repeated polls; ready once the HTTP library has something to do, or is in the middle of it.
    ///
    /// The connection's task calls it before it polls the library. The memory of the library, the largest part of a
    /// connection, is thus not touched for a repeated poll.
    pub(crate) fn poll_repeated(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.polls.is_busy() && !self.is_between_requests() {
            return Poll::Ready(());
        }
        let mut bytes = [MaybeUninit::uninit(); LONGEST_HEAD];
        let mut buf = ReadBuf::uninit(&mut bytes);
        let outcome = ready!(self.answer_repeated(cx, &mut buf));
        if buf.filled().is_empty() || outcome.is_err() {
            self.end = Some(outcome);
        } else {
            self.input.extend_from_slice(buf.filled());
        }
        Poll::Ready(())
    }

    /// Answers repeated polls; ready with the first bytes of another request, or without bytes at the end of the stream.
    fn answer_repeated(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        for _ in 0..POLLS_IN_A_ROW {
            if self.polls.is_busy() {
                // Also after the end of the stream: a client that closed its side still gets its response.
                let Poll::Ready(answered) =
                    self.polls.poll_answer(cx, &mut self.stream, |blocked| self.activity.wrote(blocked))
                else {
                    return self.poll_ahead(cx);
                };
                set(&self.activity.answers_poll, false);
                self.activity.request_ended();
                let stays_open = answered?;
                if !stays_open {
                    return Poll::Ready(Ok(()));
                }
            }
            let begins_poll = ready!(self.poll_input(cx, buf))?;
            if !begins_poll {
                return Poll::Ready(Ok(()));
            }
        }
        yield_now(cx);
        Poll::Pending
    }

    /// Returns whether the HTTP library has nothing to do until the next request, which may be a repeated poll.
    fn is_between_requests(&self) -> bool {
        let Activity { busy, blocked, body_left, .. } = &*self.activity;
        self.polls.expects_repetition()
            && !get(busy)
            && !get(blocked)
            && body_left.load(Ordering::Relaxed) == 0
            && self.input.is_empty()
            && self.head == HeadEnd::default()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HttpStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            if ready!(self.poll_input(cx, buf))? {
                // The task answers it, before it polls the library again.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Ok(()));
        }
        let taken = self.input.len().min(buf.remaining());
        buf.put_slice(&self.input[..taken]);
        self.input.drain(..taken);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> HttpStream<S> {
    /// Reads a part of the current request, or a head; ready with `true` and no bytes if that was a repeated poll, which
    /// is to be answered here.
    fn poll_input(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let body = self.activity.body_left();
        if body == Some(0) {
            return self.poll_ahead(cx).map_ok(|()| false);
        }
        let start = buf.filled().len();
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..taken]);
            self.ahead.advance(taken);
        } else if let Some(end) = self.end.take() {
            return Poll::Ready(end.map(|()| false));
        } else {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        }
        let read = buf.filled().len() - start;
        if let Some(left) = body {
            let taken = read.min(usize::try_from(left).unwrap_or(usize::MAX));
            if left < u64::MAX {
                self.activity.body_left.store(left - taken as u64, Ordering::Relaxed);
            }
            self.keep_back(buf, start + taken);
        } else if read > 0 {
            let is_first_part = self.head == HeadEnd::default();
            // Nearly always a poll and nothing else, whose end need not be searched.
            if is_first_part && self.begins_poll(buf, start) {
                return Poll::Ready(Ok(true));
            }
            let Some(end) = self.head.find(&buf.filled()[start..]) else {
                // A head in pieces is not remembered, nor is the one before it, whose answer this is not.
                set(&self.activity.may_repeat, false);
                self.polls.forget_candidate();
                self.activity.head_began();
                return Poll::Ready(Ok(false));
            };
            self.keep_back(buf, start + end);
            if is_first_part {
                if end < read && self.begins_poll(buf, start) {
                    return Poll::Ready(Ok(true));
                }
                set(&self.activity.may_repeat, self.polls.record(&buf.filled()[start..]));
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Takes the head of a repeated poll out of `buf` if it contains nothing else.
    fn begins_poll(&mut self, buf: &mut ReadBuf<'_>, start: usize) -> bool {
        let answers = self.activity.answers.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answers) = answers {
            self.polls.remember(answers);
        }
        let head = &buf.filled()[start..];
        if self.polls.begin(head) {
            buf.set_filled(start);
            self.activity.request_began(Some(0), true);
            set(&self.activity.answers_poll, true);
            return true;
        }
        false
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HttpStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if get(&self.activity.leaves_http) {
            self.unsent.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.wrote(outcome.is_pending());
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if get(&self.activity.leaves_http) {
            let len = slices.iter().map(|slice| slice.len()).sum();
            self.unsent.reserve_exact(len);
            slices.iter().for_each(|slice| self.unsent.extend_from_slice(slice));
            return Poll::Ready(Ok(len));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.activity.wrote(outcome.is_pending());
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Search for the empty line that ends a request head, across reads.
///
/// Lines end with LF, or CR and LF, as in the HTTP library (RFC 9112 section 2.2).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct HeadEnd {
    /// A byte other than a line end was seen: empty lines before a request are skipped
    begun: bool,
    /// The last line so far is empty
    at_line_start: bool,
}

impl HeadEnd {
    /// Returns how many of the bytes belong to the head if it ends in them, then starts over.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        let is_content = |line: &[u8]| line.iter().any(|&byte| byte != b'\r');
        let mut start = 0;
        for end in memchr_iter(b'\n', bytes) {
            if is_content(&bytes[start..end]) {
                (self.begun, self.at_line_start) = (true, false);
            }
            if self.begun && self.at_line_start {
                *self = Self::default();
                return Some(end + 1);
            }
            (self.at_line_start, start) = (true, end + 1);
        }
        if is_content(&bytes[start..]) {
            (self.begun, self.at_line_start) = (true, false);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the length of the head at the start of `bytes`, by a search of each byte.
    fn end(bytes: &[u8]) -> Option<usize> {
        let (mut begun, mut at_line_start) = (false, false);
        for (at, &byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if begun && at_line_start => return Some(at + 1),
                b'\n' => at_line_start = true,
                b'\r' => {}
                _ => (begun, at_line_start) = (true, false),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn finds_end_of_head_in_any_pieces(text in "[\\r\\n ab]{0,40}", cut in 0..40_usize) {
            let (first, second) = text.as_bytes().split_at(cut.min(text.len()));
            let mut head = HeadEnd::default();
            let found = head.find(first).or_else(|| Some(first.len() + head.find(second)?));
            prop_assert_eq!(found, end(text.as_bytes()));
        }
    }
}
