//! Compressed messages: decoding, rejection, and memory.

use allocation_counter::measure;
use proptest::collection::vec;
use proptest::prelude::*;
use roomcast_transport_ws::frame::{FrameReader, Incoming, ReadLimits, Violation};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

use crate::{BINARY, CONTINUATION, FIN, PING, TEXT, binary, frame, read_in_pieces, splits::hostile, text};

const COMPRESSED: u8 = 0x40;
/// Memory of an inflater in bytes.
const INFLATER: u64 = 47_552;
/// Inflated size of the bomb: 256 MiB of zeros, a quarter of a megabyte compressed.
const BOMB: usize = 256 << 20;

/// Compressor of a client.
struct Client(Deflate);

impl Client {
    fn new() -> Self {
        Self::with_window(15)
    }

    fn with_window(bits: i32) -> Self {
        Self(Deflate::new_with_config(DeflateConfig { window_bits: -bits, ..DeflateConfig::default() }))
    }

    fn compress(&mut self, mut message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut scratch = [0; 1000];
        loop {
            let (taken, made) = (self.0.total_in(), self.0.total_out());
            self.0.compress(message, &mut scratch, DeflateFlush::SyncFlush).unwrap();
            message = &message[(self.0.total_in() - taken) as usize..];
            let made = (self.0.total_out() - made) as usize;
            out.extend_from_slice(&scratch[..made]);
            if made < scratch.len() && message.is_empty() {
                break;
            }
        }
        if out.is_empty() {
            // No input since the last flush.
            return vec![0];
        }
        assert_eq!(out.split_off(out.len() - 4), [0, 0, 0xff, 0xff]);
        out
    }

    fn alone(message: &[u8]) -> Vec<u8> {
        Self::new().compress(message)
    }
}

fn read_with(keeps_context: bool, bytes: &[u8]) -> (Vec<Incoming>, Result<(), Violation>) {
    let mut reader = FrameReader::new(ReadLimits::default()).inflating(keeps_context);
    let mut items = Vec::new();
    let outcome = reader.read(&mut bytes.to_vec(), &mut items);
    (items, outcome)
}

#[test]
fn compressed_and_plain_messages_take_turns() {
    for keeps_context in [false, true] {
        let mut client = Client::new();
        let mut compress = |message: &[u8]| {
            if !keeps_context {
                client.0.reset();
            }
            client.compress(message)
        };
        let stream = [
            frame(FIN | COMPRESSED | TEXT, &compress("héllo héllo héllo".as_bytes())),
            frame(FIN | TEXT, b"plain"),
            frame(FIN | COMPRESSED | BINARY, &compress(&[7; 5000])),
            frame(FIN | COMPRESSED | TEXT, &compress("héllo héllo héllo".as_bytes())),
            frame(FIN | COMPRESSED | TEXT, &compress(b"")),
            frame(FIN | COMPRESSED | TEXT, b""),
        ];
        let expected = [
            text("héllo héllo héllo"),
            text("plain"),
            binary(vec![7; 5000]),
            text("héllo héllo héllo"),
            text(""),
            text(""),
        ];
        assert_eq!(read_with(keeps_context, &stream.concat()), (expected.to_vec(), Ok(())));
    }
}

#[test]
fn accepts_compression_bit_on_first_fragment() {
    let payload = Client::alone("fragment ".repeat(100).as_bytes());
    let (first, rest) = payload.split_at(5);
    let (second, last) = rest.split_at(0);
    let stream = [
        frame(COMPRESSED | TEXT, first),
        frame(CONTINUATION, second),
        frame(FIN | PING, b"?"),
        frame(FIN | CONTINUATION, last),
        frame(FIN | TEXT, b"next"),
    ]
    .concat();
    let (items, outcome) = read_with(false, &stream);
    assert_eq!(outcome, Ok(()));
    assert_eq!(items[1..], [text("fragment ".repeat(100)), text("next")]);

    let marked = [frame(COMPRESSED | TEXT, first), frame(FIN | COMPRESSED | CONTINUATION, rest)].concat();
    assert_eq!(read_with(false, &marked), (vec![], Err(Violation::MisplacedCompression)));
    assert_eq!(
        read_with(false, &frame(FIN | COMPRESSED | PING, b"")).1,
        Err(Violation::MisplacedCompression)
    );
    // Without the extension, as before.
    assert_eq!(crate::violation(&frame(FIN | COMPRESSED | TEXT, &payload)), Violation::ReservedBits);
}

#[test]
fn checks_text_after_inflating() {
    // Noise before the error, so that much was inflated before it, and no final block.
    let mut state = 7_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (state >> 24) as u8 % 90)
    };
    let mut bad: Vec<u8> = (0..20_000).map(|_| noise()).collect::<String>().into_bytes();
    bad.extend([0xff; 100]);
    bad.extend((0..20_000).map(|_| noise()).collect::<String>().into_bytes());
    let payload = Client::alone(&bad);
    let begun = frame(COMPRESSED | TEXT, &payload[..payload.len() - 1000]);
    assert_eq!(read_with(false, &begun), (vec![], Err(Violation::InvalidUtf8)));
    // It ends inside a character.
    let cut = Client::alone(&"€".as_bytes()[..2]);
    assert_eq!(
        read_with(false, &frame(FIN | COMPRESSED | TEXT, &cut)),
        (vec![], Err(Violation::InvalidUtf8))
    );
}

#[test]
fn context_spans_the_largest_window() {
    let mut client = Client::with_window(15);
    let mut reader = FrameReader::new(ReadLimits::default()).inflating(true);
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..16_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let mut items = Vec::new();
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let payload = client.compress(&noise);
        sizes.push(payload.len());
        reader.read(&mut frame(FIN | COMPRESSED | BINARY, &payload), &mut items).unwrap();
    }
    assert_eq!(items, vec![binary(noise); 3]);
    assert!(sizes[0] > 16_000 && sizes[1] < 200 && sizes[2] < 200, "{sizes:?}");
}

#[test]
fn refuses_compression_bomb_at_limit() {
    // A client maximizes the output: the same 32 KiB again and again.
    let mut client = Client::new();
    let mut payload = Vec::new();
    let zeros = vec![0; 1 << 20];
    for _ in 0..BOMB / zeros.len() {
        payload.extend(client.compress(&zeros));
        payload.extend([0, 0, 0xff, 0xff]);
    }
    assert!(payload.len() < 300 << 10, "{}", payload.len());
    let limits = ReadLimits::default();
    let fragments: Vec<u8> = payload
        .chunks(100)
        .enumerate()
        .flat_map(|(at, chunk)| frame(if at == 0 { COMPRESSED | BINARY } else { CONTINUATION }, chunk))
        .collect();
    for stream in
        [frame(FIN | COMPRESSED | BINARY, &payload), frame(FIN | COMPRESSED | TEXT, &payload), fragments]
    {
        for piece in [100, 4096, usize::MAX] {
            let mut reader = FrameReader::new(limits).inflating(false);
            let mut items = Vec::with_capacity(1);
            let mut read = 0;
            let mut bytes = stream.clone();
            let mut outcome = Ok(());
            let cost = measure(|| {
                for piece in bytes.chunks_mut(piece.min(stream.len())) {
                    read += piece.len();
                    outcome = reader.read(piece, &mut items);
                    if outcome.is_err() {
                        break;
                    }
                }
            });
            assert_eq!(outcome, Err(Violation::MessageTooBig { limit: limits.max_message }));
            assert!(piece > 4096 || read < 24 << 10, "noticed after {read} bytes");
            let most = limits.max_message as u64 + 2 * 64 * 1024 + INFLATER + 16 * 1024;
            assert!(cost.bytes_max <= most, "{} bytes at once", cost.bytes_max);
            assert_eq!(items, []);
        }
    }
}

#[test]
fn bounds_empty_blocks_by_input() {
    let limits = ReadLimits::new().max_message(10_000);
    let mut reader = FrameReader::new(limits).inflating(false);
    let mut items = Vec::new();
    let empty_blocks = [0, 0, 0, 0xff, 0xff].repeat(100);
    let mut outcome = reader.read(&mut frame(COMPRESSED | BINARY, &empty_blocks), &mut items);
    let mut fragments = 1;
    while outcome.is_ok() && fragments < 100 {
        outcome = reader.read(&mut frame(CONTINUATION, &empty_blocks), &mut items);
        fragments += 1;
    }
    assert_eq!(outcome, Err(Violation::MessageTooBig { limit: 10_000 }));
    assert!(fragments < 25, "{fragments}");
    // Incompressible data may slightly exceed the limit on the wire.
    let mut reader = FrameReader::new(limits).inflating(false);
    let stored: Vec<u8> = [0; 10_000]
        .chunks(100)
        .flat_map(|chunk| [&[0, 100, 0, 155, 255], chunk].concat())
        .chain([0])
        .collect();
    assert!(stored.len() > limits.max_message);
    reader.read(&mut frame(FIN | COMPRESSED | BINARY, &stored), &mut items).unwrap();
    let (first, rest) = stored.split_at(5000);
    reader.read(&mut frame(COMPRESSED | BINARY, first), &mut items).unwrap();
    reader.read(&mut frame(FIN | CONTINUATION, rest), &mut items).unwrap();
    assert_eq!(items, vec![binary(vec![0; 10_000]); 2]);
}

#[test]
fn frees_memory_between_messages() {
    let payload = Client::alone(&b"many words, many words ".repeat(40));
    let mut whole = frame(FIN | COMPRESSED | TEXT, &payload);
    let mut reader = FrameReader::new(ReadLimits::default()).inflating(false);
    let mut items = Vec::with_capacity(4);
    // Allocates the inflater of the thread once.
    reader.read(&mut whole.clone(), &mut items).unwrap();
    let cost = measure(|| reader.read(&mut whole, &mut items).unwrap());
    assert_eq!((cost.count_total, cost.bytes_current), (1, 920), "only the message is allocated");

    let mut begun = frame(COMPRESSED | TEXT, &payload[..20]);
    let cost = measure(|| reader.read(&mut begun, &mut items).unwrap());
    assert!(cost.bytes_current < 400, "{}", cost.bytes_current);
    let mut ended = frame(FIN | CONTINUATION, &payload[20..]);
    reader.read(&mut ended, &mut items).unwrap();
    assert_eq!(items[2], items[0]);

    // This much is buffered compressed; longer messages get an inflater.
    let mut reader = FrameReader::new(ReadLimits::default()).inflating(false);
    let cost = measure(|| reader.read(&mut frame(COMPRESSED | BINARY, &[0; 4096]), &mut items).unwrap());
    assert!((4096..5000).contains(&cost.bytes_current), "{}", cost.bytes_current);

    let mut keeping = FrameReader::new(ReadLimits::default()).inflating(true);
    let mut whole = frame(FIN | COMPRESSED | TEXT, &payload);
    let cost = measure(|| keeping.read(&mut whole, &mut items).unwrap());
    assert_eq!(cost.bytes_current as u64, 920 + INFLATER);
}

#[test]
fn tiny_messages_allocate_nothing() {
    // Empty final blocks, each the end of a stream; then each a message.
    let mut streams = frame(FIN | COMPRESSED | BINARY, &[3, 0].repeat(10_000));
    let mut messages = frame(FIN | COMPRESSED | BINARY, &[3, 0]).repeat(10_000);
    for stream in [&mut streams, &mut messages] {
        let mut reader = FrameReader::new(ReadLimits::default()).inflating(false);
        let mut items = Vec::with_capacity(10_001);
        reader.read(&mut frame(FIN | COMPRESSED | BINARY, &[3, 0]), &mut items).unwrap();
        let cost = measure(|| reader.read(stream, &mut items).unwrap());
        assert_eq!(cost.count_total, 0);
    }
}

fn in_pieces(keeps_context: bool, bytes: &[u8], sizes: &[usize]) -> (Vec<Incoming>, Result<(), Violation>) {
    let limits = ReadLimits::new().max_message(2000).max_fragments(6);
    read_in_pieces(FrameReader::new(limits).inflating(keeps_context), bytes, sizes)
}

proptest! {
    #[test]
    fn reads_compressed_messages_however_cut(
        sent in vec(("[a-d€]{0,400}", 1_usize..200, any::<bool>()), 0..6),
        sizes in vec(1_usize..300, 1..8),
        window in 9..=15,
        keeps_context: bool,
    ) {
        let mut client = Client::with_window(window);
        let mut stream = Vec::new();
        for (message, size, compressed) in &sent {
            let payload = if *compressed {
                if !keeps_context {
                    client.0.reset();
                }
                client.compress(message.as_bytes())
            } else {
                message.clone().into_bytes()
            };
            let chunks: Vec<_> = payload.chunks((*size).max(payload.len() / 5 + 1)).collect();
            let marked = if *compressed { COMPRESSED | TEXT } else { TEXT };
            for (at, chunk) in chunks.iter().enumerate() {
                let fin = if at + 1 == chunks.len() { FIN } else { 0 };
                stream.extend(frame(fin | if at == 0 { marked } else { CONTINUATION }, chunk));
            }
            if chunks.is_empty() {
                stream.extend(frame(FIN | marked, b""));
            }
        }
        let expected: Vec<_> = sent.into_iter().map(|(message, ..)| text(message)).collect();
        prop_assert_eq!(in_pieces(keeps_context, &stream, &sizes), (expected, Ok(())));
    }

    #[test]
    fn random_input_reads_same_however_cut(
        mut bytes in hostile(),
        marks in vec(any::<prop::sample::Index>(), 0..6),
        sizes in vec(1_usize..80, 1..8),
        keeps_context: bool,
    ) {
        for mark in marks {
            if !bytes.is_empty() {
                let at = mark.index(bytes.len());
                bytes[at] ^= COMPRESSED;
            }
        }
        let whole = in_pieces(keeps_context, &bytes, &[usize::MAX]);
        prop_assert_eq!(whole, in_pieces(keeps_context, &bytes, &sizes));
    }
}
