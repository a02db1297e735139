//! Progress of a long response, and the close packet after it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use roomcast_core::{
    CloseReason, Connection, Exchange, FlushList, Flusher, Frame, FrameSink, Message, Outbox, Readiness,
    RequestBody, Responder, ResponseBody, Transport, Wire,
};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_polling::{Polling, PollingWire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use crate::client::URI;

const SLICE: usize = ResponseBody::SLICE;
/// Body length of a long response in bytes.
const LONG: usize = 1_000_000;

type Answer = oneshot::Receiver<Response<ResponseBody>>;

/// A connection and its write half, without an outbox between them.
struct Poller {
    connection: Box<dyn Connection>,
    sink: Box<dyn FrameSink>,
}

impl Poller {
    /// Creates a poller with a pending first GET.
    fn open() -> (Self, Answer) {
        let (exchange, answer) = get();
        (Self::open_with(exchange), answer)
    }

    fn open_with(exchange: Exchange) -> Self {
        let mut connection = Polling::new().open(exchange).expect("a GET opens");
        let Poll::Ready(Ok(sink)) = connection.poll_open(&mut noop()) else {
            panic!("expected an open connection")
        };
        Self { connection, sink }
    }

    fn get(&mut self) -> Answer {
        let (exchange, answer) = get();
        self.connection.accept(exchange).expect("the GET is accepted");
        answer
    }

    /// Sends `frames`; returns the readiness and the number of frames left.
    fn send(&mut self, frames: impl IntoIterator<Item = Frame>) -> (Readiness, usize) {
        let mut batch = frames.into_iter().collect();
        let readiness = self.sink.poll_send(&mut noop(), &mut batch).expect("the connection works");
        (readiness, batch.len())
    }

    fn send_all(&mut self, frames: impl IntoIterator<Item = Frame>) {
        assert_eq!(self.send(frames), (Readiness::Parked, 0));
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Returns a GET whose response body is not read yet.
fn get() -> (Exchange, Answer) {
    let (mut exchange, _) = ExchangeBuilder::get(URI).build();
    let (respond, answer) = Responder::new();
    exchange.respond = respond;
    (exchange, answer)
}

fn long() -> Frame {
    Frame::new("4".repeat(LONG))
}

fn body(answer: &mut Answer) -> ResponseBody {
    let response = answer.try_recv().expect("the GET is answered");
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Takes the next slice like an HTTP library; returns `None` at the end.
fn slice(body: &mut ResponseBody) -> Option<Bytes> {
    let Poll::Ready(frame) = Pin::new(body).poll_frame(&mut noop()) else { panic!("the body is complete") };
    frame.map(|frame| frame.expect("memory").into_data().expect("data"))
}

/// Reads a body to its end.
fn whole(mut body: ResponseBody) -> Bytes {
    let slices = std::iter::from_fn(|| slice(&mut body));
    let mut whole = BytesMut::new();
    slices.for_each(|slice| whole.extend_from_slice(&slice));
    whole.freeze()
}

#[test]
fn long_answer_moves_slice_by_slice() {
    let (mut poller, mut answer) = Poller::open();
    poller.send_all([long()]);
    let mut body = body(&mut answer);
    assert_eq!((body.size_hint().exact(), poller.sink.moved()), (Some(LONG as u64), 0));
    let mut read = 0;
    while let Some(slice) = slice(&mut body) {
        assert!(slice.len() <= SLICE, "{}", slice.len());
        assert_eq!(poller.sink.moved(), read, "a slice held by HTTP has not moved");
        read += slice.len() as u64;
        drop(slice);
        assert_eq!(poller.sink.moved(), read);
        assert_eq!(poller.send([Frame::new("4waits")]), (Readiness::Parked, 1));
    }
    assert_eq!(read, LONG as u64);
}

#[test]
fn moved_never_falls_back() {
    let (mut poller, mut answer) = Poller::open();
    let mut moved = 0;
    for frame in [long(), Frame::new("4short"), long(), Frame::new("4short")] {
        let len = frame.messages()[0].len();
        poller.send_all([frame]);
        assert_eq!(poller.sink.moved(), moved, "a response alone is no progress");
        assert_eq!(whole(body(&mut answer)).len(), len);
        moved += if len > SLICE { len as u64 } else { 0 };
        assert_eq!(poller.sink.moved(), moved);
        answer = poller.get();
    }
}

#[test]
fn unread_answer_does_not_move() {
    let (mut poller, mut answer) = Poller::open();
    poller.send_all([long()]);
    drop(body(&mut answer));
    assert_eq!(poller.sink.moved(), 0);
    drop(poller.get());
    assert_eq!(poller.send([long()]), (Readiness::Blocked, 1));
    assert_eq!(poller.sink.moved(), 0);
}

#[test]
fn slices_leave_payloads_unchanged() {
    let binary: Bytes = (0..300_000).map(|at| (at % 253) as u8).collect::<Vec<u8>>().into();
    let one = vec![Message::from(binary.clone())];
    let many =
        vec!["4text".into(), binary.into(), "4".repeat(100_000).into(), Bytes::from_static(&[9]).into()];
    for messages in [one, many] {
        let expected = PollingWire.render(&messages);
        assert!(expected.len() > 2 * SLICE && expected.len() < LONG);
        let together = vec![Frame::from_messages(messages.clone())];
        let each: Vec<Frame> = messages.into_iter().map(Frame::new).collect();
        let shared: Vec<Frame> = each.clone();
        for frames in [together, each, shared] {
            let (mut poller, mut answer) = Poller::open();
            poller.send_all(frames);
            let body = body(&mut answer);
            assert_eq!(body.size_hint().exact(), Some(expected.len() as u64));
            assert!(whole(body) == expected);
            assert_eq!(poller.sink.moved(), expected.len() as u64);
        }
    }
}

#[test]
fn short_answers_allocate_nothing_more() {
    let cost = |len| {
        let (mut poller, _answer) = Poller::open();
        let mut batch = VecDeque::from([Frame::new("4".repeat(len))]);
        let cost = measure(|| {
            let sent = poller.sink.poll_send(&mut noop(), &mut batch);
            assert_eq!(sent.expect("the connection works"), Readiness::Parked);
        });
        cost.count_total
    };
    let short = cost(100);
    assert_eq!(short, SHORT_ANSWER);
    assert_eq!(cost(SLICE), short);
    assert_eq!(cost(SLICE + 1), short + 2, "the counter and its body");
}

/// Allocations of a response: its bytes and its headers.
const SHORT_ANSWER: u64 = 3;

#[test]
fn close_packet_follows_long_answer() {
    for reason in [CloseReason::SlowConsumer, CloseReason::Overloaded] {
        let (mut poller, mut first) = Poller::open();
        poller.send_all([long()]);
        let mut under_way = body(&mut first);
        drop(slice(&mut under_way));
        // The owner drops the frames queued after the response, and starts to close.
        poller.connection.start_close(reason, &Outbox::new(1, FlushList::new()));
        assert_eq!(poller.send([Frame::new("1")]), (Readiness::Parked, 1));
        assert!(poller.connection.poll_closed(&mut noop()).is_ready(), "no GET waits");
        let mut last = poller.get();
        assert!(poller.connection.poll_closed(&mut noop()).is_pending());
        poller.send_all([Frame::new("1")]);
        assert!(poller.connection.poll_closed(&mut noop()).is_ready());
        let Poller { connection, sink } = poller;
        drop(connection);
        assert_eq!(whole(body(&mut last)), "1");
        // The current response is completed, and is still counted.
        assert_eq!(whole(under_way).len(), LONG - SLICE);
        assert_eq!(sink.moved(), LONG as u64);
    }
}

#[test]
fn waiting_get_receives_close_at_once() {
    for reason in [CloseReason::SlowConsumer, CloseReason::Overloaded] {
        let (mut poller, mut waiting) = Poller::open();
        poller.connection.start_close(reason, &Outbox::new(1, FlushList::new()));
        poller.send_all([Frame::new("1")]);
        drop(poller);
        assert_eq!(whole(body(&mut waiting)), "1");
    }
}

#[test]
fn get_after_drain_receives_close() {
    let list = FlushList::new();
    let (mut poller, mut first) = Poller::open();
    poller.send_all([Frame::new("0{}")]);
    assert_eq!(whole(body(&mut first)), "0{}");
    // Queued frames are dropped with their outbox; the write half continues with the close packet.
    let outbox = Outbox::new(1 << 20, list.clone());
    outbox.set_sink(poller.sink);
    let _ = outbox.push_protocol(Frame::new("1"));
    poller.connection.start_close(CloseReason::SlowConsumer, &outbox);
    outbox.finish();
    Flusher::new(list).write_all();
    assert!(outbox.poll_owner(&mut noop()).is_pending() && outbox.is_parked());
    let (exchange, mut last) = get();
    poller.connection.accept(exchange).expect("the GET is accepted");
    let _ = outbox.poll_owner(&mut noop());
    assert_eq!(whole(body(&mut last)), "1");
    assert!(outbox.poll_drained(&mut noop()).is_ready());
    drop(poller.connection);
    assert_eq!(outbox.waiting().frames, 0);
}

#[tokio::test]
async fn slow_reader_moves_answer_over_http() {
    let (stream, mut client) = sockets().await;
    let (requests, mut exchanges) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        let (requests, (respond, answer)) = (requests.clone(), Responder::new());
        async move {
            let body = RequestBody::new(Empty::new().map_err(|never| match never {}));
            let request = Arc::new(request.into_parts().0);
            let exchange = Exchange { request, body, respond, upgrade: None, subprotocol: None };
            requests.send(exchange).await.expect("the test receives it");
            Ok::<_, Infallible>(answer.await.expect("the GET is answered"))
        }
    });
    let server = tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));

    client
        .write_all(format!("GET {URI} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        .await
        .expect("the request fits");
    let mut poller = Poller::open_with(exchanges.recv().await.expect("a request"));
    poller.send_all([long()]);

    let mut moved = settled(&*poller.sink).await;
    assert!(moved <= KERNEL, "{moved} bytes moved to a client that read none: hyper holds them");
    tokio::time::sleep(PAUSE).await;
    assert_eq!(poller.sink.moved(), moved, "no progress without reads");

    read_head(&mut client).await;
    let (mut read, mut steps, mut piece) = (0, 0, vec![0; PIECE]);
    while read < LONG {
        let piece = &mut piece[..PIECE.min(LONG - read)];
        client.read_exact(piece).await.expect("the rest of the body");
        assert!(piece.iter().all(|byte| *byte == b'4'));
        read += piece.len();
        // The client has read more than the kernel buffers, so hyper must write.
        let now = changed(&*poller.sink, moved).await;
        steps += u32::from(now > moved);
        moved = now;
        assert!(moved <= read as u64 + KERNEL, "{moved} bytes moved, {read} read");
    }
    assert_eq!(moved, LONG as u64);
    assert!(steps >= 5, "{steps} steps");
    drop(client);
    server.await.expect("no panic").expect("a clean end");
}

/// Bytes that a client reads at once; more than the kernel buffers.
const PIECE: usize = 128 * 1024;
/// Maximum bytes in the buffers of both sockets.
const KERNEL: u64 = 96 * 1024;
const PAUSE: Duration = Duration::from_millis(100);

/// Creates a connection with small buffers: the server's end and the client's.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpSocket::new_v4().expect("a socket");
    listener.set_send_buffer_size(16 * 1024).expect("a size");
    listener.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = listener.listen(1).expect("it is bound");
    let client = TcpSocket::new_v4().expect("a socket");
    client.set_recv_buffer_size(16 * 1024).expect("a size");
    let client =
        client.connect(listener.local_addr().expect("a bound listener")).await.expect("a listening server");
    (listener.accept().await.expect("a connected client").0, client)
}

/// Waits until progress was made and has stopped.
async fn settled(sink: &dyn FrameSink) -> u64 {
    let mut moved = changed(sink, 0).await;
    loop {
        tokio::time::sleep(PAUSE).await;
        if std::mem::replace(&mut moved, sink.moved()) == sink.moved() {
            return moved;
        }
    }
}

/// Waits for progress; returns at once if all bytes have moved.
async fn changed(sink: &dyn FrameSink, before: u64) -> u64 {
    let wait = async {
        while sink.moved() == before && before < LONG as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("progress in time");
    sink.moved()
}

async fn read_head(client: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text").to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains(&format!("content-length: {LONG}")), "{head}");
}
