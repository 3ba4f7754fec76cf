//! `myriarch output`: what the tasks of a run printed, byte for byte, in task order.

use super::dir::{DirArg, OpenRun, print};
use super::{EXIT_FAILED, EXIT_OK, EXIT_UNFINISHED};
use crate::ledger::{Selection, Streams};
use crate::task::{Captured, Outcome};
use serde_json::{Map, Value, json};
use std::io::Write;

/// Print what the tasks printed, in task order
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArg,
    /// Only the task with this index
    #[arg(long, value_name = "INDEX", conflicts_with = "failed")]
    task: Option<u64>,
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
    let mut cut = 0;
    let mut unreadable = 0;
    let mut put = |outcome: &Outcome, out: &mut dyn Write| -> anyhow::Result<()> {
        let stream = if args.stderr { &outcome.stderr } else { &outcome.stdout };
        if args.json {
            serde_json::to_writer(&mut *out, &object(run, outcome))?;
            out.write_all(b"\n")?;
        } else {
            out.write_all(&stream.bytes)?;
            cut += u64::from(stream.dropped > 0);
        }
        Ok(())
    };
    if let Some(label) = args.task {
        let position = run.names.position(label)?;
        let Some(outcome) = run.reader.outcome(position)? else {
            eprintln!("myriarch: {} has not ended yet", run.names.describe(position));
            return Ok(EXIT_UNFINISHED);
        };
        put(&outcome, out)?;
    } else {
        let selection = if args.failed { Selection::FAILED } else { Selection::ALL };
        let streams = match (args.json, args.stderr) {
            (true, _) => Streams::BOTH,
            (false, true) => Streams::STDERR,
            (false, false) => Streams::STDOUT,
        };
        for outcome in run.reader.outcomes(selection, streams) {
            match outcome {
                Ok(outcome) => put(&outcome, out)?,
                Err(e) => {
                    if unreadable == 0 {
                        eprintln!("myriarch: {e}");
                    }
                    unreadable += 1;
                }
            }
        }
    }
    if cut > 0 {
        eprintln!("myriarch: of {cut} streams only head and tail were kept (run --max-output); --json shows where");
    }
    if unreadable > 0 {
        eprintln!("myriarch: the outcomes of {unreadable} tasks cannot be read");
        return Ok(EXIT_FAILED);
    }
    Ok(EXIT_OK)
}

fn object(run: &OpenRun, outcome: &Outcome) -> Value {
    let mut object = Map::new();
    object.insert("index".into(), json!(run.names.label(outcome.index)));
    object.insert("line".into(), json!(run.names.line(outcome.index)));
    object.insert("status".into(), json!(outcome.status.to_string()));
    insert(&mut object, "stdout", &outcome.stdout);
    insert(&mut object, "stderr", &outcome.stderr);
    Value::Object(object)
}

fn insert(object: &mut Map<String, Value>, name: &str, stream: &Captured) {
    match std::str::from_utf8(&stream.bytes) {
        Ok(text) => object.insert(name.into(), json!(text)),
        Err(_) => object.insert(format!("{name}_base64"), json!(base64(&stream.bytes))),
    };
    if stream.dropped > 0 {
        object.insert(format!("{name}_head_bytes"), json!(stream.head));
        object.insert(format!("{name}_dropped_bytes"), json!(stream.dropped));
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
        assert_eq!(show(&run, Args { task: Some(2), ..Args::default() }).0, "two\n");
        assert_eq!(show(&run, Args { task: Some(4), ..Args::default() }), (String::new(), EXIT_UNFINISHED));
        let beyond = write(&run, &Args { task: Some(5), ..Args::default() }, &mut Vec::new());
        assert_eq!(beyond.unwrap_err().to_string(), "there is no task 5: the tasks are 0 to 4");
    }

    #[test]
    fn json_keeps_bytes_that_are_no_text_and_says_where_a_stream_was_cut() {
        let mut long = outcome(1, Status::Ok, b"headtail", b"");
        (long.stdout.head, long.stdout.dropped) = (4, 100);
        let (_folder, dir) = run_with(2, &[outcome(0, Status::Signal(9), b"\xff\xfe", "ü\n".as_bytes()), long]);
        let (text, _) = show(&open(&dir), Args { json: true, ..Args::default() });
        let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
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
