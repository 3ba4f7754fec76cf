//! `myriarch stop`: asks a run to end early, so that it can be resumed. Works from any host that sees its folder.

use super::EXIT_OK;
use super::dir::DirArg;
use super::status::{Report, Standing};
use crate::ledger::RunDir;
use std::time::Duration;

/// How often a run is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Ask a run to stop: no new tasks, running ones get their grace time; it can be resumed
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArg,
    /// Wait until it has stopped, and end with the run's exit status
    #[arg(long)]
    wait: bool,
}

/// Runs the command.
pub fn main(args: Args) -> anyhow::Result<i32> {
    let dir = args.dir.find()?;
    let report = Report::read(&dir)?;
    if report.state != Standing::Running {
        // A request would stop the next start.
        eprintln!("myriarch: nothing runs in {}", dir.path().display());
        return Ok(if args.wait { report.exit_status() } else { EXIT_OK });
    }
    dir.request_stop(&format!("myriarch stop, process {}", std::process::id()))?;
    eprintln!("myriarch: asked {} to stop; running tasks get their grace time", dir.path().display());
    if args.wait { wait(&dir) } else { Ok(EXIT_OK) }
}

fn wait(dir: &RunDir) -> anyhow::Result<i32> {
    loop {
        let report = Report::read(dir)?;
        if report.state != Standing::Running {
            return Ok(report.exit_status());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::super::EXIT_UNFINISHED;
    use super::super::dir::testing::run_with;
    use super::*;
    use crate::ledger::Owner;

    fn stop(dir: &RunDir, wait: bool) -> i32 {
        main(Args { dir: DirArg { dir: Some(dir.path().to_owned()) }, wait }).unwrap()
    }

    #[test]
    fn a_running_run_is_asked_and_waited_for_and_an_ended_one_is_left_alone() {
        let (_folder, dir) = run_with(3, &[]);
        assert_eq!(stop(&dir, true), EXIT_UNFINISHED);
        assert!(!dir.stop_requested(), "the next start is not to be stopped");
        let owner = Owner::acquire(&dir).unwrap();
        assert_eq!(stop(&dir, false), EXIT_OK);
        assert!(dir.stop_requested());
        dir.begin().unwrap();
        assert!(!dir.stop_requested());
        let status = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stop(&dir, true));
            crate::ledger::eventually_for_tests("asked", || dir.stop_requested());
            drop(owner);
            waiting.join().unwrap()
        });
        assert_eq!(status, EXIT_UNFINISHED);
    }
}
