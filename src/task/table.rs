//! Tables: one record per task, columns by the names in the first record. Fields are quoted as in RFC 4180.

use super::input_error::{InputError, LineFault};
use super::layout::Entry;
use super::scan::{CHUNK_BYTES, MAX_LINE_BYTES, ScanError, fill};
use super::template::Template;
use super::write::{BundleWriter, ContentHash};
use std::borrow::Cow;
use std::io::Read;

/// Most columns of a table.
const MAX_COLUMNS: usize = 10_000;

/// A reader of records in memory, whose errors cannot be of I/O.
fn records(bytes: &[u8], delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .buffer_capacity(bytes.len().clamp(1, 1 << 16))
        .from_reader(bytes)
}

/// The fields of one record, without its line end. A reader of the csv crate finds the same ones, but costs more to set
/// up than a short task takes.
pub(super) fn fields(record: &[u8], delimiter: u8) -> Vec<Cow<'_, [u8]>> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, more) = next_field(rest, delimiter);
        fields.push(field);
        match more {
            Some(more) => rest = more,
            None => return fields,
        }
    }
}

/// The first field of the rest of a record, and what follows its delimiter.
fn next_field(rest: &[u8], delimiter: u8) -> (Cow<'_, [u8]>, Option<&[u8]>) {
    let upto = |text: &[u8]| memchr::memchr(delimiter, text).unwrap_or(text.len());
    let behind = |at: usize| rest.get(at + 1..);
    if rest.first() != Some(&b'"') {
        let end = upto(rest);
        return (Cow::Borrowed(&rest[..end]), behind(end));
    }
    let mut field = Vec::new();
    let mut at = 1;
    loop {
        let part = &rest[at..];
        let quote = memchr::memchr(b'"', part).unwrap_or(part.len());
        field.extend_from_slice(&part[..quote]);
        at = (at + quote + 1).min(rest.len());
        if rest.get(at) != Some(&b'"') {
            break;
        }
        field.push(b'"');
        at += 1;
    }
    // What stands between a closing quote and the delimiter belongs to the field as it is.
    let end = at + upto(&rest[at..]);
    field.extend_from_slice(&rest[at..end]);
    (Cow::Owned(field), behind(end))
}

/// Column names out of the first record, or what is wrong with them.
fn column_names(record: &csv::ByteRecord) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for (at, field) in record.iter().enumerate() {
        let name =
            std::str::from_utf8(field).map_err(|_| format!("the name of column {} is not UTF-8", at + 1))?.trim();
        if name.is_empty() {
            return Err(format!("column {} has no name in the first row", at + 1));
        }
        if names.iter().any(|known| known == name) {
            return Err(format!("two columns have the name \"{name}\""));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// A table on its way through: the columns are known, the rows follow. Records may hold newlines, so they are found
/// one after another.
pub(super) struct TableScan {
    /// Names of the columns.
    pub(super) columns: Vec<String>,
    file: String,
    delimiter: u8,
    buffer: Vec<u8>,
    at_end: bool,
    /// Bytes of `buffer` that the first record took.
    header_bytes: usize,
    /// Lines before `buffer`.
    lines: u64,
}

impl TableScan {
    /// Reads the first chunk, and the names of the columns in it.
    pub(super) fn begin(reader: &mut dyn Read, file: &str, delimiter: u8) -> Result<Self, InputError> {
        let mut buffer = Vec::with_capacity(CHUNK_BYTES);
        let at_end =
            fill(reader, &mut buffer).map_err(|source| InputError::Unreadable { file: file.to_owned(), source })?;
        let fault = |cause| InputError::Line { file: file.to_owned(), line: 1, cause: LineFault::Row(cause) };
        let mut records = records(&buffer, delimiter);
        let mut header = csv::ByteRecord::new();
        let found = records.read_byte_record(&mut header).map_err(|error| fault(error.to_string()))?;
        if !found {
            return Err(fault("the table is empty; its first row names the columns".to_owned()));
        }
        let header_bytes = records.position().byte() as usize;
        if header_bytes > MAX_LINE_BYTES || header.len() > MAX_COLUMNS {
            return Err(fault("the first row is too long to be one of column names".to_owned()));
        }
        let columns = column_names(&header).map_err(fault)?;
        Ok(Self { columns, file: file.to_owned(), delimiter, buffer, at_end, header_bytes, lines: 0 })
    }

    /// Reads to the end.
    pub(super) fn run(
        mut self,
        reader: &mut dyn Read,
        template: &Template,
        writer: &mut BundleWriter,
    ) -> Result<(), ScanError> {
        let mut skip = self.header_bytes;
        loop {
            let (used, entries, content) = self.rows(skip, writer)?;
            writer.payload(&self.buffer[..used]).map_err(ScanError::Write)?;
            writer.entries(&entries, content).map_err(ScanError::Write)?;
            writer.shape(entries.len() as u64, template.shape).map_err(ScanError::Write)?;
            if self.at_end {
                return Ok(());
            }
            if used == 0 {
                return Err(self.fault(self.lines + 1, LineFault::TooLong));
            }
            self.lines += memchr::memchr_iter(b'\n', &self.buffer[..used]).count() as u64;
            self.buffer.drain(..used);
            self.at_end = fill(reader, &mut self.buffer).map_err(ScanError::Read)?;
            skip = 0;
        }
    }

    fn fault(&self, line: u64, cause: LineFault) -> ScanError {
        ScanError::Input(InputError::Line { file: self.file.clone(), line, cause })
    }

    /// The rows in the buffer from `start` on, and how many bytes of the buffer they end at. Before the end of the
    /// file the last row is left for the next turn, since it may go on.
    fn rows(&self, start: usize, writer: &BundleWriter) -> Result<(usize, Vec<Entry>, ContentHash), ScanError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut content = ContentHash::default();
        let mut records = records(&self.buffer[start..], self.delimiter);
        let mut record = csv::ByteRecord::new();
        // Lines up to `counted` bytes of the buffer.
        let (mut counted, mut line) = (0, self.lines);
        let mut used = start;
        loop {
            let from = start + records.position().byte() as usize;
            let found = records.read_byte_record(&mut record);
            if !found.map_err(|error| self.fault(line + 1, LineFault::Row(error.to_string())))? {
                return Ok((if self.at_end { self.buffer.len() } else { used }, entries, content));
            }
            let end = start + records.position().byte() as usize;
            if end >= self.buffer.len() && !self.at_end {
                return Ok((used, entries, content));
            }
            let blank = self.buffer[from..end].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            let text = trim_end_of_line(&self.buffer[from + blank..end]);
            line += memchr::memchr_iter(b'\n', &self.buffer[counted..from + blank]).count() as u64;
            counted = from + blank;
            self.check_row(text, &record).map_err(|cause| self.fault(line + 1, cause))?;
            let position = writer.tasks() + entries.len() as u64;
            let skipped = u32::try_from(line - position).map_err(|_| self.fault(line, LineFault::TooManySkipped))?;
            entries.push(Entry {
                offset: (writer.payload_bytes() + counted as u64).into(),
                length: (text.len() as u32).into(),
                skipped: skipped.into(),
            });
            content.push(text);
            used = end;
        }
    }

    fn check_row(&self, text: &[u8], record: &csv::ByteRecord) -> Result<(), LineFault> {
        let (found, wanted) = (record.len(), self.columns.len());
        if text.len() > MAX_LINE_BYTES {
            return Err(LineFault::TooLong);
        }
        if found != wanted {
            return Err(LineFault::Row(format!("{found} fields where the first row names {wanted} columns")));
        }
        match memchr::memchr(0, text) {
            Some(_) => Err(LineFault::Nul),
            None => Ok(()),
        }
    }
}

fn trim_end_of_line(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_are_those_that_the_csv_crate_finds(record in "[a\",; ]{1,20}") {
            let mut wanted = csv::ByteRecord::new();
            records(record.as_bytes(), b',').read_byte_record(&mut wanted).unwrap();
            let wanted: Vec<&[u8]> = wanted.iter().collect();
            prop_assert_eq!(fields(record.as_bytes(), b','), wanted);
        }

        #[test]
        fn any_fields_come_back_from_a_record(wanted: Vec<Vec<u8>>) {
            prop_assume!(!wanted.is_empty());
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&wanted).unwrap();
            let record = writer.into_inner().unwrap();
            prop_assert_eq!(fields(trim_end_of_line(&record), b','), wanted);
        }
    }
}
