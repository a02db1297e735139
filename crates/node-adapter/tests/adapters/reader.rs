//! Position in the stream.

use roomcast_node_adapter::{EntryId, ReadRequest, StreamReader};

fn id(milliseconds: u64) -> EntryId {
    EntryId::new(milliseconds, 0)
}

fn reader_at(milliseconds: u64) -> StreamReader {
    let mut reader = StreamReader::new();
    assert!(!reader.handle_last(Some(id(milliseconds))));
    reader
}

#[test]
fn ids_have_form_of_redis() {
    for text in ["0-0", "5-0", "1700000000000-12", "18446744073709551615-18446744073709551615"] {
        assert_eq!(text.parse::<EntryId>().map(|id| id.to_string()).as_deref(), Ok(text));
    }
    for text in [
        "",
        "-",
        "5",
        "5-",
        "-5",
        "5-0-0",
        "+5-0",
        "5-+0",
        " 5-0",
        "5-x",
        "18446744073709551616-0",
        "$",
        "٣-0",
    ] {
        assert!(text.parse::<EntryId>().is_err(), "{text}");
    }
    assert!(EntryId::new(5, 9) < EntryId::new(5, 10) && EntryId::new(5, 10) < EntryId::new(10, 0));
    assert_eq!(EntryId::new(5, 9).next(), EntryId::new(5, 10));
    assert_eq!(EntryId::new(5, u64::MAX).next(), EntryId::new(6, 0));
    assert_eq!(EntryId::new(u64::MAX, u64::MAX).next(), EntryId::new(u64::MAX, u64::MAX), "there is none");
}

#[test]
fn begins_after_last_entry() {
    assert_eq!(StreamReader::new().next_request(), ReadRequest::Locate);
    let ReadRequest::Read { anchor, after } = reader_at(7).next_request() else { panic!("reads") };
    assert_eq!((anchor, after), (Some(id(7)), id(7)));
}

#[test]
fn idle_reads_keep_position() {
    let mut reader = reader_at(7);
    let request = reader.next_request();
    assert!(!reader.handle_read(true, None));
    assert_eq!((reader.next_request(), reader.position()), (request, Some(id(7))));
}

#[test]
fn empty_stream_needs_no_anchor() {
    let mut reader = StreamReader::new();
    assert!(!reader.handle_last(None));
    let ReadRequest::Read { anchor, after } = reader.next_request() else { panic!("reads") };
    assert_eq!((anchor, after), (None, EntryId::ZERO));
    assert!(!reader.handle_read(false, None));
    assert!(!reader.handle_read(false, Some(id(3))));
    assert_eq!(reader.next_request(), reader_at(3).next_request());
}

#[test]
fn trimmed_anchor_is_gap_once() {
    let mut reader = reader_at(7);
    assert!(reader.handle_read(false, Some(id(90))), "entries up to 89 may be lost");
    assert_eq!(reader.next_request(), reader_at(90).next_request());
    assert!(!reader.handle_read(true, Some(id(91))));
}

#[test]
fn stream_with_smaller_ids_is_read_from_its_start() {
    // Found by a read that waits in vain.
    let mut reader = reader_at(70);
    assert!(reader.handle_read(false, None));
    assert_eq!(reader.next_request(), ReadRequest::Locate);
    assert!(!reader.handle_last(Some(id(3))), "the gap was reported");
    assert_eq!(reader.position(), Some(EntryId::ZERO));
    assert!(!reader.handle_read(false, Some(id(3))));
    // Found after a reconnect.
    for last in [Some(id(3)), None] {
        let mut reader = reader_at(70);
        reader.handle_reconnect();
        assert_eq!(reader.next_request(), ReadRequest::Locate);
        assert!(reader.handle_last(last));
        assert_eq!(reader.position(), Some(EntryId::ZERO));
    }
}

#[test]
fn reconnect_to_same_stream_is_no_gap() {
    for last in [70, 90] {
        let mut reader = reader_at(70);
        reader.handle_reconnect();
        assert!(!reader.handle_last(Some(id(last))));
        assert_eq!(reader.next_request(), reader_at(70).next_request(), "the next read checks the anchor");
    }
}

#[test]
fn stream_that_lost_its_end_is_read_from_there() {
    let mut reader = reader_at(7000);
    for read in [7500, 8100, 9000, 9300] {
        assert!(!reader.handle_read(true, Some(id(read))));
    }
    reader.handle_reconnect();
    assert!(reader.handle_last(Some(id(9200))), "entries that were read are lost");
    assert!(!reader.is_located());
    // 8100 was remembered, and 9000 is too close to it.
    assert_eq!(reader.next_request(), ReadRequest::Check { id: id(8100) });
    let mut other = reader.clone();
    reader.handle_check(true);
    assert!(reader.is_located());
    assert_eq!(reader.next_request(), reader_at(9200).next_request());
    // Another stream has smaller ids too, after a step of the clock.
    other.handle_check(false);
    assert_eq!(other.next_request(), ReadRequest::Read { anchor: None, after: EntryId::ZERO });
    // The connection is lost before the answer.
    reader.handle_reconnect();
    assert!(reader.handle_last(Some(id(9100))));
    reader.handle_reconnect();
    assert_eq!(reader.next_request(), ReadRequest::Locate);
}
