//! Numbers, durations, words and cut outputs as people read them. Knows nothing of runs.

use crate::task::Captured;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// `1,234,567`
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 task`, `1,000 tasks`
pub(crate) fn of(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A part of a whole, rounded down so that 100 % means all: `41 %`
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "100 %".to_owned() } else { format!("{} %", u128::from(part) * 100 / u128::from(whole)) }
}

/// How long it took: `0.25 s`, `12.3 s`, and from a minute on as [`whole`].
pub(crate) fn precise(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 0.995 => format!("{s:.2} s"),
        s if s < 59.95 => format!("{s:.1} s"),
        _ => whole(time),
    }
}

/// In whole seconds, rounded up, or in larger units: `7 s`, `4 min 05 s`, `2 h 13 min`, `3 d 4 h`.
pub(crate) fn whole(time: Duration) -> String {
    let s = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min {:02} s", s / 60, s % 60),
        3_600..172_800 => format!("{} h {:02} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", count(s / 86_400), s / 3_600 % 24),
    }
}

/// `1,234 tasks/s`, `8.1 tasks/s`, and what is slower in tasks per minute or hour.
pub(crate) fn rate(per_second: f64) -> String {
    let (n, unit) = match per_second {
        r if r >= 0.995 => (r, "s"),
        r if r * 60.0 >= 0.995 => (r * 60.0, "min"),
        r => (r * 3_600.0, "h"),
    };
    if n < 9.95 { format!("{n:.1} tasks/{unit}") } else { format!("{} tasks/{unit}", count(n.round() as u64)) }
}

/// On one line, and without what would move a terminal's cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Its first so many characters, with a mark where there were more.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A path as one word of a shell command.
pub(crate) fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Writes what was kept of a stream; where it was cut, a line of its own says so.
pub(crate) fn write_stream(stream: &Captured, out: &mut dyn Write) -> io::Result<()> {
    if stream.dropped == 0 {
        return out.write_all(&stream.bytes);
    }
    let at = usize::try_from(stream.head).map_or(stream.bytes.len(), |head| head.min(stream.bytes.len()));
    let (head, tail) = stream.bytes.split_at(at);
    out.write_all(head)?;
    if head.last().is_some_and(|byte| *byte != b'\n') {
        out.write_all(b"\n")?;
    }
    writeln!(out, "[myriarch: {} left out]", of(stream.dropped, "byte"))?;
    out.write_all(tail)
}

/// The command that goes on with a run. `launch` stands before it, with its blank; `options` behind --resume.
pub(crate) fn resume_command(launch: &str, dir: &Path, options: &str) -> String {
    format!("{launch}myriarch run --resume{options} --out {}", word(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_at_every_size() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([of(1, "rank"), of(0, "rank")], ["1 rank", "0 ranks"]);
        assert_eq!([percent(999, 1_000), percent(0, 0), percent(u64::MAX, u64::MAX)], ["99 %", "100 %", "100 %"]);
        let rates = [1_234.4, 81.3, 8.13, 0.1, 0.001].map(rate);
        assert_eq!(rates, ["1,234 tasks/s", "81 tasks/s", "8.1 tasks/s", "6.0 tasks/min", "3.6 tasks/h"]);
    }

    #[test]
    fn durations_use_the_unit_that_fits() {
        let precise = [0.25, 12.34, 59.96, 245.0].map(|s| precise(Duration::from_secs_f64(s)));
        assert_eq!(precise, ["0.25 s", "12.3 s", "1 min 00 s", "4 min 05 s"]);
        let whole = [6.1, 60.0, 7_980.0, 273_600.0].map(|s| whole(Duration::from_secs_f64(s)));
        assert_eq!(whole, ["7 s", "1 min 00 s", "2 h 13 min", "3 d 4 h"]);
    }

    #[test]
    fn foreign_text_can_neither_move_the_cursor_nor_break_a_command() {
        assert_eq!(one_line("a\x1b[2J\nb"), "a [2J b");
        assert_eq!([shorten("äöü", 3), shorten("äöü", 2)], ["äöü", "äö…"]);
        assert_eq!(word(Path::new("/a/b-1.x")), "/a/b-1.x");
        assert_eq!(word(Path::new("my runs/it's")), r"'my runs/it'\''s'");
    }
}
