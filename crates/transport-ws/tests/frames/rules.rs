//! Rules of RFC 6455 sections 5 to 8.

use bytes::Bytes;
use roomcast_transport_ws::frame::{FrameReader, Incoming, ReadLimits, Violation};

use crate::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, binary, close, frame, read, read_limited, text,
    violation,
};

#[test]
fn each_kind_of_frame_is_read() {
    let stream = [
        frame(FIN | TEXT, "héllo".as_bytes()),
        frame(FIN | BINARY, &[0, 255]),
        frame(FIN | PING, b"ping"),
        frame(FIN | PONG, b"pong"),
        frame(FIN | TEXT, b""),
        frame(FIN | BINARY, b""),
        frame(FIN | PING, b""),
        frame(FIN | CLOSE, b"\x03\xe9gone"),
    ]
    .concat();
    let (items, outcome) = read(&stream);
    outcome.unwrap();
    let expected = [
        text("héllo"),
        binary(vec![0, 255]),
        Incoming::Ping(Bytes::from_static(b"ping")),
        Incoming::Pong(Bytes::from_static(b"pong")),
        text(""),
        binary(vec![]),
        Incoming::Ping(Bytes::new()),
        close(1001, "gone"),
    ];
    assert_eq!(items, expected);
}

#[test]
fn lengths_around_each_form_are_read() {
    for len in [0, 1, 3, 4, 63, 64, 125, 126, 127, 128, 65535, 65536, 65537] {
        let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
        assert_eq!(read(&frame(FIN | BINARY, &payload)), (vec![binary(payload)], Ok(())));
        let letters = "x".repeat(len);
        assert_eq!(read(&frame(FIN | TEXT, letters.as_bytes())), (vec![text(letters)], Ok(())));
    }
}

#[test]
fn fragments_are_joined() {
    let stream = [
        frame(TEXT, b"one "),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"two "),
        frame(FIN | CONTINUATION, b"three"),
        frame(BINARY, b""),
        frame(FIN | CONTINUATION, b"x"),
    ]
    .concat();
    assert_eq!(read(&stream), (vec![text("one two three"), binary("x")], Ok(())));
}

#[test]
fn accepts_control_frames_between_fragments() {
    let stream = [
        frame(TEXT, b"a"),
        frame(FIN | PING, b"1"),
        frame(CONTINUATION, b"b"),
        frame(FIN | PONG, b"2"),
        frame(FIN | CONTINUATION, b"c"),
    ]
    .concat();
    let expected =
        vec![Incoming::Ping(Bytes::from_static(b"1")), Incoming::Pong(Bytes::from_static(b"2")), text("abc")];
    assert_eq!(read(&stream), (expected, Ok(())));
}

#[test]
fn close_inside_message_ends_stream() {
    let stream = [frame(TEXT, b"a"), frame(FIN | CLOSE, &1000_u16.to_be_bytes())].concat();
    assert_eq!(read(&stream), (vec![close(1000, "")], Ok(())));
}

#[test]
fn discards_input_after_close_frame() {
    let mut reader = FrameReader::default();
    let mut items = Vec::new();
    let mut stream = [frame(FIN | CLOSE, b""), frame(FIN | TEXT, b"late"), vec![0xff; 20]].concat();
    reader.read(&mut stream, &mut items).unwrap();
    reader.read(&mut frame(FIN | TEXT, b"later"), &mut items).unwrap();
    assert!(reader.is_ended());
    assert_eq!(items, [Incoming::Close { code: None, reason: "".into() }]);
}

#[test]
fn items_before_a_violation_are_kept() {
    let stream = [frame(FIN | TEXT, b"fine"), vec![0xff]].concat();
    assert_eq!(read(&stream), (vec![text("fine")], Err(Violation::ReservedBits)));
}

#[test]
fn frames_must_be_masked() {
    assert_eq!(violation(b"\x81\x02hi"), Violation::Unmasked);
    assert_eq!(violation(b"\x88\x00"), Violation::Unmasked);
}

#[test]
fn reserved_bits_and_opcodes_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        for opcode in [TEXT, BINARY, PING, CLOSE] {
            assert_eq!(violation(&frame(FIN | bit | opcode, b"")), Violation::ReservedBits);
        }
    }
    for opcode in (3..=7).chain(11..=15) {
        assert_eq!(violation(&frame(FIN | opcode, b"")), Violation::ReservedOpcode(opcode));
        assert_eq!(violation(&frame(opcode, b"")), Violation::ReservedOpcode(opcode));
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [PING, PONG, CLOSE] {
        assert_eq!(violation(&frame(opcode, b"")), Violation::FragmentedControl);
        assert_eq!(violation(&frame(FIN | opcode, &[0; 126])), Violation::ControlTooLong);
        assert_eq!(violation(&frame(FIN | opcode, &[0; 65536])), Violation::ControlTooLong);
    }
    assert_eq!(read(&frame(FIN | PING, &[1; 125])), (vec![Incoming::Ping(vec![1; 125].into())], Ok(())));
}

#[test]
fn fragments_come_in_order() {
    assert_eq!(violation(&frame(CONTINUATION, b"")), Violation::UnexpectedContinuation);
    assert_eq!(violation(&frame(FIN | CONTINUATION, b"")), Violation::UnexpectedContinuation);
    for opcode in [TEXT, BINARY, FIN | TEXT, FIN | BINARY] {
        for begun in [b"".as_slice(), b"a"] {
            let stream = [frame(TEXT, begun), frame(opcode, b"")].concat();
            assert_eq!(violation(&stream), Violation::ExpectedContinuation);
        }
    }
    let stream = [frame(FIN | TEXT, b"a"), frame(FIN | CONTINUATION, b"b")].concat();
    assert_eq!(read(&stream), (vec![text("a")], Err(Violation::UnexpectedContinuation)));
}

#[test]
fn close_payloads_are_checked() {
    assert_eq!(violation(&frame(FIN | CLOSE, b"\x03")), Violation::CloseTooShort);
    assert_eq!(violation(&frame(FIN | CLOSE, &1005_u16.to_be_bytes())), Violation::CloseCode(1005));
    assert_eq!(violation(&frame(FIN | CLOSE, b"\x03\xe8\xed\xa0\x80")), Violation::InvalidUtf8);
    let longest = [b"\x03\xe8".as_slice(), &[b'r'; 123]].concat();
    assert_eq!(read(&frame(FIN | CLOSE, &longest)), (vec![close(1000, &"r".repeat(123))], Ok(())));
}

#[test]
fn validates_utf8_across_fragments() {
    for bad in [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80ed".as_slice(),
        b"\xff",
        b"a\x80",
        b"a\xe2\x82",
        b"\xf4\x90\x80\x80",
    ] {
        assert_eq!(violation(&frame(FIN | TEXT, bad)), Violation::InvalidUtf8);
        let one_by_one: Vec<u8> = [frame(TEXT, b"")]
            .into_iter()
            .chain(bad.iter().map(|byte| frame(CONTINUATION, &[*byte])))
            .flatten()
            .collect();
        let ended = [one_by_one, frame(FIN | CONTINUATION, b"")].concat();
        assert_eq!(violation(&ended), Violation::InvalidUtf8);
        // The same bytes are valid in a binary message.
        assert_eq!(read(&frame(FIN | BINARY, bad)), (vec![binary(bad.to_vec())], Ok(())));
    }
}

#[test]
fn allows_character_split_by_fragment() {
    let bytes = "κόσμε😀".as_bytes();
    for cut in 0..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        let stream = [frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat();
        assert_eq!(read(&stream), (vec![text("κόσμε😀")], Ok(())));
    }
    let stream = [frame(TEXT, &bytes[..bytes.len() - 2]), frame(FIN | CONTINUATION, b"")].concat();
    assert_eq!(violation(&stream), Violation::InvalidUtf8);
}

#[test]
fn refuses_impossible_text_early() {
    // The part that Autobahn's cases 6.4.1 to 6.4.4 send before they wait for the response.
    let valid = "κόσμε".as_bytes();
    let beyond = b"\xf4\x90";

    let stream = [frame(TEXT, valid), frame(CONTINUATION, b"\xf4\x90\x80\x80")].concat();
    assert_eq!(violation(&stream), Violation::InvalidUtf8);

    let stream = [frame(TEXT, &[valid, b"\xf4"].concat()), frame(CONTINUATION, b"\x90")].concat();
    assert_eq!(violation(&stream), Violation::InvalidUtf8);

    let whole = frame(FIN | TEXT, &[valid, beyond, b"\x80\x80edited"].concat());
    let header = 6;
    let mut reader = FrameReader::default();
    let mut items = Vec::new();
    reader.read(&mut whole[..header + valid.len() + 1].to_vec(), &mut items).unwrap();
    let next = whole[header + valid.len() + 1];
    assert_eq!(reader.read(&mut [next], &mut items), Err(Violation::InvalidUtf8));
}

#[test]
fn enforces_message_size_limit() {
    let limits = ReadLimits::new().max_message(1000);
    let too_big = Err(Violation::MessageTooBig { limit: 1000 });

    let (items, outcome) = read_limited(limits, &frame(FIN | BINARY, &[1; 1000]));
    assert_eq!((items.len(), outcome), (1, Ok(())));
    assert_eq!(read_limited(limits, &frame(FIN | BINARY, &[1; 1001])), (vec![], too_big));

    let fragmented = |last: usize| {
        [frame(BINARY, &[1; 600]), frame(FIN | PING, &[9; 100]), frame(FIN | CONTINUATION, &vec![2; last])]
            .concat()
    };
    let (items, outcome) = read_limited(limits, &fragmented(400));
    assert_eq!((items.len(), outcome), (2, Ok(())));
    let (items, outcome) = read_limited(limits, &fragmented(401));
    assert_eq!((items.len(), outcome), (1, too_big));
}

#[test]
fn incomplete_character_counts_towards_limit() {
    let limits = ReadLimits::new().max_message(4);
    let stream = [frame(TEXT, b"a\xe2\x82"), frame(FIN | CONTINUATION, b"\xacb")].concat();
    assert_eq!(read_limited(limits, &stream).1, Err(Violation::MessageTooBig { limit: 4 }));
    let stream = [frame(TEXT, b"a\xe2\x82"), frame(FIN | CONTINUATION, b"\xac")].concat();
    assert_eq!(read_limited(limits, &stream), (vec![text("a€")], Ok(())));
}

#[test]
fn largest_limits_do_not_overflow() {
    let limits = ReadLimits::new().max_message(usize::MAX).max_fragments(u32::MAX);
    let stream = [frame(TEXT, b"a"), frame(FIN | CONTINUATION, b"b")].concat();
    assert_eq!(read_limited(limits, &stream), (vec![text("ab")], Ok(())));
    let mut declared = frame(TEXT, b"a");
    declared.extend([0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, b'b']);
    assert_eq!(read_limited(limits, &declared), (vec![], Ok(())));
}
