//! `myriarch failed`: what went wrong, grouped, then task by task.

use super::EXIT_OK;
use super::dir::{DirArg, OpenRun, print};
use crate::ledger::{Selection, Streams, last_line, write_failed_to};
use crate::observe::text::{count, of, one_line};
use crate::task::{FailureDigest, FailureGroup, Outcome};
use std::io::Write;

/// Tasks listed without `--all`.
const LISTED: u64 = 20;
/// Characters shown of a task's command.
const COMMAND_CHARS: usize = 60;

/// Show which tasks failed, and how
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArg,
    /// List every failed task, however many there are
    #[arg(long)]
    all: bool,
    /// One JSON object per failed task, as in failed.jsonl
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn main(mut args: Args) -> anyhow::Result<i32> {
    let run = std::mem::take(&mut args.dir).open()?;
    print(|out| write(&run, &args, out))
}

fn write(run: &OpenRun, args: &Args, out: &mut dyn Write) -> anyhow::Result<i32> {
    let names = &run.names;
    if args.json {
        let (task, label, line) = (|p| names.task_json(p), |p| names.index(p), |p| names.line(p));
        write_failed_to(out, &run.reader, task, label, line)?;
        return Ok(EXIT_OK);
    }
    let counts = run.reader.counts();
    writeln!(out, "{} of {} failed", count(counts.failed), of(run.reader.tasks(), "task"))?;
    if counts.failed == 0 {
        return Ok(EXIT_OK);
    }
    write_groups(run, out)?;
    writeln!(out)?;
    let listed = if args.all { counts.failed } else { LISTED };
    let failed = run.reader.outcomes(Selection::FAILED, Streams::STDERR);
    for outcome in failed.take(usize::try_from(listed).unwrap_or(usize::MAX)) {
        match outcome {
            Ok(outcome) => write_task(run, &outcome, out)?,
            Err(e) => writeln!(out, "{e}")?,
        }
    }
    if counts.failed > listed {
        writeln!(out, "… and {} more (--all lists them)", count(counts.failed - listed))?;
    }
    if let Some(first) = run.reader.state().failed.iter().next() {
        let label = names.label(first.start);
        writeln!(
            out,
            "\nAll of its error output: myriarch output --stderr --task {label} {}",
            run.dir.path().display()
        )?;
    }
    Ok(EXIT_OK)
}

fn write_groups(run: &OpenRun, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut digest = FailureDigest::default();
    let mut unreadable = 0u64;
    for outcome in run.reader.outcomes(Selection::FAILED, Streams::STDERR) {
        match outcome {
            Ok(outcome) => digest.add(FailureGroup {
                status: outcome.status.to_string(),
                last_line: last_line(&outcome.stderr.bytes),
                count: 1,
                example: outcome.index,
                node: outcome.node,
            }),
            Err(_) => unreadable += 1,
        }
    }
    // The largest first; a stable sort keeps the order of appearance among equals.
    digest.groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    for group in &digest.groups {
        let (status, last) = (one_line(&group.status), one_line(&group.last_line));
        let said = if last.is_empty() { String::new() } else { format!(" {last}") };
        let like = if group.count == 1 { "" } else { "such as " };
        let example = run.names.describe(group.example);
        let node = run.reader.node_name(group.node);
        writeln!(out, "{:>10}  {status:<12}{said}  [{like}{example} on {node}]", count(group.count))?;
    }
    if digest.others > 0 {
        writeln!(out, "{:>10}  in other ways", count(digest.others))?;
    }
    if unreadable > 0 {
        writeln!(out, "{:>10}  with outcomes that cannot be read", count(unreadable))?;
    }
    Ok(())
}

fn write_task(run: &OpenRun, outcome: &Outcome, out: &mut dyn Write) -> anyhow::Result<()> {
    let who = run.names.describe(outcome.index);
    let node = run.reader.node_name(outcome.node);
    let seconds = outcome.duration_us as f64 / 1e6;
    let attempts = of(outcome.attempts.into(), "attempt");
    let command = run.names.short_command(outcome.index, COMMAND_CHARS);
    let (status, last) = (one_line(&outcome.status.to_string()), one_line(&last_line(&outcome.stderr.bytes)));
    let said = if last.is_empty() { String::new() } else { format!(": {last}") };
    writeln!(out, "{who} [{command}]: {status} after {seconds:.3} s on {node}, {attempts}{said}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::dir::testing::{open, outcome, run_with, written};
    use super::*;
    use crate::task::Status;

    #[test]
    fn failures_are_grouped_by_status_and_last_line_and_listed_up_to_a_bound() {
        let outcomes: Vec<Outcome> = (0..40)
            .map(|i| match i % 4 {
                0 => outcome(i, Status::Ok, b"", b""),
                1 => outcome(i, Status::Signal(9), b"", b"one\nkilled\n"),
                _ => outcome(i, Status::Exit(127), b"", b"sh: x: not found\n"),
            })
            .collect();
        let (_folder, dir) = run_with(50, &outcomes);
        let (text, _) = written(|out| write(&open(&dir), &Args::default(), out));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "30 of 50 tasks failed");
        assert_eq!(lines[1].trim_start(), "20  exit:127     sh: x: not found  [such as task 2 on n1]");
        assert_eq!(lines[2].trim_start(), "10  signal:9     killed  [such as task 1 on n1]");
        assert_eq!(lines[4], "task 1 [true]: signal:9 after 1.500 s on n1, 2 attempts: killed");
        assert!(text.contains("… and 10 more"));
        let (all, _) = written(|out| write(&open(&dir), &Args { all: true, ..Args::default() }, out));
        assert_eq!(all.lines().filter(|l| l.starts_with("task ")).count(), 30);
        let (json, _) = written(|out| write(&open(&dir), &Args { json: true, ..Args::default() }, out));
        assert_eq!(json.lines().count(), 30);
    }

    #[test]
    fn lines_that_differ_in_numbers_are_one_group_and_no_line_ends_with_blanks() {
        let said = |i: u64| if i < 30 { format!("err in case {i}\n") } else { String::new() };
        let outcomes: Vec<Outcome> =
            (0..35).rev().map(|i| outcome(i, Status::Exit(1), b"", said(i).as_bytes())).collect();
        let (_folder, dir) = run_with(1_035, &outcomes);
        let (text, _) = written(|out| write(&open(&dir), &Args { all: true, ..Args::default() }, out));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "35 of 1,035 tasks failed");
        assert_eq!(lines[1].trim_start(), "30  exit:1       err in case 0  [such as task 0 on n1]");
        assert_eq!(lines[2].trim_start(), "5  exit:1        [such as task 30 on n1]");
        assert_eq!((lines[3], lines[39]), ("", ""), "no further group");
        assert!(lines[38].ends_with("2 attempts"), "{}", lines[38]);
        assert_eq!(lines.iter().find(|line| line.ends_with(' ')), None);
    }

    #[test]
    fn a_run_without_failures_says_so_in_one_line() {
        let (_folder, dir) = run_with(1, &[outcome(0, Status::Ok, b"", b"")]);
        let (text, status) = written(|out| write(&open(&dir), &Args::default(), out));
        assert_eq!((text.as_str(), status), ("0 of 1 task failed\n", EXIT_OK));
    }
}
