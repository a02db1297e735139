//! Numbers in units that are easy to read.

/// Formats a number with thousands separators.
pub(crate) fn grouped(number: f64) -> String {
    let digits =
        if number < 10.0 && number.fract() != 0.0 { format!("{number:.1}") } else { format!("{number:.0}") };
    let whole = digits.split('.').next().map_or(0, str::len);
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index < whole && (whole - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats microseconds in a suitable unit.
pub(crate) fn duration(micros: f64) -> String {
    match micros {
        micros if micros < 1_000.0 => format!("{micros:.0} µs"),
        micros if micros < 1_000_000.0 => format!("{:.2} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

/// Formats microseconds without trailing zeros, for round numbers.
pub(crate) fn round_duration(micros: f64) -> String {
    match micros {
        micros if micros < 1_000.0 => format!("{micros} µs"),
        micros if micros < 1_000_000.0 => format!("{} ms", micros / 1e3),
        micros => format!("{} s", micros / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_numbers() {
        assert_eq!(
            [0.0, 7.25, 999.0, 1000.0, 1_234_567.8].map(grouped),
            ["0", "7.2", "999", "1,000", "1,234,568"]
        );
        assert_eq!([12.3, 1_234.0, 2_500_000.0].map(duration), ["12 µs", "1.23 ms", "2.50 s"]);
        assert_eq!([0.5, 200.0, 5_000.0, 2e6].map(round_duration), ["0.5 µs", "200 µs", "5 ms", "2 s"]);
    }
}
