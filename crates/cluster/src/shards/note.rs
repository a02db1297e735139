//! Notes of a sharded node in its envelopes: a field that other nodes skip.

use bytes::Bytes;

use super::servers::{ServerId, ServerSet};
use crate::envelope::wire::{FieldReader, FieldWriter};
use crate::envelope::{DecodeError, EnvelopeWriter, SHARDS, VERSION, fields};
use crate::{NodeId, NodeRef};

/// Sender of an envelope, and its note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) node: NodeRef,
    /// Number of the node's last heartbeat.
    pub(super) heartbeat: u64,
    /// Number of frames.
    pub(super) frames: u64,
    pub(super) note: Note,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Number of a message that is sent to all servers, from 1.
    pub(super) number: Option<u64>,
    pub(super) announcement: Option<Announcement>,
    /// End of the publications of a node on a channel of this server, before its change of servers with this number.
    pub(super) handover: Option<u64>,
}

/// Servers that a node uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Number of changes of the servers to publish to.
    pub(super) changes: u64,
    pub(super) publishes: ServerSet,
    /// Sets by any of which others may publish.
    pub(super) listens: Vec<ServerSet>,
}

impl Note {
    /// Appends the note to an envelope.
    pub(super) fn append(&self, payload: &Bytes) -> Bytes {
        let mut note = FieldWriter::with_capacity(96);
        if let Some(number) = self.number {
            note.number(NUMBER, number);
        }
        if let Some(Announcement { changes, publishes, listens }) = &self.announcement {
            note.number(CHANGES, *changes);
            write_set(&mut note, PUBLISHES, publishes);
            listens.iter().for_each(|set| write_set(&mut note, LISTENS, set));
        }
        if let Some(change) = self.handover {
            note.number(HANDOVER, change);
        }
        let note = note.into_bytes();
        let mut out = FieldWriter::with_capacity(payload.len() + note.len() + 12);
        out.raw(payload);
        out.bytes(SHARDS, &note);
        out.into_bytes()
    }

    /// Returns an envelope that ends the publications on a channel.
    pub(super) fn handover(node: NodeRef, heartbeat: u64, change: u64) -> Bytes {
        let envelope = EnvelopeWriter::new(node.id, node.incarnation, heartbeat).finish();
        Self { handover: Some(change), ..Self::default() }.append(&envelope)
    }

    fn read(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut note = Self::default();
        let (mut changes, mut publishes, mut listens) = (0, None, Vec::new());
        let mut reader = FieldReader::new(bytes);
        while let Some((field, value)) = reader.next_field()? {
            match field {
                NUMBER => note.number = Some(value.number()?),
                CHANGES => changes = value.number()?,
                PUBLISHES => publishes = Some(read_set(value.bytes()?)?),
                LISTENS if listens.len() < MAX_SETS => listens.push(read_set(value.bytes()?)?),
                HANDOVER => note.handover = Some(value.number()?),
                // Added by a later version.
                _ => {}
            }
        }
        note.announcement = publishes.map(|publishes| Announcement { changes, publishes, listens });
        Ok(note)
    }
}

impl Header {
    /// Reads the header and the note of an envelope; `None` if it has another format.
    pub(super) fn read(payload: &Bytes) -> Option<Self> {
        if payload.first() != Some(&VERSION) {
            return None;
        }
        let (mut node, mut incarnation, mut heartbeat, mut frames) = (None, None, 0, 0);
        let mut note = Note::default();
        let mut reader = FieldReader::new(payload.slice(1..));
        while let Some((field, value)) = reader.next_field().ok()? {
            match field {
                fields::NODE => node = Some(value.number().ok()?),
                fields::INCARNATION => incarnation = Some(value.number().ok()?),
                fields::HEARTBEAT => heartbeat = value.number().ok()?,
                fields::FRAME => frames += 1,
                SHARDS => note = Note::read(value.bytes().ok()?).ok()?,
                _ => {}
            }
        }
        let node = NodeRef { id: NodeId::new(node?), incarnation: incarnation? };
        Some(Self { node, heartbeat, frames, note })
    }
}

fn write_set(out: &mut FieldWriter, field: u64, set: &ServerSet) {
    let mut list = Vec::with_capacity(64);
    set.iter().for_each(|server| list.extend_from_slice(&server.0.to_le_bytes()));
    out.bytes(field, &list);
}

fn read_set(bytes: Bytes) -> Result<ServerSet, DecodeError> {
    let mut servers = Vec::new();
    let mut reader = FieldReader::new(bytes);
    while !reader.is_empty() && servers.len() < super::MAX_SERVERS {
        servers.push(ServerId(reader.fixed()?));
    }
    Ok(ServerSet::new(servers))
}

/// Sets in one announcement.
const MAX_SETS: usize = 8;

// Fields of a note. A number is never reused for another meaning or type.
const NUMBER: u64 = 1;
const CHANGES: u64 = 2;
const PUBLISHES: u64 = 3;
const LISTENS: u64 = 4;
const HANDOVER: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Envelope;

    fn envelope() -> Bytes {
        let mut envelope = EnvelopeWriter::new(NodeId::new(7), 9, 3);
        envelope.push(None, b"");
        envelope.finish()
    }

    #[test]
    fn notes_read_back() {
        let set = |names: &[&str]| ServerSet::new(names.iter().map(|name| ServerId::of(name)));
        let announcement =
            Announcement { changes: 2, publishes: set(&["a"]), listens: vec![set(&["a", "b"]), set(&["a"])] };
        for note in [
            Note::default(),
            Note { number: Some(5), ..Note::default() },
            Note { number: Some(u64::MAX), announcement: Some(announcement), handover: None },
        ] {
            let payload = note.append(&envelope());
            let header = Header::read(&payload).expect("an envelope");
            assert_eq!((header.node.id, header.heartbeat, header.frames), (NodeId::new(7), 3, 1));
            assert_eq!(header.note, note);
            // Nodes without shards skip the note.
            assert!(Envelope::decode(&payload).is_ok());
        }
    }

    #[test]
    fn handover_has_no_frame() {
        let node = NodeRef { id: NodeId::new(7), incarnation: 9 };
        let header = Header::read(&Note::handover(node, 3, 4)).expect("an envelope");
        assert_eq!((header.frames, header.note.handover), (0, Some(4)));
    }

    #[test]
    fn damaged_notes_are_rejected() {
        let mut out = FieldWriter::default();
        out.raw(&envelope());
        out.bytes(SHARDS, &[PUBLISHES as u8 * 2 + 1, 3, 0, 0, 0]);
        assert_eq!(Header::read(&out.into_bytes()), None);
        assert_eq!(Header::read(&Bytes::new()), None);
        assert_eq!(Header::read(&Bytes::from_static(&[VERSION + 1])), None);
    }
}
