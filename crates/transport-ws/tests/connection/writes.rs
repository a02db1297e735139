//! Writing.

use std::task::Poll;

use bytes::Bytes;
use roomcast_core::{CloseReason, Delivery, Frame, Message, Overflow, WireKey};
use roomcast_transport_ws::{Compression, WebSocket, WsWire};

use crate::served::Served;
use crate::{TEXT, server_frame};

#[test]
fn small_frames_leave_in_one_write() {
    let served = Served::open();
    let mut expected = Vec::new();
    for at in 0..64 {
        let text = format!("frame {at}");
        expected.extend(server_frame(TEXT, text.as_bytes()));
        served.push(text);
    }
    served.flush();
    let writes = served.wire.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].bytes, expected);
}

#[test]
fn bounds_bytes_per_write() {
    let served = Served::open();
    for _ in 0..60 {
        served.push("x".repeat(10_000));
    }
    served.flush();
    let lens: Vec<usize> = served.wire.writes().iter().map(|write| write.bytes.len()).collect();
    assert!(lens.iter().all(|len| *len <= 64 * 1024) && lens.len() < 15, "{lens:?}");
    assert_eq!(lens.iter().sum::<usize>(), 60 * 10_004);
}

#[test]
fn writes_large_frames_without_copying() {
    let served = Served::open();
    let large = Frame::new("x".repeat(20_000));
    served.push("before");
    served.push("also before");
    served.push(large.clone());
    served.push("behind");
    served.flush();
    let writes = served.wire.writes();
    let lens: Vec<usize> = writes.iter().map(|write| write.bytes.len()).collect();
    assert_eq!(lens, [8 + 13, 20_004, 8]);
    assert_eq!(writes[1].address, large.wire(&WsWire).as_ptr() as usize);
}

#[test]
fn writes_single_shared_frame_without_copying() {
    let frame = Frame::new("to everybody");
    let members = [Served::open(), Served::open()];
    for member in &members {
        member.push(frame.clone());
        member.flush();
        let writes = member.wire.writes();
        assert_eq!(writes.len(), 1);
        assert_eq!(writes[0].address, frame.wire(&WsWire).as_ptr() as usize);
    }
}

#[test]
fn writes_event_with_attachments_at_once() {
    let served = Served::open();
    let parts: Vec<Message> = vec!["event".into(), Bytes::from_static(b"\x00").into(), Bytes::new().into()];
    served.push(Frame::from_messages(parts));
    served.flush();
    let writes = served.wire.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].bytes, b"\x81\x05event\x82\x01\x00\x82\x00");
}

const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\n\r\n";

#[test]
fn response_leaves_with_first_frames() {
    let served = Served::open_with_unsent(&WebSocket::new(), "", RESPONSE, usize::MAX);
    served.push("open");
    served.push("connected");
    served.flush();
    let writes = served.wire.writes();
    assert_eq!(writes.len(), 1);
    let frames = [server_frame(TEXT, b"open"), server_frame(TEXT, b"connected")].concat();
    assert_eq!(writes[0].bytes, [RESPONSE.as_bytes(), &frames].concat());
}

#[test]
fn response_leaves_without_frames() {
    let served = Served::open_with_unsent(&WebSocket::new(), "", RESPONSE, usize::MAX);
    assert_eq!(served.sent(), RESPONSE.as_bytes());
    assert_eq!(served.sent(), b"");
}

#[test]
fn response_precedes_frames_after_partial_writes() {
    let push_all = |served: &Served| {
        ["first", "", "second"].into_iter().for_each(|text| _ = served.push(text));
        served.push(Frame::new("x".repeat(20_000)));
        served.push("last");
    };
    for (takeover, extensions) in [(false, ""), (false, "permessage-deflate"), (true, "permessage-deflate")] {
        let transport =
            WebSocket::new().compression(Compression::new().context_takeover(takeover).threshold(1));
        let reference = Served::offering(&transport, extensions);
        push_all(&reference);
        let expected = [RESPONSE.as_bytes(), &reference.sent()].concat();
        for room in 0..expected.len().min(100) {
            let mut served = Served::open_with_unsent(&transport, extensions, RESPONSE, room);
            push_all(&served);
            let mut written = served.sent();
            assert_eq!(written.len(), room);
            served.wire.unblock();
            assert!(served.poll_owner().is_pending());
            written.extend(served.sent());
            assert!(written == expected, "room for {room}, {extensions:?}, {takeover}");
        }
    }
}

/// After a partial write, the next write starts at the first unwritten byte.
#[test]
fn resumes_partial_write() {
    for room in [1, 2, 3, 5, 7, 64, 1_000, 4_099, 30_011] {
        let (frames, expected) = assorted(if room < 1_000 { 1_000 } else { 65_536 });
        let mut served = Served::open();
        served.wire.grant(0);
        frames.iter().for_each(|frame| _ = served.push(frame.clone()));
        // Half of them are unshared.
        let shared: Vec<_> = frames.into_iter().step_by(2).collect();
        served.flush();
        let mut written = Vec::new();
        let mut grants = 0;
        while written.len() < expected.len() {
            assert!(served.was_woken(), "the owner continues the write");
            assert!(served.poll_owner().is_pending());
            written.extend(served.wire.written());
            served.wire.grant(room);
            grants += 1;
            // Frames pushed later queue behind.
            if grants == 3 {
                served.push("last");
            }
        }
        served.wire.unblock();
        assert!(served.poll_owner().is_pending());
        written.extend(served.wire.written());
        assert!(written.starts_with(&expected), "room for {room}");
        assert_eq!(written[expected.len()..], server_frame(TEXT, b"last"));
        drop(shared);
    }
}

/// Returns frames of each kind around every limit up to `most` bytes, and their wire bytes.
fn assorted(most: usize) -> (Vec<Frame>, Vec<u8>) {
    let mut frames = Vec::new();
    let lens = [0, 1, 125, 126, 1_000, 16_379, 16_380, 16_381, 65_535, 65_536];
    for len in lens.into_iter().filter(|len| *len <= most) {
        frames.push(Frame::new("x".repeat(len)));
        frames.push(Frame::from_messages(vec!["event".into(), Bytes::from(vec![7; len]).into()]));
        frames.push(Frame::of_wire(WsWire::wire_key(), Bytes::from_static(b"\x8a\x01p")));
        frames.push(foreign());
    }
    let expected = frames.iter().flat_map(|frame| frame.wire(&WsWire)).collect();
    // The frames above were rendered for the comparison; the tested frames start unrendered.
    let again = frames.iter().map(|frame| match frame.messages() {
        [] => frame.clone(),
        messages => Frame::from_messages(messages.to_vec()),
    });
    (again.collect(), expected)
}

/// Returns a frame without a rendering on this wire.
fn foreign() -> Frame {
    struct Foreign;
    Frame::of_wire(WireKey::of::<Foreign>(0), Bytes::from_static(b"foreign"))
}

#[test]
fn skips_frames_of_no_bytes() {
    for shared in [false, true] {
        let mut served = Served::open();
        let frames = [foreign(), Frame::new("a"), foreign(), foreign(), Frame::new("x".repeat(20_000))];
        served.wire.grant(0);
        frames.iter().for_each(|frame| _ = served.push(frame.clone()));
        served.push(foreign());
        served.flush();
        let expected: Vec<u8> = frames.iter().flat_map(|frame| frame.wire(&WsWire)).collect();
        let kept = shared.then_some(frames);
        served.wire.unblock();
        assert!(served.poll_owner().is_pending());
        assert_eq!(served.sent(), expected);
        assert_eq!(served.outbox.waiting().frames, 0);
        drop(kept);
    }
}

#[test]
fn flushes_the_stream_after_writing() {
    let mut served = Served::open();
    served.push("one");
    served.flush();
    assert!(served.wire.is_flushed());

    served.wire.clog();
    served.push("two");
    served.flush();
    assert_eq!(served.wire.written(), b"\x81\x03one\x81\x03two");
    assert!(!served.wire.is_flushed());
    assert!(served.was_woken(), "the owner continues the flush");
    assert!(served.poll_owner().is_pending());
    served.wire.unblock();
    assert!(served.was_woken());
    assert!(served.poll_owner().is_pending());
    assert!(served.wire.is_flushed());
    served.push("three");
    served.flush();
    assert!(served.wire.is_flushed());
    assert_eq!(served.wire.written(), b"\x81\x05three");
}

#[test]
fn drops_volatile_frames_when_blocked() {
    let mut served = Served::open();
    let volatile = |served: &Served, text: &'static str| {
        served.outbox.push(Frame::new(text), Delivery::Volatile, Overflow::Close)
    };
    volatile(&served, "a");
    served.flush();
    served.wire.grant(0);
    served.push("b");
    served.flush();
    volatile(&served, "lost");
    served.wire.unblock();
    assert!(served.poll_owner().is_pending());
    volatile(&served, "c");
    assert_eq!(served.sent(), b"\x81\x01a\x81\x01b\x81\x01c");
}

#[test]
fn broken_stream_closes_outbox() {
    let mut served = Served::open();
    served.push("one");
    served.push("two");
    served.wire.break_writes();
    served.flush();
    assert!(served.was_woken());
    assert_eq!(served.poll_owner(), Poll::Ready(CloseReason::TransportClose));
    assert_eq!(served.outbox.waiting().frames, 0);
}
