//! The sub-manager role of a rank: its machine, and what its actions do to the world; what all roles share.

use super::keeper::Keeper;
use super::longest::Longest;
use super::wire::{Control, LongRun};
use crate::schedule::{Down, Place, SubAction, SubManager, Up};
use crate::task::{EndedBy, Rank};

/// A message for another role, perhaps of this very rank.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) level: u8,
    pub(super) to: Rank,
    pub(super) control: Control,
    pub(super) attached: Vec<u8>,
}

pub(super) type Outbox = Vec<Outgoing>;

/// A sub-manager, perhaps with the segment of its node.
pub(super) struct SubRole {
    pub(super) place: Place,
    pub(super) machine: SubManager,
    keeper: Option<Keeper>,
    /// Blocks on their way to a keeper further up.
    passing: Vec<u8>,
    /// Bytes of blocks that a keeper may still pass on.
    may_pass: usize,
    longest: Longest,
    pub(super) done: bool,
}

/// How many of the longest-running tasks are told.
pub(super) const LONGEST: usize = 5;

impl SubRole {
    /// Blocks that have grown to this size go up at once.
    const PASSING_BYTES: usize = 128 << 20;
    /// A keeper makes its segment when more has come than this; what comes before goes up. A file for each of thousands of
    /// nodes takes the shared file system longer than a short run does; this much of each is little for one file.
    const PASSED_FIRST: usize = if cfg!(test) { 64 } else { 16 << 10 };

    pub(super) fn new(place: Place, machine: SubManager, keeper: Option<Keeper>) -> Self {
        let (passing, may_pass) = (Vec::new(), Self::PASSED_FIRST);
        Self { place, machine, keeper, passing, may_pass, longest: Longest::default(), done: false }
    }

    fn to_parent(&self, control: Control, attached: Vec<u8>, out: &mut Outbox) {
        let to = self.place.parent.expect("a sub-manager has a parent");
        out.push(Outgoing { level: self.place.depth - 1, to, control, attached });
    }

    pub(super) fn open(&mut self, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.open(&mut actions);
        self.act(actions, out);
    }

    pub(super) fn on_parent(&mut self, now: u64, message: Down, out: &mut Outbox) {
        let (mut actions, epoch) = (Vec::new(), self.machine.epoch());
        self.machine.on_parent(now, message, &mut actions);
        if self.machine.epoch() != epoch {
            // Of what ran under the old one nothing is told any more.
            self.passing.clear();
        }
        self.act(actions, out);
    }

    pub(super) fn on_child(&mut self, now: u64, from: Rank, mut message: Up, blocks: Vec<u8>, out: &mut Outbox) {
        if let Up::Report { report, .. } = &mut message {
            match &mut self.keeper {
                Some(keeper) if blocks.len() > self.may_pass => {
                    self.may_pass = 0;
                    keeper.keep_report(report, blocks);
                }
                keeper => {
                    self.may_pass -= if keeper.is_some() { blocks.len() } else { 0 };
                    self.passing.extend_from_slice(&blocks);
                }
            }
            if self.passing.len() > Self::PASSING_BYTES {
                self.machine.hurry();
            }
        }
        let mut actions = Vec::new();
        self.machine.on_child(now, from, message, &mut actions);
        self.act(actions, out);
    }

    /// A child is given up.
    pub(super) fn on_lost(&mut self, now: u64, child: Rank, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.on_lost(now, child, &mut actions);
        self.act(actions, out);
    }

    pub(super) fn step(&mut self, now: u64, out: &mut Outbox) {
        let mut actions = Vec::new();
        self.machine.step(now, &mut actions);
        self.act(actions, out);
    }

    fn act(&mut self, actions: Vec<SubAction>, out: &mut Outbox) {
        for action in actions {
            match action {
                SubAction::ToChild(to, message) => {
                    let control = Control::Down(message);
                    out.push(Outgoing { level: self.place.depth, to, control, attached: Vec::new() });
                }
                SubAction::ToParent(message) => {
                    let reports = matches!(&message, Up::Report { report, .. } if report.tells_of_ended());
                    let blocks = if reports { std::mem::take(&mut self.passing) } else { Vec::new() };
                    self.to_parent(Control::Up(message), blocks, out);
                }
                SubAction::Done => self.done = true,
            }
        }
    }

    /// Tells the machine what has become durable, and the manager too when nothing will any more.
    pub(super) fn look_at_segment(&mut self, now: u64, out: &mut Outbox) {
        let Some(keeper) = &mut self.keeper else { return };
        // In this order: after an error nothing more becomes durable.
        let (error, durable) = (keeper.new_error(), keeper.durable());
        let mut actions = Vec::new();
        self.machine.on_written(now, durable, &mut actions);
        if let Some(what) = error {
            self.to_parent(Control::Stop { why: EndedBy::Disk, what }, Vec::new(), out);
            self.machine.on_unwritable(now, &mut actions);
        }
        self.act(actions, out);
    }

    /// A child told of the tasks that run longest.
    pub(super) fn on_longest(&mut self, now: u64, from: Rank, long: Vec<LongRun>, out: &mut Outbox) {
        self.longest.note(now, from, long);
        if let Some(long) = self.longest.due(now, LONGEST) {
            self.to_parent(Control::Longest(long), Vec::new(), out);
        }
    }

    /// Bytes that wait to be written here.
    pub(super) fn queued_bytes(&self) -> u64 {
        self.keeper.as_ref().map_or(0, Keeper::queued_bytes)
    }

    /// Whether blocks go further up instead of into a segment.
    pub(super) fn is_relay(&self) -> bool {
        self.keeper.is_none()
    }

    pub(super) fn finish(self) -> Option<String> {
        let keeper = self.keeper?;
        let was_told = keeper.has_failed();
        keeper.finish().err().filter(|_| !was_told).map(|error| error.to_string())
    }
}
