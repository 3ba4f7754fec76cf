//! The child's end of a link: the report in the making, and when it is due.

use super::Micros;
use super::message::{Report, Unstarted, Up};

/// The child's end of a link.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// The link's epoch; 0 before the first welcome.
    pub(super) epoch: u32,
    /// News that the parent has not heard.
    pub(super) report: Report,
    pace_us: u64,
    last_us: Micros,
    /// Cores of work held when last supplied or reported: at half of it the parent should know.
    mark: u64,
    /// The parent waits for this report.
    urgent: bool,
    /// More waits than the parent can know: what had been counted as running does not run yet.
    stirred: bool,
    /// Hand-outs seen under this epoch.
    hands: u32,
}

impl Uplink {
    /// Begins a new epoch: what was to be told under the old one is forgotten.
    pub(super) fn open(&mut self, now: Micros, epoch: u32, pace_us: u64) {
        *self = Self { epoch, pace_us, last_us: now, ..Self::default() };
    }

    /// More waits than the parent can know: it may want it.
    pub(super) fn stir(&mut self) {
        self.stirred = true;
    }

    /// A hand-out came.
    pub(super) fn handed(&mut self) {
        self.hands = self.hands.wrapping_add(1);
    }

    /// There may be more work; so many cores of it are held now.
    pub(super) fn supplied(&mut self, held_cores: u64) {
        self.mark = self.mark.max(held_cores);
    }

    /// The next report must not wait.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// When the report is due: at once when all work is gone or the parent waits for it, soon when cores are idle or
    /// half of the work is gone, else at the pace.
    fn due_at(&self, held_cores: u64, idle_cores: u64) -> Micros {
        if self.urgent || held_cores == 0 {
            0
        } else if idle_cores > 0 || held_cores * 2 <= self.mark {
            self.last_us + self.pace_us / 8
        } else {
            self.last_us + self.pace_us
        }
    }

    /// When to look again, if there is anything to tell.
    pub(super) fn next_tick(&self, held_cores: u64, idle_cores: u64) -> Option<Micros> {
        (self.epoch > 0 && (self.stirred || self.report.has_news())).then(|| self.due_at(held_cores, idle_cores))
    }

    /// The report, if it is due. `unstarted` and the others describe the child's state now.
    pub(super) fn take(&mut self, now: Micros, held_cores: u64, idle_cores: u64, unstarted: Unstarted) -> Option<Up> {
        if self.next_tick(held_cores, idle_cores).is_none_or(|due| now < due) {
            return None;
        }
        let mut report = std::mem::take(&mut self.report);
        report.join_runs();
        report.unstarted = unstarted;
        report.hands = self.hands;
        self.last_us = now;
        self.mark = held_cores;
        (self.urgent, self.stirred) = (false, false);
        Some(Up::Report { epoch: self.epoch, report })
    }
}
