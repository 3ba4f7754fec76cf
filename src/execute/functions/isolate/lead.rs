//! Which tasks of a batch are whose: its owner in the rank may cut it at any moment, also within an order that a call process
//! is working on.

use super::area::Area;
use super::process::Kill;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Which tasks of a batch are still the thread's: what thread and owner agree on. Whatever a call process does, each task
/// is of the thread or was cut off.
#[derive(Debug, Default)]
struct Feed {
    /// The first that is in no order yet, as an offset from the first of the batch.
    next: u32,
    end: u32,
    /// The order under way: where it is claimed from, and how many of the tasks before `next` are in it.
    order: Option<(Arc<Area>, u32)>,
    /// Its first tasks, so many, have ended and were told.
    told: u32,
    kill: Option<Kill>,
    /// What has ended is to be told now.
    tell: bool,
}

/// A slot's owner's hold on its batch.
#[derive(Debug, Default)]
pub(in super::super) struct Lead(Mutex<Feed>);

impl Lead {
    fn feed(&self) -> MutexGuard<'_, Feed> {
        // Every change of it is a single step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a batch of so many tasks.
    pub(in super::super) fn open(&self, tasks: u32) {
        *self.feed() = Feed { next: 0, end: tasks, order: None, told: 0, kill: None, tell: false };
    }

    /// Takes all that is not started. What has ended is told soon, also where the call that runs does not end.
    pub(in super::super) fn cut(&self) -> Option<(u32, u32)> {
        let mut feed = self.feed();
        feed.tell = true;
        let Feed { next, end, order, told, .. } = &mut *feed;
        if let Some((area, tasks)) = order
            && let Some((claimed, of)) = area.window().cut()
            && of == *tasks
        {
            // Whatever was written over the window: what was told is nobody else's any more.
            let claimed = claimed.max(*told);
            *next -= *tasks - claimed;
            *tasks = claimed;
        }
        let cut = (*next, *end);
        *end = *next;
        (cut.0 < cut.1).then_some(cut)
    }

    /// Has the process killed that runs the batch. What ran is given back, as what was not started.
    pub(in super::super) fn kill(&self, grace: Duration) {
        let mut feed = self.feed();
        let now = Instant::now();
        let at = now.checked_add(grace).unwrap_or(now);
        let earlier = feed.kill.map_or(at, |kill| kill.at.min(at));
        feed.kill = Some(Kill { at: earlier });
    }

    pub(super) fn asked_to_kill(&self) -> Option<Kill> {
        self.feed().kill
    }

    /// Whether what has ended is to be told at once, and how many tasks of the order under way are the thread's.
    pub(super) fn asked_to_tell(&self) -> Option<u32> {
        let mut feed = self.feed();
        let tasks = feed.order.as_ref().map_or(0, |(_, tasks)| *tasks);
        std::mem::take(&mut feed.tell).then_some(tasks)
    }

    /// So many tasks of the order under way were told.
    pub(super) fn note_told(&self, tasks: u32) {
        self.feed().told = tasks;
    }

    /// What is in no order yet, unless the batch is to end.
    pub(super) fn left(&self) -> Option<(u32, u32)> {
        let feed = self.feed();
        (feed.next < feed.end && feed.kill.is_none()).then_some((feed.next, feed.end))
    }

    /// Puts the next tasks into an order, so many of them at most. False where they were cut off meanwhile.
    pub(super) fn begin_order(&self, area: &Arc<Area>, tasks: u32) -> bool {
        let mut feed = self.feed();
        let tasks = tasks.min(feed.end - feed.next);
        if tasks == 0 || feed.kill.is_some() {
            return false;
        }
        area.begin(tasks);
        feed.next += tasks;
        (feed.order, feed.told) = (Some((area.clone(), tasks)), 0);
        true
    }

    /// The order has ended. Nothing of it can be cut off any more: so many of its first tasks are the thread's.
    pub(super) fn end_order(&self) -> u32 {
        self.feed().order.take().map_or(0, |(_, tasks)| tasks)
    }

    /// Tasks of the order that has ended go into another one.
    pub(super) fn take_back(&self, tasks: u32) {
        self.feed().next -= tasks;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead_of(tasks: u32) -> (Lead, Arc<Area>) {
        let lead = Lead::default();
        lead.open(tasks);
        (lead, Arc::new(Area::new().unwrap().0))
    }

    #[test]
    fn a_cut_takes_what_is_not_claimed_from_an_order_and_all_behind_it() {
        let (lead, area) = lead_of(100);
        assert!(lead.begin_order(&area, 40));
        (0..3).for_each(|place| assert_eq!(area.window().claim(), Some(place)));
        assert_eq!((lead.cut(), lead.cut()), (Some((3, 100)), None));
        assert_eq!((area.window().claim(), lead.end_order(), lead.left()), (None, 3, None));
        // The last of them has not ended.
        lead.take_back(1);
        assert_eq!((lead.left(), lead.cut()), (Some((2, 3)), Some((2, 3))));
    }

    #[test]
    fn a_cut_between_orders_takes_the_rest() {
        let (lead, area) = lead_of(100);
        assert!(lead.begin_order(&area, 40));
        assert_eq!((lead.end_order(), lead.left()), (40, Some((40, 100))));
        assert_eq!((lead.cut(), lead.left()), (Some((40, 100)), None));
        assert!(!lead.begin_order(&area, 40), "what was cut is in no order");
    }

    #[test]
    fn an_order_that_was_written_before_a_cut_is_begun_without_what_was_cut() {
        let (lead, area) = lead_of(100);
        let (next, end) = lead.left().unwrap();
        assert_eq!((next, end), (0, 100));
        assert!(lead.begin_order(&area, 10) && lead.end_order() == 10);
        lead.take_back(7);
        assert_eq!(lead.cut(), Some((3, 100)));
        assert!(!lead.begin_order(&area, 97));
    }

    #[test]
    fn a_window_that_was_written_over_gives_no_task_away_twice() {
        for nonsense in [0, u32::MAX, 41, 39] {
            let (lead, area) = lead_of(100);
            assert!(lead.begin_order(&area, 40));
            assert_eq!(area.window().claim(), Some(0));
            area.window().open(nonsense);
            assert_eq!(lead.cut(), Some((40, 100)), "{nonsense}");
            assert_eq!(lead.end_order(), 40);
        }
        // One that makes sense moves the line between the two, and no more.
        let (lead, area) = lead_of(100);
        assert!(lead.begin_order(&area, 40));
        area.window().open(40);
        assert_eq!((lead.cut(), lead.end_order()), (Some((0, 100)), 0));
    }

    #[test]
    fn what_was_told_is_not_cut_off_whatever_stands_in_the_window() {
        let (lead, area) = lead_of(100);
        assert!(lead.begin_order(&area, 40));
        assert_eq!(lead.asked_to_tell(), None);
        lead.cut();
        assert_eq!((lead.asked_to_tell(), lead.asked_to_tell()), (Some(0), None));
        lead.open(100);
        assert!(lead.begin_order(&area, 40));
        lead.note_told(7);
        // Seven have ended, and the window says that five are claimed.
        (0..5).for_each(|place| assert_eq!(area.window().claim(), Some(place)));
        assert_eq!((lead.cut(), lead.end_order()), (Some((7, 100)), 7));
    }

    #[test]
    fn who_is_asked_twice_to_kill_does_so_at_the_earlier_time() {
        let (lead, area) = lead_of(100);
        lead.kill(Duration::from_secs(100));
        lead.kill(Duration::ZERO);
        lead.kill(Duration::from_secs(100));
        assert!(lead.asked_to_kill().is_some_and(|kill| kill.at <= Instant::now()));
        assert!(lead.left().is_none() && !lead.begin_order(&area, 1), "nothing is started any more");
        assert_eq!(lead.cut(), Some((0, 100)));
        lead.open(5);
        assert!(lead.asked_to_kill().is_none(), "that was for another batch");
    }
}
