//! Long-polling payloads.

use bytes::Bytes;
use roomcast_core::{Message, Wire as _};
use roomcast_transport_polling::{Payload, PollingWire};

/// A payload ends at its first error, has no more messages than its bytes allow, and survives a round trip.
pub fn polling_payload(data: &[u8]) {
    let decoded: Vec<_> = Payload::new(Bytes::copy_from_slice(data)).collect();
    assert!((1..=data.len() + 1).contains(&decoded.len()));
    assert!(decoded.iter().rev().skip(1).all(Result::is_ok), "an error ends the payload");
    let Ok(messages) = decoded.into_iter().collect::<Result<Vec<Message>, _>>() else { return };
    let rendered = PollingWire.render(&messages);
    assert_eq!(rendered.len(), PollingWire::len_of(&messages));
    let again: Result<Vec<Message>, _> = Payload::new(rendered).collect();
    assert_eq!(again.as_ref(), Ok(&messages));
}
