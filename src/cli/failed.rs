//! `myriarch failed`: what went wrong, grouped, then task by task.

use super::EXIT_OK;
use super::dir::{DirArg, OpenRun, one_line, print};
use crate::ledger::{Selection, Streams, last_line, write_failed_to};
use crate::task::{FailureDigest, FailureGroup, Outcome};
use std::io::Write;

/// Tasks listed without `--all`.
const LISTED: u64 = 20;

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
        let (task, label, line) = (|p| names.task_json(p), |p| names.label(p), |p| names.line(p));
        write_failed_to(out, &run.reader, task, label, line)?;
        return Ok(EXIT_OK);
    }
    let counts = run.reader.counts();
    writeln!(out, "{} of {} tasks failed", counts.failed, run.reader.tasks())?;
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
        writeln!(out, "… and {} more (--all lists them)", counts.failed - listed)?;
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
    for outcome in run.reader.outcomes(Selection::FAILED, Streams::STDERR) {
        match outcome {
            Ok(outcome) => digest.add(FailureGroup {
                status: outcome.status.to_string(),
                last_line: last_line(&outcome.stderr.bytes),
                count: 1,
                example: outcome.index,
                node: outcome.node,
            }),
            Err(_) => digest.others += 1,
        }
    }
    // The largest first; a stable sort keeps the order of appearance among equals.
    digest.groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    for group in &digest.groups {
        let (status, last) = (one_line(&group.status), one_line(&group.last_line));
        let example = run.names.describe(group.example);
        let node = run.reader.node_name(group.node);
        writeln!(out, "{:>10}  {status:<12} {last}  (as {example} on {node})", group.count)?;
    }
    if digest.others > 0 {
        writeln!(out, "{:>10}  in other ways, or not readable", digest.others)?;
    }
    Ok(())
}

fn write_task(run: &OpenRun, outcome: &Outcome, out: &mut dyn Write) -> anyhow::Result<()> {
    let who = run.names.describe(outcome.index);
    let node = run.reader.node_name(outcome.node);
    let seconds = outcome.duration_us as f64 / 1e6;
    let attempts =
        if outcome.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", outcome.attempts) };
    let (status, last) = (one_line(&outcome.status.to_string()), one_line(&last_line(&outcome.stderr.bytes)));
    writeln!(out, "{who}: {status} after {seconds:.3} s on {node}, {attempts}  {last}")?;
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
        assert_eq!(lines[1].trim_start(), "20  exit:127     sh: x: not found  (as task 2 on n1)");
        assert_eq!(lines[2].trim_start(), "10  signal:9     killed  (as task 1 on n1)");
        assert_eq!(lines[4], "task 1: signal:9 after 1.500 s on n1, 2 attempts  killed");
        assert!(text.contains("… and 10 more"));
        let (all, _) = written(|out| write(&open(&dir), &Args { all: true, ..Args::default() }, out));
        assert_eq!(all.lines().filter(|l| l.starts_with("task ")).count(), 30);
        let (json, _) = written(|out| write(&open(&dir), &Args { json: true, ..Args::default() }, out));
        assert_eq!(json.lines().count(), 30);
    }

    #[test]
    fn a_run_without_failures_says_so_in_one_line() {
        let (_folder, dir) = run_with(1, &[outcome(0, Status::Ok, b"", b"")]);
        let (text, status) = written(|out| write(&open(&dir), &Args::default(), out));
        assert_eq!((text.as_str(), status), ("0 of 1 tasks failed\n", EXIT_OK));
    }
}
