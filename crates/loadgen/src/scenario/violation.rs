//! Violations of a protocol by the server.

/// Description of a violation, for the report.
pub(super) type Violation = String;

/// Describes an answer that is not HTTP.
pub(super) fn no_http(input: &[u8]) -> Violation {
    let start = String::from_utf8_lossy(&input[..input.len().min(40)]);
    format!("what is not HTTP, {start:?}")
}

/// Describes the refusal of a namespace.
pub(super) fn refused(packet: &[u8]) -> Violation {
    format!("a refusal of the namespace: {}", String::from_utf8_lossy(&packet[2..]))
}

/// Describes a packet that does not fit the state of the session.
pub(super) fn unexpected(packet: &[u8]) -> Violation {
    format!("an unexpected packet: {:?}", String::from_utf8_lossy(&packet[..packet.len().min(80)]))
}
