//! Shell quoting: where in a shell line a placeholder stands, and how a value must be written there so that the shell
//! reads it back byte for byte. Follows the token rules of POSIX (Shell Command Language, section 2.2 and 2.6); where
//! a place cannot be told safely, a placeholder there is refused.

use serde::{Deserialize, Serialize};

/// How a value is written at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Quoting {
    /// As it stands: an argv word, a path, the value of a variable.
    Verbatim,
    /// In an unquoted place of a shell line.
    Word,
    /// Between single quotes.
    Single,
    /// Between double quotes.
    Double,
    /// Inside `$(( ))`.
    Arithmetic,
}

impl Quoting {
    /// Writes the value so that it keeps its bytes at such a place.
    pub(super) fn write(self, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Quoting::Verbatim => out.extend_from_slice(value),
            Quoting::Word => quote_word(value, out),
            Quoting::Single => escape_single(value, out),
            Quoting::Double => escape(value, out, |byte| matches!(byte, b'$' | b'`' | b'"' | b'\\')),
            // `$((` may still turn out to be a subshell: backslashes are safe in both readings.
            Quoting::Arithmetic => escape(value, out, |byte| !is_plain(byte)),
        }
    }
}

fn escape(value: &[u8], out: &mut Vec<u8>, special: impl Fn(u8) -> bool) {
    for &byte in value {
        if special(byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

fn escape_single(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        match byte {
            b'\'' => out.extend_from_slice(b"'\\''"),
            _ => out.push(byte),
        }
    }
}

/// Words that a shell takes for syntax when they stand unquoted at the head of a command.
const RESERVED: [&[u8]; 14] = [
    b"if",
    b"then",
    b"else",
    b"elif",
    b"fi",
    b"do",
    b"done",
    b"case",
    b"esac",
    b"while",
    b"until",
    b"for",
    b"in",
    b"function",
];

/// Whether a shell reads the value as the word that it is, without quotes.
pub(super) fn is_bare_word(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&byte| is_plain(byte)) && !RESERVED.contains(&value)
}

/// Writes a value as one shell word: bare where nothing in it means anything to a shell, else in single quotes.
pub(super) fn quote_word(value: &[u8], out: &mut Vec<u8>) {
    if is_bare_word(value) {
        return out.extend_from_slice(value);
    }
    out.push(b'\'');
    escape_single(value, out);
    out.push(b'\'');
}

/// Commands that a shell has in itself, those of bash too.
const BUILTINS: [&[u8]; 51] = [
    b".",
    b":",
    b"alias",
    b"bg",
    b"break",
    b"builtin",
    b"caller",
    b"cd",
    b"command",
    b"compgen",
    b"complete",
    b"continue",
    b"declare",
    b"dirs",
    b"disown",
    b"echo",
    b"enable",
    b"eval",
    b"exec",
    b"exit",
    b"export",
    b"false",
    b"fc",
    b"fg",
    b"getopts",
    b"hash",
    b"help",
    b"history",
    b"jobs",
    b"kill",
    b"let",
    b"local",
    b"popd",
    b"printf",
    b"pushd",
    b"pwd",
    b"read",
    b"readonly",
    b"return",
    b"set",
    b"shift",
    b"source",
    b"test",
    b"times",
    b"trap",
    b"true",
    b"type",
    b"ulimit",
    b"umask",
    b"unset",
    b"wait",
];

/// Whether a plain word at the head of a command is the shell's own: a builtin or a reserved word.
pub(super) fn is_shell_own(word: &[u8]) -> bool {
    RESERVED.contains(&word) || BUILTINS.contains(&word)
}

/// Bytes without meaning to a shell, wherever they stand.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b',' | b'+' | b'@' | b'%')
}

/// What encloses the place that a scan has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Single,
    /// `$'…'`, which not every sh knows.
    AnsiC,
    Double,
    /// `$( … )` with this many open parentheses.
    Substitution {
        parens: u32,
    },
    Arithmetic {
        parens: u32,
    },
    /// `${ … }`
    Parameter,
    Backtick,
    Comment,
}

/// Reads a shell line byte by byte and knows in what quotes the next byte stands.
#[derive(Debug, Default)]
pub(super) struct ShellScan {
    frames: Vec<Frame>,
    escaped: bool,
    dollar: bool,
    /// Right behind `$$`.
    pid: bool,
    /// The first byte inside `$(`.
    opened: bool,
    /// Bytes of the unquoted word so far; `None` when it cannot be a bare word any more.
    word: Option<Vec<u8>>,
    /// A `#` here starts a comment.
    word_start: bool,
    less_than: u32,
    heredoc_pending: bool,
    in_heredoc: bool,
    /// What was seen after which nobody can tell for sure where quotes end.
    unclear: Option<&'static str>,
}

impl ShellScan {
    pub(super) fn new() -> Self {
        Self { word: Some(Vec::new()), word_start: true, ..Self::default() }
    }

    /// Whether braces here belong to the shell, not to us: after a backslash (`\{}`) or a dollar (`${name}`).
    pub(super) fn shields_braces(&self) -> bool {
        self.escaped || self.dollar
    }

    /// How a value is to be written here, or why it cannot.
    pub(super) fn quoting(&self) -> Result<Quoting, &'static str> {
        if self.escaped {
            return Err("right after a backslash");
        }
        if self.dollar {
            return Err("right after a $");
        }
        if self.in_heredoc {
            return Err("in a here-document");
        }
        if let Some(place) = self.unclear {
            return Err(place);
        }
        for frame in &self.frames {
            match frame {
                Frame::AnsiC => return Err("in a $'…' string"),
                Frame::Parameter => return Err("in ${…}"),
                Frame::Backtick => return Err("between backquotes (use $(…) instead)"),
                Frame::Comment => return Err("in a comment"),
                _ => {}
            }
        }
        Ok(match self.frames.last() {
            Some(Frame::Single) => Quoting::Single,
            Some(Frame::Double) => Quoting::Double,
            Some(Frame::Arithmetic { .. }) => Quoting::Arithmetic,
            _ => Quoting::Word,
        })
    }

    /// Whether all that was opened has been closed.
    pub(super) fn is_closed(&self) -> bool {
        !self.escaped && self.frames.iter().all(|frame| *frame == Frame::Comment)
    }

    /// A value stands here: it is part of a word, and its quotes are balanced.
    pub(super) fn pass_value(&mut self) {
        self.pid = false;
        self.dollar = false;
        self.opened = false;
        self.word = None;
        self.word_start = false;
        self.less_than = 0;
    }

    /// The next byte of the line.
    pub(super) fn feed(&mut self, byte: u8) {
        let quoted = matches!(self.frames.last(), Some(Frame::Single | Frame::Comment));
        if byte == b'\\' && !quoted && !self.escaped {
            self.escaped = true;
            return;
        }
        if std::mem::take(&mut self.escaped) {
            return self.feed_escaped(byte);
        }
        let dollar = std::mem::take(&mut self.dollar);
        if std::mem::replace(&mut self.pid, dollar && byte == b'$') && matches!(byte, b'(' | b'{' | b'\'' | b'"') {
            self.unclear = Some("behind a $$ and a bracket or quote, which shells read in two ways");
        }
        let opened = std::mem::take(&mut self.opened);
        match self.frames.last().copied() {
            Some(Frame::Single) if byte == b'\'' => self.pop(),
            Some(Frame::Single) => {}
            Some(Frame::AnsiC) if byte == b'\'' => self.pop(),
            Some(Frame::AnsiC) => {}
            Some(Frame::Comment) if byte == b'\n' => {
                self.pop();
                self.feed(byte);
            }
            Some(Frame::Comment) => {}
            Some(Frame::Backtick) if byte == b'`' => self.pop(),
            Some(Frame::Backtick) => {}
            Some(Frame::Double) if byte == b'"' => self.pop(),
            Some(Frame::Double) => self.feed_expansions(byte, dollar),
            Some(Frame::Parameter) => self.feed_parameter(byte, dollar),
            Some(Frame::Arithmetic { parens }) => self.feed_arithmetic(byte, dollar, parens),
            Some(Frame::Substitution { .. }) | None => self.feed_words(byte, dollar, opened),
        }
    }

    /// The byte behind a backslash. A newline there is taken out of the line before anything else is read, so that
    /// even `$` and `(` on both sides of it belong together.
    fn feed_escaped(&mut self, byte: u8) {
        let in_ansi_c = self.frames.last() == Some(&Frame::AnsiC);
        if byte == b'\n' && !in_ansi_c {
            return;
        }
        if byte == b'\'' && in_ansi_c {
            self.unclear = Some("behind a $'…' string with \\' in it, which shells read in two ways");
        }
        self.pass_value();
    }

    fn pop(&mut self) {
        self.frames.pop();
    }

    fn inside_word(&mut self) {
        self.word = None;
        self.word_start = false;
    }

    /// What means something both inside and outside double quotes.
    fn feed_expansions(&mut self, byte: u8, dollar: bool) {
        match byte {
            // `$$` is a parameter of its own.
            b'$' => self.dollar = !dollar,
            b'`' => self.frames.push(Frame::Backtick),
            b'(' if dollar => {
                self.frames.push(Frame::Substitution { parens: 1 });
                self.opened = true;
                self.word = Some(Vec::new());
                self.word_start = true;
            }
            b'{' if dollar => self.frames.push(Frame::Parameter),
            _ => {}
        }
    }

    fn feed_parameter(&mut self, byte: u8, dollar: bool) {
        let around = self.frames.iter().rev().find(|frame| **frame != Frame::Parameter);
        let in_double = matches!(around, Some(Frame::Double | Frame::Arithmetic { .. }));
        if in_double && matches!(byte, b'\'' | b'"') {
            self.unclear = Some("behind a quote in \"${…}\", which shells read in two ways");
        }
        match byte {
            b'}' => self.pop(),
            b'"' => self.frames.push(Frame::Double),
            b'\'' if !in_double => self.frames.push(Frame::Single),
            _ => self.feed_expansions(byte, dollar),
        }
    }

    fn feed_arithmetic(&mut self, byte: u8, dollar: bool, parens: u32) {
        if matches!(byte, b'\'' | b'"' | b';' | b'\n') {
            self.unclear = Some("behind a $((…)) that may be no arithmetic");
        }
        let now = match byte {
            b'(' if !dollar => parens + 1,
            b')' => parens - 1,
            _ => return self.feed_expansions(byte, dollar),
        };
        self.pop();
        if now > 0 {
            self.frames.push(Frame::Arithmetic { parens: now });
        }
    }

    fn feed_words(&mut self, byte: u8, dollar: bool, opened: bool) {
        self.less_than = if byte == b'<' { self.less_than + 1 } else { 0 };
        if self.less_than == 2 {
            self.heredoc_pending = true;
        }
        match byte {
            b'\n' if self.heredoc_pending => self.in_heredoc = true,
            b'#' if self.word_start => return self.frames.push(Frame::Comment),
            b'\'' => self.frames.push(if dollar { Frame::AnsiC } else { Frame::Single }),
            b'"' => self.frames.push(Frame::Double),
            b'(' if opened => {
                self.pop();
                self.frames.push(Frame::Arithmetic { parens: 2 });
                return self.inside_word();
            }
            b'(' if !dollar => self.open_paren(),
            b')' if self.closes_substitution() => return self.inside_word(),
            _ => self.feed_expansions(byte, dollar),
        }
        if self.opened {
            return;
        }
        match byte {
            b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>' => {
                // The closing parentheses of its patterns cannot be told from that of the `$(`.
                let word = self.word.replace(Vec::new());
                if word.as_deref() == Some(b"case") && matches!(self.frames.last(), Some(Frame::Substitution { .. })) {
                    self.unclear = Some("behind a case in $(…)");
                }
                self.word_start = true;
            }
            _ => {
                self.word_start = false;
                // Only `case` matters, so longer words need not be kept.
                match &mut self.word {
                    Some(word) if byte.is_ascii_lowercase() && word.len() < 5 => word.push(byte),
                    word => *word = None,
                }
            }
        }
    }

    fn open_paren(&mut self) {
        if let Some(Frame::Substitution { parens }) = self.frames.last_mut() {
            *parens += 1;
        }
    }

    /// Counts a closing parenthesis; whether it ends the innermost `$(`.
    fn closes_substitution(&mut self) -> bool {
        let Some(Frame::Substitution { parens }) = self.frames.last_mut() else { return false };
        *parens -= 1;
        let ends = *parens == 0;
        if ends {
            self.pop();
        }
        ends
    }
}
