//! `myriarch output`: what the tasks of a run printed, byte for byte, in task order.

use super::dir::{DirArg, Labels, OpenRun, print};
use super::{EXIT_FAILED, EXIT_OK, EXIT_UNFINISHED};
use crate::ledger::{Outcomes, Selection, Streams};
use crate::observe::text::{of, write_stream};
use crate::task::{Captured, Outcome, RangeSet};
use serde::Serialize;
use std::io::Write;

/// Print what the tasks printed, in task order
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArg,
    /// Only the task with this index, or those from FIRST-LAST; may be given several times. In a session BUNDLE:INDEX
    #[arg(long, value_name = "INDEX|FIRST-LAST", conflicts_with = "failed")]
    task: Vec<Labels>,
    /// Standard error instead of standard output
    #[arg(long, conflicts_with = "json")]
    stderr: bool,
    /// Only of tasks that failed
    #[arg(long)]
    failed: bool,
    /// One JSON object per task with both streams; `stdout_base64` where it is not UTF-8
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn main(mut args: Args) -> anyhow::Result<i32> {
    let run = std::mem::take(&mut args.dir).open()?;
    print(|out| write(&run, &args, out))
}

fn write(run: &OpenRun, args: &Args, out: &mut dyn Write) -> anyhow::Result<i32> {
    let streams = match (args.json, args.stderr) {
        (true, _) => Streams::BOTH,
        (false, true) => Streams::STDERR,
        (false, false) => Streams::STDOUT,
    };
    let mut shown = Shown::default();
    if args.task.is_empty() {
        let selection = if args.failed { Selection::FAILED } else { Selection::ALL };
        shown.show(run, args, run.reader.outcomes(selection, streams), out)?;
    } else {
        let mut asked = asked_for(run, &args.task)?;
        for range in asked.iter() {
            shown.show(run, args, run.reader.outcomes_within(range, Selection::ALL, streams), out)?;
        }
        run.reader.state().ended.iter().for_each(|range| asked.remove(range));
        if let Some(first) = asked.iter().next() {
            let others = match asked.len() {
                1 => " has".to_owned(),
                n => format!(" and {} have", of(n - 1, "other task")),
            };
            shown.tell();
            eprintln!("myriarch: {}{others} not ended yet", run.names.describe(first.start));
            return Ok(EXIT_UNFINISHED);
        }
    }
    shown.tell();
    Ok(if shown.unreadable > 0 { EXIT_FAILED } else { EXIT_OK })
}

/// The positions of the tasks that are asked for, each once.
fn asked_for(run: &OpenRun, labels: &[Labels]) -> anyhow::Result<RangeSet> {
    let mut asked = RangeSet::new();
    for labels in labels {
        run.names.positions(*labels)?.into_iter().for_each(|range| asked.insert(range));
    }
    Ok(asked)
}

/// What was shown, as far as something is to be said of it.
#[derive(Default)]
struct Shown {
    /// Streams of which a part is missing.
    cut: u64,
    /// Tasks of which nothing can be read.
    unreadable: u64,
}

impl Shown {
    fn show(&mut self, run: &OpenRun, args: &Args, outcomes: Outcomes<'_>, out: &mut dyn Write) -> anyhow::Result<()> {
        for outcome in outcomes {
            match outcome {
                Ok(outcome) if args.json => {
                    serde_json::to_writer(&mut *out, &Row::new(run, &outcome))?;
                    out.write_all(b"\n")?;
                }
                Ok(outcome) => {
                    let stream = if args.stderr { &outcome.stderr } else { &outcome.stdout };
                    write_stream(stream, out)?;
                    self.cut += u64::from(stream.dropped > 0);
                }
                Err(e) => {
                    if self.unreadable == 0 {
                        eprintln!("myriarch: {e}");
                    }
                    self.unreadable += 1;
                }
            }
        }
        Ok(())
    }

    fn tell(&self) {
        if self.cut > 0 {
            eprintln!(
                "myriarch: of {} only head and tail were kept (run --max-output); a line says where",
                of(self.cut, "stream")
            );
        }
        if self.unreadable > 0 {
            eprintln!("myriarch: the outcomes of {} cannot be read", of(self.unreadable, "task"));
        }
    }
}

#[derive(Serialize)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<u64>,
    index: u64,
    line: Option<u64>,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_head_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_dropped_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_head_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_dropped_bytes: Option<u64>,
}

impl<'a> Row<'a> {
    fn new(run: &OpenRun, outcome: &'a Outcome) -> Self {
        let text = |stream: &'a Captured| std::str::from_utf8(&stream.bytes).ok();
        let other = |stream: &'a Captured| text(stream).is_none().then(|| base64(&stream.bytes));
        let cut = |stream: &Captured, n: u64| (stream.dropped > 0).then_some(n);
        let Outcome { stdout, stderr, .. } = outcome;
        Row {
            bundle: run.names.bundle(outcome.index),
            index: run.names.index(outcome.index),
            line: run.names.line(outcome.index),
            status: outcome.status.to_string(),
            stdout: text(stdout),
            stdout_base64: other(stdout),
            stdout_head_bytes: cut(stdout, stdout.head),
            stdout_dropped_bytes: cut(stdout, stdout.dropped),
            stderr: text(stderr),
            stderr_base64: other(stderr),
            stderr_head_bytes: cut(stderr, stderr.head),
            stderr_dropped_bytes: cut(stderr, stderr.dropped),
        }
    }
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::dir::testing::{open, outcome, run_with, written};
    use super::*;
    use crate::task::Status;
    use serde_json::{Value, json};

    fn show(run: &OpenRun, args: Args) -> (String, i32) {
        written(|out| write(run, &args, out))
    }

    #[test]
    fn outputs_come_in_task_order_however_the_tasks_ended() {
        let outcomes = [
            outcome(2, Status::Ok, b"two\n", b""),
            outcome(0, Status::Exit(1), b"zero", b"bad\n"),
            outcome(1, Status::Ok, b"", b"warning\n"),
        ];
        let (_folder, dir) = run_with(5, &outcomes);
        let run = open(&dir);
        assert_eq!(show(&run, Args::default()), ("zerotwo\n".into(), EXIT_OK));
        assert_eq!(show(&run, Args { stderr: true, ..Args::default() }).0, "bad\nwarning\n");
        assert_eq!(show(&run, Args { failed: true, ..Args::default() }).0, "zero");
    }

    #[test]
    fn tasks_and_ranges_of_them_can_be_asked_for_and_come_once_each_in_task_order() {
        let outcomes: Vec<Outcome> =
            [3, 0, 2, 1].map(|i| outcome(i, Status::Ok, format!("{i}\n").as_bytes(), b"")).into();
        let (_folder, dir) = run_with(6, &outcomes);
        let run = open(&dir);
        let asked = |labels: &[&str]| {
            let task = labels.iter().map(|text| text.parse().unwrap()).collect();
            let mut out = Vec::new();
            let status = write(&run, &Args { task, ..Args::default() }, &mut out);
            (String::from_utf8(out).unwrap(), status.map_err(|e| e.to_string()))
        };
        assert_eq!(asked(&["2"]), ("2\n".into(), Ok(EXIT_OK)));
        assert_eq!(asked(&["3", "0-1", "1-1"]), ("0\n1\n3\n".into(), Ok(EXIT_OK)));
        assert_eq!(asked(&["2-5"]), ("2\n3\n".into(), Ok(EXIT_UNFINISHED)));
        assert_eq!(asked(&["4"]), (String::new(), Ok(EXIT_UNFINISHED)));
        assert_eq!(asked(&["2-6"]).1, Err("there is no task 6: the tasks are 0 to 5".into()));
    }

    #[test]
    fn what_is_no_index_and_no_range_is_told() {
        assert_eq!("7".parse(), Ok(Labels { bundle: None, first: 7, last: 7 }));
        assert_eq!("7-9".parse(), Ok(Labels { bundle: None, first: 7, last: 9 }));
        assert_eq!("2:7-9".parse(), Ok(Labels { bundle: Some(2), first: 7, last: 9 }));
        for (text, why) in [
            ("9-7", "9 is larger than 7"),
            ("1,2", "give --task once for each"),
            ("", "no index such as 7"),
            ("3-", "no range such as 7-9"),
            ("-3", "no range such as 7-9"),
            ("x", "no index such as 7"),
            ("x:7", "no number of a bundle"),
            ("2:", "no index such as 7"),
            ("99999999999999999999", "no index such as 7"),
        ] {
            let error = text.parse::<Labels>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn where_a_stream_was_cut_a_line_of_its_own_says_so() {
        let shown = |bytes: &[u8], head: u64, dropped: u64| {
            let mut out = Vec::new();
            write_stream(&Captured { bytes: bytes.to_vec(), head, dropped }, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(shown(b"headtail", 8, 0), "headtail");
        assert_eq!(shown(b"headtail", 4, 3_793), "head\n[myriarch: 3,793 bytes left out]\ntail");
        assert_eq!(shown(b"head\ntail\n", 5, 1), "head\n[myriarch: 1 byte left out]\ntail\n");
        assert_eq!(shown(b"tail", 0, 1), "[myriarch: 1 byte left out]\ntail");
    }

    #[test]
    fn json_keeps_bytes_that_are_no_text_and_says_where_a_stream_was_cut() {
        let mut long = outcome(1, Status::Ok, b"headtail", b"");
        (long.stdout.head, long.stdout.dropped) = (4, 100);
        let (_folder, dir) = run_with(2, &[outcome(0, Status::Signal(9), b"\xff\xfe", "ü\n".as_bytes()), long]);
        let (text, _) = show(&open(&dir), Args { json: true, ..Args::default() });
        let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let places =
            ["index", "line", "status", "stdout_base64", "stderr"].map(|key| text.find(&format!("\"{key}\":")));
        assert!(places.is_sorted() && places[0].is_some(), "standard output comes first: {text}");
        let first = json!({"index": 0, "line": null, "status": "signal:9", "stdout_base64": "//4=", "stderr": "ü\n"});
        assert_eq!(rows[0], first);
        assert_eq!((&rows[1]["stdout_head_bytes"], &rows[1]["stdout_dropped_bytes"]), (&json!(4), &json!(100)));
    }

    #[test]
    fn an_outcome_that_cannot_be_read_does_not_hide_the_others() {
        let (_folder, dir) = run_with(2, &[outcome(0, Status::Ok, b"x", b"")]);
        let segment = dir.segments().join("00/00000000.seg");
        let mut bytes = std::fs::read(&segment).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        assert_eq!(show(&open(&dir), Args::default()), (String::new(), EXIT_FAILED));
    }
}
