//! `myriarch stop`: asks a run to end early, so that it can be resumed. Works from any host that sees its folder.

use super::EXIT_OK;
use super::dir::DirArg;
use super::status::{Report, Standing};
use crate::ledger::{RunDir, StopRequest};
use std::time::Duration;

/// How often a run is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Ask a run to stop: no new tasks, running ones get their grace time; it can be resumed
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArg,
    /// Give running tasks no grace time, as a second request does
    #[arg(long)]
    now: bool,
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
    // Who asks again does not want to wait.
    let is_second = dir.stop_requested().is_some();
    let request = if args.now || is_second { StopRequest::Now } else { StopRequest::WithGrace };
    dir.request_stop(request, &format!("myriarch stop, process {}", std::process::id()))?;
    eprintln!("myriarch: {}", said(&dir.path().display().to_string(), request, is_second));
    if args.wait { wait(&dir) } else { Ok(EXIT_OK) }
}

fn said(dir: &str, request: StopRequest, is_second: bool) -> String {
    match (request, is_second) {
        (StopRequest::WithGrace, _) => {
            format!("asked {dir} to stop; running tasks get their grace time (ask again to give them no more)")
        }
        (StopRequest::Now, false) => format!("asked {dir} to stop; running tasks get no more time"),
        (StopRequest::Now, true) => format!("asked {dir} again to stop: running tasks get no more time"),
    }
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

    fn stop(dir: &RunDir, wait: bool, now: bool) -> i32 {
        main(Args { dir: DirArg { dir: Some(dir.path().to_owned()) }, now, wait }).unwrap()
    }

    #[test]
    fn a_running_run_is_asked_and_waited_for_and_an_ended_one_is_left_alone() {
        let (_folder, dir) = run_with(3, &[]);
        assert_eq!(stop(&dir, true, false), EXIT_UNFINISHED);
        assert_eq!(dir.stop_requested(), None, "the next start is not to be stopped");
        let owner = Owner::acquire(&dir).unwrap();
        assert_eq!(stop(&dir, false, false), EXIT_OK);
        assert_eq!(dir.stop_requested(), Some(StopRequest::WithGrace));
        dir.begin().unwrap();
        assert_eq!(dir.stop_requested(), None);
        let status = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| stop(&dir, true, false));
            crate::ledger::eventually_for_tests("asked", || dir.stop_requested().is_some());
            drop(owner);
            waiting.join().unwrap()
        });
        assert_eq!(status, EXIT_UNFINISHED);
    }

    #[test]
    fn who_asks_twice_or_says_now_asks_for_no_grace() {
        let (_folder, dir) = run_with(3, &[]);
        let _owner = Owner::acquire(&dir).unwrap();
        stop(&dir, false, true);
        assert_eq!(dir.stop_requested(), Some(StopRequest::Now));
        dir.begin().unwrap();
        stop(&dir, false, false);
        assert_eq!(dir.stop_requested(), Some(StopRequest::WithGrace));
        stop(&dir, false, false);
        assert_eq!(dir.stop_requested(), Some(StopRequest::Now));
        stop(&dir, false, false);
        assert_eq!(dir.stop_requested(), Some(StopRequest::Now), "a third changes nothing");
    }

    #[test]
    fn the_message_says_whether_it_was_the_second_request() {
        assert!(said("d", StopRequest::WithGrace, false).contains("grace time"));
        assert!(said("d", StopRequest::Now, true).contains("again"));
        assert!(!said("d", StopRequest::Now, false).contains("again"));
    }
}
