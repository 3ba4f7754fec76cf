//! `myriarch tasks`: every task of a run on a line of its own, without its output.

use super::dir::{DirArg, OpenRun, print, readable, short, utc};
use super::{EXIT_FAILED, EXIT_OK};
use crate::ledger::{Selection, Streams};
use crate::observe::text::one_line;
use crate::task::{IndexRange, Outcome, OutcomeClass};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, Write};

/// List the tasks: how, when and where each ended, and what it runs
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArg,
    /// Tasks that ended well
    #[arg(long)]
    ok: bool,
    /// Tasks that failed
    #[arg(long)]
    failed: bool,
    /// Tasks that were cancelled
    #[arg(long)]
    cancelled: bool,
    /// Tasks without an outcome
    #[arg(long)]
    unfinished: bool,
    /// One JSON object per task
    #[arg(long, conflicts_with = "tsv")]
    json: bool,
    /// Columns separated by tabs, after a line with their names
    #[arg(long)]
    tsv: bool,
}

/// Runs the command.
pub fn main(mut args: Args) -> anyhow::Result<i32> {
    let run = std::mem::take(&mut args.dir).open()?;
    print(|out| write(&run, &args, out))
}

const COLUMNS: [&str; 9] = ["index", "line", "status", "attempts", "start", "seconds", "node", "rank", "command"];
/// Characters of a command in the table.
const COMMAND_CHARS: usize = 60;
/// Characters that the column of the nodes gets at most; a longer name takes its room all the same.
const NODE_CHARS: usize = 40;

#[derive(Default, Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<u64>,
    index: u64,
    line: Option<u64>,
    status: String,
    attempts: Option<u32>,
    start: Option<String>,
    seconds: Option<f64>,
    node: Option<&'a str>,
    rank: Option<u32>,
    command: Cow<'a, str>,
}

impl<'a> Row<'a> {
    fn new(run: &'a OpenRun, position: u64, outcome: Option<&Outcome>, command: &'a [u8]) -> Self {
        let command = readable(command);
        let (bundle, index, line) = (run.names.bundle(position), run.names.index(position), run.names.line(position));
        let row = Row { bundle, index, line, command, ..Row::default() };
        let Some(outcome) = outcome else { return Row { status: "unfinished".into(), ..row } };
        let ran = outcome.started_unix_us > 0;
        Row {
            status: outcome.status.to_string(),
            attempts: Some(outcome.attempts),
            start: ran.then(|| utc(outcome.started_unix_us)),
            seconds: ran.then_some(outcome.duration_us as f64 / 1e6),
            node: ran.then(|| run.reader.node_name(outcome.node)),
            rank: ran.then_some(outcome.rank),
            ..row
        }
    }

    fn cells(&self, command: String) -> [String; 9] {
        fn cell(value: Option<impl ToString>) -> String {
            value.map_or_else(|| "-".to_owned(), |v| v.to_string())
        }
        let status = one_line(&self.status);
        let seconds = self.seconds.map(|s| format!("{s:.6}"));
        let start = self.start.as_deref();
        [
            self.bundle.map_or_else(|| self.index.to_string(), |bundle| format!("{bundle}:{}", self.index)),
            cell(self.line),
            status,
            cell(self.attempts),
            cell(start),
            cell(seconds),
            cell(self.node),
            cell(self.rank),
            command,
        ]
    }
}

/// How rows are written.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Tsv,
    Table(Widths),
}

/// Characters of columns whose width depends on the run.
#[derive(Clone, Copy)]
struct Widths {
    index: usize,
    node: usize,
}

impl Format {
    fn header(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Format::Json => Ok(()),
            Format::Tsv => writeln!(out, "{}", COLUMNS.join("\t")),
            Format::Table(widths) => table_line(out, &COLUMNS.map(str::to_uppercase), widths),
        }
    }

    fn row(self, row: &Row<'_>, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Format::Json => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")
            }
            Format::Tsv => writeln!(out, "{}", row.cells(one_line(&row.command)).join("\t")),
            Format::Table(widths) => table_line(out, &row.cells(short(row.command.as_bytes(), COMMAND_CHARS)), widths),
        }
    }
}

fn table_line(out: &mut dyn Write, cells: &[String; 9], widths: Widths) -> io::Result<()> {
    let [index, line, status, attempts, start, seconds, node, rank, command] = cells;
    let Widths { index: digits, node: name } = widths;
    writeln!(
        out,
        "{index:>digits$} {line:>digits$}  {status:<12} {attempts:>8}  {start:<27} {seconds:>13} {rank:>6}  {node:<name$}  {command}"
    )
}

fn write(run: &OpenRun, args: &Args, out: &mut dyn Write) -> anyhow::Result<i32> {
    let nodes = run.reader.state().starts.iter().flat_map(|start| &start.nodes);
    let widths = Widths {
        index: run.names.label(run.reader.tasks().saturating_sub(1)).len().max(5),
        node: nodes.map(|node| node.chars().count()).max().unwrap_or(0).clamp(4, NODE_CHARS),
    };
    let format = match (args.json, args.tsv) {
        (true, _) => Format::Json,
        (_, true) => Format::Tsv,
        _ => Format::Table(widths),
    };
    let (selection, ranges) = wanted(run, args);
    let mut outcomes = run.reader.outcomes(selection, Streams::NONE);
    let mut unreadable = 0u64;
    let mut command = Vec::new();
    format.header(out)?;
    for (range, has_ended) in ranges {
        for position in range.start..range.end {
            command.clear();
            run.names.put_command(position, &mut command);
            // Outcomes come in task order, one for each task that has ended.
            let row = match if has_ended { outcomes.next() } else { None } {
                Some(Ok(outcome)) => Row::new(run, position, Some(&outcome), &command),
                None => Row::new(run, position, None, &command),
                Some(Err(e)) => {
                    if unreadable == 0 {
                        eprintln!("myriarch: {e}");
                    }
                    unreadable += 1;
                    Row { status: "unreadable".into(), ..Row::new(run, position, None, &command) }
                }
            };
            format.row(&row, out)?;
        }
    }
    Ok(if unreadable > 0 { EXIT_FAILED } else { EXIT_OK })
}

/// The tasks that are asked for, all when none are named: as a selection of those that have ended, and as ranges in
/// task order with whether they have.
fn wanted(run: &OpenRun, args: &Args) -> (Selection, Vec<(IndexRange, bool)>) {
    let all = !(args.ok || args.failed || args.cancelled || args.unfinished);
    let selection = Selection { ok: all || args.ok, failed: all || args.failed, cancelled: all || args.cancelled };
    let state = run.reader.state();
    let mut ranges = Vec::new();
    for (class, is_wanted) in [
        (OutcomeClass::Ok, selection.ok),
        (OutcomeClass::Failed, selection.failed),
        (OutcomeClass::Cancelled, selection.cancelled),
    ] {
        if is_wanted {
            ranges.extend(state.set(class).iter().map(|range| (range, true)));
        }
    }
    if all || args.unfinished {
        ranges.extend(state.unfinished(run.reader.tasks()).into_iter().map(|range| (range, false)));
    }
    ranges.sort_unstable();
    (selection, ranges)
}

#[cfg(test)]
mod tests {
    use super::super::dir::testing::{open, outcome, run_with, written};
    use super::*;
    use crate::task::Status;
    use serde_json::{Value, json};

    fn show(args: Args) -> Vec<String> {
        let outcomes = [
            outcome(3, Status::NotStarted("no such\nfile".into()), b"", b""),
            outcome(1, Status::Ok, b"not listed", b""),
            outcome(0, Status::Cancelled, b"", b""),
        ];
        let (_folder, dir) = run_with(5, &outcomes);
        let (text, status) = written(|out| write(&open(&dir), &args, out));
        assert_eq!(status, EXIT_OK);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn every_task_has_one_object_in_task_order() {
        let rows: Vec<Value> =
            show(Args { json: true, ..Args::default() }).iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        let statuses: Vec<&Value> = rows.iter().map(|row| &row["status"]).collect();
        assert_eq!(statuses, ["cancelled", "ok", "unfinished", "not-started: no such\nfile", "unfinished"]);
        assert_eq!(
            rows[1],
            json!({"index": 1, "line": null, "status": "ok", "attempts": 2, "start": "2026-11-21T09:42:11.250000Z",
                   "seconds": 1.5, "node": "n1", "rank": 3, "command": "true"})
        );
        assert_eq!(rows[2]["attempts"], Value::Null);
    }

    #[test]
    fn filters_add_up() {
        let index = |line: &String| line.split('\t').next().unwrap().to_owned();
        let tsv = |args: Args| show(Args { tsv: true, ..args }).iter().skip(1).map(index).collect::<Vec<_>>();
        assert_eq!(tsv(Args { failed: true, ..Args::default() }), ["3"]);
        assert_eq!(tsv(Args { ok: true, unfinished: true, ..Args::default() }), ["1", "2", "4"]);
        assert_eq!(tsv(Args { cancelled: true, ..Args::default() }), ["0"]);
    }

    #[test]
    fn a_status_with_a_line_break_stays_on_its_line() {
        let table = show(Args::default());
        assert_eq!(table.len(), 6);
        assert!(table[0].contains("INDEX") && table[4].contains("not-started: no such file"));
        assert!(table[0].ends_with(" COMMAND") && table[4].ends_with("  n1    true"), "{table:?}");
    }
}
