//! The figures as a page of Markdown.

use crate::bench::length;
use crate::chart::grouped;
use crate::figures::Picture;
use crate::measurement::{Figure, Measurement, Origin, Record, published};
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
         the machine below. *Simulated*: by `myriarch simulate`, the scheduler itself in virtual time. *Published*: by others, on \
         other machines; the source stands in `scaling-tests/published.json`.\n\n",
    );
    machine(&mut page, records);
    for picture in pictures {
        writeln!(page, "\n![{}]({}.png)", picture.title, picture.name).expect("a string takes all");
    }
    let all: Vec<Measurement> =
        records.iter().flat_map(|record| record.measurements.clone()).chain(published()).collect();
    for (figure, title, unit) in FIGURES {
        let mut of: Vec<&Measurement> = all.iter().filter(|m| m.figure == figure).collect();
        of.sort_by_key(|m| m.origin);
        if of.iter().any(|m| m.origin != Origin::Published) {
            table(&mut page, title, unit, &of);
        }
    }
    left_out(&mut page, records);
    page
}

fn machine(page: &mut String, records: &[Record]) {
    let Some(first) = records.first() else { return };
    let machine = &first.machine;
    writeln!(page, "{} cores of {}, {} GiB, {}.\n", machine.cores, machine.cpu, machine.memory_gib, machine.system)
        .expect("a string takes all");
    page.push_str("| section | date (UTC) | took | load before, after (1 min) | launcher | revision | what |\n|---|---|---|---|---|---|---|\n");
    for record in records {
        let load = |load: &[f64]| load.first().map_or("?".to_owned(), |load| format!("{load:.1}"));
        writeln!(
            page,
            "| {} | {} | {:.0} s | {}, {} | {} | {} | {} |",
            record.section,
            record.date,
            record.seconds,
            load(&record.load_before),
            load(&record.load_after),
            record.machine.launcher,
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

fn table(page: &mut String, title: &str, unit: &str, measurements: &[&Measurement]) {
    writeln!(page, "\n## {title}\n").expect("a string takes all");
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

const COLUMNS: [Column; 11] = [
    Column { name: "origin", text: |m| m.origin.name().to_owned() },
    Column { name: "system", text: |m| m.system.clone() },
    Column { name: "machine", text: |m| m.machine.clone() },
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
];

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
            "| published | Parsl EXEX | Blue Waters | 8,192 | 262,144 | 2,621,440 | 0 | 6,300 |",
            "- parallel: needs root",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        let header = page.lines().find(|line| line.contains("| seconds |")).unwrap();
        assert!(!header.contains("granularity"), "{header}");
    }

    #[test]
    fn a_section_without_figures_of_ours_has_no_table() {
        let page = render(&[Record::default()], &[]);
        assert!(!page.contains("## "), "{page}");
    }
}
