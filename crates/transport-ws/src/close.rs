//! Payload of close frames (RFC 6455 sections 5.5.1 and 7.4).

use bytestring::ByteString;
pub use tungstenite::protocol::frame::coding::CloseCode;

use crate::frame::Violation;

/// Returns whether a code may be sent in a close frame.
///
/// 1000 to 1003 and 1007 to 1014 are registered, 3000 to 4999 belong to libraries and applications. The others in
/// between describe closes without a close frame (1005, 1006, 1015), or are unassigned.
///
/// [`CloseCode::is_allowed`] agrees except for 1014, which was registered after the RFC.
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Maximum reason length of a close frame in bytes.
pub const MAX_REASON: usize = 123;

/// Parses the payload of a client's close frame.
pub(crate) fn parse(payload: &[u8]) -> Result<(Option<u16>, ByteString), Violation> {
    if payload.is_empty() {
        return Ok((None, ByteString::new()));
    }
    let (code, reason) = payload.split_first_chunk().ok_or(Violation::CloseTooShort)?;
    let code = u16::from_be_bytes(*code);
    if !is_sendable(code) {
        return Err(Violation::CloseCode(code));
    }
    let reason = ByteString::try_from(reason).map_err(|_| Violation::InvalidUtf8)?;
    Ok((Some(code), reason))
}

/// Truncates a reason to whole characters of at most 123 bytes.
pub(crate) fn cut(reason: &str) -> &str {
    let end = (0..=MAX_REASON).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or_default();
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_sendable_close_codes() {
        let expected = |code| match code {
            1004..=1006 | 1015 => false,
            1000..=1014 | 3000..=4999 => true,
            _ => false,
        };
        for code in 0..=u16::MAX {
            assert_eq!(is_sendable(code), expected(code), "{code}");
            if code != 1014 {
                let theirs = matches!(code, 1000..=4999) && CloseCode::from(code).is_allowed();
                assert_eq!(is_sendable(code), theirs, "{code}");
            }
        }
    }

    #[test]
    fn parses_code_and_reason() {
        assert_eq!(parse(b""), Ok((None, ByteString::new())));
        assert_eq!(parse(&[0x03]), Err(Violation::CloseTooShort));
        assert_eq!(parse(&[0x03, 0xe8]), Ok((Some(1000), ByteString::new())));
        assert_eq!(parse(b"\x0f\xa0bye"), Ok((Some(4000), "bye".into())));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(Violation::InvalidUtf8));
    }

    #[test]
    fn refuses_unsendable_codes() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
            assert_eq!(parse(&code.to_be_bytes()), Err(Violation::CloseCode(code)));
        }
    }

    #[test]
    fn truncates_reason_between_characters() {
        assert_eq!(cut("bye"), "bye");
        let reason = format!("{}€", "a".repeat(121));
        assert_eq!(cut(&reason), "a".repeat(121));
        let reason = format!("{}€", "a".repeat(120));
        assert_eq!(cut(&reason), reason);
    }
}
