//! Parsers of times and sizes.

use std::time::Duration;

use bytesize::ByteSize;

/// Parses a time with a unit, such as `300ms`, `25s` or `2m`.
///
/// # Errors
///
/// Fails with a message that shows the notation if `text` is not a time.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("expected a number with a unit, such as 300ms, 25s or 2m: {error}"))
}

/// Parses a number of bytes, with a unit or without, such as `1MiB`, `64KiB`, `1MB` or `1000000`.
///
/// # Errors
///
/// Fails with a message that shows the notation if `text` is not a size, or if the size does not fit into `N`.
pub(super) fn size<N: TryFrom<u64>>(text: &str) -> Result<N, String> {
    let ByteSize(bytes) = text.parse().map_err(|_| {
        "expected a number of bytes with an optional unit, such as 1MiB, 64KiB, 1MB or 1000000".to_owned()
    })?;
    N::try_from(bytes).map_err(|_| format!("{bytes} bytes are not possible here"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn parses_times_with_unit() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("1m 30s", 90_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "30", "-1s", "five", "99999999999999999999s", "999999999999999999m"] {
            let error = time(text).expect_err(text);
            assert!(error.contains("300ms, 25s or 2m"), "{text}: {error}");
        }
    }

    #[test]
    fn parses_sizes_with_optional_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1000000", 1_000_000),
            ("5B", 5),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            ("1MiB", 1_048_576),
            ("1.5MiB", 1_572_864),
            ("1MB", 1_000_000),
            ("2GiB", 2_147_483_648),
        ] {
            assert_eq!(size::<u64>(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1MiBs", "1_000", "much"] {
            let error = size::<u64>(text).expect_err(text);
            assert!(error.contains("1MiB, 64KiB, 1MB or 1000000"), "{text}: {error}");
        }
    }

    #[test]
    fn rejects_sizes_out_of_range() {
        assert_eq!(size::<NonZeroU64>("0"), Err("0 bytes are not possible here".to_owned()));
        assert_eq!(size::<u8>("1KiB"), Err("1024 bytes are not possible here".to_owned()));
    }
}
