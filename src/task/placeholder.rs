//! Placeholders: a text of the user's, cut once into literal pieces and places to fill, so that a worker only joins
//! bytes. Knows nothing of where the values come from.

use super::quoting::{self, Quoting, ShellScan};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Widest zero padding, `{:099}`.
const MAX_WIDTH_DIGITS: usize = 2;

/// What stands in for a placeholder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum What {
    /// `{}`, `{:05}`; `{NAME}`, `{NAME:05}` of a column.
    Value { column: Option<u32>, width: u8 },
    /// `{.}`
    WithoutExtension,
    /// `{/}`
    Basename,
    /// `{//}`
    Directory,
    /// `{/.}`
    BasenameWithoutExtension,
    /// `{%}`
    Slot,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Piece {
    Text(Vec<u8>),
    Fill { what: What, quoting: Quoting },
}

/// The values of one task's placeholders.
#[derive(Debug)]
pub(super) struct Values<'a> {
    /// `{}`: the index, or the line.
    pub(super) whole: Cow<'a, [u8]>,
    /// `{NAME}`, in the order of the columns.
    pub(super) columns: Vec<Cow<'a, [u8]>>,
    /// `{%}`.
    pub(super) slot: SlotText,
}

/// What `{%}` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotText {
    /// The slot that runs the attempt.
    Number(u32),
    /// The variable that tells it to the attempt, for a task that is written down to be run later.
    Variable,
}

/// The names that a text may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    /// What stands for the whole entry: `{}`, or the word given with `-I`.
    pub(super) whole: &'a [u8],
    /// Columns of a table, names of a grid.
    pub(super) columns: &'a [String],
}

/// Why a shell line cannot take its placeholders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// The place does not allow a value that is safe.
    #[error("the shell line has the placeholder {placeholder} {place}, where no value can be quoted safely")]
    Place {
        /// The placeholder as written.
        placeholder: String,
        /// Where it stands.
        place: &'static str,
    },
    /// Quotes or brackets are left open.
    #[error("the shell line ends inside a quote or a bracket that is not closed")]
    Open,
}

/// A text with its placeholders found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

impl Pattern {
    /// A text whose values go in as they stand.
    pub(super) fn verbatim(text: &[u8], names: Names<'_>) -> Pattern {
        let mut builder = Builder::default();
        let mut at = 0;
        while at < text.len() {
            match placeholder_at(&text[at..], names) {
                Some((what, length)) => {
                    builder.fill(what, Quoting::Verbatim);
                    at += length;
                }
                None => {
                    builder.text.push(text[at]);
                    at += 1;
                }
            }
        }
        builder.finish()
    }

    /// A shell line, whose values are quoted as their places demand. `\{}` and `${NAME}` stay the shell's.
    pub(super) fn shell(line: &[u8], names: Names<'_>) -> Result<Pattern, PlaceholderError> {
        let mut builder = Builder::default();
        let mut scan = ShellScan::new();
        let mut at = 0;
        while at < line.len() {
            let shielded = scan.shields_braces() && line[at] == b'{';
            match placeholder_at(&line[at..], names).filter(|_| !shielded) {
                Some((what, length)) => {
                    let quoting = scan.quoting().map_err(|place| PlaceholderError::Place {
                        placeholder: String::from_utf8_lossy(&line[at..at + length]).into_owned(),
                        place,
                    })?;
                    builder.fill(what, quoting);
                    scan.pass_value();
                    at += length;
                }
                None => {
                    builder.text.push(line[at]);
                    scan.feed(line[at]);
                    at += 1;
                }
            }
        }
        let pattern = builder.finish();
        if !scan.is_closed() && pattern.has_placeholders() {
            return Err(PlaceholderError::Open);
        }
        Ok(pattern)
    }

    /// Whether anything is filled in.
    pub(super) fn has_placeholders(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Fill { .. }))
    }

    /// Whether a column is filled in.
    pub(super) fn uses_columns(&self) -> bool {
        let column = |piece: &Piece| matches!(piece, Piece::Fill { what: What::Value { column: Some(_), .. }, .. });
        self.pieces.iter().any(column)
    }

    /// Whether the slot is filled in.
    pub(super) fn uses_slot(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Fill { what: What::Slot, .. }))
    }

    /// The text with its values.
    pub(super) fn fill(&self, values: &Values<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(values, &mut out);
        out
    }

    /// Appends the text with its values.
    pub(super) fn put(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Fill { what: What::Slot, quoting } => write_slot(values.slot, *quoting, out),
                Piece::Fill { what, quoting } => quoting.write(&what.value(values), out),
            }
        }
    }

    /// Appends the text with its values, quoted as one shell word where it must be.
    pub(super) fn put_quoted(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        self.put(values, out);
        if !quoting::is_bare_word(&out[start..]) {
            let word = out.split_off(start);
            quoting::quote_word(&word, out);
        }
    }

    /// The text as one shell word, for an argv that must become a shell line because it names the slot.
    pub(super) fn fill_as_shell_word(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => Quoting::Word.write(text, out),
                Piece::Fill { what: What::Slot, .. } => write_slot(values.slot, Quoting::Word, out),
                Piece::Fill { what, .. } => Quoting::Word.write(&what.value(values), out),
            }
        }
        if self.pieces.is_empty() {
            out.extend_from_slice(b"''");
        }
    }
}

fn write_slot(slot: SlotText, quoting: Quoting, out: &mut Vec<u8>) {
    match (slot, quoting) {
        (SlotText::Number(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
        (SlotText::Variable, Quoting::Double | Quoting::Arithmetic) => out.extend_from_slice(b"${MYRIARCH_SLOT}"),
        (SlotText::Variable, Quoting::Single) => out.extend_from_slice(b"'\"${MYRIARCH_SLOT}\"'"),
        (SlotText::Variable, Quoting::Word) => out.extend_from_slice(b"\"${MYRIARCH_SLOT}\""),
        // No shell reads it, so there is no better text than the first slot.
        (SlotText::Variable, Quoting::Verbatim) => out.push(b'0'),
    }
}

#[derive(Default)]
struct Builder {
    pieces: Vec<Piece>,
    text: Vec<u8>,
}

impl Builder {
    fn fill(&mut self, what: What, quoting: Quoting) {
        self.flush();
        self.pieces.push(Piece::Fill { what, quoting });
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(&mut self.text)));
        }
    }

    fn finish(mut self) -> Pattern {
        self.flush();
        Pattern { pieces: self.pieces }
    }
}

/// The placeholder that the text begins with, and its length in bytes.
fn placeholder_at(text: &[u8], names: Names<'_>) -> Option<(What, usize)> {
    if text.starts_with(names.whole) {
        return Some((What::Value { column: None, width: 0 }, names.whole.len()));
    }
    let inner = braced(text)?;
    let what = match inner {
        b"." => What::WithoutExtension,
        b"/" => What::Basename,
        b"//" => What::Directory,
        b"/." => What::BasenameWithoutExtension,
        b"%" => What::Slot,
        _ => value_named(inner, names)?,
    };
    Some((what, inner.len() + 2))
}

/// What stands between the braces that the text begins with.
fn braced(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"{")?;
    let end = rest.iter().position(|&byte| byte == b'}' || byte == b'{')?;
    (rest[end] == b'}').then(|| &rest[..end])
}

fn value_named(inner: &[u8], names: Names<'_>) -> Option<What> {
    let column = |name: &[u8]| names.columns.iter().position(|known| known.as_bytes() == name && !name.is_empty());
    if let Some(at) = column(inner) {
        return Some(What::Value { column: u32::try_from(at).ok(), width: 0 });
    }
    let colon = inner.iter().rposition(|&byte| byte == b':')?;
    let width = padding(&inner[colon + 1..])?;
    match &inner[..colon] {
        b"" => Some(What::Value { column: None, width }),
        name => Some(What::Value { column: u32::try_from(column(name)?).ok(), width }),
    }
}

/// The width in `05`.
fn padding(format: &[u8]) -> Option<u8> {
    let digits = format.strip_prefix(b"0")?;
    if digits.is_empty() || digits.len() > MAX_WIDTH_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |width, digit| width * 10 + (digit - b'0')))
}

/// What stands between braces that look like a placeholder's and are none: `{NAME}`, `{1}`, and where there are no
/// columns also `{#}`.
pub(super) fn looks_like_placeholders(text: &[u8], names: Names<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.iter().enumerate().filter(|(_, byte)| **byte == b'{') {
        let before = at.checked_sub(1).map(|before| text[before]);
        let inner = braced(&text[at..]).unwrap_or_default();
        // Counts of a regular expression, `[0-9]{4}`.
        let is_count = matches!(before, Some(b']' | b')')) && inner.iter().all(u8::is_ascii_digit);
        let shielded = matches!(before, Some(b'$' | b'\\'));
        if shielded || is_count || placeholder_at(&text[at..], names).is_some() {
            continue;
        }
        let is_word = !inner.is_empty() && inner.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        if is_word || (inner == b"#" && names.columns.is_empty()) {
            found.push(String::from_utf8_lossy(inner).into_owned());
        }
    }
    found
}

impl What {
    fn value<'v>(self, values: &'v Values<'_>) -> Cow<'v, [u8]> {
        let whole = values.whole.as_ref();
        match self {
            What::Value { column, width } => {
                let value = match column {
                    None => whole,
                    Some(at) => values.columns.get(at as usize).map_or(&[][..], |value| value.as_ref()),
                };
                padded(value, usize::from(width))
            }
            What::WithoutExtension => Cow::Borrowed(without_extension(whole)),
            What::Basename => Cow::Borrowed(basename(whole)),
            What::BasenameWithoutExtension => Cow::Borrowed(without_extension(basename(whole))),
            What::Directory => Cow::Borrowed(directory(whole)),
            // Written by `write_slot`, since it depends on the quoting.
            What::Slot => Cow::Borrowed(&[]),
        }
    }
}

/// A number padded with zeros behind its sign; any other text as it is.
fn padded(value: &[u8], width: usize) -> Cow<'_, [u8]> {
    let (sign, digits) = match value.strip_prefix(b"-") {
        Some(digits) => (&b"-"[..], digits),
        None => (&b""[..], value),
    };
    let is_number = digits.first().is_some_and(u8::is_ascii_digit)
        && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
        && digits.iter().filter(|byte| **byte == b'.').count() <= 1;
    if value.len() >= width || !is_number {
        return Cow::Borrowed(value);
    }
    let mut text = sign.to_vec();
    text.resize(sign.len() + width - value.len(), b'0');
    text.extend_from_slice(digits);
    Cow::Owned(text)
}

fn basename(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

fn without_extension(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'.' || byte == b'/') {
        Some(at) if path[at] == b'.' => &path[..at],
        _ => path,
    }
}

/// As dirname(1).
fn directory(path: &[u8]) -> &[u8] {
    let trim = |path: &[u8]| path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let bare = &path[..trim(path)];
    if bare.is_empty() {
        return if path.is_empty() { b"." } else { b"/" };
    }
    match bare.iter().rposition(|&byte| byte == b'/') {
        None => b".",
        Some(slash) => match trim(&bare[..slash]) {
            0 => b"/",
            end => &bare[..end],
        },
    }
}
