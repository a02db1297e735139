//! Protocol violations of WebSocket clients and the close codes that answer them.

use thiserror::Error;

use crate::close::CloseCode;

/// A rule of RFC 6455 or a limit of this server that the client broke.
///
/// Always the client's fault. The text is short ASCII, for log lines and, truncated, for the reason of the close frame
/// sent with [`close_code`](Self::close_code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame without a mask (RFC 6455 section 5.1).
    #[error("client frames must be masked")]
    Unmasked,
    /// A reserved bit set without a negotiated extension that defines it (section 5.2).
    #[error("a reserved bit is set, but no extension was negotiated")]
    ReservedBits,
    /// A control or continuation frame marked as compressed (RFC 7692 section 6.1).
    #[error("only the first frame of a text or binary message may be marked as compressed")]
    MisplacedCompression,
    /// A compressed message that is not valid DEFLATE or ends before its last block (RFC 7692 section 7.2.2).
    ///
    /// Closed with 1007 (inconsistent data); the RFC names no code.
    #[error("a compressed message is not valid DEFLATE")]
    InvalidDeflate,
    /// An opcode of 3 to 7 or 11 to 15 (section 5.2).
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// A ping, pong or close frame without FIN (section 5.5).
    #[error("control frames must not be fragmented")]
    FragmentedControl,
    /// A ping, pong or close frame that declares more than 125 bytes (section 5.5).
    #[error("control frames carry at most 125 bytes")]
    ControlTooLong,
    /// A payload length not in its shortest form (section 5.2).
    #[error("the payload length is not in its shortest form")]
    LengthNotMinimal,
    /// A 64-bit length with its highest bit set (section 5.2).
    #[error("the highest bit of a 64-bit payload length must be 0")]
    LengthOverflow,
    /// A continuation frame without a fragmented message (section 5.4).
    #[error("a continuation frame, but no message to continue")]
    UnexpectedContinuation,
    /// A text or binary frame inside an unfinished fragmented message (section 5.4).
    #[error("a new message before the fragmented one is finished")]
    ExpectedContinuation,
    /// A text message, or the reason of a close frame, is not UTF-8 (section 8.1).
    #[error("text must be UTF-8")]
    InvalidUtf8,
    /// A message larger than [`max_message`](crate::frame::ReadLimits::max_message), as declared or once decompressed.
    #[error("a message may have {limit} bytes at most")]
    MessageTooBig {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A message in more frames than [`max_fragments`](crate::frame::ReadLimits::max_fragments).
    #[error("a message may have {limit} fragments at most")]
    TooManyFragments {
        /// The limit, in frames.
        limit: u32,
    },
    /// A close frame with a one-byte payload, half a code (section 5.5.1).
    #[error("a close frame carries nothing, or a code of two bytes and a reason")]
    CloseTooShort,
    /// A close code that must not be sent (section 7.4).
    #[error("close code {0} must not be sent")]
    CloseCode(u16),
}

impl Violation {
    /// Returns the close code that answers this violation.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::Invalid,
            Self::MessageTooBig { .. } => CloseCode::Size,
            Self::TooManyFragments { .. } => CloseCode::Policy,
            Self::Unmasked
            | Self::ReservedBits
            | Self::MisplacedCompression
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::LengthNotMinimal
            | Self::LengthOverflow
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTooShort
            | Self::CloseCode(_) => CloseCode::Protocol,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_violations_to_close_codes() {
        let code = |violation: Violation| u16::from(violation.close_code());
        assert_eq!(code(Violation::Unmasked), 1002);
        assert_eq!(code(Violation::CloseCode(1005)), 1002);
        assert_eq!(code(Violation::InvalidUtf8), 1007);
        assert_eq!(code(Violation::InvalidDeflate), 1007);
        assert_eq!(code(Violation::MisplacedCompression), 1002);
        assert_eq!(code(Violation::MessageTooBig { limit: 1 }), 1009);
        assert_eq!(code(Violation::TooManyFragments { limit: 1 }), 1008);
    }
}
