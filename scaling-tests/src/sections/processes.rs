//! Processes of /bin/true, beside what the machine can start at all: bare loops of posix_spawn and waitpid.

use super::Section;
use crate::bench::Bench;
use crate::measurement::{Figure, Measurement, Origin, Record};
use anyhow::{Context, Result};
use serde_json::json;

/// How long it takes, roughly.
pub fn about_seconds(bench: &Bench) -> f64 {
    bench.rounds() as f64 * if bench.options.quick { 3.0 } else { 9.0 }
}

/// What `myriarch bench spawn` prints: the rate of bare loops, and that of the executor of one rank.
fn read(stdout: &str) -> Result<(f64, f64)> {
    let rate = |line: &str| line.rsplit_once(':')?.1.split_whitespace().next()?.parse().ok();
    let find = |key: &str| {
        let line = stdout.lines().find(|line| line.contains(key));
        line.and_then(rate).with_context(|| format!("bench spawn did not say the rate of the {key}"))
    };
    Ok((find("of posix_spawn")?, find("executor")?))
}

/// Measures it.
pub fn measure(bench: &Bench) -> Result<Record> {
    let (tasks, seconds) = if bench.options.quick { (200, "0.2") } else { (5_000, "2") };
    let layout = bench.layout_of_cores();
    let slots = layout.ranks.to_string();
    let array = format!("0-{}", tasks - 1);
    let spawn = bench.alone(&["bench", "spawn", "--slots", &slots, "--seconds", seconds]);
    let run = bench.run_command(layout, &["--array", &array, "--", "/bin/true"]);
    let about = "Processes of /bin/true on a slot for each core, in alternating rounds with bare loops of posix_spawn and \
                 waitpid on as many cores (the ceiling) and with the executor of a single rank.";
    bench.record(Section::Processes, about, |record| {
        let (mut bare, mut executor, mut rates, mut whole) = (vec![], vec![], vec![], vec![]);
        for _ in 0..bench.rounds() {
            let (of_bare, of_executor) = read(&bench.runner.run(&spawn)?.stdout)?;
            bare.push(of_bare);
            executor.push(of_executor);
            let ran = bench.run(&run, tasks)?;
            rates.push(tasks as f64 / ran.seconds);
            whole.push(ran.whole_seconds);
            let text = format!("bare loops {of_bare:.0} /s, myriarch run {:.0} /s", tasks as f64 / ran.seconds);
            bench.say(Section::Processes, &text);
        }
        let mut add = |system: &str, rounds: Vec<f64>, timed: &str, command: &[String]| {
            let mut measurement = Measurement::new(Figure::Processes, Origin::Measured, system, rounds);
            measurement.workers = Some(layout.ranks);
            measurement.nodes = Some(1);
            measurement.timed = timed.to_owned();
            measurement.command = bench.shown(command);
            record.measurements.push(measurement);
        };
        add("bare loops (ceiling)", bare, "a loop of posix_spawn and waitpid", &spawn);
        add("Myriarch, executor of a rank", executor, "first start to last end", &spawn);
        add("Myriarch", rates, crate::bench::TIMED_RUN, &run);
        let last = record.measurements.last_mut().context("it was just added")?;
        last.tasks = Some(tasks);
        last.raw = json!({ "whole_command_seconds": whole });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_rates_are_read() {
        let text = "2 bare loops of posix_spawn and waitpid of /bin/true: 1325 /s\n\
                    the executor of one rank with 2 slots: 1759 /s, 1.33 of the bare loops\n";
        assert_eq!(read(text).unwrap(), (1325.0, 1759.0));
        let one = "1 bare loop of posix_spawn and waitpid of /bin/true: 1325 /s\n\
                   the executor of one rank with 1 slot: 1759 /s, 1.33 of the bare loops\n";
        assert_eq!(read(one).unwrap(), (1325.0, 1759.0));
        assert!(read("2 bare loops of posix_spawn and waitpid of /bin/true: 1325 /s\n").is_err());
    }
}
