//! Who of a rank's relatives is silent. Relatives tell each other at a slow pace that they are there, and whatever else one says
//! counts as well. MPI tells of no loss: silence is all there is to go by.

use super::Micros;
use super::tree::{Place, Tree};
use crate::task::Rank;

/// Beats for each time that a child may be silent: one that comes late, or two, are no loss.
const BEATS_IN_PATIENCE: u64 = 4;
/// A parent may be silent for so many times as long as a child. One that only stalls is given up by its own parent, welcomed
/// anew, and should find its children still there: who ends too soon costs all slots below it. And nobody can take rank 0's
/// place.
pub const PATIENCE_WITH_PARENTS: u64 = 3;
/// And for longer before its first word: rank 0 has files to open then.
const PATIENCE_WITH_NEW_PARENTS: u64 = 60;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Tell this relative that this rank is there.
    Beat {
        /// The level of the link.
        level: u8,
        /// Who.
        to: Rank,
        /// Whether that is the parent.
        is_parent: bool,
    },
    /// Nothing was heard of this child for too long: it is to be given up. Said again when it was heard and is silent again.
    Lost {
        /// The level of the link.
        level: u8,
        /// Who.
        child: Rank,
    },
    /// Nothing was heard of the parent for far too long: there is nobody to work for. Said once.
    Orphaned {
        /// Who.
        parent: Rank,
        /// For how long. Microseconds.
        silent_us: Micros,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Parent,
    Child,
    /// A rank without a role, which hears of the end from rank 0. It holds nothing, and nobody waits for a word of it.
    Bystander,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    level: u8,
    peer: Rank,
    kind: Kind,
    heard_us: Micros,
    has_spoken: bool,
    /// It is silent, and that was said.
    is_silent: bool,
    /// This rank was away for so long that this parent may have given it up: until it is heard again nobody knows.
    is_doubted: bool,
    /// This parent says that it is cut off itself.
    is_cut_off: bool,
    /// This parent may say nothing for so long, and that tells nothing.
    may_be_silent_us: Option<Micros>,
}

impl Link {
    /// How long a parent may be silent where a child may be for `patience_us`.
    fn patience_us(&self, patience_us: Micros) -> Micros {
        let times = if self.has_spoken { PATIENCE_WITH_PARENTS } else { PATIENCE_WITH_NEW_PARENTS };
        patience_us.saturating_mul(times).max(self.may_be_silent_us.unwrap_or(0))
    }
}

/// The links of a rank to others, and when each was heard last.
#[derive(Clone, Debug)]
pub struct Watch {
    /// How long a child may be silent; none where nobody is ever given up.
    patience_us: Option<Micros>,
    /// By level and peer.
    links: Vec<Link>,
    /// Where the links to parents are.
    parents: Vec<usize>,
    /// Where the link is that spoke last.
    last: usize,
    looked_us: Micros,
}

impl Watch {
    /// Of a rank of the tree, one of so many. `patience_us`: see [`Watch::step`].
    pub fn new(tree: &Tree, me: Rank, ranks: u32, patience_us: Option<Micros>) -> Self {
        let places = tree.places(me);
        let link = |level, peer, kind| Link {
            level,
            peer,
            kind,
            heard_us: 0,
            has_spoken: false,
            is_silent: false,
            is_doubted: false,
            is_cut_off: false,
            may_be_silent_us: None,
        };
        let parents = places.iter().filter_map(|place: &Place| Some((place.depth.checked_sub(1)?, place.parent?)));
        let mut links: Vec<Link> = parents.map(|(level, parent)| link(level, parent, Kind::Parent)).collect();
        for place in places {
            links.extend(place.children.iter().map(|child| link(place.depth, *child, Kind::Child)));
        }
        if me == Rank::MANAGER {
            links.extend(tree.bystanders(ranks).map(|rank| link(0, rank, Kind::Bystander)));
        } else if places.is_empty() {
            links.push(link(0, Rank::MANAGER, Kind::Parent));
        }
        links.retain(|link| link.peer != me);
        links.sort_unstable_by_key(|link| (link.level, link.peer));
        let parents = (0..links.len()).filter(|at| links[*at].kind == Kind::Parent).collect();
        Self { patience_us: patience_us.filter(|_| !links.is_empty()), links, parents, last: 0, looked_us: 0 }
    }

    /// Rank 0 is silent while its program does something else, for so long at most: before that nobody notices its end.
    pub fn with_silent_manager(mut self, most_us: Micros) -> Self {
        for parent in &self.parents {
            let link = &mut self.links[*parent];
            link.may_be_silent_us = (link.peer == Rank::MANAGER).then_some(most_us);
        }
        self
    }

    /// A relative said something.
    pub fn heard(&mut self, now: Micros, level: u8, peer: Rank) {
        let is_it = |link: &Link| (link.level, link.peer) == (level, peer);
        if !self.links.get(self.last).is_some_and(is_it) {
            let found = self.links.binary_search_by_key(&(level, peer), |link| (link.level, link.peer));
            let Ok(at) = found else { return };
            self.last = at;
        }
        let link = &mut self.links[self.last];
        (link.heard_us, link.has_spoken) = (now, true);
        (link.is_silent, link.is_doubted) = (false, false);
    }

    /// A parent said whether it is cut off.
    pub fn heard_of_parent(&mut self, level: u8, parent: Rank, is_cut_off: bool) {
        let is_it = |link: &&mut Link| (link.level, link.peer) == (level, parent);
        if let Some(link) = self.links.iter_mut().find(is_it) {
            link.is_cut_off = is_cut_off;
        }
    }

    /// Whether this rank, or one that it works for, has likely been given up: what it has not started, somebody else may have
    /// run by now. So nothing is started before the parent is heard again.
    pub fn is_cut_off(&self, now: Micros) -> bool {
        let Some(patience) = self.patience_us else { return false };
        self.parents.iter().map(|at| &self.links[*at]).any(|link| {
            let is_silent =
                link.may_be_silent_us.is_none() && link.has_spoken && now.saturating_sub(link.heard_us) > patience;
            link.is_doubted || link.is_cut_off || is_silent
        })
    }

    /// Beats that are due, and who has been silent for too long: a child for longer than the patience, the parent for three
    /// times as long. To be called after what has come was taken up. A rank that was itself away, because it was stopped or its
    /// machine was, has heard nobody meanwhile: that time does not count. Nor does it for children where it is `deaf` to them,
    /// since it can take up no more messages; a parent has to be heard all the same, or a rank that waits for one that is gone
    /// would wait for ever.
    pub fn step(&mut self, now: Micros, deaf: bool) -> Vec<Pulse> {
        let Some(patience) = self.patience_us.filter(|_| self.next_tick().is_some_and(|at| at <= now)) else {
            return Vec::new();
        };
        let since = now - self.looked_us;
        let away = if since > 2 * self.every_us(patience) { since - self.every_us(patience) } else { 0 };
        self.looked_us = now;
        let mut due = Vec::new();
        for link in &mut self.links {
            let missed = if deaf && link.kind == Kind::Child { since } else { away };
            link.heard_us = (link.heard_us + missed).min(now);
            link.is_doubted |= away > patience;
            let Link { level, peer, .. } = *link;
            let silent_us = now - link.heard_us;
            match link.kind {
                Kind::Child if !link.is_silent && silent_us > patience => {
                    link.is_silent = true;
                    due.push(Pulse::Lost { level, child: peer });
                }
                Kind::Parent if !link.is_silent && silent_us > link.patience_us(patience) => {
                    link.is_silent = true;
                    due.push(Pulse::Orphaned { parent: peer, silent_us });
                }
                _ => {}
            }
            // Who is silent gets no more of them: they would pile up.
            if !link.is_silent {
                due.push(Pulse::Beat { level, to: peer, is_parent: link.kind == Kind::Parent });
            }
        }
        due
    }

    /// Whether there is somebody above on another rank.
    pub fn has_parents(&self) -> bool {
        !self.parents.is_empty()
    }

    /// How long after the last word of its parent a rank ends at the latest: it looks a few times in its patience.
    pub fn orphans_end_within_us(patience_us: Micros) -> Micros {
        patience_us.saturating_mul(PATIENCE_WITH_PARENTS).saturating_add(patience_us.div_ceil(BEATS_IN_PATIENCE))
    }

    fn every_us(&self, patience: Micros) -> Micros {
        (patience / BEATS_IN_PATIENCE).max(1)
    }

    /// When `step` should be called next.
    pub fn next_tick(&self) -> Option<Micros> {
        self.patience_us.map(|patience| self.looked_us + self.every_us(patience))
    }

    /// Whom to tell that all is over: those below this rank, and those without a role.
    pub fn below(&self) -> impl Iterator<Item = (u8, Rank)> + '_ {
        self.links.iter().filter(|link| link.kind != Kind::Parent).map(|link| (link.level, link.peer))
    }

    /// Children that are silent.
    pub fn silent(&self) -> impl Iterator<Item = Rank> + '_ {
        self.links.iter().filter(|link| link.kind == Kind::Child && link.is_silent).map(|link| link.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::NodeRanks;
    use crate::task::NodeId;
    use proptest::prelude::*;

    const PATIENCE: Micros = 1_000_000;

    /// Three nodes of two ranks, and a rank 6 that has no role.
    fn tree() -> Tree {
        let node = |id: u32| NodeRanks { node: NodeId(id), workers: vec![Rank(2 * id), Rank(2 * id + 1)] };
        Tree::build(&[node(0), node(1), node(2)], 64)
    }

    fn watch(rank: u32) -> Watch {
        Watch::new(&tree(), Rank(rank), 7, Some(PATIENCE))
    }

    fn lost(pulses: &[Pulse]) -> Vec<(u8, u32)> {
        let lost = |pulse: &Pulse| match pulse {
            Pulse::Lost { level, child } => Some((*level, child.0)),
            _ => None,
        };
        pulses.iter().filter_map(lost).collect()
    }

    /// Steps when a step is due, until then; all that is said.
    fn until(watch: &mut Watch, end: Micros, mut heard: impl FnMut(&mut Watch, Micros)) -> Vec<Pulse> {
        let mut said = Vec::new();
        while let Some(at) = watch.next_tick().filter(|at| *at <= end) {
            heard(watch, at);
            said.extend(watch.step(at, false));
        }
        said
    }

    #[test]
    fn relatives_are_told_and_the_others_are_not() {
        let beats = |rank| {
            let mut watch = watch(rank);
            let at = watch.next_tick().expect("it has relatives");
            let to = |pulse: Pulse| match pulse {
                Pulse::Beat { level, to, is_parent } => (level, to.0, is_parent),
                other => panic!("{other:?}"),
            };
            watch.step(at, false).into_iter().map(to).collect::<Vec<_>>()
        };
        assert_eq!(beats(0), [(0, 2, false), (0, 4, false), (0, 6, false), (1, 1, false)]);
        assert_eq!(beats(2), [(0, 0, true), (1, 3, false)]);
        assert_eq!(beats(3), [(1, 2, true)]);
        assert_eq!(beats(6), [(0, 0, true)]);
    }

    #[test]
    fn who_is_silent_for_too_long_is_lost_once_and_again_after_a_word() {
        let mut watch = watch(0);
        let all_but_two = |watch: &mut Watch, at: Micros| {
            watch.heard(at, 0, Rank(4));
            watch.heard(at, 1, Rank(1));
        };
        let said = until(&mut watch, 5 * PATIENCE, all_but_two);
        assert_eq!(lost(&said), [(0, 2)]);
        assert_eq!(watch.silent().collect::<Vec<_>>(), [Rank(2)]);
        let later = until(&mut watch, 6 * PATIENCE, all_but_two);
        assert!(!later.iter().any(|pulse| matches!(pulse, Pulse::Beat { to: Rank(2), .. })), "beats pile up");
        watch.heard(6 * PATIENCE, 0, Rank(2));
        assert_eq!(watch.silent().count(), 0);
        assert_eq!(lost(&until(&mut watch, 9 * PATIENCE, all_but_two)), [(0, 2)]);
    }

    #[test]
    fn a_parent_may_be_silent_for_longer() {
        let orphaned = |said: Vec<Pulse>| said.iter().any(|pulse| matches!(pulse, Pulse::Orphaned { .. }));
        for (rank, level, parent) in [(3, 1, 2), (6, 0, 0)] {
            let mut watch = watch(rank);
            assert!(!orphaned(until(&mut watch, 20 * PATIENCE, |_, _| {})), "it has not begun yet");
            watch.heard(20 * PATIENCE, level, Rank(parent));
            assert!(!orphaned(until(&mut watch, 23 * PATIENCE, |_, _| {})));
            let latest = 20 * PATIENCE + Watch::orphans_end_within_us(PATIENCE);
            assert!(orphaned(until(&mut watch, latest, |_, _| {})));
            assert!(!orphaned(until(&mut watch, 29 * PATIENCE, |_, _| {})), "said once");
        }
        let mut never = watch(3);
        assert!(orphaned(until(&mut never, 61 * PATIENCE, |_, _| {})));
    }

    #[test]
    fn who_cannot_hear_its_children_still_misses_its_parent() {
        let mut watch = watch(2);
        watch.heard(1, 0, Rank(0));
        let mut said = Vec::new();
        for _ in 0..20 {
            let at = watch.next_tick().expect("it has relatives");
            said.extend(watch.step(at, true));
        }
        assert!(said.iter().any(|pulse| matches!(pulse, Pulse::Orphaned { parent: Rank(0), .. })));
        assert_eq!(lost(&said), []);
    }

    #[test]
    fn who_was_away_himself_judges_nobody_for_it() {
        let mut watch = watch(0);
        let all = |watch: &mut Watch, at: Micros| {
            for (level, rank) in [(0, 2), (0, 4), (1, 1)] {
                watch.heard(at, level, Rank(rank));
            }
        };
        until(&mut watch, PATIENCE, all);
        assert_eq!(lost(&watch.step(60 * PATIENCE, false)), []);
        assert_eq!(lost(&until(&mut watch, 60 * PATIENCE + PATIENCE / 2, |_, _| {})), []);
        // But from then on it does.
        assert_eq!(lost(&until(&mut watch, 62 * PATIENCE, |_, _| {})).len(), 3);
    }

    #[test]
    fn who_cannot_hear_judges_nobody_and_says_that_it_is_there() {
        let mut watch = watch(0);
        for _ in 0..40 {
            let at = watch.next_tick().expect("it has relatives");
            assert_eq!(watch.step(at, true).len(), 4, "all are told");
        }
        assert_eq!(lost(&until(&mut watch, 13 * PATIENCE, |_, _| {})).len(), 3);
    }

    #[test]
    fn who_may_have_been_given_up_is_cut_off_until_the_parent_is_heard() {
        let mut watch = watch(2);
        let at = watch.next_tick().expect("it has relatives");
        watch.heard(at, 0, Rank(0));
        watch.step(at, false);
        assert!(!watch.is_cut_off(at + PATIENCE) && watch.is_cut_off(at + PATIENCE + 1), "the parent is silent");
        watch.heard(at + 2 * PATIENCE, 0, Rank(0));
        assert!(!watch.is_cut_off(at + 2 * PATIENCE));
        // What was heard before it looked may have waited since long.
        let later = at + 9 * PATIENCE;
        watch.heard(later, 0, Rank(0));
        watch.step(later, false);
        assert!(watch.is_cut_off(later));
        watch.heard(later + 1, 1, Rank(3));
        assert!(watch.is_cut_off(later + 1), "a child tells nothing of it");
        watch.heard(later + 2, 0, Rank(0));
        assert!(!watch.is_cut_off(later + 2));
        watch.heard_of_parent(0, Rank(0), true);
        assert!(watch.is_cut_off(later + 2), "the parent itself is cut off");
        watch.heard_of_parent(0, Rank(0), false);
        assert!(!watch.is_cut_off(later + 2));
    }

    #[test]
    fn rank_0_may_be_silent_where_its_program_comes_first() {
        let mut of_node = watch(2).with_silent_manager(99 * PATIENCE);
        of_node.heard(1, 0, Rank(0));
        let said = until(&mut of_node, 90 * PATIENCE, |_, _| {});
        assert!(!said.iter().any(|pulse| matches!(pulse, Pulse::Orphaned { .. })));
        assert!(!of_node.is_cut_off(90 * PATIENCE));
        assert_eq!(lost(&said), [(1, 3)], "its children may not");
        let said = until(&mut of_node, 101 * PATIENCE, |_, _| {});
        assert!(said.iter().any(|pulse| matches!(pulse, Pulse::Orphaned { parent: Rank(0), .. })), "nor it for ever");
        // A sub-manager has no program.
        let mut below = watch(3).with_silent_manager(99 * PATIENCE);
        below.heard(1, 1, Rank(2));
        assert!(below.is_cut_off(2 * PATIENCE));
        let said = until(&mut below, 90 * PATIENCE, |_, _| {});
        assert!(said.iter().any(|pulse| matches!(pulse, Pulse::Orphaned { parent: Rank(2), .. })));
    }

    #[test]
    fn without_a_patience_nobody_is_given_up() {
        let one = NodeRanks { node: NodeId(0), workers: vec![Rank(0)] };
        let mut watch = Watch::new(&tree(), Rank(0), 7, None);
        assert_eq!(watch.next_tick(), None);
        assert_eq!(watch.step(1 << 40, false), []);
        assert_eq!(watch.below().count(), 4);
        assert_eq!(Watch::new(&Tree::build(&[one], 2), Rank(0), 1, Some(PATIENCE)).next_tick(), None);
    }

    proptest! {
        /// Whatever the pauses of its own: who speaks before each step is never lost, and who never speaks is lost at the fifth
        /// step at the latest, but not by two.
        #[test]
        fn the_silent_are_found_and_nobody_else(pauses in prop::collection::vec(0..3 * PATIENCE, 1..12)) {
            let mut watch = watch(2);
            let (steps, mut said) = (pauses.len(), Vec::new());
            for pause in pauses {
                let now = watch.next_tick().expect("it has relatives") + if pause > PATIENCE { pause } else { 0 };
                watch.heard(now, 0, Rank(0));
                said.extend(watch.step(now, false));
            }
            let orphaned = said.iter().any(|pulse| matches!(pulse, Pulse::Orphaned { .. }));
            prop_assert!(!orphaned);
            prop_assert!(lost(&said).len() <= 1 && (lost(&said).len() == 1 || steps < 5) && (lost(&said).is_empty() || steps > 2));
        }
    }
}
