//! Dates in JavaScript's JSON form.

use jiff::Timestamp;
use jiff::tz::Offset;

/// Formats milliseconds since 1970 like `Date.prototype.toJSON`; `None` outside JavaScript's range.
pub(crate) fn iso(milliseconds: i64) -> Option<String> {
    if milliseconds.unsigned_abs() > FURTHEST {
        return None;
    }
    // jiff's dates end with the year 9999.
    let (eras, within) = (milliseconds.div_euclid(ERA), milliseconds.rem_euclid(ERA));
    let at = Offset::UTC.to_datetime(Timestamp::from_millisecond(within).ok()?);
    let year = match i64::from(at.year()) + 400 * eras {
        year @ 0..=9999 => format!("{year:04}"),
        year => format!("{}{:06}", if year < 0 { '-' } else { '+' }, year.unsigned_abs()),
    };
    Some(format!("{year}-{}", at.strftime("%m-%dT%H:%M:%S.%3fZ")))
}

/// Milliseconds of 400 years, after which the Gregorian calendar repeats.
const ERA: i64 = 146_097 * 86_400_000;
/// Range of JavaScript's dates around 1970, in milliseconds.
const FURTHEST: u64 = 8_640_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_dates_like_javascript() {
        for (milliseconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001, "-000001-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
            (8_640_000_000_000_000, "+275760-09-13T00:00:00.000Z"),
            (-8_640_000_000_000_000, "-271821-04-20T00:00:00.000Z"),
        ] {
            assert_eq!(iso(milliseconds).as_deref(), Some(expected));
        }
        assert_eq!((iso(8_640_000_000_000_001), iso(i64::MIN)), (None, None));
    }
}
