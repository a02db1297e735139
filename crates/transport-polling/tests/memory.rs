//! Memory charged for unwritten responses; a separate binary, since all tests of a binary share the ledger.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Body;
use roomcast_core::{Connection, Frame, FrameSink, Responder, ResponseBody, Transport, memory};
use roomcast_testkit::ExchangeBuilder;
use roomcast_transport_polling::Polling;

/// Answers one GET with these frames; the sink retains none.
fn answer(frames: impl IntoIterator<Item = Frame>) -> (Box<dyn FrameSink>, ResponseBody) {
    let (mut exchange, _) = ExchangeBuilder::get("/?EIO=4&transport=polling").build();
    let (respond, mut answer) = Responder::new();
    exchange.respond = respond;
    let mut connection: Box<dyn Connection> = Polling::new().open(exchange).expect("a GET opens");
    let Poll::Ready(Ok(mut sink)) = connection.poll_open(&mut noop()) else {
        panic!("expected an open connection")
    };
    let mut batch: VecDeque<Frame> = frames.into_iter().collect();
    sink.poll_send(&mut noop(), &mut batch).expect("the connection works");
    assert!(batch.is_empty());
    (sink, answer.try_recv().expect("the GET is answered").into_body())
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Takes all slices, like an HTTP library with ample buffer space.
fn slices(mut body: ResponseBody) -> Vec<Bytes> {
    let next = || match Pin::new(&mut body).poll_frame(&mut noop()) {
        Poll::Ready(frame) => frame.map(|frame| frame.expect("memory").into_data().expect("data")),
        Poll::Pending => panic!("the body is complete"),
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn answers_stay_charged_until_written() {
    let text = |len| Frame::new("4".repeat(len));
    let about = |bytes: usize| bytes..bytes + 1000;
    assert_eq!(memory::in_use(), 0);

    for len in [10_000, 100_000] {
        // A single frame for one client, and several: the charge ends with the last written slice.
        for frames in [1, 2] {
            let (_sink, body) = answer((0..frames).map(|_| text(len / frames)));
            assert!(about(len).contains(&memory::in_use()), "{}", memory::in_use());
            let mut slices = slices(body);
            assert!(about(len).contains(&memory::in_use()), "{}", memory::in_use());
            slices.truncate(1);
            assert!(
                about(len).contains(&memory::in_use()),
                "a slice keeps the whole charge: {}",
                memory::in_use()
            );
            drop(slices);
            assert_eq!(memory::in_use(), 0, "{len}");
        }
    }

    // A frame with many recipients is charged once.
    let frame = text(100_000);
    let answers: Vec<_> = (0..10).map(|_| answer([frame.clone()])).collect();
    let written: Vec<_> = answers.into_iter().map(|(_, body)| slices(body)).collect();
    drop(frame);
    assert!(about(100_000).contains(&memory::in_use()), "{}", memory::in_use());
    drop(written);
    assert_eq!(memory::in_use(), 0);
}
