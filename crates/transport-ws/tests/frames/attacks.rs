//! Known attacks on other servers, named after their advisories.

use roomcast_transport_ws::frame::{FrameReader, Incoming, ReadLimits, Violation, put_close, put_pong};

use crate::{
    BINARY, CONTINUATION, FIN, PING, TEXT, declaration, frame, memory::cost, read, read_limited, violation,
};

#[test]
fn cve_2016_10518_pong_echoes_ping() {
    for len in [0, 1, 124, 125] {
        let payload: Vec<u8> = (0..len).map(|at| at as u8 ^ 0x5a).collect();
        let (items, outcome) = read(&frame(FIN | PING, &payload));
        outcome.unwrap();
        let [Incoming::Ping(echo)] = items.as_slice() else { panic!("{items:?}") };
        let mut pong = Vec::new();
        put_pong(&mut pong, echo);
        assert_eq!(pong, [[0x8a, len as u8].as_slice(), &payload].concat());
    }
    let refused = violation(&frame(FIN | PING, &[0; 126]));
    assert_eq!(u16::from(refused.close_code()), 1002);
}

/// Also covers RUSTSEC-2022-0035: memory reserved for a declared length.
#[test]
fn cve_2016_10542_huge_declared_length() {
    let cases = [
        (1 << 31, 1009),
        (1 << 53, 1009),
        (i64::MAX as u64, 1009),
        (1 << 63, 1002),
        (u64::MAX, 1002),
        (1_000_001, 1009),
    ];
    for (length, code) in cases {
        for first in [FIN | TEXT, FIN | BINARY, TEXT, BINARY] {
            // Neither mask nor payload follow.
            let mut header = declaration(first, length);
            let (cost, items, outcome) = cost(ReadLimits::default(), &mut header, 4096);
            assert_eq!(items, []);
            assert_eq!(u16::from(outcome.unwrap_err().close_code()), code, "declared {length}");
            assert_eq!(cost.count_total, 0);
        }
    }
}

#[test]
fn cve_2016_10542_huge_later_fragment() {
    for length in [(1 << 31), (1 << 53), i64::MAX as u64, 1_000_000] {
        let stream = [frame(BINARY, b"x"), declaration(CONTINUATION, length)].concat();
        assert_eq!(violation(&stream), Violation::MessageTooBig { limit: 1_000_000 });
    }
}

#[test]
fn cve_2026_45736_close_carries_reason() {
    for reason in ["", "a", &"r".repeat(123)] {
        let mut frame = Vec::new();
        put_close(&mut frame, Some(1000), reason);
        assert_eq!(frame, [&[0x88, 2 + reason.len() as u8, 0x03, 0xe8], reason.as_bytes()].concat());
    }
}

#[test]
fn cve_2026_48779_million_tiny_fragments() {
    let mut stream = frame(TEXT, b"x");
    for _ in 0..1_000_000 {
        stream.extend(frame(CONTINUATION, b"x"));
    }
    let limits = ReadLimits::default();
    let (cost, items, outcome) = cost(limits, &mut stream, 4096);
    assert_eq!(items, []);
    let refused = outcome.unwrap_err();
    assert_eq!(refused, Violation::TooManyFragments { limit: 16_384 });
    assert_eq!(u16::from(refused.close_code()), 1008);
    assert!(cost.bytes_max <= 4 * u64::from(limits.max_fragments), "{cost:?}");
    assert_eq!(cost.bytes_current, 0);
}

#[test]
fn cve_2026_48779_dripped_message() {
    for first in [FIN | BINARY, FIN | TEXT] {
        let size = 900_000;
        let mut stream = frame(first, &vec![b'x'; size]);
        let (cost, items, outcome) = cost(ReadLimits::default(), &mut stream, 1);
        outcome.unwrap();
        assert_eq!(items.len(), 1);
        assert!(cost.bytes_max <= 2 * size as u64, "{cost:?}");
        assert!(cost.count_total < 25, "{cost:?}");
    }
}

#[test]
fn cve_2026_62389_empty_fragments_count() {
    let limits = ReadLimits::new().max_fragments(1000);
    let mut stream = frame(BINARY, b"");
    stream.extend(frame(CONTINUATION, b"").repeat(999));
    assert_eq!(read_limited(limits, &stream), (vec![], Ok(())));
    stream.extend(frame(CONTINUATION, b""));
    assert_eq!(read_limited(limits, &stream).1, Err(Violation::TooManyFragments { limit: 1000 }));
}

/// Length fields of the drafts before RFC 6455 could be endless.
#[test]
fn cve_2026_54466_draft_length_header() {
    let mut reader = FrameReader::default();
    let mut items = Vec::new();
    let mut stream = vec![0xff; 100_000];
    stream[0] = 0x80;
    assert!(reader.read(&mut stream, &mut items).is_err());
    assert_eq!(items, []);
}
