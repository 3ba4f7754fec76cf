//! `failed.jsonl`: one object per failed task, which `run` takes as a task list.

use super::block::cut_text;
use super::error::LedgerError;
use super::files::beside;
use super::read::{Reader, Selection, Streams};
use crate::task::FailureDigest;
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Bytes of standard error that `failed.jsonl` shows of a task.
pub const STDERR_TAIL_BYTES: usize = 2048;

#[derive(Serialize)]
struct FailedTask<'a> {
    index: u64,
    line: Option<u64>,
    status: String,
    attempts: u32,
    node: &'a str,
    seconds: f64,
    stderr_tail: String,
    #[serde(flatten)]
    task: Map<String, Value>,
}

/// The last non-empty line, cut as [`FailureDigest`] wants it.
pub fn last_line(stderr: &[u8]) -> String {
    let end = stderr.trim_ascii_end();
    let start = end.iter().rposition(|b| *b == b'\n' || *b == b'\r').map_or(0, |at| at + 1);
    // Bytes that are no UTF-8 take more room when they are made visible: cut again behind that.
    let line = &end[start..];
    let text = String::from_utf8_lossy(&line[..line.len().min(FailureDigest::LINE_BYTES)]);
    cut_text(&text, FailureDigest::LINE_BYTES).to_owned()
}

/// The last lines, at most [`STDERR_TAIL_BYTES`] of them; where a single line is longer, its end.
pub fn stderr_tail(stderr: &[u8]) -> String {
    let mut tail = &stderr[stderr.len().saturating_sub(STDERR_TAIL_BYTES)..];
    if tail.len() < stderr.len() {
        let cut = tail[..tail.len() - 1].iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
        let inside_a_character = |b: &u8| b & 0b1100_0000 == 0b1000_0000;
        let skip = if cut > 0 { cut } else { tail.iter().take(3).take_while(|b| inside_a_character(b)).count() };
        tail = &tail[skip..];
    }
    String::from_utf8_lossy(tail).into_owned()
}

/// Writes `failed.jsonl`, whole or not at all, task by task. `task_json` gives the keys with which a task list would
/// name the task, `label` the index that users know, `line` its line in the source. A task whose record cannot be
/// read appears as `lost`, with the reason in place of its standard error. Returns how many there were.
pub fn write_failed_jsonl(
    reader: &Reader,
    task_json: impl Fn(u64) -> Map<String, Value>,
    label: impl Fn(u64) -> u64,
    line: impl Fn(u64) -> Option<u64>,
    path: &Path,
) -> Result<u64, LedgerError> {
    let temporary = beside(path);
    let write = || {
        let mut out = BufWriter::new(File::create(&temporary)?);
        let count = write_failed_to(&mut out, reader, task_json, label, line)?;
        out.into_inner().map_err(|e| e.into_error())?;
        std::fs::rename(&temporary, path)?;
        Ok(count)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&temporary);
        LedgerError::io("write", path)(e)
    })
}

/// As [`write_failed_jsonl`], to anywhere.
pub fn write_failed_to(
    mut out: impl Write,
    reader: &Reader,
    task_json: impl Fn(u64) -> Map<String, Value>,
    label: impl Fn(u64) -> u64,
    line: impl Fn(u64) -> Option<u64>,
) -> std::io::Result<u64> {
    let mut positions = reader.state().failed.iter().flat_map(|range| range.start..range.end);
    let mut count = 0;
    for outcome in reader.outcomes(Selection::FAILED, Streams::STDERR) {
        // Outcomes come in the order of the failed tasks, one for each.
        let Some(position) = positions.next() else { break };
        let (status, attempts, node, seconds, stderr_tail) = match &outcome {
            Ok(o) => (
                o.status.to_string(),
                o.attempts,
                reader.node_name(o.node),
                o.duration_us as f64 / 1e6,
                stderr_tail(&o.stderr.bytes),
            ),
            Err(e) => ("lost".to_owned(), 0, "?", 0.0, format!("its outcome cannot be read: {e}")),
        };
        let (index, line) = (label(position), line(position));
        let task = FailedTask { index, line, status, attempts, node, seconds, stderr_tail, task: task_json(position) };
        serde_json::to_writer(&mut out, &task)?;
        out.write_all(b"\n")?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_that_is_not_empty() {
        assert_eq!(last_line(b""), "");
        assert_eq!(last_line(b"a\nb: no such file\n\n  \n"), "b: no such file");
        assert_eq!(last_line(b"progress 1\rprogress 2\r\n"), "progress 2");
        assert!(last_line(&[0xff; 500]).len() <= FailureDigest::LINE_BYTES);
        assert_eq!(last_line("ä".repeat(200).as_bytes()).chars().count(), 80);
    }

    #[test]
    fn the_tail_begins_with_a_whole_line_where_it_can() {
        assert_eq!(stderr_tail(b"short\n"), "short\n");
        let long: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let tail = stderr_tail(long.as_bytes());
        assert!(tail.starts_with("line ") && tail.ends_with("line 999\n") && tail.len() <= STDERR_TAIL_BYTES);
        let one = "ä".repeat(5000);
        assert!(stderr_tail(one.as_bytes()).chars().all(|c| c == 'ä'));
    }
}
