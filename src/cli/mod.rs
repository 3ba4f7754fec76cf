//! The command line: one file per sub-command. Loose arguments become one checked value before anything runs.

pub mod dir;
pub mod doctor;
pub mod failed;
pub mod output;
pub mod run;
pub mod status;
pub mod stop;
pub mod tasks;

use clap::{Parser, Subcommand};

/// Exit status: all tasks ended well.
pub const EXIT_OK: i32 = 0;
/// Exit status: some task failed.
pub const EXIT_FAILED: i32 = 1;
/// Exit status: bad usage or bad input; nothing ran.
pub const EXIT_USAGE: i32 = 2;
/// Exit status: tasks are left; the run can be resumed.
pub const EXIT_UNFINISHED: i32 = 3;

/// Myriarch: an MPI-native executor for millions of short tasks.
#[derive(Debug, Parser)]
#[command(name = "myriarch", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {}

/// Parses the command line of this process, runs it and returns the exit status.
pub fn main() -> i32 {
    let _ = Cli::parse().command;
    EXIT_USAGE
}
