//! Recovery of stored sessions.

use bytes::Bytes;
use roomcast_core::{Args, IntoArgs, Namespace, SocketId};
use roomcast_node_adapter::{
    ClusterBody, CodecLimits, EntryFields, EntryId, Flags, Recipients, RestoreError, RestoreStep, Restored,
    SessionRestore, StoredSession, StreamEntry, encode_entry, encode_session,
};

use crate::{event, rooms, to};

const BUDGET: usize = 1000;

fn entry(milliseconds: u64, fields: EntryFields) -> StreamEntry {
    let bytes = |text: &[u8]| Bytes::copy_from_slice(text);
    let fields = fields.into_iter().map(|(name, value)| (bytes(name.as_bytes()), bytes(value.as_bytes())));
    StreamEntry::from_fields(EntryId::new(milliseconds, 0), fields).expect("valid").expect("of the adapter")
}

fn broadcast(milliseconds: u64, name: &str, recipients: Recipients) -> StreamEntry {
    let body = ClusterBody::Broadcast(recipients, Flags::default(), event(name, 1));
    entry(milliseconds, encode_entry("u", &Namespace::main(), &body, false).expect("encodes"))
}

fn session() -> StoredSession {
    StoredSession {
        id: SocketId::new("s"),
        secret: "secret".into(),
        rooms: rooms(&["s", "7", "a"]),
        data: "data".into_args().expect("serializable"),
    }
}

/// Recovery that has the session, and the client's offset 5-0.
fn begun() -> SessionRestore {
    let mut restore = restore("5-0").expect("valid offset");
    let stored = encode_session(&session()).expect("encodes");
    restore.handle_session(Some(&stored), true).expect("session");
    restore
}

fn restore(offset: &str) -> Result<SessionRestore, RestoreError> {
    SessionRestore::new("sio:session:", Namespace::main(), "secret", offset, BUDGET, CodecLimits::default())
}

#[test]
fn missed_events_are_those_of_the_rooms() {
    let mut restore = begun();
    let RestoreStep::Range { from, count } = restore.next_step() else { panic!("reads") };
    assert_eq!(from, EntryId::new(5, 1));
    assert!(count > 1);
    let mut foreign = broadcast(12, "namespace", to(&[], &[]));
    foreign.namespace = "/x".into();
    let mut unreadable = broadcast(13, "unreadable", to(&[], &[]));
    unreadable.data = "{".into();
    let mut other = broadcast(14, "type", to(&[], &[]));
    other.kind = "4".into();
    let first = [
        broadcast(6, "all", to(&[], &[])),
        broadcast(7, "room", to(&["x", "a"], &[])),
        broadcast(8, "number", to(&["7"], &["x"])),
        broadcast(9, "elsewhere", to(&["x"], &[])),
    ];
    let second = [
        broadcast(10, "excluded", to(&[], &["7"])),
        broadcast(11, "itself", to(&["a"], &["s"])),
        foreign,
        unreadable,
        other,
        broadcast(15, "last", to(&["s"], &[])),
    ];
    assert!(restore.handle_entries(&first, Some(EntryId::new(9, 5)), false).expect("continues").is_none());
    assert!(matches!(restore.next_step(), RestoreStep::Range { from, .. } if from == EntryId::new(9, 6)));
    let restored = restore.handle_entries(&second, Some(EntryId::new(16, 0)), true).expect("continues");
    let Restored { session: found, missed, until } = restored.expect("complete");
    assert_eq!((found, until), (session(), EntryId::new(16, 0)));
    let shown: Vec<_> = missed.iter().map(|event| (&*event.name, event.offset.as_deref())).collect();
    let expected = [("all", "6-0"), ("room", "7-0"), ("number", "8-0"), ("last", "15-0")];
    assert_eq!(shown, expected.map(|(name, offset)| (name, Some(offset))));
}

#[test]
fn nothing_missed_ends_at_offset() {
    let restored = begun().handle_entries(&[], None, true).expect("continues").expect("complete");
    assert!(restored.missed.is_empty());
    assert_eq!(restored.until, EntryId::new(5, 0));
}

#[test]
fn claims_without_session_or_offset_are_refused() {
    for offset in ["", "5", "$", "5-0 ", "-"] {
        assert_eq!(restore(offset).map(|_| ()), Err(RestoreError::Offset), "{offset}");
    }
    let step = restore("5-0").expect("valid").next_step();
    assert_eq!(step, RestoreStep::Take { key: "sio:session:secret".into(), offset: EntryId::new(5, 0) });
    let stored = encode_session(&session()).expect("encodes");
    for (stored, found, expected) in [
        (None, true, RestoreError::Session),
        (Some(&*stored), false, RestoreError::Trimmed),
        (Some("wQ=="), true, RestoreError::Unreadable),
    ] {
        assert_eq!(restore("5-0").expect("valid").handle_session(stored, found), Err(expected));
    }
}

#[test]
fn missed_events_are_limited() {
    let mut restore = begun();
    let many: Vec<_> = (6..200).map(|at| broadcast(at, "twenty characters...", to(&[], &[]))).collect();
    let refused = restore.handle_entries(&many, Some(EntryId::new(199, 0)), true);
    assert_eq!(refused.map(|_| ()), Err(RestoreError::TooLarge(BUDGET)));
    // A stream that grows faster than it is read.
    let mut restore = begun();
    let outcome =
        (0..100_000).find_map(|at| restore.handle_entries(&[], Some(EntryId::new(at, 0)), false).err());
    assert!(matches!(outcome, Some(RestoreError::TooLong(_))));
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!("{:?}", StoredSession { data: Args::empty(), ..session() });
    assert!(shown.contains("\"s\"") && !shown.contains("secret"), "{shown}");
}
