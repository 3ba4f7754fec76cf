//! What must hold between any two events.

use super::account::Account;
use super::cluster::Cluster;
use super::ledger::Outcomes;
use super::roles::Machine;
use crate::schedule::Violation;
use crate::task::{EndedRun, OutcomeClass, Rank, Status};

/// Messages that may wait at a rank: some for each of all ranks, and what one that stalls may find.
const INBOX: usize = 5_000;

impl Machine {
    /// Checks what must hold after every event.
    fn check(&self) -> Result<(), Violation> {
        match self {
            Machine::Manager(manager) => manager.check(),
            Machine::Sub { machine, .. } => machine.check(),
            Machine::Worker(slots, _) => slots.machine.check(),
        }
    }
}

impl Cluster<'_> {
    /// Notes the first rule that does not hold.
    pub(super) fn note(&mut self, checked: Result<(), Violation>, role: usize) {
        if let (Err(Violation(what)), None) = (checked, &self.broken) {
            let rank = self.ranks.partition_point(|rank| rank.first_role as usize <= role).saturating_sub(1);
            let depth = self.roles[role].depth;
            self.broken = Some(Violation(format!("rank {rank}, depth {depth}: {what}")));
        }
    }

    /// Whether accounts are kept, and every event is checked.
    pub(super) fn is_checked(&self) -> bool {
        self.troubles.as_ref().is_some_and(|troubles| !troubles.accounts.is_empty())
    }

    /// Puts something down in the account of a role, where accounts are kept.
    pub(super) fn on_account(&mut self, role: usize, act: impl FnOnce(&mut Account, bool) -> Result<(), Violation>) {
        if let Some(account) = self.troubles.as_mut().and_then(|troubles| troubles.accounts.get_mut(role)) {
            let checked = act(account, role == 0);
            if checked.is_err() {
                self.note(checked, role);
            }
        }
    }

    /// Checks the machines that the last event may have changed.
    pub(super) fn check_touched(&mut self) {
        if let Some(rank) = self.touched.take() {
            for role in self.roles_of(rank) {
                let state = &self.roles[role];
                let Some(troubles) = &self.troubles else { return };
                let checked = state.machine.check().and_then(|()| match state.is_ending {
                    // It has dropped what it held.
                    true => Ok(()),
                    false => troubles.accounts[role].compare(&state.machine),
                });
                self.note(checked, role);
            }
            let waiting = self.ranks[rank.position()].inbox.len();
            if waiting > INBOX {
                self.note(Err(Violation(format!("{waiting} messages wait"))), self.roles_of(rank).start);
            }
        }
    }

    /// Checks every machine.
    pub(super) fn check(&self) -> Result<(), Violation> {
        self.roles.iter().try_for_each(|role| role.machine.check())
    }

    /// What is recorded has come to pass: a task that ended well has run to its end, one that failed has used up what it
    /// had, and what is recorded is written.
    pub(super) fn check_recorded(&self, run: &EndedRun) -> Result<(), Violation> {
        let Some(troubles) = &self.troubles else { return Ok(()) };
        let rule = |holds, what: &str| {
            if holds { Ok(()) } else { Err(Violation(format!("{what}: tasks of {:?}", run.range))) }
        };
        match run.class {
            OutcomeClass::Ok => rule(troubles.ran_well.contains_range(run.range), "nobody saw them end well"),
            OutcomeClass::Failed => (run.range.start..run.range.end).try_for_each(|index| {
                let Some(account) = troubles.accounts.first() else { return Ok(()) };
                let (failed, crashes) = account.tries(index);
                let used_up = failed >= self.tasks.shape_of(index).retries || crashes + 1 >= self.settings.crash_limit;
                rule(used_up, "they failed with attempts left")
            }),
            OutcomeClass::Cancelled => Ok(()),
        }
    }

    /// Whether what an extent points to is written.
    pub(super) fn is_written(&self, extent: crate::task::Extent, at: super::Nanos) -> bool {
        self.roles_of(Rank(extent.segment)).any(|role| match &self.roles[role].machine {
            Machine::Sub { keeper: Some(keeper), .. } => keeper.file.written(at) >= extent.end(),
            _ => false,
        })
    }
}

/// At the end of a run every task has its outcome.
pub(super) fn all_ended(outcomes: &Outcomes, tasks: u64) -> Result<(), Violation> {
    match tasks - outcomes.ended.len() {
        0 => Ok(()),
        missing => Err(Violation(format!("the run says that it is complete, and {missing} tasks have no outcome"))),
    }
}

/// The status that no task of a simulation has of itself.
pub(super) const KILLED: Status = Status::Signal(15);
