//! Unguessable ids

use bytestring::ByteString;
use roomcast_core::{Sid, SocketId};

/// Bytes of randomness in an id: 120 bits
const RANDOM: usize = 15;
/// Longest tag of a node, in characters; 72 bits of randomness are left
const MAX_TAG: usize = 8;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Returns a new secret session id.
pub(crate) fn sid() -> Sid {
    Sid::new(random())
}

/// Returns a new public socket id, unrelated to the session's, that begins with the node's tag.
pub(crate) fn socket_id(tag: &str) -> SocketId {
    let mut id = random();
    if tag.len() <= MAX_TAG && tag.is_ascii() {
        id.replace_range(..tag.len(), tag);
    }
    SocketId::new(id)
}

/// Returns a new secret recovery token.
pub(crate) fn recovery_secret() -> ByteString {
    random().into()
}

/// Returns a new mark that distinguishes event logs.
pub(crate) fn epoch() -> String {
    random()
}

/// Returns twenty base64url characters, the form of Socket.IO ids.
fn random() -> String {
    let mut bytes = [0; RANDOM];
    getrandom::fill(&mut bytes).expect("random bytes from the operating system");
    let mut id = String::with_capacity(RANDOM / 3 * 4);
    for chunk in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, chunk[0], chunk[1], chunk[2]]);
        for shift in [18, 12, 6, 0] {
            id.push(char::from(ALPHABET[(bits >> shift & 0x3f) as usize]));
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn socket_ids_begin_with_tag() {
        assert_eq!(socket_id("").as_str().len(), 20);
        let [one, two] = ["node-tag", "node-tag"].map(socket_id);
        assert!(one.as_str().starts_with("node-tag") && one.as_str().len() == 20, "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn cve_2017_16031_ids_are_unique() {
        let ids: HashSet<String> = (0..100_000).map(|_| random()).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.len() == 20));
        let used: HashSet<u8> = ids.iter().flat_map(|id| id.bytes()).collect();
        assert_eq!(used, ALPHABET.iter().copied().collect());
    }
}
