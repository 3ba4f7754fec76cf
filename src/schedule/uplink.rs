//! The child's end of a link: the report in the making, and when it is due.

use super::Micros;
use super::message::{Amount, Report, Unstarted, Up};
use super::policy::Policy;
use super::unwritten::{Ended, Unwritten, as_not_run};
use crate::task::IndexRange;

/// What ended waits for its neighbours for so long; where its runs are so many that they would keep the parent busy, longer, but
/// never for more than the second of these.
const HELD_BACK_US: Micros = 250_000;
const MOST_HELD_BACK_US: Micros = 2_000_000;

/// What the child has at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Cores of work that it holds.
    pub(super) held_cores: u64,
    pub(super) idle_cores: u64,
}

/// The child's end of a link.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// The link's epoch; 0 before the first welcome.
    pub(super) epoch: u32,
    /// News that the parent has not heard.
    pub(super) report: Report,
    /// Runs of ended tasks in it, at most; how many they were when last joined, and when some were last told.
    runs: usize,
    joined: usize,
    runs_at_pace: u64,
    told_us: Micros,
    /// What those tasks are, where a sub-manager added them.
    ended: Amount,
    /// Tasks that ended and may not be told yet, where the role keeps a segment.
    unwritten: Option<Unwritten>,
    pace_us: u64,
    last_us: Micros,
    /// Since when there is something to tell, where news come from several children or tasks are not written yet.
    news_us: Option<Micros>,
    gathers: bool,
    /// That attempts ended was told under this epoch.
    has_told: bool,
    /// Since when cores have been idle.
    idle_us: Option<Micros>,
    /// Cores of work held when last supplied or reported: at half of it the parent should know.
    mark: u64,
    /// The parent waits for this report.
    urgent: bool,
    /// What goes with it grows large.
    full: bool,
    /// More waits than the parent can know: what had been counted as running does not run yet.
    stirred: bool,
    /// Hand-outs seen under this epoch.
    hands: u32,
}

impl Uplink {
    pub(super) fn new(policy: &Policy) -> Self {
        Self { runs_at_pace: policy.runs_at_pace, ..Self::default() }
    }

    /// Of one that hears of what ended from children of its own: their news are to go up together.
    pub(super) fn gathering(policy: &Policy) -> Self {
        Self { gathers: true, ..Self::new(policy) }
    }

    /// The role keeps this segment: of tasks whose records lie there nothing is told before they are written.
    pub(super) fn keep(&mut self, segment: u32) {
        self.unwritten = Some(Unwritten::new(segment));
    }

    /// Begins a new epoch: what was to be told under the old one is forgotten.
    pub(super) fn open(&mut self, now: Micros, epoch: u32, pace_us: u64) {
        let mut unwritten = self.unwritten.take();
        unwritten.iter_mut().for_each(Unwritten::forget);
        *self = Self {
            unwritten,
            epoch,
            pace_us,
            last_us: now,
            runs_at_pace: self.runs_at_pace,
            gathers: self.gathers,
            ..Self::default()
        };
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

    /// Tasks that ended below: they wait until they are written, and perhaps until there are neighbours to join with.
    pub(super) fn ended_below(&mut self, ended: Ended) {
        let ended = match &mut self.unwritten {
            Some(unwritten) => unwritten.hold_back(ended),
            None => Some(ended),
        };
        if let Some(ended) = ended {
            self.will_tell(ended);
        }
        self.give_back_unwritable();
    }

    /// The role's segment is written up to there; whether that was waited for.
    pub(super) fn written(&mut self, end: u64) -> bool {
        let Some(unwritten) = &mut self.unwritten else { return false };
        unwritten.set_written(end);
        let mut any = false;
        while let Some(ended) = self.unwritten.as_mut().and_then(Unwritten::pop_written) {
            self.will_tell(ended);
            any = true;
        }
        any
    }

    /// Nothing more will be written: what waits for that is given back, and what comes.
    pub(super) fn set_unwritable(&mut self) {
        self.unwritten.iter_mut().for_each(Unwritten::set_unwritable);
        self.give_back_unwritable();
    }

    fn give_back_unwritable(&mut self) {
        while let Some(ended) = self.unwritten.as_mut().and_then(Unwritten::pop_unwritable) {
            self.report.returned.extend(as_not_run(ended.sections));
        }
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_written(&self) -> bool {
        self.unwritten.as_ref().is_none_or(Unwritten::is_empty)
    }

    /// Every task of which it is still to tell, for the checks.
    pub(super) fn tasks(&self) -> impl Iterator<Item = IndexRange> + '_ {
        self.report.tasks().chain(self.unwritten.iter().flat_map(Unwritten::tasks))
    }

    fn will_tell(&mut self, Ended { sections, work, digest }: Ended) {
        for section in sections {
            self.runs += section.runs.len();
            self.report.add_section(section);
        }
        self.report.digest.merge(digest);
        self.ended += work;
        // Each is sorted a few times at the most, however many come.
        if self.runs > 2 * self.joined.max(self.runs_at_pace as usize) {
            self.join();
        }
    }

    fn join(&mut self) {
        self.report.join_runs();
        self.runs = self.report.sections.iter().map(|section| section.runs.len()).sum();
        self.joined = self.runs;
    }

    /// The next report must not wait.
    pub(super) fn hurry(&mut self) {
        self.urgent = true;
    }

    /// The next report must not wait, nor what ended: what goes with that grows large.
    pub(super) fn flush(&mut self) {
        (self.urgent, self.full) = (true, true);
    }

    /// When the report is due: at once when the parent waits for it, when it is the first that tells of tasks and these are so
    /// short that what was handed out on no knowledge lasts no longer than news take, or when all work is gone (soon, where records of it may be
    /// written until then: that is one report and not two), soon when cores are idle or half of the work is gone, else at the
    /// pace.
    fn due_at(&self, load: Load) -> Micros {
        if self.urgent || (!self.has_told && self.tells_of_short_tasks()) {
            0
        } else if load.held_cores == 0 {
            let soon = |since| since + Policy::gather_us(self.pace_us);
            if self.is_written() { 0 } else { self.news_us.map_or(0, soon) }
        } else if load.idle_cores > 0 || load.held_cores * 2 <= self.mark || !self.report.returned.is_empty() {
            self.last_us + Policy::gather_us(self.pace_us)
        } else {
            let news_us = self.news_us.filter(|_| self.gathers);
            (self.last_us + self.pace_us).max(news_us.map_or(0, |since| since + Policy::gather_us(self.pace_us)))
        }
    }

    /// Whether attempts have ended that took less than it takes until news are shared.
    fn tells_of_short_tasks(&self) -> bool {
        let Report { attempt_cores, busy_core_us, .. } = self.report;
        attempt_cores > 0 && busy_core_us / attempt_cores <= Policy::gather_us(self.pace_us)
    }

    /// From when on what ended goes along.
    fn ended_due_at(&self, load: Load) -> Micros {
        if self.full || load.held_cores == 0 {
            return 0;
        }
        let wait = self.pace_us * self.runs as u64 / self.runs_at_pace.max(1);
        let most = (wait / 16).min(MOST_HELD_BACK_US);
        let due = self.told_us + wait.min(HELD_BACK_US.max(most));
        // Where cores are idle somebody may wait for just these, to know what comes next. Not at once: near the end all
        // that is under way ends soon, and joins.
        match self.idle_us.filter(|_| load.idle_cores > 0) {
            Some(idle_us) => due.min(self.told_us.max(idle_us) + wait.min((4 * self.pace_us).max(most))),
            None => due,
        }
    }

    /// When to look again, if there is anything to tell.
    pub(super) fn next_tick(&self, load: Load) -> Option<Micros> {
        if self.epoch == 0 {
            None
        } else if self.stirred || self.report.has_news_besides_ended() {
            Some(self.due_at(load))
        } else if self.report.tells_of_ended() {
            Some(self.due_at(load).max(self.ended_due_at(load)))
        } else {
            None
        }
    }

    /// The report, if it is due. `unstarted` waits; `untold` is what the child's own children have ended and not told.
    pub(super) fn take(&mut self, now: Micros, load: Load, unstarted: Unstarted, untold: Amount) -> Option<Up> {
        self.idle_us = if load.idle_cores > 0 { self.idle_us.or(Some(now)) } else { None };
        let may_wait = self.gathers || !self.is_written();
        if may_wait && self.news_us.is_none() && (self.stirred || self.report.has_news_besides_ended()) {
            self.news_us = Some(now);
        }
        if self.next_tick(load).is_none_or(|due| now < due) {
            return None;
        }
        self.news_us = None;
        let mut report = if now < self.ended_due_at(load) {
            self.report.take_all_but_ended()
        } else {
            self.join();
            (self.runs, self.joined, self.told_us, self.full) = (0, 0, now, false);
            self.ended = Amount::default();
            std::mem::take(&mut self.report)
        };
        report.untold = untold;
        report.untold += self.ended;
        report.untold += self.unwritten.as_ref().map_or(Amount::default(), Unwritten::work);
        report.unstarted = unstarted;
        report.hands = self.hands;
        self.has_told |= report.attempts > 0;
        self.last_us = now;
        self.mark = load.held_cores;
        (self.urgent, self.stirred) = (false, false);
        Some(Up::Report { epoch: self.epoch, report })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Section;
    use crate::task::{BundleId, EndedRun, FailureDigest, OutcomeClass};

    const PACE: u64 = 10_000;

    fn uplink() -> Uplink {
        let mut uplink = Uplink::new(&Policy { runs_at_pace: 4, ..Policy::default() });
        uplink.open(0, 1, PACE);
        uplink.supplied(100);
        uplink
    }

    /// The tasks of these places ended below, a run each.
    fn end(uplink: &mut Uplink, places: impl Iterator<Item = u64>) {
        let runs: Vec<_> = places.map(|at| EndedRun { range: IndexRange::one(at), class: OutcomeClass::Ok }).collect();
        let count = runs.len() as u64;
        uplink.report.attempts += count;
        let section = Section { bundle: BundleId(1), extent: None, runs };
        let work = Amount { tasks: count, cores: count, gpus: 0, gpu_cores: 0, apart: 0 };
        uplink.ended_below(Ended { sections: vec![section], work, digest: FailureDigest::default() });
    }

    fn holding(held_cores: u64) -> Load {
        Load { held_cores, idle_cores: 0 }
    }

    fn take(uplink: &mut Uplink, now: Micros, load: Load) -> Option<Report> {
        take_with(uplink, now, load, Amount::default())
    }

    fn take_with(uplink: &mut Uplink, now: Micros, load: Load, untold: Amount) -> Option<Report> {
        match uplink.take(now, load, Unstarted::default(), untold)? {
            Up::Report { report, .. } => Some(report),
            other => panic!("{other:?} is no report"),
        }
    }

    #[test]
    fn many_runs_wait_until_they_have_joined_and_are_counted_meanwhile() {
        let mut uplink = uplink();
        end(&mut uplink, (0..40).map(|at| 2 * at));
        // Forty runs where four are as much as a message: they wait for ten paces.
        let news = take(&mut uplink, PACE, holding(99)).expect("the pace is over");
        assert_eq!((news.sections.len(), news.attempts, news.untold.tasks), (0, 40, 40));
        assert_eq!(uplink.next_tick(holding(99)), Some(10 * PACE), "nothing else is to be told");
        end(&mut uplink, (0..40).map(|at| 2 * at + 1));
        assert!(take(&mut uplink, 2 * PACE, holding(98)).expect("attempts are news").sections.is_empty());
        let due = uplink.next_tick(holding(98)).expect("they are to be told");
        assert_eq!(take(&mut uplink, due - 1, holding(98)), None);
        let news = take(&mut uplink, due, holding(98)).expect("they are due");
        let all = EndedRun { range: IndexRange::new(0, 80), class: OutcomeClass::Ok };
        assert_eq!((&news.sections[0].runs[..], news.untold.tasks), (&[all][..], 0));
        assert_eq!(uplink.next_tick(holding(98)), None);
    }

    #[test]
    fn few_runs_do_not_wait_and_the_last_are_told_at_once() {
        let mut uplink = uplink();
        end(&mut uplink, 0..1);
        let news = take(&mut uplink, PACE, holding(99)).expect("the pace is over");
        assert_eq!((news.sections.len(), news.untold.tasks), (1, 0));
        end(&mut uplink, (10..50).map(|at| 2 * at));
        let news = take(&mut uplink, PACE + 1, holding(0)).expect("all has ended");
        assert_eq!((news.sections[0].runs.len(), news.untold.tasks), (40, 0));
    }

    #[test]
    fn what_ended_does_not_wait_where_it_has_grown_large_nor_for_long() {
        let mut uplink = uplink();
        end(&mut uplink, (0..40).map(|at| 2 * at));
        uplink.flush();
        assert_eq!(take(&mut uplink, 1, holding(99)).expect("it is full").sections.len(), 1);
        end(&mut uplink, (0..1000).map(|at| 1000 + 2 * at));
        assert!(take(&mut uplink, PACE + 1, holding(99)).expect("the pace is over").sections.is_empty());
        assert_eq!(uplink.next_tick(holding(99)), Some(1 + HELD_BACK_US));
    }

    #[test]
    fn however_many_runs_end_all_the_time_they_are_told_in_the_end() {
        for (idle_cores, runs_a_ms) in [(0, 5), (0, 200), (1, 5), (1, 200)] {
            let (mut uplink, load) = (uplink(), Load { held_cores: 99, idle_cores });
            let (mut told_us, mut longest) = (0, 0);
            for now in (0..10_000_000).step_by(1000) {
                end(&mut uplink, (0..runs_a_ms).map(|at| 2 * (now + at)));
                if take(&mut uplink, now, load).is_some_and(|news| !news.sections.is_empty()) {
                    (longest, told_us) = (longest.max(now - told_us), now);
                }
            }
            assert!(longest > 0 && longest.max(10_000_000 - told_us) <= MOST_HELD_BACK_US + 1000, "after {longest} µs");
        }
    }

    #[test]
    fn where_cores_are_idle_what_ended_waits_from_then_on_for_some_paces_at_most() {
        let idle = Load { held_cores: 99, idle_cores: 1 };
        let (few, many) = (6, 200);
        for (runs, paces) in [(few, 1), (many, 4)] {
            let mut uplink = uplink();
            end(&mut uplink, (0..runs).map(|at| 2 * at));
            assert!(take(&mut uplink, PACE, holding(99)).expect("the pace is over").sections.is_empty());
            let since = PACE + 3;
            assert!(take(&mut uplink, since, idle).is_none(), "nothing is new but that cores are idle");
            let due = uplink.next_tick(idle).expect("something is to be told");
            let all_of_few = PACE * runs / 4;
            assert_eq!(due, if paces == 1 { all_of_few } else { since + 4 * PACE });
            assert!(take(&mut uplink, due - 1, idle).is_none());
            assert_eq!(take(&mut uplink, due, idle).expect("it is due").sections.len(), 1);
        }
    }

    #[test]
    fn the_first_report_of_short_tasks_does_not_wait_and_the_next_does() {
        for (took_us, waits) in [(PACE / 8, false), (PACE, true)] {
            let mut uplink = uplink();
            for now in [1, 2] {
                (uplink.report.attempts, uplink.report.attempt_cores, uplink.report.busy_core_us) = (2, 2, 2 * took_us);
                let told = take(&mut uplink, now, holding(99)).is_some();
                assert_eq!(told, now == 1 && !waits, "tasks of {took_us} µs, at {now}");
            }
        }
    }

    #[test]
    fn what_children_have_not_told_counts_too() {
        let mut uplink = uplink();
        end(&mut uplink, (0..40).map(|at| 2 * at));
        let below = Amount { tasks: 5, cores: 10, gpus: 0, gpu_cores: 0, apart: 0 };
        let news = take_with(&mut uplink, PACE, holding(99), below).expect("the pace is over");
        assert_eq!((news.untold.tasks, news.untold.cores), (45, 50));
    }
}
