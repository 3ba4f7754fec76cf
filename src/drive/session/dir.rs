//! Opening the DIR of a session, on rank 0, before any rank is told of the plan.

use super::SessionSettings;
use crate::drive::orphans::{launch_record, wait_for_orphans};
use crate::drive::plan::{RankReport, Shared};
use crate::fabric::{Fabric, launcher};
use crate::ledger::{Loaded, Owner, RunDir, RunDirError, SessionInfo, load};
use crate::observe::text::one_line;
use std::path::Path;

/// The DIR of a session that is about to start.
pub(in crate::drive) struct SessionDir {
    pub(in crate::drive) dir: RunDir,
    pub(in crate::drive) owner: Owner,
    pub(in crate::drive) loaded: Loaded,
    /// Nothing was there.
    pub(in crate::drive) is_new: bool,
}

impl SessionDir {
    /// Opens the DIR that the settings name, or makes it; none where they name none.
    ///
    /// # Errors
    /// Why the session cannot be kept there.
    pub(in crate::drive) fn open(settings: &SessionSettings, fabric: &dyn Fabric) -> Result<Option<Self>, String> {
        let Some(path) = &settings.dir else {
            let asks = settings.resume || settings.retry_failed;
            return if asks {
                Err("`resume` and `retry_failed` are for a session with a DIR, and none is given".to_owned())
            } else {
                Ok(None)
            };
        };
        // The program may go elsewhere.
        let path = &std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let is_new = !RunDir::holds_run(path);
        let dir = if is_new { RunDir::create(Some(path)) } else { opened(path, settings.resume)? };
        let dir = dir.map_err(|error| error.to_string())?;
        // What another one has taken meanwhile is not to be discarded.
        let owner = Owner::acquire(&dir).map_err(|error| error.to_string())?;
        match Self::begin(dir.clone(), owner, is_new, fabric) {
            Err(why) if is_new => {
                let _ = dir.discard();
                Err(why)
            }
            begun => begun.map(Some),
        }
    }

    /// What every rank is told of it.
    ///
    /// # Errors
    /// What the next start has to know of these ranks cannot be written.
    pub(in crate::drive) fn plan(
        &self,
        shared: &mut Shared,
        settings: &SessionSettings,
        ranks: &[RankReport],
    ) -> Result<(), String> {
        let reopens = settings.retry_failed && !self.loaded.state.failed.is_empty();
        shared.dir = self.dir.path().to_owned();
        shared.generation = self.owner.generation();
        shared.round = self.loaded.state.round + u32::from(reopens);
        shared.first_segment = self.loaded.next_segment;
        shared.sync = settings.sync;
        launch_record(ranks, shared).write(&self.dir).map_err(|error| error.to_string())
    }

    fn begin(dir: RunDir, owner: Owner, is_new: bool, fabric: &dyn Fabric) -> Result<Self, String> {
        dir.begin().map_err(|error| error.to_string())?;
        let at = dir.path().display();
        wait_for_orphans(&dir, &owner, false, |notice| tracing::warn!("{at}: {notice}"))
            .map_err(|error| error.to_string())?;
        let loaded = load(&dir).map_err(|error| error.to_string())?;
        loaded.notes().iter().for_each(|note| tracing::warn!("{}: {note}", dir.path().display()));
        let program = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let known = SessionInfo { launch: launcher().prefix(fabric.size()), program };
        known.write(&dir).map_err(|error| error.to_string())?;
        Ok(Self { dir, owner, loaded, is_new })
    }
}

/// A folder in which something was begun.
fn opened(path: &Path, resume: bool) -> Result<Result<RunDir, RunDirError>, String> {
    let shown = one_line(&path.display().to_string());
    if !resume {
        return Err(format!(
            "{shown} holds a session already: go on with it by the option `resume`, or give another DIR"
        ));
    }
    let dir = RunDir::open(path);
    match &dir {
        Ok(dir) if !dir.is_session() && dir.bundle().exists() => {
            Err(format!("{shown} holds a run of the command, no session: go on with it with `myriarch run --resume`"))
        }
        _ => Ok(dir),
    }
}
