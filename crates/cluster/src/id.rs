//! Identity of a node, and the tag by which socket ids name their node.

use std::fmt;
use std::time::Duration;

/// Identity of a node: 48 bits, unique in the cluster.
///
/// A node draws it at random when its process starts, or derives it from a configured name. Two live processes must not
/// share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u64);

/// One life of a node: a number that grows each time the node restarts or rejoins.
///
/// A process starts with the result of [`first_incarnation`]. If the clock has stepped back, the other nodes reject the
/// number and name a greater one, above which the node rejoins.
///
/// The lowest 20 bits are random, and a process keeps them each time it rejoins. A number must not be used twice: other
/// nodes may know an earlier process of the node by different numbers, and may name any of these.
pub type Incarnation = u64;

/// Returns the number of a process's first incarnation, from the time since 1970 and 20 random bits.
#[must_use]
pub fn first_incarnation(since_1970: Duration, random: u64) -> Incarnation {
    let millis = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    millis.min(MAX_LIFE) << PROCESS_BITS | random & PROCESS_MASK
}

/// Returns the number of a process's next incarnation, which is greater than `known`.
pub(crate) fn next_incarnation(own: Incarnation, known: Incarnation) -> Incarnation {
    let life = (own.max(known) >> PROCESS_BITS).saturating_add(1);
    life.min(MAX_LIFE) << PROCESS_BITS | own & PROCESS_MASK
}

/// Node in one of its incarnations.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(clippy::exhaustive_structs, reason = "a pair")]
pub struct NodeRef {
    /// Node.
    pub id: NodeId,
    /// Incarnation of the node.
    pub incarnation: Incarnation,
}

impl NodeId {
    /// Creates an id from the low 48 bits of a number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number & MASK)
    }

    /// Returns the number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// Returns the tag: 8 characters of base64url, with which the ids of the node's sockets begin.
    #[must_use]
    pub fn tag(self) -> String {
        (0..TAG_LEN).rev().map(|place| char::from(ALPHABET[(self.0 >> (6 * place)) as usize & 63])).collect()
    }

    /// Returns the node that a room's name is tagged with.
    ///
    /// Names of 20 characters of base64url, as socket ids have, are tagged with their first 8 characters. The result
    /// depends on the name alone, so all nodes agree on it, also for an application's room that looks like an id.
    #[must_use]
    pub fn of_room(name: &str) -> Option<Self> {
        if name.len() != TAGGED_LEN {
            return None;
        }
        let mut number = 0;
        for (index, byte) in name.bytes().enumerate() {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return None,
            };
            if index < TAG_LEN {
                number = number << 6 | u64::from(digit);
            }
        }
        Some(Self(number))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl fmt::Debug for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.incarnation)
    }
}

const MASK: u64 = (1 << 48) - 1;
/// Bits of an incarnation's number that differ between processes.
const PROCESS_BITS: u32 = 20;
const PROCESS_MASK: u64 = (1 << PROCESS_BITS) - 1;
/// Greatest number above these bits.
const MAX_LIFE: u64 = u64::MAX >> PROCESS_BITS;
const TAG_LEN: usize = 8;
const TAGGED_LEN: usize = 20;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_share_no_incarnation() {
        let (one, two) =
            (first_incarnation(Duration::from_secs(9), 5), first_incarnation(Duration::from_secs(7), 6));
        assert!(one > two);
        for known in [0, two, one, next_incarnation(one, 0), 77 << PROCESS_BITS] {
            let (next_one, next_two) = (next_incarnation(one, known), next_incarnation(two, known));
            assert!(next_one > one.max(known) && next_two > two.max(known), "{known}");
            assert_eq!((next_one & PROCESS_MASK, next_two & PROCESS_MASK), (5, 6));
        }
        assert_eq!(next_incarnation(5, u64::MAX), !PROCESS_MASK | 5);
    }

    #[test]
    fn socket_ids_name_their_node() {
        for number in [0, 1, 63, 64, 0x1234_5678_9abc, MASK, u64::MAX] {
            let id = NodeId::new(number);
            assert_eq!(NodeId::of_room(&format!("{}abcdefghi-_0", id.tag())), Some(id));
        }
    }

    #[test]
    fn other_names_have_no_tag() {
        for name in ["", "lobby", "abcdefgh", "abcdefghi-_0abcdefgh+", "abcdefghi-_0abcdefg+", "ééééééééééé"]
        {
            assert_eq!(NodeId::of_room(name), None, "{name}");
        }
    }
}
