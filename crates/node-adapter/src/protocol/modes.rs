//! Notices of the subscription mode between nodes of Roomcast, which Node ignores.
//!
//! They are cluster messages of the types 1 and 2, the heartbeats of other adapters of Node, with an additional field.

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;
use roomcast_core::Namespace;
use serde::{Deserialize, Serialize};

/// Notice of a node about its mode.
#[derive(Serialize, Deserialize)]
struct Notice<'t> {
    /// [`FIRST`] from a node that has subscribed, [`ANSWER`] from one in another mode.
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow)]
    mode: Cow<'t, str>,
    #[serde(borrow)]
    uid: Cow<'t, str>,
    #[serde(rename = "nsp", borrow)]
    namespace: Cow<'t, str>,
}

/// Notice of another node in the same namespace.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) node: ByteString,
    pub(super) mode: ByteString,
    /// Whether the node has just subscribed, and does not know the modes of others.
    pub(super) is_first: bool,
}

pub(super) fn encode(uid: &str, namespace: &Namespace, mode: &str, is_first: bool) -> Bytes {
    let notice = Notice {
        kind: if is_first { FIRST } else { ANSWER },
        mode: mode.into(),
        uid: uid.into(),
        namespace: namespace.as_str().into(),
    };
    serde_json::to_vec(&notice).expect("text is JSON").into()
}

/// Decodes a notice; `None` if the message is another one, that of this node, or of another namespace.
pub(super) fn decode(payload: &[u8], namespace: &Namespace, own_uid: &str) -> Option<Received> {
    // Other messages are recognised by their first bytes.
    if !PREFIXES.iter().any(|prefix| payload.starts_with(prefix)) || payload.len() > MAX_LEN {
        return None;
    }
    let notice: Notice<'_> = serde_json::from_slice(payload).ok()?;
    let is_for_us = notice.namespace == namespace.as_str() && notice.uid != own_uid;
    is_for_us.then(|| Received {
        node: notice.uid.as_ref().into(),
        mode: notice.mode.as_ref().into(),
        is_first: notice.kind == FIRST,
    })
}

const FIRST: u8 = 1;
const ANSWER: u8 = 2;
const PREFIXES: [&[u8]; 2] = [br#"{"type":1,"mode":"#, br#"{"type":2,"mode":"#];
const MAX_LEN: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_read_by_others() {
        let namespace = Namespace::new("/\"é");
        let payload = encode("a", &namespace, "static", true);
        assert_eq!(&payload[..], r#"{"type":1,"mode":"static","uid":"a","nsp":"/\"é"}"#.as_bytes());
        let expected = Received { node: "a".into(), mode: "static".into(), is_first: true };
        assert_eq!(decode(&payload, &namespace, "b"), Some(expected));
        assert_eq!(decode(&payload, &namespace, "a"), None);
        assert_eq!(decode(&payload, &Namespace::main(), "b"), None);
        assert_eq!(decode(br#"{"type":1,"uid":"a","nsp":"/"}"#, &Namespace::main(), "b"), None);
    }
}
