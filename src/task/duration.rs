//! Lengths of time as people write them: `30s`, `5m`, `1h30m`, `250ms`, `1:30:00`, `2-12:00:00`, plain seconds.

use std::time::Duration;

/// The longest that is accepted: about 300 years, so that sums with any clock cannot overflow.
const LONGEST_SECONDS: f64 = 1e10;

/// The text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no length of time (write 30s, 5m, 2h, 1h30m, 250ms, 1:30:00, or plain seconds)")]
pub struct DurationParseError(pub String);

/// Reads a length of time. `1:30` is minutes and seconds, `1:30:00` hours, minutes and seconds, `2-12:00:00` has days.
pub fn parse_duration(text: &str) -> Result<Duration, DurationParseError> {
    let trimmed = text.trim();
    let seconds = if trimmed.contains(':') { clock(trimmed) } else { units(trimmed) };
    seconds.and_then(duration_from_seconds).ok_or_else(|| DurationParseError(text.to_owned()))
}

/// A length of time from seconds; `None` for negative, endless or absurd ones. Rounded to whole microseconds, so that
/// `0.1` is exactly 100 ms.
pub fn duration_from_seconds(seconds: f64) -> Option<Duration> {
    (0.0..=LONGEST_SECONDS).contains(&seconds).then(|| Duration::from_micros((seconds * 1e6).round() as u64))
}

/// A plain decimal number without sign or exponent.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (plain && text.bytes().any(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn clock(text: &str) -> Option<f64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (number(days)?, rest),
        None => (0.0, text),
    };
    let parts: Vec<f64> = rest.split(':').map(number).collect::<Option<_>>()?;
    let seconds = match parts[..] {
        [minutes, seconds] if days == 0.0 => minutes * 60.0 + seconds,
        [hours, minutes, seconds] => hours * 3600.0 + minutes * 60.0 + seconds,
        _ => return None,
    };
    Some(days * 86400.0 + seconds)
}

fn units(text: &str) -> Option<f64> {
    if let Some(seconds) = number(text) {
        return Some(seconds);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    let mut last_unit = f64::INFINITY;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount = number(&rest[..digits])?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match rest[..letters].trim() {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" | "sec" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        // Units fall from left to right: `30m1h` is more likely a slip than a wish.
        if unit >= last_unit {
            return None;
        }
        last_unit = unit;
        seconds += amount * unit;
        rest = &rest[letters..];
    }
    (last_unit.is_finite()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_form_is_read() {
        for (text, millis) in [
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1m0.5s", 60_500),
            ("1:30:00", 5_400_000),
            ("1:30", 90_000),
            ("1-00:00:01", 86_401_000),
            ("90", 90_000),
            ("0.1", 100),
            ("0", 0),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_without_a_panic() {
        for text in [
            "",
            " ",
            "-1",
            "5x",
            "1h2h",
            "30m1h",
            ":",
            "1:2:3:4",
            "1e9",
            "inf",
            "nan",
            "h",
            ".",
            "99999999999999d",
            "1-2",
            "5s3",
            "é",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
