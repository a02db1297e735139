//! Channels of a message engine, and the rooms that travel on them.

use std::fmt;

use roomcast_core::{Namespace, Room};

use crate::NodeId;

/// Channel of a message engine.
///
/// A node subscribes to [`Nodes`](Self::Nodes), to its own [`Inbox`](Self::Inbox) and [`Ids`](Self::Ids), to the
/// namespaces that it serves and to the rooms in which it has members. The `Display` form is the channel's name, to
/// which an engine may add a prefix; [`parse`](Self::parse) is its inverse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "engines may match every kind")]
pub enum Channel {
    /// Heartbeats, and requests to all nodes.
    Nodes,
    /// Answers and requests to one node.
    Inbox(NodeId),
    /// Publications to the rooms of socket ids that carry a node's tag.
    Ids(NodeId),
    /// Publications to a whole namespace.
    Namespace(Namespace),
    /// Publications to a room of a namespace.
    Room(Namespace, Room),
}

impl Channel {
    /// Returns the channel of a room, or of the whole namespace.
    ///
    /// The rooms of one node's socket ids share a channel, so a connection costs no subscription.
    #[must_use]
    pub fn of(namespace: &Namespace, room: Option<&Room>) -> Self {
        match room {
            None => Self::Namespace(namespace.clone()),
            Some(room) => match NodeId::of_room(room.as_str()) {
                Some(node) => Self::Ids(node),
                None => Self::Room(namespace.clone(), room.clone()),
            },
        }
    }

    /// Parses the `Display` form; returns `None` for any other text.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (kind, rest) = name.split_at_checked(1)?;
        let node = || match rest.len() {
            12 if rest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) => {
                u64::from_str_radix(rest, 16).ok().map(NodeId::new)
            }
            _ => None,
        };
        match kind {
            "n" if rest.is_empty() => Some(Self::Nodes),
            "i" => node().map(Self::Inbox),
            "t" => node().map(Self::Ids),
            "a" => Some(Self::Namespace(Namespace::from(rest))),
            "r" => {
                let (digits, text) = rest.split_once('.')?;
                let len: usize = digits.parse().ok()?;
                // Only the shortest form, so that a channel has one name.
                if len.to_string() != digits {
                    return None;
                }
                let (namespace, room) = text.split_at_checked(len)?;
                Some(Self::Room(Namespace::from(namespace), Room::from(room)))
            }
            _ => None,
        }
    }

    /// Returns a number that all nodes, of any version, compute alike.
    pub(crate) fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        // Formatting to a number cannot fail.
        let _ = fmt::write(&mut digest, format_args!("{self}"));
        digest.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nodes => f.write_str("n"),
            Self::Inbox(node) => write!(f, "i{node}"),
            Self::Ids(node) => write!(f, "t{node}"),
            Self::Namespace(namespace) => write!(f, "a{namespace}"),
            Self::Room(namespace, room) => write!(f, "r{}.{namespace}{room}", namespace.as_str().len()),
        }
    }
}

/// FNV-1a of 64 bits (draft-eastlake-fnv-21, section 3).
struct Digest(u64);

impl Digest {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

/// Returns the digest of a text.
pub(crate) fn fnv_1a(text: &str) -> u64 {
    let mut digest = Digest::new();
    // Writing to a number cannot fail.
    let _ = fmt::Write::write_str(&mut digest, text);
    digest.0
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names_parse_back() {
        let node = NodeId::new(0xabc);
        let names = ["", "7", "#", "a.b", "r1./x", "größe", "12.34"];
        let mut channels = vec![Channel::Nodes, Channel::Inbox(node), Channel::Ids(node)];
        for namespace in ["/", "/chat", "", "/a.b#c", "/é"].map(Namespace::from) {
            channels.push(Channel::Namespace(namespace.clone()));
            channels.extend(names.map(|room| Channel::Room(namespace.clone(), Room::from(room))));
        }
        for (index, channel) in channels.iter().enumerate() {
            assert_eq!(Channel::parse(&channel.to_string()).as_ref(), Some(channel));
            for other in &channels[..index] {
                assert_ne!(channel.to_string(), other.to_string());
                assert_ne!(channel.digest(), other.digest());
            }
        }
    }

    #[test]
    fn rejects_other_names() {
        for name in ["", "n1", "i", "i12", "iABCDEFABCDEF", "r", "r5./a", "r01./a", "r1", "r2./é", "é", "x"]
        {
            assert_eq!(Channel::parse(name), None, "{name}");
        }
    }

    #[test]
    fn digest_is_fnv_1a() {
        // Vector of the draft, appendix C: the text `a`.
        assert_eq!(Channel::Namespace(Namespace::from("")).digest(), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn tagged_rooms_share_channel() {
        let node = NodeId::new(7);
        let room = |rest: &str| Room::from(format!("{}{rest}", node.tag()));
        let (one, two) = (room("abcdefghijkl"), room("abcdefghijkm"));
        assert_eq!(Channel::of(&Namespace::main(), Some(&one)), Channel::Ids(node));
        assert_eq!(Channel::of(&Namespace::from("/x"), Some(&two)), Channel::Ids(node));
    }
}
