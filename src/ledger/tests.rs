//! Journal, segments, loading and reading together, as a run uses them.

use super::testing::{ok, printed};
use super::*;
use crate::task::{EndedRun, Extent};
use crate::task::{IndexRange, Outcome, OutcomeClass, Status};
use crate::wake::Wake;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const SYNC: Duration = Duration::from_secs(3600);

/// A run of which each start has one keeper.
struct Run {
    _folder: tempfile::TempDir,
    dir: RunDir,
}

/// One start of it.
struct Start {
    generation: u32,
    state: LedgerState,
    /// Bytes of the journal that were in place before the start went on.
    base: u64,
    journal: JournalWriter,
    segment: SegmentWriter,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = RunDir::create(Some(&folder.path().join("run"))).unwrap();
        Self { _folder: folder, dir }
    }

    fn load(&self) -> Loaded {
        load(&self.dir).unwrap()
    }

    fn start(&self, generation: u32, tasks: u64) -> Start {
        let loaded = self.load();
        let wake = Wake::new().unwrap();
        let mut journal = JournalWriter::start(&self.dir, generation, &loaded, SYNC, wake.clone()).unwrap();
        let segment = SegmentWriter::new(&self.dir.segments(), loaded.next_segment, SYNC, wake);
        let base = journal.durable();
        let record = Record::Start {
            generation,
            started_unix_us: 1,
            tasks,
            nodes: vec![format!("node-of-{generation}")],
            first_segment: loaded.next_segment,
            segments: 1,
        };
        journal.append(&record);
        let mut state = loaded.state;
        state.apply(&record);
        Start { generation, state, base, journal, segment }
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.dir).unwrap()
    }

    fn journal_path(&self) -> PathBuf {
        self.dir.journal(self.dir.journal_generations().unwrap().into_iter().max().unwrap())
    }

    fn segment_path(&self, number: u32) -> PathBuf {
        segment::segment_path(&self.dir.segments(), number)
    }

    /// Every task's status as the reader lists it, which must be what it says of each alone.
    fn listed(&self) -> BTreeMap<u64, String> {
        let reader = self.reader();
        let listed: Vec<Outcome> = reader.outcomes(Selection::ALL, Streams::BOTH).map(Result::unwrap).collect();
        assert!(listed.is_sorted_by_key(|o| o.index));
        for outcome in &listed {
            assert_eq!(reader.outcome(outcome.index).unwrap().as_ref(), Some(outcome));
        }
        assert_eq!(listed.len() as u64, reader.counts().ended());
        listed.into_iter().map(|o| (o.index, o.status.to_string())).collect()
    }
}

impl Start {
    fn block(&self, outcomes: &[Outcome]) -> Vec<u8> {
        let mut builder = BlockBuilder::new(self.generation, self.state.round);
        outcomes.iter().for_each(|o| builder.push(o));
        builder.finish()
    }

    /// Keeps the outcomes and tells the journal.
    fn report(&mut self, outcomes: &[Outcome]) {
        let extent = self.keep(outcomes);
        // As in a run: the journal may point only to what is written.
        testing::eventually("the block is written", || self.segment.durable() >= extent.end());
        let runs: Vec<EndedRun> =
            outcomes.iter().map(|o| EndedRun { range: IndexRange::one(o.index), class: o.status.class() }).collect();
        let round = self.state.round;
        let runs = self.state.accept(round, &runs);
        self.journal.append(&Record::Ended { round, extent: Some(extent), runs });
    }

    /// Keeps the outcomes; the journal does not hear of it.
    fn keep(&mut self, outcomes: &[Outcome]) -> Extent {
        let block = self.block(outcomes);
        self.segment.append(block)
    }

    fn retry_failed(&mut self) {
        if let Some(record) = self.state.reopen_failed() {
            self.journal.append(&record);
        }
    }

    /// Ends without a word, as a kill does.
    fn die(self) -> LedgerState {
        self.segment.finish().unwrap();
        self.journal.finish().unwrap();
        self.state
    }
}

fn outcomes(range: std::ops::Range<u64>) -> Vec<Outcome> {
    range.map(|i| printed(i, if i % 5 == 0 { Status::Exit(3) } else { Status::Ok })).collect()
}

#[test]
fn a_run_without_a_journal_loads_as_empty() {
    let run = Run::new();
    let loaded = run.load();
    assert_eq!((loaded.state, loaded.next_segment), (LedgerState::new(), 0));
    assert_eq!(run.reader().counts(), Counts::default());
}

#[test]
fn what_was_reported_is_there_after_any_number_of_starts() {
    let run = Run::new();
    for generation in 1..=4 {
        let mut start = run.start(generation, 400);
        let first = u64::from(generation - 1) * 100;
        for at in (0..10).rev().map(|tens| first + tens * 10) {
            start.report(&outcomes(at..at + 10));
        }
        let state = start.die();
        let loaded = run.load();
        assert_eq!(loaded.state, state);
        assert_eq!((loaded.adopted, loaded.lost, loaded.torn_bytes), (0, 0, 0));
    }
    let reader = run.reader();
    let one = reader.outcome(255).unwrap().unwrap();
    assert_eq!((one.stdout.bytes, reader.node_name(one.node)), (b"out 255\n".to_vec(), "node-of-3"));
    assert_eq!(run.listed().len(), 400);
    assert_eq!(run.dir.journal_generations().unwrap(), [4], "the journals of earlier starts are gone");
}

#[test]
fn a_reader_follows_a_run_that_goes_on() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    for at in 0..10 {
        start.report(&outcomes(at * 10..at * 10 + 10));
        testing::eventually("the report is readable", || run.reader().counts().ended() == (at + 1) * 10);
        assert_eq!(run.listed().len() as u64, (at + 1) * 10);
    }
    start.die();
}

#[test]
fn blocks_that_the_journal_does_not_know_are_adopted() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    start.keep(&outcomes(0..10));
    start.report(&outcomes(10..20));
    start.keep(&outcomes(15..30));
    start.die();
    let loaded = run.load();
    assert_eq!((loaded.adopted, loaded.state.counts().ended()), (20, 30));
    run.start(2, 100).die();
    assert_eq!(run.listed().len(), 30);
    assert_eq!(run.load().adopted, 0, "what was adopted is known from then on");
}

#[test]
fn a_block_that_was_not_written_whole_is_not_adopted() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    start.report(&outcomes(0..10));
    let known = start.keep(&outcomes(10..20));
    start.keep(&outcomes(20..30));
    start.die();
    let path = run.segment_path(0);
    let bytes = std::fs::read(&path).unwrap();
    for cut in known.end() as usize..bytes.len() {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        assert_eq!(run.load().adopted, 10, "cut at {cut}");
    }
}

#[test]
fn blocks_of_an_earlier_round_or_of_no_task_are_not_adopted() {
    let run = Run::new();
    let mut start = run.start(1, 20);
    start.report(&[printed(1, Status::Exit(1))]);
    let late = start.block(&[printed(1, Status::Exit(2)), printed(2, Status::Exit(2))]);
    start.retry_failed();
    start.segment.append(late);
    start.keep(&[ok(99)]);
    start.die();
    let loaded = run.load();
    assert_eq!((loaded.adopted, loaded.state.counts().ended(), loaded.state.round), (0, 0, 1));
}

#[test]
fn a_second_outcome_is_refused_and_the_first_is_shown() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    start.report(&[printed(5, Status::Exit(1)), printed(6, Status::Ok)]);
    start.report(&[printed(5, Status::Ok), printed(7, Status::Ok)]);
    assert_eq!(start.state.refused, 1);
    start.die();
    for generation in 2..4 {
        assert_eq!(run.listed(), BTreeMap::from([(5, "exit:1".into()), (6, "ok".into()), (7, "ok".into())]));
        // The next journal joins both extents; the first record still is the one that counts.
        run.start(generation, 100).die();
    }
}

#[test]
fn a_task_that_was_retried_shows_its_new_outcome_alone() {
    let run = Run::new();
    let mut start = run.start(1, 10);
    start.report(&outcomes(0..10));
    start.die();
    let mut start = run.start(2, 10);
    start.retry_failed();
    assert_eq!(start.state.unfinished(10), [IndexRange::one(0), IndexRange::one(5)]);
    start.report(&[printed(5, Status::Ok)]);
    start.die();
    let expected: BTreeMap<u64, String> = (1..10).map(|i| (i, "ok".to_owned())).collect();
    assert_eq!(run.listed(), expected);
    assert_eq!(run.load().state.round, 1);
    run.start(3, 10).die();
    assert_eq!(run.listed(), expected);
}

#[test]
fn a_record_of_an_earlier_round_within_an_extent_is_passed_over() {
    let run = Run::new();
    let mut start = run.start(1, 10);
    start.report(&[printed(1, Status::Exit(1))]);
    let late = start.block(&[printed(1, Status::Exit(2))]);
    start.retry_failed();
    let late = start.segment.append(late);
    let extent = late.join(start.keep(&[printed(1, Status::Ok)])).unwrap();
    let runs = start.state.accept(1, &[EndedRun { range: IndexRange::one(1), class: OutcomeClass::Ok }]);
    start.journal.append(&Record::Ended { round: 1, extent: Some(extent), runs });
    start.die();
    assert_eq!(run.listed(), BTreeMap::from([(1, "ok".into())]));
}

#[test]
fn tasks_of_which_only_the_class_was_kept_are_listed_too() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    for (range, class) in [(0..5, OutcomeClass::Ok), (5..8, OutcomeClass::Cancelled)] {
        let runs = vec![EndedRun { range: IndexRange::new(range.start, range.end), class }];
        let runs = start.state.accept(0, &runs);
        start.journal.append(&Record::Ended { round: 0, extent: None, runs });
    }
    start.die();
    assert_eq!(run.listed().values().filter(|s| *s == "cancelled").count(), 3);
    assert_eq!(run.listed().len(), 8);
}

#[test]
fn outcomes_whose_segment_did_not_survive_run_again() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    start.report(&outcomes(0..10));
    let kept = start.keep(&[]).offset;
    start.report(&outcomes(10..20));
    start.die();
    let path = run.segment_path(0);
    let bytes = std::fs::read(&path).unwrap();
    let mut zeroed = bytes.clone();
    zeroed[kept as usize..].fill(0);
    for damaged in [bytes[..bytes.len() - 1].to_vec(), zeroed] {
        std::fs::write(&path, damaged).unwrap();
        let loaded = run.load();
        assert_eq!((loaded.lost, loaded.state.unfinished(100)), (10, vec![IndexRange::new(10, 100)]));
        assert_eq!(loaded.notes().len(), 1);
        let reader = run.reader();
        let read: Vec<_> = reader.outcomes(Selection::ALL, Streams::BOTH).collect();
        assert_eq!(read.iter().filter(|r| r.is_ok()).count(), 10, "the rest can be read");
        let error = reader.outcome(15).unwrap_err().to_string();
        assert!(error.contains("00000000.seg"), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(run.load().lost, 20);
    let mut start = run.start(2, 100);
    start.report(&outcomes(0..20));
    start.die();
    assert_eq!(run.listed().len(), 20);
}

#[test]
fn damage_within_the_journal_is_named_kept_and_made_up_from_the_segments() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    for at in 0..10 {
        start.report(&outcomes(at * 10..at * 10 + 10));
    }
    let state = start.die();
    let path = run.journal_path();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(run.reader().damage().is_some_and(|what| what.contains("journal.1: damaged at byte")));
    let loaded = run.load();
    assert!(loaded.damage.is_some() && loaded.adopted > 0);
    assert_eq!(loaded.state.ended, state.ended);
    assert_eq!(loaded.state.failed, state.failed);
    run.start(2, 100).die();
    assert_eq!(std::fs::read(run.dir.path().join("journal.1.damaged")).unwrap(), bytes);
    assert_eq!(run.listed().len(), 100);
}

#[test]
fn a_start_that_was_given_up_cannot_touch_the_journal_of_its_successor() {
    let run = Run::new();
    let mut old = run.start(1, 100);
    old.report(&outcomes(0..10));
    testing::eventually("written", || run.reader().counts().ended() == 10);
    let mut new = run.start(2, 100);
    new.report(&outcomes(10..20));
    old.report(&outcomes(50..60));
    old.die();
    new.die();
    assert_eq!(run.listed().keys().copied().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    // What it kept is not lost: the next start adopts it.
    assert_eq!(run.load().adopted, 10);
}

#[test]
fn a_journal_grows_with_reports_and_is_shortened_at_the_next_start() {
    let run = Run::new();
    let mut start = run.start(1, 1_000_000);
    for at in 0..2000u64 {
        start.report(&[ok(at)]);
    }
    start.die();
    let before = std::fs::metadata(run.journal_path()).unwrap().len();
    run.start(2, 1_000_000).die();
    let after = std::fs::metadata(run.journal_path()).unwrap().len();
    assert!(after < 200 && before > 20_000, "{before} {after}");
    assert_eq!(run.load().state.counts().ok, 2000);
}

#[test]
fn a_window_that_is_full_of_output_reads_the_rest_in_its_turn() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    let big = |index: u64| Outcome {
        stdout: crate::task::Captured { bytes: vec![index as u8; 24 << 20], head: 7, dropped: 9 },
        ..printed(index, Status::Ok)
    };
    for index in [3, 1, 0, 4, 2] {
        start.report(&[big(index)]);
    }
    start.die();
    let reader = run.reader();
    let mut count = 0;
    for (index, outcome) in reader.outcomes(Selection::ALL, Streams::BOTH).enumerate() {
        assert!(outcome.unwrap() == Outcome { node: 0, ..big(index as u64) });
        count += 1;
    }
    assert_eq!(count, 5);
    let errors: Vec<_> = reader.outcomes(Selection::ALL, Streams::STDERR).map(Result::unwrap).collect();
    assert!(errors.iter().all(|o| o.stdout.bytes.is_empty() && !o.stderr.bytes.is_empty()));
}

#[test]
fn failed_tasks_are_written_as_a_task_list() {
    let run = Run::new();
    let mut start = run.start(1, 100);
    start.report(&outcomes(0..20));
    start.die();
    let task = |i: u64| {
        let value = serde_json::json!({"shell": format!("run {i}"), "cores": 2});
        value.as_object().cloned().unwrap()
    };
    let path = run.dir.failed();
    let count = write_failed_jsonl(&run.reader(), task, |i| i + 1000, |i| Some(i + 1), &path).unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((count, rows.len()), (4, 4));
    assert_eq!(
        rows[1],
        serde_json::json!({
            "index": 1005, "line": 6, "status": "exit:3", "attempts": 1, "node": "node-of-1", "seconds": 0.001,
            "stderr_tail": "starting 5\nerr 2\n", "shell": "run 5", "cores": 2
        })
    );
}

/// What one step of a run does.
#[derive(Clone, Debug)]
enum Step {
    Report(Vec<(u64, bool)>),
    Retry,
    Restart,
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let report = prop::collection::vec((0..64u64, any::<bool>()), 1..12);
    let step = prop_oneof![8 => report.prop_map(Step::Report), 1 => Just(Step::Retry), 2 => Just(Step::Restart)];
    prop::collection::vec(step, 1..25)
}

/// Whether both say the same of every task.
fn is_same(a: &LedgerState, b: &LedgerState) -> bool {
    (&a.ok, &a.failed, &a.cancelled, &a.ended, a.round) == (&b.ok, &b.failed, &b.cancelled, &b.ended, b.round)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The account after each step is kept beside. After the journal is cut anywhere behind its beginning, which is
    /// in place before a start goes on, the reader sees one of these moments, and loading makes up from the segments
    /// for all that was cut of the present round.
    #[test]
    fn a_run_cut_anywhere_resumes_as_it_was_at_some_moment(
        steps in any_steps(),
        place in any::<prop::sample::Index>(),
    ) {
        let run = Run::new();
        let mut generation = 1;
        let mut start = run.start(generation, 64);
        let mut moments = vec![LedgerState::new(), start.state.clone()];
        for step in steps {
            match step {
                Step::Report(tasks) => {
                    let status = |well| if well { Status::Ok } else { Status::Exit(1) };
                    let outcomes: Vec<Outcome> = tasks.into_iter().map(|(i, well)| printed(i, status(well))).collect();
                    start.report(&outcomes);
                }
                Step::Retry => start.retry_failed(),
                Step::Restart => {
                    let before = start.die();
                    generation += 1;
                    start = run.start(generation, 64);
                    prop_assert!(is_same(&start.state, &before));
                    moments.clear();
                }
            }
            moments.push(start.state.clone());
        }
        let base = start.base as usize;
        let whole = start.die();
        let listed = run.listed();
        prop_assert_eq!(listed.len() as u64, whole.counts().ended());
        for (index, status) in listed {
            prop_assert_eq!(status == "ok", whole.ok.contains(index));
        }
        let path = run.journal_path();
        let bytes = std::fs::read(&path).unwrap();
        let cut = base + place.index(bytes.len() - base + 1);
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let reader = run.reader();
        prop_assert!(reader.damage().is_none());
        prop_assert!(moments.iter().any(|moment| is_same(moment, reader.state())));
        let loaded = run.load();
        if loaded.state.round == whole.round && loaded.state.tasks == 64 {
            prop_assert!(is_same(&loaded.state, &whole));
        }
    }

    /// One damaged byte anywhere in a segment: loading neither panics nor makes up an outcome.
    #[test]
    fn a_damaged_segment_gives_no_false_outcome(place in any::<prop::sample::Index>(), bit in 0..8u8, known: bool) {
        let run = Run::new();
        let mut start = run.start(1, 64);
        for at in 0..4 {
            let outcomes = outcomes(at * 8..at * 8 + 8);
            if known { start.report(&outcomes) } else { start.keep(&outcomes); }
        }
        start.die();
        let path = run.segment_path(0);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = place.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, &bytes).unwrap();
        let hit = at as u64 * 4 / bytes.len() as u64;
        let loaded = run.load();
        prop_assert!(loaded.state.counts().ended() < 32);
        if known {
            prop_assert!(loaded.state.counts().ended() >= 16, "{} {}", hit, loaded.state.counts().ended());
        }
        for outcome in run.reader().outcomes(Selection::ALL, Streams::BOTH).flatten() {
            let expected = outcomes(outcome.index..outcome.index + 1).remove(0);
            prop_assert_eq!(outcome, expected);
        }
    }
}
