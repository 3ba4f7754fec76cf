//! The figures as a page of Markdown.

use crate::bench::length;
use crate::chart::{counted, grouped};
use crate::figures::Picture;
use crate::measurement::{Figure, Machine, Measurement, Origin, Record, published};
use std::fmt::Write;

const FIGURES: [(Figure, &str, &str); 8] = [
    (Figure::Strong, "Strong scaling", "seconds"),
    (Figure::Weak, "Weak scaling", "seconds"),
    (Figure::Throughput, "Throughput", "tasks/s"),
    (Figure::Latency, "Latency of one task", "µs"),
    (Figure::Metg, "METG(50 %)", "µs"),
    (Figure::Efficiency, "Efficiency of short tasks", "efficiency"),
    (Figure::Processes, "Processes", "processes/s"),
    (Figure::Peers, "Several systems with the same tasks", "tasks/s"),
];

/// The whole page.
pub fn render(records: &[Record], pictures: &[Picture]) -> String {
    let mut page = String::from("# Figures\n\n");
    page.push_str(
        "Written by `scaling-tests` from the JSON files beside it, which hold every round, command and version. *Measured*: on \
         the machine below. *Simulated*: by `myriarch simulate`, the scheduler itself in virtual time, on the model that is named. \
         *Published*: by others, on other machines, as it stands there. *Derived from published*: what follows from a rate or from \
         logs that others published. The sources stand in `scaling-tests/published.json`.\n\n",
    );
    quick(&mut page, records);
    machine(&mut page, records);
    for picture in pictures {
        writeln!(page, "\n![{}]({}.png)", picture.title, picture.name).expect("a string takes all");
    }
    let all: Vec<Measurement> = records.iter().flat_map(Record::figures).chain(published()).collect();
    for (figure, title, unit) in FIGURES {
        let mut of: Vec<&Measurement> = all.iter().filter(|m| m.figure == figure).collect();
        of.sort_by_key(|m| m.origin);
        if of.iter().all(|m| m.origin.is_of_others()) {
            continue;
        }
        writeln!(page, "\n## {title}\n").expect("a string takes all");
        match matches!(figure, Figure::Latency | Figure::Metg | Figure::Efficiency) {
            true => tables_apart(&mut page, figure, unit, &of),
            false => table(&mut page, unit, &of),
        }
    }
    left_out(&mut page, records);
    page
}

/// Which figures mean little.
fn quick(page: &mut String, records: &[Record]) {
    let names: Vec<&str> = records.iter().filter(|r| r.is_quick()).map(|r| r.section.as_str()).collect();
    if !names.is_empty() {
        writeln!(page, "**Quick look, figures that mean little: {}.**\n", names.join(", "))
            .expect("a string takes all");
    }
}

fn machine(page: &mut String, records: &[Record]) {
    // Where simulations ran is no matter.
    let measured = records.iter().find(|record| record.section != "simulated");
    let Some(first) = measured.or(records.first()) else { return };
    let Machine { cores, cpu, memory_gib, system, .. } = &first.machine;
    writeln!(page, "{} of {cpu}, {memory_gib} GiB, {system}.\n", counted(*cores, "core")).expect("a string takes all");
    page.push_str(
        "| section | date (UTC) | took | load before, after (1 min) | launcher | options | revision | what |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for record in records {
        let load = |load: &[f64]| load.first().map_or("?".to_owned(), |load| format!("{load:.1}"));
        writeln!(
            page,
            "| {} | {} | {:.0} s | {}, {} | {} | {} | {} | {} |",
            record.section,
            record.date,
            record.seconds,
            load(&record.load_before),
            load(&record.load_after),
            record.machine.launcher,
            options(record),
            record.machine.revision,
            record.about
        )
        .expect("a string takes all");
    }
    let versions: Vec<String> =
        records.iter().flat_map(|record| &record.versions).map(|(name, version)| format!("{name} {version}")).collect();
    if !versions.is_empty() {
        writeln!(page, "\nOthers: {}.", versions.join(", ")).expect("a string takes all");
    }
}

/// As one would type them; the launcher stands beside them.
fn options(record: &Record) -> String {
    let Some(options) = &record.options else { return "not known".to_owned() };
    let word = |(name, value): (&String, &String)| match value.as_str() {
        "yes" => format!("--{name}"),
        value => format!("--{name} {value}"),
    };
    options.iter().filter(|(name, _)| *name != "launcher").map(word).collect::<Vec<_>>().join(" ")
}

/// A table for each origin, where they are of different things.
fn tables_apart(page: &mut String, figure: Figure, unit: &str, measurements: &[&Measurement]) {
    page.push_str(
        "What was measured, what was simulated and what others have are different things here; each has its table.\n",
    );
    for origin in [Origin::Measured, Origin::Simulated, Origin::Published, Origin::Derived] {
        let of: Vec<&Measurement> = measurements.iter().copied().filter(|m| m.origin == origin).collect();
        if !of.is_empty() {
            let name = origin.name();
            let title = name[..1].to_uppercase() + &name[1..];
            writeln!(page, "\n### {title}\n\n{}\n", what(figure, origin)).expect("a string takes all");
            table(page, unit, &of);
        }
    }
}

/// What a figure of [`tables_apart`] is.
fn what(figure: Figure, origin: Origin) -> &'static str {
    match (figure, origin) {
        (Figure::Latency, Origin::Measured) => {
            "Here: one task after the other, in a program that is at work already, outcomes in memory; the median. The clock is \
             named. Beside other systems Myriarch has a worker for each core, as they have; alone, one worker on another rank."
        }
        (Figure::Latency, Origin::Simulated) => {
            "On the model named: a whole run of a single task on two nodes of one rank each, from the first hand-out to its record \
             in a file. A run's beginning and its files are in it: no estimate of the measured median."
        }
        (Figure::Latency, _) => "On other machines: one task, submit to result.",
        (_, Origin::Measured) => {
            "Here: tasks that spin, in a session with a rank for each core, outcomes in memory, other work on the machine included."
        }
        (_, Origin::Simulated) => {
            "On the model named, with so many nodes and workers, a rank each: whole runs with outcomes in files, and nothing else \
             on the machine."
        }
        (_, _) => "On other machines: tasks without dependencies.",
    }
}

fn table(page: &mut String, unit: &str, measurements: &[&Measurement]) {
    // A column that says nothing is left out.
    let columns: Vec<Column> =
        COLUMNS.iter().copied().filter(|column| measurements.iter().any(|m| !(column.text)(m).is_empty())).collect();
    let names: Vec<&str> =
        columns.iter().map(|column| if column.name.is_empty() { unit } else { column.name }).collect();
    writeln!(page, "| {} |", names.join(" | ")).expect("a string takes all");
    writeln!(page, "|{}", "---|".repeat(names.len())).expect("a string takes all");
    for m in measurements {
        let cells: Vec<String> = columns.iter().map(|column| (column.text)(m)).collect();
        writeln!(page, "| {} |", cells.join(" | ")).expect("a string takes all");
    }
}

/// A column: its name (the unit where it is empty) and what stands in it.
#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    text: fn(&Measurement) -> String,
}

const COLUMNS: [Column; 12] = [
    Column { name: "origin", text: origin },
    Column { name: "system", text: |m| m.system.clone() },
    Column { name: "model or machine", text: |m| m.machine.clone() },
    Column { name: "nodes", text: |m| whole(m.nodes) },
    Column { name: "workers", text: |m| whole(m.workers) },
    Column { name: "tasks", text: |m| whole(m.tasks) },
    Column { name: "task", text: task },
    Column {
        name: "granularity", text: |m| m.granularity_us.map_or(String::new(), |us| format!("{} µs", number(us)))
    },
    Column { name: "", text: |m| number(m.value) },
    Column { name: "rounds, least to most", text: spread },
    Column { name: "of no overhead", text: of_ideal },
    Column { name: "clock", text: |m| if m.figure == Figure::Latency { m.timed.clone() } else { String::new() } },
];

fn origin(m: &Measurement) -> String {
    format!("{}{}", m.origin.name(), if m.quick { ", quick" } else { "" })
}

fn whole(number: Option<u64>) -> String {
    number.map_or(String::new(), |number| grouped(number as f64))
}

fn task(m: &Measurement) -> String {
    match (m.figure, m.task_us) {
        (Figure::Latency | Figure::Processes, _) | (_, None) => String::new(),
        (_, Some(us)) => length((us * 1e3).round() / 1e3),
    }
}

fn spread(m: &Measurement) -> String {
    if m.rounds.len() < 2 {
        return String::new();
    }
    let least = m.rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let most = m.rounds.iter().copied().fold(0.0, f64::max);
    format!("{}: {} to {}", m.rounds.len(), number(least), number(most))
}

/// Which part of the makespan full rounds of tasks without any overhead would take.
fn of_ideal(m: &Measurement) -> String {
    match (m.figure, m.ideal_seconds()) {
        (Figure::Strong | Figure::Weak, Some(ideal)) if ideal > 0.0 => format!("{:.1} %", 100.0 * ideal / m.value),
        _ => String::new(),
    }
}

/// Four digits, or all before the point.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => grouped(value),
        v if v == 0.0 || v >= 1.0 => trimmed(format!("{value:.3}")),
        v => trimmed(format!("{value:.*}", (3.0 - v.log10().floor()) as usize)),
    }
}

fn trimmed(text: String) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn left_out(page: &mut String, records: &[Record]) {
    let mut lines = records.iter().flat_map(|record| &record.left_out).peekable();
    if lines.peek().is_some() {
        page.push_str("\n## Left out\n\n");
    }
    for line in lines {
        writeln!(page, "- {}: {}", line.system, line.reason).expect("a string takes all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::LeftOut;

    #[test]
    fn numbers_keep_the_digits_that_say_something() {
        assert_eq!(
            [0.0, 0.00012378, 0.5, 12.3456, 1_234_567.8].map(number),
            ["0", "0.0001238", "0.5", "12.346", "1,234,568"]
        );
    }

    #[test]
    fn the_page_shows_every_figure_with_its_origin() {
        let mut record = crate::figures::tests::record();
        record.left_out.push(LeftOut { system: "parallel".into(), reason: "needs root".into() });
        let page = render(&[record], &[Picture { name: "weak", title: "Weak".into() }]);
        for line in [
            "![Weak](weak.png)",
            "## Strong scaling",
            "| measured | Myriarch |  |  | 2 | 200 | 10ms | 1.5 | 3: 1.35 to 1.65 | 66.7 % |",
            "| derived from published | Parsl EXEX | rate of a small cluster |  | 32 | 320 | 0 | 0.27 |",
            "| published | Parsl EXEX | Blue Waters | 8,192 | 262,144 | 2,621,440 | 0 | 6,300 |",
            "- parallel: needs root",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        let header = page.lines().find(|line| line.contains("| seconds |")).unwrap();
        assert!(!header.contains("granularity"), "{header}");
    }

    #[test]
    fn what_is_not_the_same_thing_has_tables_of_its_own() {
        let page = render(&[crate::figures::tests::record()], &[]);
        let (_, latency) = page.split_once("## Latency of one task").unwrap();
        let (measured, rest) = latency.split_once("### Simulated").unwrap();
        let (simulated, published) = rest.split_once("### Published").unwrap();
        assert!(measured.contains("### Measured") && measured.contains("| measured |"), "{measured}");
        assert!(!measured.contains("| simulated |") && !measured.contains("| published |"), "{measured}");
        assert!(simulated.contains("On the model named") && simulated.contains("| simulated | Myriarch | local |"));
        assert!(published.contains("| published | Parsl LLEX |"), "{published}");
        assert!(page.contains("### Derived from published\n\nOn other machines"), "{page}");
    }

    #[test]
    fn a_quick_look_is_called_so_at_the_top_and_in_each_row() {
        let mut record = crate::figures::tests::record();
        let unknown = render(std::slice::from_ref(&record), &[]);
        assert!(unknown.contains("| not known |") && !unknown.to_lowercase().contains("quick"), "{unknown}");
        record.options = Some([("quick", "yes"), ("rounds", "1")].map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        let page = render(&[record], &[]);
        assert!(page.contains("**Quick look, figures that mean little: strong.**"), "{page}");
        assert!(page.contains("| --quick --rounds 1 |"), "{page}");
        assert!(page.contains("| measured, quick | Myriarch |"), "{page}");
        assert!(!page.contains("| measured | Myriarch |") && page.contains("| published | Parsl EXEX |"), "{page}");
    }

    #[test]
    fn a_section_without_figures_of_ours_has_no_table() {
        let page = render(&[Record::default()], &[]);
        assert!(!page.contains("## "), "{page}");
    }
}
