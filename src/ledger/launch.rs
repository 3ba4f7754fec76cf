//! `launch.json`: what the next start has to know of the ranks of this one. Where the launcher lets them, they outlive rank 0 and
//! go on for a while with tasks that had begun: a start meanwhile would run these a second time at the same time.

use super::dir::RunDir;
use super::error::LedgerError;
use super::host::ProcessIdentity;
use super::summary::{read_json, write_json};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::time::Duration;

/// The ranks of a start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// The start, by the generation of its owner.
    pub generation: u32,
    /// The others may go on when rank 0 dies: the launcher does not end them, or that is not known.
    pub may_outlive_rank_0: bool,
    /// They, and all that they run, have ended so long after its last word, seconds; none where they do not end by themselves.
    pub orphans_end_after_s: Option<f64>,
    /// All of theirs where they are on one host, those that end their tasks included; otherwise none.
    pub processes: Vec<ProcessIdentity>,
}

/// What may be left of a start whose rank 0 is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphans {
    /// Nothing.
    Gone,
    /// Ranks that end within this time.
    EndWithin(Duration),
    /// Ranks that do not end by themselves.
    Stay,
}

impl LaunchRecord {
    /// What may be left when rank 0 has been `silent` for so long. `live`: whether any of its processes does, where that can be
    /// seen.
    pub fn orphans(&self, silent: Duration, live: Option<bool>) -> Orphans {
        // What the launcher has ended may still end its tasks, where that can be seen.
        if live == Some(false) || (live.is_none() && !self.may_outlive_rank_0) {
            return Orphans::Gone;
        }
        let Some(after) = self.orphans_end_after_s else { return Orphans::Stay };
        let after = Duration::try_from_secs_f64(after).unwrap_or(Duration::ZERO);
        match after.saturating_sub(silent) {
            Duration::ZERO => Orphans::Gone,
            rest => Orphans::EndWithin(rest),
        }
    }

    /// Whether any of its processes lives; none where that cannot be seen from here.
    pub fn live(&self) -> Option<bool> {
        let live: Option<Vec<bool>> = self.processes.iter().map(ProcessIdentity::lives).collect();
        live.filter(|live| !live.is_empty()).map(|live| live.contains(&true))
    }

    /// Reads that of the last start that came as far as to hand out tasks; none where there was none.
    ///
    /// # Errors
    /// It cannot be read, or makes no sense.
    pub fn read(dir: &RunDir) -> Result<Option<Self>, LedgerError> {
        read_json(&dir.launch())
    }

    /// Writes it, synced: a dying node takes nothing with it. To be called before tasks are handed out; that there is such a
    /// file is durable with the journal, which comes later.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, dir: &RunDir) -> Result<(), LedgerError> {
        let path = dir.launch();
        write_json(&path, self)?;
        File::open(&path).and_then(|file| file.sync_all()).map_err(LedgerError::io("sync", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> LaunchRecord {
        LaunchRecord {
            generation: 3,
            may_outlive_rank_0: true,
            orphans_end_after_s: Some(97.5),
            processes: vec![ProcessIdentity::of_this_process()],
        }
    }

    #[test]
    fn orphans_are_waited_for_as_long_as_they_may_be_there() {
        let seconds = Duration::from_secs_f64;
        let orphans = |launch: &LaunchRecord, silent, live| launch.orphans(seconds(silent), live);
        let outlived = launch();
        for live in [None, Some(true)] {
            assert_eq!(orphans(&outlived, 0.0, live), Orphans::EndWithin(seconds(97.5)));
            assert_eq!(orphans(&outlived, 97.0, live), Orphans::EndWithin(seconds(0.5)));
            assert_eq!(orphans(&outlived, 97.5, live), Orphans::Gone);
            assert_eq!(orphans(&outlived, 1e6, live), Orphans::Gone);
        }
        assert_eq!(orphans(&outlived, 0.0, Some(false)), Orphans::Gone, "none lives");
        let for_ever = LaunchRecord { orphans_end_after_s: None, ..launch() };
        assert_eq!(orphans(&for_ever, 1e6, None), Orphans::Stay);
        assert_eq!(orphans(&for_ever, 0.0, Some(false)), Orphans::Gone);
        let ended = LaunchRecord { may_outlive_rank_0: false, ..launch() };
        assert_eq!(orphans(&ended, 0.0, None), Orphans::Gone, "the launcher has ended them");
        assert_eq!(orphans(&ended, 0.5, Some(true)), Orphans::EndWithin(seconds(97.0)), "not yet");
        let absurd = LaunchRecord { orphans_end_after_s: Some(f64::NAN), ..launch() };
        assert_eq!(orphans(&absurd, 0.0, None), Orphans::Gone);
    }

    #[test]
    fn whether_processes_live_is_known_of_this_host_alone() {
        let own = ProcessIdentity::of_this_process();
        let earlier = ProcessIdentity { pid_started: own.pid_started + 1, ..own.clone() };
        let elsewhere = ProcessIdentity { boot: "another".to_owned(), ..own.clone() };
        let live = |processes: &[&ProcessIdentity]| {
            LaunchRecord { processes: processes.iter().copied().cloned().collect(), ..launch() }.live()
        };
        assert_eq!(live(&[&earlier, &own]), Some(true));
        assert_eq!(live(&[&earlier, &earlier]), Some(false), "the number is another process's now");
        assert_eq!(live(&[&earlier, &elsewhere]), None);
        assert_eq!(live(&[]), None);
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(folder.path())).unwrap();
        assert_eq!(LaunchRecord::read(&dir).unwrap(), None);
        launch().write(&dir).unwrap();
        assert_eq!(LaunchRecord::read(&dir).unwrap(), Some(launch()));
    }
}
