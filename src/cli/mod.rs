//! The command line: one file per sub-command. Loose arguments become one checked value before anything runs.

pub mod bench;
pub mod dir;
pub mod doctor;
pub mod failed;
pub mod output;
pub mod run;
pub mod simulate;
pub mod status;
pub mod stop;
pub mod tasks;

use crate::fabric;
use crate::task::without_error_numbers;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Exit status: all tasks ended well.
pub const EXIT_OK: i32 = 0;
/// Exit status: some task failed.
pub const EXIT_FAILED: i32 = 1;
/// Exit status: bad usage or bad input; nothing ran.
pub const EXIT_USAGE: i32 = 2;
/// Exit status: tasks are left; the run can be resumed.
pub const EXIT_UNFINISHED: i32 = 3;

/// Myriarch: an MPI-native executor for millions of short tasks.
///
/// One program, started by mpiexec, srun or aprun inside a batch job, or by itself: rank 0 hands out tasks, all ranks
/// run them, and every outcome is kept.
#[derive(Debug, Parser)]
#[command(name = "myriarch", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs tasks: a list of commands, an array, lines, a grid or a table
    Run(Box<run::RunArgs>),
    /// Shows how far a run is, or how it ended, and exits with its status
    Status(status::Args),
    /// Lists the tasks of a run: how each ended, when, where
    Tasks(tasks::Args),
    /// Shows which tasks failed, grouped by how
    Failed(failed::Args),
    /// Prints what tasks printed
    Output(output::Args),
    /// Asks a run to stop: running tasks get their grace time, the rest can be resumed
    ///
    /// Running tasks may go on for the --grace of the run; what runs then gets SIGTERM, and SIGKILL 5 s later. A second
    /// request ends the grace at once.
    Stop(stop::Args),
    /// Shows what this machine, its MPI and its file system can and cannot do
    Doctor(doctor::Args),
    /// Measures parts of Myriarch on this machine
    Bench(bench::Args),
    /// Runs the scheduler on a virtual machine of any size
    Simulate(simulate::Args),
}

/// Parses the command line of this process, runs it and returns the exit status.
pub fn main() -> i32 {
    let matches = Cli::command().try_get_matches();
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Every rank of a launch has the same command line; one of them says what is wrong with it.
            if fabric::is_first_of_launch() {
                let _ = error.print();
                return if error.use_stderr() { EXIT_USAGE } else { EXIT_OK };
            }
            return EXIT_OK;
        }
    };
    let done = match cli.command {
        Command::Run(mut args) => {
            if let Some((_, matches)) = matches.subcommand() {
                args.note_said(matches);
            }
            return run::main(*args);
        }
        Command::Doctor(args) => doctor::main(args),
        Command::Bench(args) => bench::main(args),
        Command::Simulate(args) => simulate::main(&args),
        Command::Status(args) => status::main(args),
        Command::Tasks(args) => tasks::main(args),
        Command::Failed(args) => failed::main(args),
        Command::Output(args) => output::main(args),
        Command::Stop(args) => stop::main(args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("myriarch: {}", in_one_line(&error));
        EXIT_USAGE
    })
}

/// The error with its causes; a cause that the text before names already is not said again.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match without_error_numbers(&cause.to_string()) {
        cause if text.is_empty() => cause,
        cause if text.contains(&cause) => text,
        cause => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Input, Source, TemplateOptions, write_bundle};

    #[test]
    fn a_cause_is_said_once_and_without_its_number() {
        let missing = Source::Lines(Input::File(b"none.txt".to_vec()));
        let folder = tempfile::tempdir().unwrap();
        let error = write_bundle(&missing, &TemplateOptions::default(), &folder.path().join("bundle")).unwrap_err();
        assert_eq!(in_one_line(&error.into()), "none.txt: No such file or directory");
        let error = anyhow::Error::from(std::io::Error::from_raw_os_error(libc::EISDIR)).context("cannot read it");
        assert_eq!(in_one_line(&error), "cannot read it: Is a directory");
    }
}
