//! Masking of client frames (RFC 6455 section 5.3).

/// Unmasks a payload in place.
///
/// Works word by word, in a form that compiles to vector instructions.
pub(super) fn unmask(bytes: &mut [u8], key: [u8; 4]) {
    let word = u32::from_ne_bytes(key);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for masked in words {
        *masked = (u32::from_ne_bytes(*masked) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// Rotates the key for the bytes after the first `taken` of the payload.
pub(super) fn advance(mut key: [u8; 4], taken: usize) -> [u8; 4] {
    key.rotate_left(taken % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    #[test]
    fn unmasks_the_rfc_example() {
        // Section 5.7: "Hello" under the key 37 fa 21 3d.
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut bytes, KEY);
        assert_eq!(&bytes, b"Hello");
    }

    #[test]
    fn unmasks_every_length_and_alignment() {
        let source: Vec<u8> = (0..=255).collect();
        for start in 0..9 {
            for end in start..source.len() {
                let defined: Vec<u8> =
                    source[start..end].iter().enumerate().map(|(i, byte)| byte ^ KEY[i % 4]).collect();
                let mut bytes = source.clone();
                unmask(&mut bytes[start..end], KEY);
                assert_eq!(bytes[start..end], defined, "from {start} to {end}");
                assert_eq!(bytes[..start], source[..start]);
                assert_eq!(bytes[end..], source[end..]);
            }
        }
    }

    #[test]
    fn unmasks_payload_in_pieces() {
        let mut whole: Vec<u8> = (0..64).collect();
        let source = whole.clone();
        unmask(&mut whole, KEY);
        for cut in 0..=source.len() {
            let mut pieces = source.clone();
            let (first, second) = pieces.split_at_mut(cut);
            unmask(first, KEY);
            unmask(second, advance(KEY, cut));
            assert_eq!(pieces, whole, "cut at {cut}");
        }
    }
}
