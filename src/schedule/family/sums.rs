//! What a parent adds up over its children, kept as they change, so that a message that leads to nothing costs it the same
//! however many there are.

use super::Child;
use crate::schedule::message::{Amount, Unstarted};
use std::ops::{AddAssign, SubAssign};

/// What one child, or all together, have and hold, as far as the parent knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Work that they hold and have not ended.
    pub(super) left: Amount,
    /// Work that they have ended and will tell of later.
    pub(super) untold: Amount,
    /// Tasks that have failed for good and of which they will tell later.
    pub(super) failed_untold: u64,
    /// Work that they hold and have not started.
    pub(super) unstarted: Unstarted,
    /// Cores and GPUs without work; cores of those children that have some; GPUs beside idle cores.
    pub(super) idle_cores: u64,
    pub(super) idle_gpus: u64,
    pub(super) cores_of_idle: u64,
    pub(super) gpus_of_idle: u64,
    /// Cores asked back, while the answers are out.
    pub(super) asked: u64,
    /// Children with no more work than their slots run at once.
    pub(super) without_reserve: u64,
    /// Children that are suspected: see `benching.rs`.
    pub(super) suspects: u64,
}

impl Sums {
    /// What this child counts for.
    pub(super) fn of(child: &Child) -> Self {
        let left = child.left();
        let cores = child.cores();
        // What a suspect may have is a trial: nothing is taken from others for it, and no report hurries.
        let is_trusted = child.conduct.is_trusted();
        let (idle_cores, idle_gpus) = if is_trusted { (child.idle_cores(), child.idle_gpus()) } else { (0, 0) };
        let is_idle = u64::from(idle_cores > 0);
        Sums {
            left,
            untold: child.untold,
            failed_untold: child.failed_untold,
            unstarted: child.unstarted(),
            idle_cores,
            idle_gpus,
            cores_of_idle: cores * is_idle,
            gpus_of_idle: idle_gpus * is_idle,
            asked: child.recall.unwrap_or(0),
            without_reserve: u64::from(is_trusted && cores > 0 && left.cores <= cores),
            suspects: u64::from(child.conduct.is_suspect()),
        }
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, more: Sums) {
        self.left += more.left;
        self.untold += more.untold;
        self.failed_untold = self.failed_untold.saturating_add(more.failed_untold);
        self.unstarted.cores += more.unstarted.cores;
        self.unstarted.gpu_cores += more.unstarted.gpu_cores;
        self.idle_cores += more.idle_cores;
        self.idle_gpus += more.idle_gpus;
        self.cores_of_idle += more.cores_of_idle;
        self.gpus_of_idle += more.gpus_of_idle;
        self.asked += more.asked;
        self.without_reserve += more.without_reserve;
        self.suspects += more.suspects;
    }
}

impl SubAssign for Sums {
    fn sub_assign(&mut self, less: Sums) {
        self.left -= less.left;
        self.untold -= less.untold;
        self.failed_untold -= less.failed_untold;
        self.unstarted.cores -= less.unstarted.cores;
        self.unstarted.gpu_cores -= less.unstarted.gpu_cores;
        self.idle_cores -= less.idle_cores;
        self.idle_gpus -= less.idle_gpus;
        self.cores_of_idle -= less.cores_of_idle;
        self.gpus_of_idle -= less.gpus_of_idle;
        self.asked -= less.asked;
        self.without_reserve -= less.without_reserve;
        self.suspects -= less.suspects;
    }
}
