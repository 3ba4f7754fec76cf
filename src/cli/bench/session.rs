//! Sessions for benchmarks: ranks of the launcher's, or threads of this process.

use crate::cli::{EXIT_OK, EXIT_UNFINISHED, EXIT_USAGE};
use crate::drive::{self, DriveError, Entered, RankReport, Session, SessionSettings};
use crate::fabric::{self, Fabric, ThreadFabric};
use std::collections::BTreeMap;

/// What rank 0 does with its session.
pub(super) type Play<'a> = &'a (dyn Fn(&Session) -> anyhow::Result<()> + Sync);

/// Brings the ranks together and lets rank 0 play. `ranks`: threads of this process, where no launcher started it.
pub(super) fn with_session(ranks: Option<u32>, settings: &SessionSettings, play: Play<'_>) -> anyhow::Result<i32> {
    // Asked before MPI binds anything.
    let report = RankReport::of_this_process();
    if fabric::under_launcher() {
        launched(ranks, &report, settings, play)
    } else {
        alone(ranks.unwrap_or(2), &report, settings, play)
    }
}

#[cfg(feature = "mpi")]
fn launched(
    ranks: Option<u32>,
    report: &RankReport,
    settings: &SessionSettings,
    play: Play<'_>,
) -> anyhow::Result<i32> {
    if ranks.is_some() && fabric::is_first_of_launch() {
        anyhow::bail!("--ranks makes ranks of threads; under a launcher its processes are the ranks");
    } else if ranks.is_some() {
        return Ok(EXIT_OK);
    }
    match fabric::MpiFabric::start() {
        Ok(fabric) => Ok(take_part(Box::new(fabric), report, settings, play)),
        Err(error) => super::refused(&error),
    }
}

#[cfg(not(feature = "mpi"))]
fn launched(
    ranks: Option<u32>,
    report: &RankReport,
    settings: &SessionSettings,
    play: Play<'_>,
) -> anyhow::Result<i32> {
    match fabric::refuse_launcher() {
        Ok(()) => alone(ranks.unwrap_or(2), report, settings, play),
        Err(error) => super::refused(&error),
    }
}

fn alone(ranks: u32, report: &RankReport, settings: &SessionSettings, play: Play<'_>) -> anyhow::Result<i32> {
    let mut fabrics = ThreadFabric::group(ranks.max(1))?;
    let first = fabrics.remove(0);
    Ok(std::thread::scope(|scope| {
        for fabric in fabrics {
            scope.spawn(move || take_part(Box::new(fabric), report, settings, play));
        }
        take_part(Box::new(first), report, settings, play)
    }))
}

fn take_part(fabric: Box<dyn Fabric>, report: &RankReport, settings: &SessionSettings, play: Play<'_>) -> i32 {
    let is_manager = fabric.rank() == crate::task::Rank::MANAGER;
    let session = match drive::enter(fabric, None, report, BTreeMap::new(), settings) {
        Ok(Entered::Manager(session)) => session,
        Ok(Entered::Left) => return EXIT_OK,
        Err(DriveError::Unfit(why)) => {
            if is_manager {
                eprintln!("myriarch: {why}");
            }
            return EXIT_USAGE;
        }
        Err(error) => fail(&error),
    };
    let played = play(&session);
    if let Err(error) = session.finish(false) {
        fail(&error);
    }
    match played {
        Ok(()) => EXIT_OK,
        Err(error) => {
            eprintln!("myriarch: {error:#}");
            EXIT_UNFINISHED
        }
    }
}

/// A rank cannot go on, and the others would wait for it.
fn fail(error: &dyn std::fmt::Display) -> ! {
    eprintln!("myriarch: {error}");
    fabric::leave(EXIT_UNFINISHED)
}
