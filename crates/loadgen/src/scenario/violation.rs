//! Protocol violations by the server.

/// Description of a protocol violation, for the report.
pub(super) type FaultMessage = String;

/// Describes a response that is not HTTP.
pub(super) fn no_http(input: &[u8]) -> FaultMessage {
    let start = String::from_utf8_lossy(&input[..input.len().min(40)]);
    format!("a response that is not HTTP, {start:?}")
}

/// Describes a rejected namespace connect.
pub(super) fn refused(packet: &[u8]) -> FaultMessage {
    format!("a namespace rejection: {}", String::from_utf8_lossy(&packet[2..]))
}

/// Describes a packet that is invalid in the state of the session.
pub(super) fn unexpected(packet: &[u8]) -> FaultMessage {
    format!("an unexpected packet: {:?}", String::from_utf8_lossy(&packet[..packet.len().min(80)]))
}
