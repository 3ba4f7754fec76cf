//! What lies in a folder of results already: which sections are kept, which are measured, and what is in the way. Measures
//! nothing.

use crate::measurement::{Machine, Options, Record};
use crate::options::RunOptions;
use crate::sections::Section;
use anyhow::{Result, bail};
use std::path::Path;

/// The sections that are asked for.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Those whose figures are there, made with the same options on the same machine.
    pub kept: Vec<Section>,
    /// Those to be measured.
    pub missing: Vec<Section>,
}

/// Decides about a folder that is there. What a quick look has left is replaced; figures that were made in another way are
/// never mixed with those of now, nor replaced unasked: an error says what is in the way.
pub fn plan(folder: &Path, options: &RunOptions, here: &Machine) -> Result<Plan> {
    let wanted = options.sections();
    let anew: Vec<&str> = wanted.iter().filter(|_| options.again).map(|section| section.name()).collect();
    let records = Record::read_but(folder, &anew)?;
    let (mut plan, mut in_the_way) = (Plan::default(), Vec::new());
    for section in wanted {
        let name = section.name();
        let now = section.options(options)?;
        match records.iter().find(|record| record.section == name) {
            None => plan.missing.push(section),
            Some(record) if record.is_quick() && !options.quick => plan.missing.push(section),
            Some(record) => match &record.options {
                None => in_the_way.push(format!("{name}.json does not say with which options it was made")),
                Some(then) if *then != now => {
                    in_the_way.push(format!("{name}.json was made with other options: {}", differences(then, &now)));
                }
                Some(_) => plan.kept.push(section),
            },
        }
    }
    let is_left = |record: &&Record| plan.missing.iter().all(|section| section.name() != record.section);
    let elsewhere = |record: &&Record| record.section != Section::Simulated.name() && !same(&record.machine, here);
    for record in records.iter().filter(is_left).filter(elsewhere) {
        let (there, here) = (told(&record.machine), told(here));
        in_the_way.push(format!("{}.json was measured on another machine: {there}; this one: {here}", record.section));
    }
    if !in_the_way.is_empty() {
        let folder = folder.display();
        in_the_way.push(format!(
            "nothing was measured: --out names another folder, --again replaces in {folder} what is asked for"
        ));
        bail!("{}", in_the_way.join("\n  "));
    }
    Ok(plan)
}

/// Figures of both can stand side by side.
fn same(one: &Machine, other: &Machine) -> bool {
    (&one.kind, one.cores, &one.cpu) == (&other.kind, other.cores, &other.cpu)
}

fn told(machine: &Machine) -> String {
    let cores = if machine.cores == 1 { "core" } else { "cores" };
    format!("{}, {} {cores} of {}", machine.kind, machine.cores, machine.cpu)
}

/// Each option that differs, as it was and as it is.
fn differences(then: &Options, now: &Options) -> String {
    let mut names: Vec<&String> = then.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let said = |options: &Options, name: &String| match options.get(name).map(String::as_str) {
        None => format!("no --{name}"),
        Some("yes") => format!("--{name}"),
        Some(value) => format!("--{name} {value}"),
    };
    let differs = names.into_iter().filter(|&name| then.get(name) != now.get(name));
    differs.map(|name| format!("{}, now {}", said(then, name), said(now, name))).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Cli;
    use clap::Parser;

    fn options(line: &str) -> RunOptions {
        Cli::parse_from(format!("scaling-tests {line}").split_whitespace()).run
    }

    fn here() -> Machine {
        Machine { kind: "2-core-vm".into(), cores: 2, cpu: "a processor".into(), ..Machine::default() }
    }

    /// A folder with a section that was made in this way.
    fn folder_with(section: Section, line: &str, machine: Machine) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let made = Some(section.options(&options(line)).unwrap());
        let record = Record { section: section.name().into(), machine, options: made, ..Record::default() };
        record.write(folder.path()).unwrap();
        folder
    }

    fn refusal(folder: &Path, line: &str) -> String {
        format!("{:#}", plan(folder, &options(line), &here()).expect_err(line))
    }

    #[test]
    fn a_section_is_kept_where_it_was_made_in_the_same_way() {
        let folder = folder_with(Section::Weak, "", here());
        let plan = |line: &str| plan(folder.path(), &options(line), &here()).unwrap();
        let both = plan("--only weak strong");
        assert_eq!((both.kept, both.missing), (vec![Section::Weak], vec![Section::Strong]));
        assert_eq!(plan("--only weak --seconds 3").kept, [Section::Weak], "that is no matter of weak scaling");
        assert_eq!(plan("--only weak --rounds 9 --again").missing, [Section::Weak]);
    }

    #[test]
    fn a_section_of_other_options_is_in_the_way() {
        let folder = folder_with(Section::Weak, "", here());
        let said = refusal(folder.path(), "--only weak --rounds 9 --workers 1,2");
        assert!(said.contains("weak.json was made with other options: --rounds 3, now --rounds 9; "), "{said}");
        assert!(said.contains("--workers 1,2,4,8,16, now --workers 1,2\n") && said.contains("--again"), "{said}");
        let said = refusal(folder.path(), "--only weak --quick");
        assert!(said.contains("no --quick, now --quick"), "{said}");
        let folder = folder_with(Section::Simulated, "--full", here());
        let said = refusal(folder.path(), "--only simulated");
        assert!(said.contains("simulated.json was made with other options: --full, now no --full\n"), "{said}");
    }

    #[test]
    fn a_quick_look_is_replaced_by_a_real_run_and_kept_by_another_look() {
        let folder = folder_with(Section::Weak, "--quick", here());
        let plan = |line: &str| plan(folder.path(), &options(line), &here()).unwrap();
        assert_eq!(plan("--only weak").missing, [Section::Weak]);
        assert_eq!(plan("--only weak --quick").kept, [Section::Weak]);
    }

    #[test]
    fn figures_of_two_machines_do_not_get_into_one_folder() {
        let folder = folder_with(Section::Weak, "", Machine { cores: 64, ..here() });
        for line in ["--only weak", "--only strong", "--only strong --again"] {
            let said = refusal(folder.path(), line);
            let expected =
                "weak.json was measured on another machine: 2-core-vm, 64 cores of a processor; this one: 2-core-vm, 2";
            assert!(said.contains(expected), "{line}: {said}");
        }
        assert!(plan(folder.path(), &options("--only weak --again"), &here()).is_ok());
        let folder = folder_with(Section::Simulated, "", Machine { cores: 64, ..here() });
        assert!(
            plan(folder.path(), &options("--only simulated"), &here()).is_ok(),
            "a simulation is the same everywhere"
        );
    }

    #[test]
    fn what_does_not_say_its_options_and_what_cannot_be_read_are_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        Record { section: "weak".into(), machine: here(), ..Record::default() }.write(folder.path()).unwrap();
        let said = refusal(folder.path(), "--only weak");
        assert!(said.contains("weak.json does not say with which options"), "{said}");
        assert!(plan(folder.path(), &options("--only strong"), &here()).is_ok(), "it is not asked for");
        std::fs::write(folder.path().join("weak.json"), "{\"section\":").unwrap();
        for line in ["--only weak", "--only strong"] {
            let said = refusal(folder.path(), line);
            assert!(said.contains("weak.json is broken, or not of this program"), "{line}: {said}");
        }
        assert_eq!(plan(folder.path(), &options("--only weak --again"), &here()).unwrap().missing, [Section::Weak]);
    }
}
