//! From the bytes of a list to index entries: read in big chunks, cut at line ends, scanned in parallel. At no moment
//! does anything per task exist but its sixteen bytes of index; of a JSON list its text, too, for as long as its chunk.

use super::bundle::Shape;
use super::call_entry::{put_call, renumber};
use super::command::Program;
use super::function_name::whole_function_name;
use super::input_error::{InputError, LineFault};
use super::json::parse_task;
use super::layout::Entry;
use super::template::{Kind, Template};
use super::write::{BundleWriter, ContentHash};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Read};

/// Bytes read at a time.
pub(super) const CHUNK_BYTES: usize = 16 << 20;
/// Bytes that one thread scans at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Longest line or record. Linux takes no longer list of arguments than this at its defaults.
pub(super) const MAX_LINE_BYTES: usize = 4 << 20;
/// Different functions of a list, at most: every rank loads all of them, and every slice of the list names them.
pub(super) const MAX_FUNCTIONS: usize = 1000;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How a list is cut into tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Shell lines; blank ones and comments are no tasks.
    Lines,
    /// JSON objects; blank lines are no tasks.
    Json,
    /// Every line is a task.
    EachLine,
    /// Every NUL-separated entry is a task.
    EachNul,
}

/// Fills a buffer up to `CHUNK_BYTES`; whether the source is at its end.
pub(super) fn fill(reader: &mut dyn Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let wanted = CHUNK_BYTES.saturating_sub(buffer.len()) as u64;
    let got = reader.take(wanted).read_to_end(buffer)?;
    Ok((got as u64) < wanted)
}

/// Scans a whole list into the writer; gives the line of the first CR that was dropped.
pub(super) struct ListScan<'a> {
    template: &'a Template,
    cut: Cut,
    file: &'a str,
    lines: u64,
    functions: Functions,
    /// First line that ended in CR LF.
    pub(super) first_cr: Option<u64>,
    /// First shell line that begins as a JSON object does.
    pub(super) first_object: Option<u64>,
    /// Whether a byte order mark was left out.
    pub(super) had_mark: bool,
}

/// Functions by their numbers, in the order of the lines that name them first.
#[derive(Debug, Default)]
struct Functions {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Functions {
    /// Of any spelling of its name.
    fn number(&mut self, name: &str) -> Result<u32, LineFault> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        let whole = whole_function_name(OsStr::new(name)).map_err(|whole| {
            let cause = format!("\"{}\" is not UTF-8; give the file or its folder another name", whole.display());
            LineFault::Task(format!("\"call\": {cause}"))
        })?;
        let number = match self.numbers.get(&whole) {
            Some(number) => *number,
            None if self.names.len() == MAX_FUNCTIONS => return Err(LineFault::TooManyFunctions),
            None => {
                let next = self.names.len() as u32;
                self.names.push(whole.clone());
                self.numbers.insert(whole, next);
                next
            }
        };
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }
}

/// What one thread found in its piece.
struct Piece {
    entries: Vec<Entry>,
    /// What the entries lie in, where that is not the list itself.
    payload: Vec<u8>,
    /// Functions as they are written, by their numbers within the piece, each with its first line.
    functions: Vec<(String, u64)>,
    numbers: HashMap<String, u32>,
    content: ContentHash,
    shapes: Vec<(u64, Shape)>,
    lines: u64,
    first_cr: Option<u64>,
    first_object: Option<u64>,
    fault: Option<(u64, LineFault)>,
}

impl<'a> ListScan<'a> {
    /// For a template whose tasks are entries of a list.
    pub(super) fn new(template: &'a Template, file: &'a str) -> Self {
        let cut = match template.kind {
            Kind::Json { .. } => Cut::Json,
            Kind::EachLine { has_lines: true, .. } => Cut::EachLine,
            Kind::EachLine { has_lines: false, .. } => Cut::EachNul,
            _ => Cut::Lines,
        };
        let functions = Functions::default();
        Self { template, cut, file, lines: 0, functions, first_cr: None, first_object: None, had_mark: false }
    }

    /// Reads to the end.
    pub(super) fn run(&mut self, reader: &mut dyn Read, writer: &mut BundleWriter) -> Result<(), ScanError> {
        let mut buffer = Vec::with_capacity(CHUNK_BYTES);
        loop {
            let at_end = fill(reader, &mut buffer).map_err(ScanError::Read)?;
            let complete = match memchr::memrchr(self.cut.terminator(), &buffer) {
                _ if at_end => buffer.len(),
                Some(last) => last + 1,
                // A chunk is longer than the longest line.
                None => return Err(self.fault(self.lines + 1, LineFault::TooLong)),
            };
            let mut start = 0;
            if self.lines == 0 && self.cut != Cut::EachNul && buffer.starts_with(BYTE_ORDER_MARK) {
                self.had_mark = true;
                start = BYTE_ORDER_MARK.len();
            }
            self.chunk(&buffer[start..complete], writer)?;
            buffer.drain(..complete);
            if at_end {
                return Ok(());
            }
        }
    }

    /// The functions that the tasks call, by their numbers.
    pub(super) fn into_functions(self) -> Vec<String> {
        self.functions.names
    }

    fn fault(&self, line: u64, cause: LineFault) -> ScanError {
        ScanError::Input(InputError::Line { file: self.file.to_owned(), line, cause })
    }

    fn chunk(&mut self, bytes: &[u8], writer: &mut BundleWriter) -> Result<(), ScanError> {
        let base = writer.payload_bytes();
        let scan = || -> Vec<Piece> {
            cut_into_pieces(bytes, self.cut.terminator())
                .into_par_iter()
                .map(|(start, piece)| self.piece(piece, base + start as u64))
                .collect()
        };
        let packs = self.cut == Cut::Json;
        let (pieces, copied) = rayon::join(scan, || if packs { Ok(()) } else { writer.payload(bytes) });
        copied.map_err(ScanError::Write)?;
        for mut piece in pieces {
            let numbered = self.number_functions(&mut piece);
            // A line with too many functions may stand before one that is wrong.
            let first = [numbered.err(), piece.fault.take()].into_iter().flatten().min_by_key(|(line, _)| *line);
            if let Some((line, cause)) = first {
                return Err(self.fault(self.lines + line, cause));
            }
            if packs {
                let base = writer.payload_bytes();
                piece.entries.iter_mut().for_each(|entry| entry.offset += base);
                writer.payload(&piece.payload).map_err(ScanError::Write)?;
            }
            let skipped = u32::try_from(self.lines - writer.tasks());
            let Ok(skipped) = skipped.map_err(drop).and_then(|skipped| last_skip(&piece, skipped).ok_or(())) else {
                return Err(self.fault(self.lines, LineFault::TooManySkipped));
            };
            if skipped > 0 {
                piece.entries.iter_mut().for_each(|entry| entry.skipped += skipped);
            }
            self.first_cr = self.first_cr.or(piece.first_cr.map(|line| self.lines + line));
            self.first_object = self.first_object.or(piece.first_object.map(|line| self.lines + line));
            self.lines += piece.lines;
            writer.entries(&piece.entries, piece.content).map_err(ScanError::Write)?;
            for (count, shape) in piece.shapes {
                writer.shape(count, shape).map_err(ScanError::Write)?;
            }
        }
        Ok(())
    }

    /// Gives the functions of a piece the numbers that they have in the whole list. The error has the line within the
    /// piece.
    fn number_functions(&mut self, piece: &mut Piece) -> Result<(), (u64, LineFault)> {
        let number = |(name, line): &(String, u64)| self.functions.number(name).map_err(|fault| (*line, fault));
        let numbers = piece.functions.iter().map(number).collect::<Result<Vec<u32>, _>>()?;
        if (0..).zip(&numbers).all(|(own, number)| own == *number) {
            return Ok(());
        }
        for entry in &piece.entries {
            let start = entry.offset.get() as usize;
            renumber(&mut piece.payload[start..start + entry.length.get() as usize], |own| numbers[own as usize]);
        }
        Ok(())
    }

    /// Finds the tasks of one piece; `offset` is its place in the payload. Lines count from 1 within the piece.
    fn piece(&self, bytes: &[u8], offset: u64) -> Piece {
        let mut piece = Piece {
            entries: Vec::new(),
            payload: Vec::new(),
            functions: Vec::new(),
            numbers: HashMap::new(),
            content: ContentHash::default(),
            shapes: Vec::new(),
            lines: 0,
            first_cr: None,
            first_object: None,
            fault: None,
        };
        let mut start = 0;
        while start < bytes.len() {
            let end = memchr::memchr(self.cut.terminator(), &bytes[start..]).map(|length| start + length);
            let mut text = &bytes[start..end.unwrap_or(bytes.len())];
            piece.lines += 1;
            if self.cut != Cut::EachNul
                && end.is_some()
                && let Some(bare) = text.strip_suffix(b"\r")
            {
                piece.first_cr = piece.first_cr.or(Some(piece.lines));
                text = bare;
            }
            if self.cut == Cut::Lines && text.trim_ascii_start().starts_with(b"{\"") {
                piece.first_object = piece.first_object.or(Some(piece.lines));
            }
            if !self.cut.skips(text) {
                let added = match self.cut {
                    Cut::Json => self.add_json(&mut piece, text),
                    _ => self.check(text).map(|()| piece.add(offset + start as u64, text.len(), self.template.shape)),
                };
                if let Err(fault) = added {
                    piece.fault = Some((piece.lines, fault));
                    return piece;
                }
                piece.content.push(text);
            }
            start = end.map_or(bytes.len(), |end| end + 1);
        }
        piece
    }

    fn check(&self, text: &[u8]) -> Result<(), LineFault> {
        match memchr::memchr(0, text) {
            _ if text.len() > MAX_LINE_BYTES => Err(LineFault::TooLong),
            Some(_) if self.cut == Cut::EachLine => Err(LineFault::NulInEntry),
            Some(_) => Err(LineFault::Nul),
            None => Ok(()),
        }
    }

    fn add_json(&self, piece: &mut Piece, text: &[u8]) -> Result<(), LineFault> {
        if text.len() > MAX_LINE_BYTES {
            return Err(LineFault::TooLong);
        }
        let task = parse_task(text).map_err(LineFault::Task)?;
        let start = piece.payload.len();
        match &task.program {
            Program::Call { function, payload } => {
                let number = piece.number(function);
                put_call(&task, number, payload, &mut piece.payload);
            }
            _ => piece.payload.extend_from_slice(text),
        }
        piece.add(start as u64, piece.payload.len() - start, self.template.json_shape(&task));
        Ok(())
    }
}

/// The skipped lines before a piece, if those at its end can still be counted in an entry.
fn last_skip(piece: &Piece, before: u32) -> Option<u32> {
    let within = piece.entries.last().map_or(0, |entry| entry.skipped.get());
    before.checked_add(within).map(|_| before)
}

impl Piece {
    /// The number of a function within this piece.
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.functions.len() as u32;
        self.functions.push((name.to_owned(), self.lines));
        self.numbers.insert(name.to_owned(), number);
        number
    }

    fn add(&mut self, offset: u64, length: usize, shape: Shape) {
        // The line itself is no skipped one. A piece has far fewer lines than a u32 can count.
        let skipped = self.lines - 1 - self.entries.len() as u64;
        self.entries.push(Entry {
            offset: offset.into(),
            length: (length as u32).into(),
            skipped: (skipped as u32).into(),
        });
        match self.shapes.last_mut() {
            Some((count, last)) if *last == shape => *count += 1,
            _ => self.shapes.push((1, shape)),
        }
    }
}

impl Cut {
    fn terminator(self) -> u8 {
        if self == Cut::EachNul { 0 } else { b'\n' }
    }

    fn skips(self, text: &[u8]) -> bool {
        let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
        match self {
            Cut::Lines => matches!(first, None | Some(b'#')),
            Cut::Json => first.is_none(),
            Cut::EachLine | Cut::EachNul => false,
        }
    }
}

/// Pieces of about `PIECE_BYTES` that end where a line ends, each with its place.
fn cut_into_pieces(bytes: &[u8], terminator: u8) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let least = bytes.len().min(start + PIECE_BYTES);
        let end = memchr::memchr(terminator, &bytes[least - 1..]).map_or(bytes.len(), |more| least + more);
        pieces.push((start, &bytes[start..end]));
        start = end;
    }
    pieces
}

/// Why a scan stopped: reading, writing, or what was read.
#[derive(Debug)]
pub(super) enum ScanError {
    Read(io::Error),
    Write(io::Error),
    Input(InputError),
}
