//! Words on their way between ranks.

use super::Nanos;
use super::cluster::{Cluster, Event};
use super::model::Link;
use super::roles::RoleState;
use super::troubles::Troubles;
use super::turns::Turn;
use crate::schedule::{Down, Up, encode_after};
use crate::task::{EndedBy, Rank};

pub(super) enum Word {
    Down(Down),
    Up(Up),
    /// The run is to stop: on its way to the manager.
    Stop(EndedBy),
}

impl Word {
    /// Ranges and runs of tasks in it.
    pub(super) fn ranges(&self) -> u64 {
        match self {
            Word::Down(Down::Hand { ranges, .. }) => ranges.len() as u64,
            Word::Up(Up::Report { report, .. }) => {
                let runs: usize = report.sections.iter().map(|section| section.runs.len()).sum();
                (runs + report.failed.len() + report.returned.len()) as u64
            }
            _ => 0,
        }
    }
}

/// A message. `level` is that of its link: between depth `level` and the next.
pub(super) struct Message {
    pub(super) from: Rank,
    pub(super) to: Rank,
    pub(super) level: u8,
    /// Bytes of outcomes that go along to the keeper.
    pub(super) blocks: u64,
    pub(super) word: Word,
}

impl Cluster<'_> {
    pub(super) fn link(&self, a: Rank, b: Rank) -> &Link {
        let same = self.layout.node_of(a) == self.layout.node_of(b);
        if same { &self.numbers.network.local } else { &self.numbers.network.remote }
    }

    pub(super) fn send_down(&mut self, role: usize, to: Rank, word: Down, turn: &mut Turn) {
        let level = self.roles[role].depth;
        let bytes = self.bytes_of(&word);
        let message = Box::new(Message { from: turn.rank, to, level, blocks: 0, word: Word::Down(word) });
        self.tally.sent(level, true, bytes, to == turn.rank);
        if to == turn.rank {
            return turn.local.push_back(message);
        }
        let arrives = self.travels(to, bytes, turn) + self.late();
        let child = self.role_at(to, level + 1);
        let arrives = arrives.max(self.roles[child].down_arrives);
        self.roles[child].down_arrives = arrives;
        self.events.push(arrives, Event::Arrive(message));
    }

    /// `blocks`: bytes of outcomes that go along.
    pub(super) fn send_up(&mut self, role: usize, word: Up, blocks: u64, turn: &mut Turn) {
        let RoleState { depth, parent, .. } = self.roles[role];
        let (to, level) = (parent.expect("who speaks up has a parent"), depth - 1);
        let bytes = self.bytes_of(&word) + blocks;
        let message = Box::new(Message { from: turn.rank, to, level, blocks, word: Word::Up(word) });
        self.tally.sent(level, false, bytes, to == turn.rank);
        if to == turn.rank {
            return turn.local.push_back(message);
        }
        let arrives = self.travels(to, bytes, turn) + self.late();
        let arrives = arrives.max(self.roles[role].up_arrives);
        self.roles[role].up_arrives = arrives;
        self.events.push(arrives, Event::Arrive(message));
    }

    fn bytes_of(&mut self, word: &impl serde::Serialize) -> u64 {
        self.scratch.clear();
        self.scratch = encode_after(word, std::mem::take(&mut self.scratch));
        self.trace.note_bytes(&self.scratch);
        self.scratch.len() as u64
    }

    /// Tells the manager that the run has to stop.
    pub(super) fn send_stop(&mut self, role: usize, why: EndedBy, turn: &mut Turn) {
        let RoleState { depth, parent, up_arrives, .. } = self.roles[role];
        let (to, level) = (parent.expect("the manager tells nobody to stop"), depth - 1);
        let message = Box::new(Message { from: turn.rank, to, level, blocks: 0, word: Word::Stop(why) });
        if to == turn.rank {
            return turn.local.push_back(message);
        }
        let arrives = self.travels(to, 16, turn).max(up_arrives);
        self.roles[role].up_arrives = arrives;
        self.events.push(arrives, Event::Arrive(message));
    }

    /// How late the message is that goes off now.
    fn late(&mut self) -> Nanos {
        self.troubles.as_mut().map_or(0, Troubles::late)
    }

    /// When a message arrives that is sent now; the sender is busy with it for a while.
    fn travels(&self, to: Rank, bytes: u64, turn: &mut Turn) -> Nanos {
        let link = self.link(turn.rank, to);
        turn.at += link.send_ns * self.ranks[turn.rank.position()].slowness;
        turn.at + link.way_ns(bytes)
    }
}
