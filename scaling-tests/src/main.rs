//! Runs Myriarch at growing scale on this machine and in its simulator, beside other systems, and keeps what came out: raw
//! JSON, a table and plots. It starts the program as users do, and links nothing of it.

mod bench;
mod chart;
mod figures;
mod kept;
mod launcher;
mod machine;
mod measurement;
mod options;
mod scene;
mod sections;
mod table;

use anyhow::{Context, Result, bail};
use bench::Bench;
use chart::counted;
use clap::Parser;
use kept::Plan;
use measurement::Record;
use options::{Cli, Command, RunOptions};
use sections::Section;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Plot { dir }) => draw(&dir),
        None => run(cli.run),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scaling-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what is asked for and not there yet; then draws all that is there.
fn run(options: RunOptions) -> Result<()> {
    if options.model.is_some() && !options.sections().contains(&Section::Simulated) {
        bail!("--model has no effect where nothing is simulated: name simulated beside the others, or leave it out");
    }
    let out = options.out_folder();
    std::fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    let Plan { kept, missing } = kept::plan(&out, &options, &machine::look(&options.machine_kind()))?;
    for section in kept {
        eprintln!("{}: kept as it is in {} (--again measures anew)", section.name(), out.display());
    }
    let mut failed = Vec::new();
    if !missing.is_empty() {
        let mut bench = Bench::new(options, &out)?;
        for section in &missing {
            section.check(&bench)?;
        }
        let seconds: f64 = missing.iter().map(|section| section.about_seconds(&bench)).sum();
        let names: Vec<&str> = missing.iter().map(|section| section.name()).collect();
        eprintln!("{}: about {} in all, into {}", names.join(", "), duration(seconds), out.display());
        for (index, section) in missing.into_iter().enumerate() {
            let count = format!("[{}/{}]", index + 1, names.len());
            let about = duration(section.about_seconds(&bench));
            eprintln!("{count} {}: {} (about {about})", section.name(), section.title());
            let start = Instant::now();
            match section.measure(&mut bench) {
                Ok(record) => {
                    record.write(&out)?;
                    let seconds = start.elapsed().as_secs_f64();
                    eprintln!(
                        "{count} {}: {} in {}",
                        section.name(),
                        counted(record.measurements.len() as u64, "figure"),
                        duration(seconds)
                    );
                }
                Err(error) => {
                    eprintln!("{count} {} failed: {error:#}", section.name());
                    failed.push(section.name());
                }
            }
        }
    }
    // Where all have failed there may be nothing to draw.
    if failed.is_empty() || !Record::read_but(&out, &[])?.is_empty() {
        draw(&out)?;
    }
    if !failed.is_empty() {
        bail!("no figures of {}; the others are in {}", failed.join(", "), out.display());
    }
    Ok(())
}

/// The table and the plots of what lies in a folder.
fn draw(folder: &Path) -> Result<()> {
    let records = Record::read_all(folder)?;
    let table = folder.join("README.md");
    let pictures = figures::draw_all(&records, folder)?;
    std::fs::write(&table, table::render(&records, &pictures))
        .with_context(|| format!("{} cannot be written", table.display()))?;
    let plots = counted(pictures.len() as u64, "plot");
    eprintln!("{} and {plots}, each as SVG and PNG", table.display());
    Ok(())
}

/// As people say it.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}
