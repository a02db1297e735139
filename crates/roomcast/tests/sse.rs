//! Runs the transport suite on the transport of the example `sse`

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http_body::Body as _;
use http_body_util::BodyExt;
use roomcast_core::{CloseReason, Exchange, Frame, Message, Readiness, Responder, ResponseBody, Transport};
use roomcast_testkit::ExchangeBuilder;
use roomcast_testkit::transport::{Oversized, Requests, TransportClient, TransportHarness};

#[path = "../examples/sse/transport.rs"]
mod transport;

use transport::Sse;

roomcast_testkit::transport_conformance!(SseHarness);

#[derive(Debug, Clone)]
struct SseHarness;

impl TransportHarness for SseHarness {
    type Client = SseClient;

    const MAX_MESSAGE: usize = 10_000;

    fn transport(&self) -> Box<dyn Transport> {
        Box::new(Sse::new().max_payload(Self::MAX_MESSAGE))
    }

    fn connect(&self, requests: Requests) -> (Exchange, SseClient) {
        let (mut exchange, _) = ExchangeBuilder::get(URI).build();
        let (respond, answer) = Responder::new();
        exchange.respond = respond;
        (exchange, SseClient { requests, answer: Some(answer), stream: None, came: Vec::new() })
    }

    fn oversized(&self) -> Oversized {
        Oversized::Refused
    }
}

const URI: &str = "/socket.io/?EIO=4&transport=sse";

struct SseClient {
    requests: Requests,
    answer: Option<tokio::sync::oneshot::Receiver<http::Response<ResponseBody>>>,
    stream: Option<ResponseBody>,
    came: Vec<u8>,
}

impl TransportClient for SseClient {
    async fn send(&mut self, message: Message) {
        let is_too_big = message.len() > SseHarness::MAX_MESSAGE;
        let post = ExchangeBuilder::post(&format!("{URI}&sid=secret"));
        let post = match &message {
            Message::Text(_) => post.header("content-type", "text/plain;charset=UTF-8"),
            Message::Binary(_) => post.header("content-type", "application/octet-stream"),
        };
        let (exchange, answer) = post.chunk(message.as_bytes().to_vec()).build();
        self.requests.send(exchange).await;
        if let Some(answered) = answer.await {
            assert_eq!(answered.text(), (if is_too_big { 413 } else { 204 }, ""));
        }
    }

    async fn recv(&mut self) -> Option<Message> {
        if let Some(answer) = self.answer.take() {
            let response = answer.await.ok()?;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (200, &"text/event-stream".parse().unwrap())
            );
            self.stream = Some(response.into_body());
        }
        let stream = self.stream.as_mut()?;
        // A slice may end inside a character.
        while !self.came.windows(2).any(|pair| pair == b"\n\n") {
            let frame = Pin::new(&mut *stream).frame().await?.expect("the stream does not break");
            self.came.extend_from_slice(frame.data_ref().expect("data"));
        }
        let end = self.came.windows(2).position(|pair| pair == b"\n\n").expect("it is there");
        let event = String::from_utf8(self.came.drain(..end + 2).collect()).expect("UTF-8");
        let message = decode(event.trim_end_matches("\n").strip_prefix("data: ").expect("one line of data"));
        Some(message)
    }

    async fn vanish(mut self) {
        self.answer = None;
        self.stream = None;
    }
}

fn decode(data: &str) -> Message {
    assert!(
        !data.is_empty() && !data.contains(['\r', '\n']),
        "{data:?} is no event that a browser would tell"
    );
    let base64 = |encoded: &str| BASE64.decode(encoded).expect("base64");
    match data.split_at(1) {
        ("b", encoded) => Message::Binary(base64(encoded).into()),
        ("t", encoded) => String::from_utf8(base64(encoded)).expect("UTF-8").into(),
        _ => data.to_owned().into(),
    }
}

#[test]
fn delivers_text_unsafe_in_events() {
    use roomcast_core::Wire;
    for text in ["", "4a\nb", "4a\r\nb", "4\r", "4 plain", "4\u{2028}"] {
        let rendered = transport::SseWire.render(&[text.into()]);
        let event = std::str::from_utf8(&rendered).expect("UTF-8").strip_prefix("data: ").expect("data");
        assert_eq!(decode(event.strip_suffix("\n\n").expect("an end")), text.into(), "{text:?}");
    }
}

#[test]
fn long_event_moves_slice_by_slice() {
    let mut cx = Context::from_waker(Waker::noop());
    let (mut exchange, _) = ExchangeBuilder::get(URI).build();
    let (respond, mut answer) = Responder::new();
    exchange.respond = respond;
    let mut connection = Sse::new().open(exchange).expect("a GET opens");
    let Poll::Ready(Ok(mut sink)) = connection.poll_open(&mut cx) else { panic!("it is open at once") };
    let mut stream = answer.try_recv().expect("it is answered").into_body();

    let mut batch = VecDeque::from(["4".repeat(200_000), "4short".into()].map(Frame::new));
    assert_eq!(sink.poll_send(&mut cx, &mut batch).expect("it is open"), Readiness::Blocked);
    assert_eq!((batch.len(), sink.moved()), (1, 0));
    let mut moved = 0;
    while moved < 200_000 {
        let Poll::Ready(Some(Ok(slice))) = Pin::new(&mut stream).poll_frame(&mut cx) else {
            panic!("{moved}")
        };
        let slice = slice.into_data().expect("data");
        assert!(slice.len() <= ResponseBody::SLICE, "{}", slice.len());
        moved += slice.len() as u64;
        assert_eq!(sink.moved(), moved);
    }
    assert_eq!(sink.poll_send(&mut cx, &mut batch).expect("it is open"), Readiness::Ready);
}

#[test]
fn invalid_text_ends_session() {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(async {
        let mut requests = None;
        let mut client = None;
        let connect = |handle: Requests| {
            requests = Some(handle.clone());
            let (exchange, made) = SseHarness.connect(handle);
            client = Some(made);
            exchange
        };
        let rig = roomcast_testkit::transport::Rig::open(&*SseHarness.transport(), connect, 1 << 20, true);
        let (exchange, answer) = ExchangeBuilder::post(URI).chunk(&b"4\xff"[..]).build();
        requests.expect("it connects").send(exchange).await;
        assert_eq!(answer.await.expect("it is answered").status, 400);
        let end = rig.ended().await;
        let is_malformed = matches!(&end, Some(roomcast_testkit::transport::End::Broken(error)) if error.reason() == CloseReason::ParseError);
        assert!(is_malformed, "{end:?}");
        assert_eq!(client.expect("it connects").recv().await, None);
    });
}
