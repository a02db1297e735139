//! Response bodies as an HTTP library reads them: slices, exact lengths, and the count of written bytes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use http_body::Body;
use roomcast_core::{BodyProgress, Frame, ResponseBody};

const SLICE: usize = ResponseBody::SLICE;

/// Returns bytes that differ from slice to slice.
fn bytes(len: usize) -> Bytes {
    (0..len).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

fn frame() -> Frame {
    Frame::new("a message")
}

/// Returns the next slice; `None` at the end.
fn next(body: &mut ResponseBody) -> Option<Bytes> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => Some(frame.into_data().expect("data")),
        Poll::Ready(None) => None,
        other => panic!("{other:?}"),
    }
}

/// Returns each kind of body that is complete in memory.
fn complete(bytes: &Bytes) -> [ResponseBody; 4] {
    let progress = BodyProgress::new();
    [
        ResponseBody::Full(bytes.clone()),
        ResponseBody::Rendered(frame(), bytes.clone()),
        ResponseBody::Full(bytes.clone()).track(&progress),
        ResponseBody::Rendered(frame(), bytes.clone()).track(&progress),
    ]
}

#[test]
fn slices_long_bodies_without_copying() {
    for len in [1, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE, 1_000_000] {
        let bytes = bytes(len);
        for mut body in complete(&bytes) {
            let mut taken = 0;
            while !body.is_end_stream() {
                assert_eq!(body.size_hint().exact(), Some((len - taken) as u64));
                assert_eq!(body.bytes().map(Bytes::len), Some(len - taken));
                let slice = next(&mut body).expect("the body has not ended");
                assert_eq!(slice.len(), SLICE.min(len - taken), "{len}: {body:?}");
                assert_eq!(slice.as_ptr(), bytes[taken..].as_ptr(), "the bytes are shared");
                taken += slice.len();
            }
            assert_eq!((taken, body.size_hint().exact()), (len, Some(0)));
            assert_eq!(next(&mut body), None);
        }
    }
}

#[test]
fn passes_on_short_bodies_for_free() {
    let progress = BodyProgress::new();
    for len in [1, SLICE] {
        let (frame, bytes) = (frame(), bytes(len));
        let shared = bytes.clone();
        let cost = measure(|| {
            for body in [ResponseBody::Full(bytes), ResponseBody::Rendered(frame, shared)] {
                let mut body = body.track(&progress);
                assert_eq!(next(&mut body).map(|slice| slice.len()), Some(len));
                assert!(body.is_end_stream());
            }
        });
        assert_eq!((cost.count_total, progress.moved()), (0, 0));
    }
}

#[test]
fn counts_slices_when_they_are_dropped() {
    let progress = BodyProgress::new();
    let bytes = bytes(3 * SLICE + 5);
    let mut body = ResponseBody::Full(bytes).track(&progress);
    let first = next(&mut body).expect("a slice");
    let copy = first.slice(10..20);
    let second = next(&mut body).expect("a slice");
    assert_eq!(progress.moved(), 0, "the slice is not written yet");
    drop(first);
    assert_eq!(progress.moved(), 0, "a part of the slice is still alive");
    drop(copy);
    assert_eq!(progress.moved(), SLICE as u64);
    drop(second);
    assert_eq!(progress.moved(), 2 * SLICE as u64);
    let (third, last) = (next(&mut body).expect("a slice"), next(&mut body).expect("the rest"));
    drop(body);
    drop(last);
    assert_eq!(progress.moved(), 2 * SLICE as u64 + 5);
    drop(third);
    assert_eq!(progress.moved(), 3 * SLICE as u64 + 5);
}

#[test]
fn counts_only_taken_bytes() {
    let progress = BodyProgress::new();
    let mut body = ResponseBody::Full(bytes(4 * SLICE)).track(&progress);
    drop(next(&mut body));
    drop(body);
    assert_eq!(progress.moved(), SLICE as u64);
    drop(ResponseBody::Full(bytes(4 * SLICE)).track(&progress));
    assert_eq!(progress.moved(), SLICE as u64);
}

#[test]
fn replaced_bodies_stay_tracked() {
    let progress = BodyProgress::new();
    let mut body = ResponseBody::Rendered(frame(), bytes(10 * SLICE)).track(&progress);
    body.replace(bytes(2 * SLICE));
    assert!(matches!(body, ResponseBody::Tracked(_)) && body.frame().is_none(), "{body:?}");
    assert_eq!(std::iter::from_fn(|| next(&mut body)).map(|slice| slice.len()).sum::<usize>(), 2 * SLICE);
    assert_eq!(progress.moved(), 2 * SLICE as u64);

    let mut body = ResponseBody::Full(bytes(10 * SLICE)).track(&progress);
    body.replace(bytes(100));
    assert!(matches!(&body, ResponseBody::Full(bytes) if bytes.len() == 100), "{body:?}");
    let mut body = ResponseBody::Full(bytes(10 * SLICE));
    body.replace(bytes(9 * SLICE));
    assert!(matches!(&body, ResponseBody::Full(bytes) if bytes.len() == 9 * SLICE), "{body:?}");
}

/// A message that holds one more reference.
struct Counted(#[expect(dead_code, reason = "the test reads its reference count")] Arc<()>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        b"message"
    }
}

#[test]
fn releases_messages_with_first_slice() {
    let alive = Arc::new(());
    let frame = Frame::new(Bytes::from_owner(Counted(alive.clone())));
    let mut body = ResponseBody::Rendered(frame, bytes(2 * SLICE)).track(&BodyProgress::new());
    assert!(body.frame().is_some() && Arc::strong_count(&alive) == 2);
    let _first = next(&mut body);
    assert!(body.frame().is_none() && Arc::strong_count(&alive) == 1);
}

#[test]
fn holds_shared_frame_until_written() {
    for is_tracked in [false, true] {
        let frame = frame();
        let body = ResponseBody::Rendered(frame.clone(), bytes(2 * SLICE));
        let mut body = if is_tracked { body.track(&BodyProgress::new()) } else { body };
        let slices = [next(&mut body), next(&mut body)];
        drop(body);
        assert!(frame.is_shared(), "the bytes are charged with the frame");
        drop(slices);
        assert!(!frame.is_shared());
    }
}
