//! Before a run is gone on with: ranks that outlived rank 0 of the last start end by themselves after a while, and until then
//! tasks that they run would run twice at the same time.

use super::plan::{RankReport, Shared};
use crate::execute::SLOT_PATIENCE;
use crate::fabric::{Launcher, LossSurvival, launcher, loss_survival};
use crate::ledger::{LaunchRecord, Orphans, Owner, OwnerError, RunDir};
use crate::observe::text::whole;
use crate::schedule::Watch;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it looks whether it still has to wait.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Tasks of a rank that ends are killed, and have died within this where they do not hang in the kernel.
const DYING: Duration = SLOT_PATIENCE.saturating_add(Duration::from_secs(1));

/// What the next start has to know of these ranks.
pub(super) fn launch_record(reports: &[RankReport], shared: &Shared) -> LaunchRecord {
    let is_ended_with_others = launcher() == Launcher::None || matches!(loss_survival(), LossSurvival::Ends(_));
    let after =
        |patience: Duration| DYING + Duration::from_micros(Watch::orphans_end_within_us(patience.as_micros() as u64));
    let first = &reports[0];
    let processes: Option<Vec<_>> =
        reports.iter().map(|report| report.processes_in(&first.host.boot_id, &first.pid_namespace)).collect();
    let may_outlive_rank_0 = reports.len() > 1 && !is_ended_with_others;
    // A rank 0 that may say nothing for long is not missed in a time that one could wait for.
    let patience = shared.lost_after.filter(|_| shared.silent_manager.is_none());
    let ended = if may_outlive_rank_0 { patience.map(after) } else { Some(DYING) };
    LaunchRecord {
        generation: shared.generation,
        may_outlive_rank_0,
        orphans_end_after_s: ended.map(|after| after.as_secs_f64()),
        processes: processes.into_iter().flatten().flatten().collect(),
    }
}

/// Why a start does not go on.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// Someone asked it to stop.
    #[error("{} was asked to stop while it waited: nothing ran", .0.display())]
    AskedToStop(PathBuf),
    /// The folder is another start's by now.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// Waits until no rank of an earlier start can be there any more, and has it said; `now` only warns. To be called by the owner, when
/// requests to stop the last start were taken away. What the ranks have told by then can be loaded afterwards.
///
/// # Errors
/// Meanwhile someone asked it to stop, or took the folder.
pub fn wait_for_orphans(dir: &RunDir, owner: &Owner, now: bool, say: impl Fn(&str)) -> Result<(), WaitError> {
    let launch = LaunchRecord::read(dir).unwrap_or_else(|error| {
        say(&format!("{error}; nothing is known of the ranks of the last start"));
        None
    });
    let Some(launch) = launch else { return Ok(()) };
    let Some(silent) = owner.silence_of(launch.generation)? else { return Ok(()) };
    let orphans = launch.orphans(silent, launch.live());
    let Some(notice) = notice(orphans, silent, now) else { return Ok(()) };
    say(&notice);
    let Orphans::EndWithin(rest) = orphans else { return Ok(()) };
    let until = Instant::now() + rest;
    while !now && Instant::now() < until && launch.live() != Some(false) {
        owner.check()?;
        if dir.stop_requested().is_some() {
            return Err(WaitError::AskedToStop(dir.path().to_owned()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

fn notice(orphans: Orphans, silent: Duration, now: bool) -> Option<String> {
    match orphans {
        Orphans::Gone => None,
        Orphans::Stay => Some(
            "other ranks of the last start may still run tasks: they do not end by themselves (--lost-after 0), or only after \
             long (a session for whose rank 0 nobody talks); make sure that they are gone"
                .to_owned(),
        ),
        Orphans::EndWithin(rest) => {
            let (silent, rest) = (whole(silent), whole(rest));
            let was_there = format!("rank 0 of the last start was there {silent} ago; what is left of it");
            Some(match now {
                false => format!("{was_there} ends within {rest}: waiting (--resume-now does not wait)"),
                true => format!("{was_there} may go on for {rest}, and tasks may run twice at the same time"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::ProcessIdentity;

    /// A folder whose last start died just now, with a rank that is this process.
    fn died(orphans_end_after_s: f64) -> (tempfile::TempDir, RunDir, Owner) {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(folder.path())).unwrap();
        drop(Owner::acquire(&dir).unwrap());
        let owner = Owner::acquire(&dir).unwrap();
        // The first never gave the folder back.
        let record = std::fs::read_to_string(dir.owner(1)).unwrap();
        std::fs::write(dir.owner(1), record.replace("\"released\":true", "\"released\":false")).unwrap();
        let launch = LaunchRecord {
            generation: 1,
            may_outlive_rank_0: true,
            orphans_end_after_s: Some(orphans_end_after_s),
            processes: vec![ProcessIdentity::of_this_process()],
        };
        launch.write(&dir).unwrap();
        (folder, dir, owner)
    }

    fn waited(dir: &RunDir, owner: &Owner, now: bool) -> (Result<(), WaitError>, Duration) {
        let began = Instant::now();
        (wait_for_orphans(dir, owner, now, |_| ()), began.elapsed())
    }

    #[test]
    fn it_waits_as_long_as_ranks_may_be_there_unless_it_is_told_not_to() {
        let (_folder, dir, owner) = died(1.0);
        assert!(waited(&dir, &owner, true).1 < Duration::from_millis(900));
        let (result, time) = waited(&dir, &owner, false);
        assert!(result.is_ok() && time > Duration::from_millis(500), "{time:?}");
    }

    #[test]
    fn a_request_to_stop_ends_the_wait() {
        let (_folder, dir, owner) = died(3600.0);
        dir.request_stop(crate::ledger::StopRequest::WithGrace, "for a test").unwrap();
        assert!(matches!(waited(&dir, &owner, false).0, Err(WaitError::AskedToStop(_))));
    }

    #[test]
    fn a_start_that_gave_the_folder_back_or_is_not_known_is_not_waited_for() {
        let (_folder, dir, owner) = died(3600.0);
        let record = std::fs::read_to_string(dir.owner(1)).unwrap();
        std::fs::write(dir.owner(1), record.replace("\"released\":false", "\"released\":true")).unwrap();
        assert!(waited(&dir, &owner, false).0.is_ok());
        std::fs::write(dir.launch(), "").unwrap();
        assert!(waited(&dir, &owner, false).0.is_ok());
        std::fs::remove_file(dir.launch()).unwrap();
        assert!(waited(&dir, &owner, false).0.is_ok());
    }

    #[test]
    fn what_is_said_names_both_times_and_the_option() {
        let said = |orphans, now| notice(orphans, Duration::from_secs(3), now).unwrap_or_default();
        let rest = Orphans::EndWithin(Duration::from_secs(40));
        let waiting = "was there 3 s ago; what is left of it ends within 40 s: waiting (--resume-now does not wait)";
        assert!(said(rest, false).ends_with(waiting));
        assert!(said(rest, true).contains("may go on for 40 s"));
        assert!(said(Orphans::Stay, false).contains("--lost-after 0"));
        assert_eq!(said(Orphans::Gone, false), "");
    }
}
