//! Incremental UTF-8 validation.

use std::str;

use bytestring::ByteString;

use super::Violation;

/// The received part of a text message.
///
/// Each byte is checked once. An incomplete character at the end of a piece is buffered in `tail`, unless no following
/// byte could complete it.
#[derive(Debug, Default)]
pub(crate) struct PartialText {
    text: String,
    tail: [u8; 4],
    tail_len: u8,
}

impl PartialText {
    /// Returns the number of bytes received so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len() + usize::from(self.tail_len)
    }

    /// Reserves room for text with `growth`, given the current length and the bytes to add.
    pub(crate) fn reserve(&mut self, chunk: usize, growth: impl FnOnce(usize, usize, usize) -> usize) {
        // The buffered tail is written together with the chunk that completes it.
        let incoming = usize::from(self.tail_len) + chunk;
        self.text.reserve_exact(growth(self.text.len(), self.text.capacity(), incoming));
    }

    /// Appends bytes. Fails at the first byte that makes UTF-8 impossible.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), Violation> {
        let chunk = self.complete_tail(chunk)?;
        let (whole, tail) = chunk.split_at(chunk.len() - unfinished(chunk));
        self.text.push_str(check(whole)?);
        for &byte in tail {
            self.push_to_tail(byte)?;
        }
        Ok(())
    }

    /// Takes the text so far, except an incomplete character.
    pub(crate) fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Returns the text, if it does not end inside a character.
    pub(crate) fn finish(self) -> Result<ByteString, Violation> {
        if self.tail_len == 0 { Ok(self.text.into()) } else { Err(Violation::InvalidUtf8) }
    }

    fn complete_tail<'a>(&mut self, mut chunk: &'a [u8]) -> Result<&'a [u8], Violation> {
        while self.tail_len > 0
            && let Some((&byte, rest)) = chunk.split_first()
        {
            self.push_to_tail(byte)?;
            chunk = rest;
        }
        Ok(chunk)
    }

    fn push_to_tail(&mut self, byte: u8) -> Result<(), Violation> {
        self.tail[usize::from(self.tail_len)] = byte;
        self.tail_len += 1;
        match str::from_utf8(&self.tail[..usize::from(self.tail_len)]) {
            Ok(character) => {
                self.text.push_str(character);
                self.tail_len = 0;
                Ok(())
            }
            // More bytes may complete the character: at most three are buffered, so the next one fits.
            Err(error) if error.error_len().is_none() => Ok(()),
            Err(_) => Err(Violation::InvalidUtf8),
        }
    }
}

/// Validates bytes as UTF-8 text.
pub(super) fn check(bytes: &[u8]) -> Result<&str, Violation> {
    simdutf8::basic::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)
}

/// Returns the length of an incomplete character at the end.
///
/// Looks at no more than three bytes, and only at the length that the first byte announces; validation decides whether
/// they can form a character.
fn unfinished(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3).position(|byte| byte & 0xc0 != 0x80);
    match last {
        Some(after) if announced(bytes[bytes.len() - 1 - after]) > after + 1 => after + 1,
        _ => 0,
    }
}

fn announced(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns how many bytes are accepted before the first error, fed one at a time.
    fn refused_at(bytes: &[u8]) -> Option<usize> {
        let mut partial = PartialText::default();
        bytes.iter().position(|byte| partial.push(&[*byte]).is_err())
    }

    #[test]
    fn refuses_first_impossible_byte() {
        assert_eq!(refused_at("aé€😀".as_bytes()), None);
        // Invalid bytes, overlong forms, a surrogate, beyond U+10FFFF, a stray continuation.
        assert_eq!(refused_at(b"ab\xff"), Some(2));
        assert_eq!(refused_at(b"ab\xc0\x80"), Some(2));
        assert_eq!(refused_at(b"ab\xe0\x80\x80"), Some(3));
        assert_eq!(refused_at(b"ab\xed\xa0\x80"), Some(3));
        assert_eq!(refused_at(b"ab\xf0\x80\x80\x80"), Some(3));
        assert_eq!(refused_at(b"ab\xf4\x90\x80\x80"), Some(3));
        assert_eq!(refused_at(b"ab\xf5"), Some(2));
        assert_eq!(refused_at(b"ab\x80"), Some(2));
        assert_eq!(refused_at(b"\xe2\x82a"), Some(2));
    }

    #[test]
    fn refuses_text_cut_inside_character() {
        for (text, cut) in [("é", 1), ("€", 1), ("€", 2), ("😀", 1), ("😀", 2), ("😀", 3)] {
            let mut partial = PartialText::default();
            partial.push(&text.as_bytes()[..cut]).unwrap();
            assert_eq!(partial.len(), cut);
            assert_eq!(partial.finish(), Err(Violation::InvalidUtf8));
        }
    }

    proptest! {
        #[test]
        fn validates_pieces_like_std(
            bytes in prop_oneof![
                any::<String>().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..40),
                "[a-zé€😀]{0,40}".prop_map(|text| { let mut bytes = text.into_bytes(); bytes.pop(); bytes }),
            ],
            size in 1_usize..20,
        ) {
            let mut partial = PartialText::default();
            let mut taken = 0;
            let mut outcome = Ok(());
            for chunk in bytes.chunks(size) {
                outcome = partial.push(chunk);
                if outcome.is_err() {
                    break;
                }
                taken += chunk.len();
                prop_assert_eq!(partial.len(), taken);
            }
            let found = outcome.and_then(|()| partial.finish());
            match str::from_utf8(&bytes) {
                Ok(text) => prop_assert_eq!(found, Ok(ByteString::from(text))),
                Err(error) => {
                    prop_assert_eq!(found, Err(Violation::InvalidUtf8));
                    // Reported no later than the first faulty piece.
                    if let Some(length) = error.error_len() {
                        prop_assert!(taken < error.valid_up_to() + length + 1);
                    }
                }
            }
        }
    }
}
