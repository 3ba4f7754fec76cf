//! What the system says of a failed call, for people.

use std::io;

/// The cause without the number that Rust adds.
pub fn io_cause(error: &io::Error) -> String {
    without_error_numbers(&error.to_string())
}

/// A text without every ` (os error 2)`: the words before it say the same.
pub fn without_error_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_no_numbers() {
        assert_eq!(io_cause(&io::Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
        assert_eq!(io_cause(&io::Error::other("no (such) thing")), "no (such) thing");
        assert_eq!(without_error_numbers("a: b (os error 2): c (os error 13)."), "a: b: c.");
    }
}
