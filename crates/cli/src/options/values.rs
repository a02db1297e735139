//! Parsers of values on the command line

use std::net::IpAddr;
use std::time::Duration;

/// Parses the close code of a drain
pub(super) fn close_code(text: &str) -> Result<u16, String> {
    let code = text.parse().ok().filter(|code| matches!(code, 1001 | 1012 | 3000..=4999));
    code.ok_or_else(|| "expected 1001, 1012, or a code of your own from 3000 to 4999".to_owned())
}

/// Parses an address, or a network with its prefix length
pub(super) fn network(text: &str) -> Result<roomcast::http::IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(roomcast::http::IpNet::from));
    network.map_err(|_| "expected an address such as 10.0.0.1, or a network such as 10.0.0.0/8".to_owned())
}

/// Parses a number with a unit: `500ms`, `30s`, `2m`
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let repair = || "expected a number with a unit: 500ms, 30s, 2m".to_owned();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| repair())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(repair),
        "" if number == 0 => Ok(Duration::ZERO),
        _ => Err(repair()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_are_those_a_drain_can_mean() {
        for code in ["1001", "1012", "4000"] {
            assert_eq!(close_code(code).ok(), code.parse().ok());
        }
        for code in ["1000", "1006", "5000", "", "away"] {
            assert!(close_code(code).is_err_and(|error| error.contains("1012")), "{code}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("2m", Some(120_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
        ] {
            assert_eq!(duration(text).ok(), expected.map(Duration::from_millis), "{text}");
        }
        for text in
            ["", "s", "30", "-1s", "1.5s", "30 s", "1h", "99999999999999999999s", "999999999999999999m"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks_are_addresses_or_have_a_length() {
        for text in ["10.0.0.0/8", "10.0.0.1", "2001:db8::/32", "::1"] {
            assert!(network(text).is_ok(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "localhost", "10.0.0", "10.0.0.1:80"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
