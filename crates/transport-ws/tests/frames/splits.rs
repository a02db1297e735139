//! Decoding is independent of how a stream is split.

use proptest::{collection::vec, prelude::*};
use roomcast_transport_ws::frame::{FrameReader, Incoming, ReadLimits, Violation};

use crate::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, binary, declaration, frame, read_in_pieces,
    read_limited, text,
};

const LIMITS: ReadLimits = ReadLimits::new().max_message(2000).max_fragments(8);

/// Returns a message in one or more frames, with the expected result.
fn message() -> impl Strategy<Value = (Vec<u8>, Incoming)> {
    let texts = prop_oneof![any::<String>(), "[a-zé€😀]{0,150}", "[ -~]{200,400}"];
    let bodies = prop_oneof![
        texts.prop_map(|body| (TEXT, body.clone().into_bytes(), text(body))),
        vec(any::<u8>(), 0..300).prop_map(|body| (BINARY, body.clone(), binary(body))),
    ];
    (bodies, vec(any::<prop::sample::Index>(), 0..7)).prop_map(|((opcode, body, item), cuts)| {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        let mut stream = Vec::new();
        let mut from = 0;
        for (at, cut) in cuts.iter().copied().chain([body.len()]).enumerate() {
            let opcode = if at == 0 { opcode } else { CONTINUATION };
            let fin = if at == cuts.len() { FIN } else { 0 };
            stream.extend(frame(fin | opcode, &body[from..cut]));
            from = cut;
        }
        (stream, item)
    })
}

fn control() -> impl Strategy<Value = (Vec<u8>, Incoming)> {
    (any::<bool>(), vec(any::<u8>(), 0..126)).prop_map(|(ping, payload)| {
        if ping {
            (frame(FIN | PING, &payload), Incoming::Ping(payload.into()))
        } else {
            (frame(FIN | PONG, &payload), Incoming::Pong(payload.into()))
        }
    })
}

/// Bytes biased to look like frames, valid or not.
pub(crate) fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let firsts = prop_oneof![
        8 => prop::sample::select(vec![
            TEXT, BINARY, CONTINUATION, FIN | TEXT, FIN | BINARY, FIN | CONTINUATION, FIN | PING, FIN | PONG
        ]),
        1 => Just(FIN | CLOSE),
        1 => any::<u8>(),
    ];
    let payloads = prop_oneof![vec(any::<u8>(), 0..200), any::<String>().prop_map(String::into_bytes)];
    let lengths = prop_oneof![0_u64..3000, any::<u64>()];
    let pieces = prop_oneof![
        20 => (firsts.clone(), payloads).prop_map(|(first, payload)| frame(first, &payload)),
        1 => (firsts, lengths).prop_map(|(first, length)| declaration(first, length)),
        1 => vec(any::<u8>(), 0..30),
    ];
    vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
}

fn in_pieces(bytes: &[u8], sizes: &[usize]) -> (Vec<Incoming>, Result<(), Violation>) {
    read_in_pieces(FrameReader::new(LIMITS), bytes, sizes)
}

proptest! {
    #[test]
    fn valid_stream_reads_same_however_cut(
        sent in vec(prop_oneof![message(), control()], 0..8),
        sizes in vec(1_usize..80, 1..8),
    ) {
        let (stream, expected): (Vec<_>, Vec<_>) = sent.into_iter().unzip();
        let stream = stream.concat();
        prop_assert_eq!(read_limited(LIMITS, &stream), (expected.clone(), Ok(())));
        prop_assert_eq!(in_pieces(&stream, &sizes), (expected.clone(), Ok(())));
        prop_assert_eq!(in_pieces(&stream, &[1]), (expected, Ok(())));
    }

    #[test]
    fn random_stream_reads_same_however_cut(bytes in hostile(), sizes in vec(1_usize..80, 1..8)) {
        let whole = read_limited(LIMITS, &bytes);
        prop_assert_eq!(in_pieces(&bytes, &sizes), whole.clone());
        prop_assert_eq!(in_pieces(&bytes, &[1]), whole);
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..300)) {
        let whole = read_limited(LIMITS, &bytes);
        prop_assert_eq!(in_pieces(&bytes, &[1]), whole);
    }
}
