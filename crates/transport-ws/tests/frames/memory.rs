//! Allocations of the frame reader.

use allocation_counter::{AllocationInfo, measure};
use proptest::prelude::*;
use roomcast_transport_ws::frame::{FrameReader, Incoming, ReadLimits, Violation};

use crate::{BINARY, CONTINUATION, FIN, PING, TEXT, declaration, frame, splits::hostile};

/// Feeds a stream in pieces and counts allocations, excluding the caller's list of items.
pub(crate) fn cost(
    limits: ReadLimits,
    stream: &mut [u8],
    piece: usize,
) -> (AllocationInfo, Vec<Incoming>, Result<(), Violation>) {
    let mut reader = FrameReader::new(limits);
    let mut items = Vec::with_capacity(stream.len() / 6 + 1);
    let mut outcome = Ok(());
    let cost = measure(|| {
        for piece in stream.chunks_mut(piece) {
            outcome = reader.read(piece, &mut items);
            if outcome.is_err() {
                break;
            }
        }
    });
    (cost, items, outcome)
}

#[test]
fn whole_message_costs_one_allocation() {
    for first in [FIN | TEXT, FIN | BINARY, FIN | PING] {
        let (cost, items, outcome) = cost(ReadLimits::default(), &mut frame(first, &[b'a'; 64]), 4096);
        outcome.unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!((cost.count_total, cost.bytes_total), (1, 64));
    }
}

#[test]
fn empty_message_allocates_nothing() {
    for first in [FIN | TEXT, FIN | BINARY, FIN | PING] {
        let (cost, items, outcome) = cost(ReadLimits::default(), &mut frame(first, b""), 1);
        outcome.unwrap();
        assert_eq!(items.len(), 1);
        assert_eq!(cost.count_total, 0);
    }
}

#[test]
fn split_header_allocates_nothing_extra() {
    let mut reader = FrameReader::default();
    let mut items = Vec::with_capacity(1);
    let mut stream = frame(FIN | TEXT, &[b'a'; 64]);
    let (header, payload) = stream.split_at_mut(6);
    let cost = measure(|| {
        for byte in header {
            reader.read(std::slice::from_mut(byte), &mut items).unwrap();
        }
    });
    assert_eq!(cost.count_total, 0);
    let cost = measure(|| reader.read(payload, &mut items).unwrap());
    assert_eq!((cost.count_total, cost.bytes_total), (1, 64));
}

#[test]
fn split_message_allocates_its_size() {
    let payload = "€".repeat(300).into_bytes();
    for first in [FIN | TEXT, FIN | BINARY] {
        // The first two cut inside a character, the second so that one piece remains.
        for piece in [8 + 400, 8 + 446, 100] {
            let (cost, items, outcome) = cost(ReadLimits::default(), &mut frame(first, &payload), piece);
            outcome.unwrap();
            assert_eq!(items.len(), 1);
            assert_eq!((cost.count_current, cost.bytes_current), (1, 900), "pieces of {piece}");
        }
    }
}

#[test]
fn idle_reader_owns_nothing() {
    let mut reader = FrameReader::default();
    let mut items = Vec::with_capacity(8);
    let mut stream = [
        frame(TEXT, &[b'a'; 500]),
        frame(FIN | PING, &[1; 100]),
        frame(FIN | CONTINUATION, &[b'b'; 500]),
        frame(FIN | BINARY, &[2; 500]),
    ]
    .concat();
    let cost = measure(|| {
        for piece in stream.chunks_mut(7) {
            reader.read(piece, &mut items).unwrap();
        }
        items.clear();
    });
    assert!(reader.is_idle());
    assert_eq!((cost.count_current, cost.bytes_current), (0, 0));
}

#[test]
fn small_fragments_cost_their_bytes() {
    let limits = ReadLimits::new().max_message(16 << 20).max_fragments(65536);
    for (first, byte) in [(BINARY, 0xff), (TEXT, b'a')] {
        let mut stream = frame(first, &[byte; 64]);
        for _ in 1..65535 {
            stream.extend(frame(CONTINUATION, &[byte; 64]));
        }
        stream.extend(frame(FIN | CONTINUATION, &[byte; 64]));

        let (cost, items, outcome) = cost(limits, &mut stream, 65536);
        outcome.unwrap();
        let [Incoming::Message(message)] = items.as_slice() else { panic!("{} items", items.len()) };
        assert_eq!(message.as_bytes(), vec![byte; 65536 * 64]);
        // The buffer doubled from 64 bytes to 4 MiB.
        assert!(cost.count_total < 25, "{cost:?}");
        assert!(cost.bytes_max < 65536 * 64 * 2, "{cost:?}");
    }
}

#[test]
fn declared_length_allocates_nothing() {
    for first in [FIN | TEXT, FIN | BINARY, TEXT, BINARY] {
        let mut stream = declaration(first, 1_000_000);
        stream.extend([0; 4]);
        let (cost, _, outcome) = cost(ReadLimits::default(), &mut stream, 4096);
        outcome.unwrap();
        assert_eq!(cost.count_total, 0);

        stream.push(b'a');
        let (cost, ..) = self::cost(ReadLimits::default(), &mut stream, 4096);
        assert!(cost.bytes_total < 256, "{cost:?}");
    }
}

proptest! {
    #[test]
    fn random_input_costs_four_times_size(bytes in hostile(), piece in 1_usize..300) {
        let limits = ReadLimits::new().max_message(2000).max_fragments(8);
        let mut stream = bytes.clone();
        let (cost, items, _) = cost(limits, &mut stream, piece);
        // An incomplete message and control frame may each hold one small box.
        prop_assert!(cost.bytes_max <= 4 * bytes.len() as u64 + 256, "{:?} for {} bytes", cost, bytes.len());
        drop(items);
    }
}
