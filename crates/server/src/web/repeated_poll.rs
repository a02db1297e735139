//! Shortcut for a client's repeated polls
//!
//! A polling client sends the same request over and over: its polls differ only in the value of the parameter `t`,
//! which defeats caches. The HTTP library parses each of them. This file remembers the head of an answered poll,
//! and answers the following ones that equal it without the library: the stream recognizes the bytes before the
//! library is polled, and what the first request led to is used again. A delivery to a polling client with a browser's
//! headers then costs 16,500 instructions instead of 36,000 (callgrind, 100 clients, paced).
//!
//! Any other request, and any head that arrives in pieces, takes the usual path.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::UNIX_EPOCH;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use http_body::Body as _;
use httpdate::HttpDate;
use memchr::{memchr, memmem};
use roomcast_core::ResponseBody;
use tokio::io::AsyncWrite;

use crate::util::clock;

/// Answers the repetitions of one poll.
pub(crate) trait AnswerPoll: Send {
    /// Begins to answer a repetition; drops the answer in progress, if any.
    fn begin(&mut self);

    /// Polls for the response.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<PollResponse>;
}

/// Response to a repeated poll.
pub(crate) enum PollResponse {
    /// Response with status 200 whose head was encoded before.
    Encoded(EncodedHead, ResponseBody),
    Whole(Response<ResponseBody>),
}

/// Encoded head of responses with status 200 that differ only in length and date.
#[derive(Debug, Clone)]
pub(crate) struct EncodedHead(Bytes);

impl EncodedHead {
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let mut out = Vec::with_capacity(HEAD_ROOM);
        put_head(&mut out, StatusCode::OK, headers);
        Self(out.into())
    }
}

/// Copies a request, so that it does not keep the HTTP library's buffer allocated.
pub(crate) fn detached(request: &Parts) -> Option<Parts> {
    let (mut copy, ()) = http::Request::new(()).into_parts();
    copy.method = request.method.clone();
    copy.version = request.version;
    copy.extensions = request.extensions.clone();
    copy.uri = Uri::from_maybe_shared(Bytes::from(request.uri.to_string())).ok()?;
    copy.headers = HeaderMap::with_capacity(request.headers.len());
    for (name, value) in &request.headers {
        copy.headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some(copy)
}

/// Polls of one connection.
#[derive(Default)]
pub(crate) struct RepeatedPolls {
    /// Head of the request that the HTTP library is answering, if it may be a poll
    candidate: Option<Box<[u8]>>,
    template: Option<Box<Template>>,
    progress: Progress,
    /// Templates that the next poll did not match
    misses: u8,
}

/// Remembered poll.
struct Template {
    head: Box<[u8]>,
    /// Place of the value of `t` in the head; empty if it has none
    stamp: Range<usize>,
    answers: Box<dyn AnswerPoll>,
}

/// Progress of a repeated poll.
#[derive(Default)]
enum Progress {
    #[default]
    Idle,
    Waiting,
    Writing {
        /// Bytes not written yet
        bytes: Bytes,
        rest: ResponseBody,
        stays_open: bool,
    },
}

/// Templates to give up after: the client's polls differ in more than `t`
const MOST_MISSES: u8 = 3;
/// Longest value of `t`, in bytes
const LONGEST_STAMP: usize = 64;
/// Longest head to remember, in bytes
pub(super) const LONGEST_HEAD: usize = 4096;

impl RepeatedPolls {
    /// Records the head of a request for the HTTP library; returns whether the request may be a poll.
    pub(crate) fn record(&mut self, head: &[u8]) -> bool {
        let may_repeat = self.misses < MOST_MISSES
            && head.len() <= LONGEST_HEAD
            && head.starts_with(b"GET ")
            // Earlier versions keep a connection open only if both sides say so.
            && request_line(head).trim_ascii_end().ends_with(b" HTTP/1.1")
            && memmem::find(request_line(head), b"sid=").is_some();
        self.candidate = may_repeat.then(|| head.into());
        may_repeat
    }

    /// Remembers the poll that the HTTP library has answered.
    pub(crate) fn remember(&mut self, answers: Box<dyn AnswerPoll>) {
        if let Some(head) = self.candidate.take() {
            if self.template.is_some() {
                self.misses += 1;
            }
            let stamp = stamp(&head);
            self.template = Some(Box::new(Template { head, stamp, answers }));
        }
    }

    /// Forgets the request that [`record`](Self::record) recorded last.
    pub(crate) fn forget_candidate(&mut self) {
        self.candidate = None;
    }

    /// Returns whether the next request may repeat a poll.
    pub(crate) fn expects_repetition(&self) -> bool {
        self.template.is_some() || self.candidate.is_some()
    }

    /// Returns whether a repeated poll is being answered.
    pub(crate) fn is_busy(&self) -> bool {
        !matches!(self.progress, Progress::Idle)
    }

    /// Begins to answer a request if it repeats the remembered poll.
    pub(crate) fn begin(&mut self, head: &[u8]) -> bool {
        let Some(template) = self.template.as_mut().filter(|template| template.is_repeated_by(head)) else {
            return false;
        };
        template.answers.begin();
        self.progress = Progress::Waiting;
        true
    }

    /// Answers the poll in progress; ready once the response is written, with whether the connection stays open.
    ///
    /// `wrote` is called after each write, with whether it blocked.
    ///
    /// # Errors
    /// Returns the error of the stream, or of the response's body.
    pub(crate) fn poll_answer<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        wrote: impl Fn(bool),
    ) -> Poll<io::Result<bool>> {
        if matches!(self.progress, Progress::Waiting)
            && let Some(template) = &mut self.template
        {
            let response = ready!(template.answers.poll_response(cx));
            self.progress = with_buffer(|out| {
                let (rest, stays_open) = encode(response, out);
                // Nearly always written whole, so that only a rest is copied out of the buffer.
                let written = Pin::new(&mut *stream).poll_write(cx, out);
                wrote(written.is_pending());
                let written = match written {
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                let bytes = Bytes::copy_from_slice(&out[written..]);
                Ok::<_, io::Error>(Progress::Writing { bytes, rest, stays_open })
            })?;
        }
        let Progress::Writing { bytes, rest, stays_open } = &mut self.progress else {
            return Poll::Ready(Ok(true));
        };
        loop {
            while !bytes.is_empty() {
                let written = Pin::new(&mut *stream).poll_write(cx, bytes);
                wrote(written.is_pending());
                match ready!(written)? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => bytes.advance(written),
                }
            }
            if rest.is_end_stream() {
                break;
            }
            match ready!(Pin::new(&mut *rest).poll_frame(cx)) {
                Some(Ok(frame)) => *bytes = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => break,
            }
        }
        let flushed = Pin::new(&mut *stream).poll_flush(cx);
        wrote(flushed.is_pending());
        ready!(flushed)?;
        let stays_open = *stays_open;
        self.progress = Progress::Idle;
        Poll::Ready(Ok(stays_open))
    }
}

impl fmt::Debug for RepeatedPolls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepeatedPolls").field("is_busy", &self.is_busy()).finish_non_exhaustive()
    }
}

impl Template {
    /// Returns whether a head equals the remembered one, except for the value of `t`.
    fn is_repeated_by(&self, head: &[u8]) -> bool {
        let (before, after) = (&self.head[..self.stamp.start], &self.head[self.stamp.end..]);
        let Some(longer) = head.len().checked_sub(before.len() + after.len()) else { return false };
        let (start, rest) = head.split_at(before.len());
        let (stamp, end) = rest.split_at(longer);
        start == before
            && end == after
            && if self.stamp.is_empty() { stamp.is_empty() } else { is_stamp(stamp) }
    }
}

/// Returns the place of the value of `t` in a head; an empty place if there is none.
fn stamp(head: &[u8]) -> Range<usize> {
    let line = request_line(head);
    let start =
        [b"?t=".as_slice(), b"&t="].iter().find_map(|name| Some(memmem::find(line, name)? + name.len()));
    let Some(start) = start else { return 0..0 };
    let len = line[start..].iter().take_while(|&&byte| is_unreserved(byte)).count();
    if is_stamp(&line[start..start + len]) { start..start + len } else { 0..0 }
}

/// Returns whether a value needs no encoding in a query, so that nothing else of the request can differ.
fn is_stamp(value: &[u8]) -> bool {
    (1..=LONGEST_STAMP).contains(&value.len()) && value.iter().all(|&byte| is_unreserved(byte))
}

/// Returns whether a byte is unreserved in a URI (RFC 3986 section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn request_line(head: &[u8]) -> &[u8] {
    &head[..memchr(b'\n', head).unwrap_or(head.len())]
}

/// Encodes a response (RFC 9112 section 4), with a short body in the same piece.
///
/// Returns the rest of the body, and whether the connection stays open.
fn encode(response: PollResponse, out: &mut Vec<u8>) -> (ResponseBody, bool) {
    let (status, mut body, closes, has_date) = match response {
        PollResponse::Encoded(EncodedHead(head), body) => {
            out.extend_from_slice(&head);
            (StatusCode::OK, body, false, false)
        }
        PollResponse::Whole(response) => {
            let (head, body) = response.into_parts();
            let connection = head.headers.get(CONNECTION);
            let closes = connection.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
            put_head(out, head.status, &head.headers);
            (head.status, body, closes, head.headers.contains_key(DATE))
        }
    };
    let len = body.size_hint().exact();
    match len {
        Some(len) if !has_no_body(status) => put_header(out, "content-length", decimal(len, &mut [0; 20])),
        Some(_) => {}
        // Without a length, the end of the connection is the end of the body.
        None if !closes => put_header(out, "connection", b"close"),
        None => {}
    }
    if !has_date {
        with_date(|date| put_header(out, "date", date));
    }
    out.extend_from_slice(b"\r\n");
    if let Some(short) = body.bytes().filter(|bytes| bytes.len() <= ResponseBody::SLICE) {
        out.extend_from_slice(short);
        body = ResponseBody::Empty;
    }
    (body, len.is_some() && !closes)
}

/// Writes a status line and the headers, except the length.
fn put_head(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let reason = status.canonical_reason().unwrap_or_default();
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        put_header(out, name.as_str(), value.as_bytes());
    }
}

/// Writes a number in decimal digits; the formatter of `std` takes 400 instructions.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

fn put_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Returns whether a response of this status has neither body nor length (RFC 9110 section 8.6).
fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

/// Calls `write` with an empty buffer for one response.
fn with_buffer<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        // One response per thread, at most `KEPT_BUFFER` bytes: too long for what allocators cache per thread, which
        // takes 1,200 instructions for a response of 5 KB. Streams outnumber threads by thousands.
        static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut buffer = BUFFER.take();
    let result = write(&mut buffer);
    buffer.clear();
    buffer.shrink_to(KEPT_BUFFER);
    BUFFER.set(buffer);
    result
}

/// Calls `put` with the current date, which changes once a second.
fn with_date(put: impl FnOnce(&[u8])) {
    thread_local! {
        // One date of 29 bytes per thread. Formatting it for each response would take 900 instructions.
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    DATE.with_borrow_mut(|(second, date)| {
        let now = clock::wall();
        let current = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if *second != current || date.is_empty() {
            (*second, *date) = (current, HttpDate::from(now).to_string());
        }
        put(date.as_bytes());
    });
}

/// Usual length of a response head, in bytes
const HEAD_ROOM: usize = 320;
/// Longest buffer of responses that a thread keeps, in bytes
const KEPT_BUFFER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

    use super::*;
    use crate::web::stream::{Activity, HttpStream};

    const POLL: &str = "GET /socket.io/?EIO=4&transport=polling&t=abc-1&sid=xyz HTTP/1.1\r\nHost: a\r\n\r\n";

    /// Answers each repetition with its number, at once or after a wake.
    struct Numbers(u32);

    impl AnswerPoll for Numbers {
        fn begin(&mut self) {
            self.0 += 1;
        }

        fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<PollResponse> {
            if self.0 % 2 == 1 {
                self.0 += 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(PollResponse::Whole(Response::new(format!("number {}", self.0 / 2).into())))
        }
    }

    fn remembered(head: &str) -> RepeatedPolls {
        let mut polls = RepeatedPolls::default();
        assert!(polls.record(head.as_bytes()), "{head}");
        polls.remember(Box::new(Numbers(0)));
        polls
    }

    #[test]
    fn recognizes_polls_that_differ_in_t() {
        let repeats = |head: &str| remembered(POLL).begin(head.as_bytes());
        for stamp in ["abc-1", "x", "0.~_-", &"y".repeat(LONGEST_STAMP)] {
            assert!(repeats(&POLL.replace("abc-1", stamp)), "{stamp}");
        }
        for stamp in ["", "a%20", "a b", "a&sid=other", "a\r\nX: y", "a/", &"y".repeat(LONGEST_STAMP + 1)] {
            assert!(!repeats(&POLL.replace("abc-1", stamp)), "{stamp}");
        }
        for (from, to) in [("xyz", "xyZ"), ("Host: a", "Host: b"), ("GET", "get"), ("HTTP/1.1", "HTTP/1.0")] {
            assert!(!repeats(&POLL.replace(from, to)), "{to}");
        }
        assert!(!repeats(&POLL.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")));
        let without = POLL.replace("&t=abc-1", "");
        assert!(remembered(&without).begin(without.as_bytes()));
        assert!(!remembered(&without).begin(POLL.as_bytes()));
    }

    #[test]
    fn only_short_gets_of_sessions_are_candidates() {
        let may_repeat = |head: &str| RepeatedPolls::default().record(head.as_bytes());
        assert!(may_repeat(POLL));
        assert!(!may_repeat(&POLL.replace("GET", "POST")));
        assert!(!may_repeat(&POLL.replace("HTTP/1.1", "HTTP/1.0")));
        assert!(!may_repeat(&POLL.replace("&sid=xyz", "")));
        assert!(!may_repeat(&POLL.replace("&sid=xyz", "").replace("Host", "X: sid=1\r\nHost")));
        assert!(!may_repeat(
            &POLL.replace("Host: a", &format!("Host: a\r\nX: {}", "y".repeat(LONGEST_HEAD)))
        ));
    }

    #[test]
    fn gives_up_on_polls_that_always_differ() {
        let mut polls = RepeatedPolls::default();
        let remembered = (0..20).filter(|number| {
            let head = POLL.replace("Host: a", &format!("Host: a{number}"));
            let may_repeat = !polls.begin(head.as_bytes()) && polls.record(head.as_bytes());
            if may_repeat {
                polls.remember(Box::new(Numbers(0)));
            }
            may_repeat
        });
        assert_eq!(remembered.count(), usize::from(MOST_MISSES) + 1);
    }

    /// Encodes a response, and removes the date.
    fn encoded(response: PollResponse) -> (String, bool) {
        let mut bytes = Vec::new();
        let (_, stays_open) = encode(response, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (before, after) = text.split_once("date: ").unwrap();
        (format!("{before}{}", &after[29..]), stays_open)
    }

    #[test]
    fn encoded_head_is_completed() {
        let whole = Response::builder().header("x-y", "z").header("x-y", "2").body("abc".into()).unwrap();
        let head = EncodedHead::new(whole.headers());
        let of_head = encoded(PollResponse::Encoded(head, "abc".into()));
        assert_eq!(of_head, encoded(PollResponse::Whole(whole)));
    }

    #[test]
    fn encodes_lengths_and_endings() {
        let encoded = |response: Response<ResponseBody>| encoded(PollResponse::Whole(response));
        let response = || Response::builder().header("x-y", "z");
        assert_eq!(
            encoded(response().body("abc".into()).unwrap()),
            ("HTTP/1.1 200 OK\r\nx-y: z\r\ncontent-length: 3\r\n\r\n\r\nabc".into(), true)
        );
        let empty = encoded(response().status(400).header("content-length", "0").body("".into()).unwrap());
        assert_eq!(
            empty,
            ("HTTP/1.1 400 Bad Request\r\nx-y: z\r\ncontent-length: 0\r\n\r\n\r\n".into(), true)
        );
        let closing = encoded(response().header("connection", "close").body("a".into()).unwrap());
        assert!(closing.0.contains("connection: close\r\n") && !closing.1, "{closing:?}");
        let endless = http_body_util::StreamBody::new(futures_util::stream::empty());
        let endless = ResponseBody::Stream(http_body_util::combinators::UnsyncBoxBody::new(endless));
        let streamed = encoded(response().body(endless).unwrap());
        assert!(streamed.0.contains("connection: close\r\n") && !streamed.1, "{streamed:?}");
        assert!(!streamed.0.contains("content-length"), "{streamed:?}");
    }

    #[test]
    fn decimals_match_the_formatter() {
        for number in [0, 9, 10, 4096, 65_535, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    #[tokio::test]
    async fn writes_answers_in_pieces() {
        let (mut client, mut server) = duplex(16);
        let mut polls = remembered(POLL);
        for number in 1..=2 {
            assert!(polls.begin(POLL.as_bytes()));
            let answer = std::future::poll_fn(|cx| polls.poll_answer(cx, &mut server, |_| ()));
            let read = async {
                let (mut text, end) = (String::new(), format!("\r\n\r\nnumber {number}"));
                while !text.ends_with(&end) {
                    text.push(char::from(client.read_u8().await.unwrap()));
                }
                text
            };
            let (stays_open, text) = tokio::join!(answer, read);
            assert!(stays_open.unwrap() && text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        }
    }

    /// Reads like a connection's task, which answers repetitions before it polls the HTTP library.
    async fn read<S>(stream: &mut HttpStream<S>, bytes: &mut [u8]) -> io::Result<usize>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut buf = ReadBuf::new(bytes);
        std::future::poll_fn(|cx| {
            ready!(stream.poll_repeated(cx));
            Pin::new(&mut *stream).poll_read(cx, &mut buf)
        })
        .await?;
        Ok(buf.filled().len())
    }

    #[tokio::test]
    async fn answers_repetitions_inside_the_stream() {
        let activity = Arc::new(Activity::new(Duration::from_secs(9), Duration::from_secs(9)));
        let (mut client, server) = duplex(32);
        let mut stream = HttpStream::new(server, activity.clone());
        let served = tokio::spawn(async move {
            let mut seen = Vec::new();
            let mut first = [0; 4096];
            // The first poll reaches the HTTP library.
            while seen.len() < POLL.len() {
                let len = read(&mut stream, &mut first).await.unwrap();
                seen.extend_from_slice(&first[..len]);
            }
            (seen, stream)
        });
        client.write_all(POLL.as_bytes()).await.unwrap();
        let (seen, _) = served.await.unwrap();
        assert_eq!(seen, POLL.as_bytes(), "in pieces, so it is not remembered");
        assert!(!activity.may_repeat());

        let (mut client, server) = duplex(4096);
        let mut stream = HttpStream::new(server, activity.clone());
        client.write_all(POLL.as_bytes()).await.unwrap();
        let mut first = [0; 4096];
        assert_eq!(read(&mut stream, &mut first).await.unwrap(), POLL.len());
        assert!(activity.may_repeat());
        activity.remember(Box::new(Numbers(0)));
        let other = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let polls = POLL.replace("abc", "d") + &POLL.replace("abc", "e") + other;
        client.write_all(polls.as_bytes()).await.unwrap();
        let len = read(&mut stream, &mut first).await.unwrap();
        assert_eq!(&first[..len], other.as_bytes(), "the library sees only the request behind the polls");
        drop(stream);
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert!(answers.find("number 1").unwrap() < answers.find("number 2").unwrap(), "{answers}");
    }

    /// Returns a connection whose first poll has been read for the HTTP library.
    async fn after_first_poll() -> (DuplexStream, HttpStream<DuplexStream>, Arc<Activity>) {
        let activity = Arc::new(Activity::new(Duration::from_secs(9), Duration::from_secs(9)));
        let (mut client, server) = duplex(4096);
        let mut stream = HttpStream::new(server, activity.clone());
        client.write_all(POLL.as_bytes()).await.unwrap();
        assert_eq!(read(&mut stream, &mut [0; 4096]).await.unwrap(), POLL.len());
        (client, stream, activity)
    }

    #[tokio::test]
    async fn client_that_closed_its_side_gets_its_answer() {
        let (mut client, mut stream, activity) = after_first_poll().await;
        let mut bytes = [0; 4096];
        activity.remember(Box::new(Numbers(0)));
        client.write_all(POLL.as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut stream, &mut bytes).await.unwrap(), 0);
        drop(stream);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("number 1"), "{answer}");
    }

    #[tokio::test]
    async fn answer_to_poll_in_pieces_is_not_that_of_the_poll_before() {
        // Refused, so that nothing is remembered.
        let (mut client, mut stream, activity) = after_first_poll().await;
        let mut bytes = [0; 4096];
        let other = POLL.replace("sid=xyz", "sid=other");
        let (first, second) = other.split_at(60);
        for piece in [first, second] {
            client.write_all(piece.as_bytes()).await.unwrap();
            assert_eq!(read(&mut stream, &mut bytes).await.unwrap(), piece.len());
        }
        assert!(!activity.may_repeat());
        // A server asks before; this stream must not depend on it.
        activity.remember(Box::new(Numbers(0)));
        client.write_all(POLL.as_bytes()).await.unwrap();
        assert_eq!(read(&mut stream, &mut bytes).await.unwrap(), POLL.len(), "answered in place of another");
    }

    proptest! {
        #[test]
        fn any_other_head_is_no_repetition(at in 0..POLL.len(), byte in 0_u8..128) {
            let mut other = POLL.as_bytes().to_vec();
            other[at] = byte;
            let stamp = POLL.find("abc-1").unwrap();
            let is_in_stamp = (stamp..stamp + 5).contains(&at) && is_unreserved(byte);
            prop_assert_eq!(remembered(POLL).begin(&other), other == POLL.as_bytes() || is_in_stamp);
        }
    }
}
