//! Unguessable ids

use std::cell::RefCell;

use bytestring::ByteString;
use roomcast_core::{Sid, SocketId};

/// Ids per request for random bytes; a system call for each id would be a noticeable part of accepting a connection
const POOLED: usize = 32;
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
    let bytes = POOL.with_borrow_mut(Pool::take);
    let mut id = String::with_capacity(RANDOM / 3 * 4);
    for chunk in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, chunk[0], chunk[1], chunk[2]]);
        for shift in [18, 12, 6, 0] {
            id.push(char::from(ALPHABET[(bits >> shift & 0x3f) as usize]));
        }
    }
    id
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [[0; RANDOM]; POOLED], left: 0 }) };
}

/// Random bytes of the operating system, each used once.
struct Pool {
    bytes: [[u8; RANDOM]; POOLED],
    /// Number of unused entries, which are the first
    left: usize,
}

impl Pool {
    /// Returns unused bytes, and erases them here.
    fn take(&mut self) -> [u8; RANDOM] {
        if self.left == 0 {
            getrandom::fill(self.bytes.as_flattened_mut()).expect("random bytes from the operating system");
            self.left = POOLED;
        }
        self.left -= 1;
        std::mem::take(&mut self.bytes[self.left])
    }
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
