//! `myriarch status`: how a run stands, while it goes on and after. Its exit status is the run's own, which launchers
//! lose.

use super::dir::{DirArg, print};
use super::{EXIT_FAILED, EXIT_OK, EXIT_UNFINISHED};
use crate::ledger::{
    Counts, LostRank, OwnerRecord, OwnerState, Patience, Progress, Reader, RunDir, RunState, SessionInfo, Summary,
    read_json,
};
use crate::observe::stopped_by;
use crate::observe::text::{count, of, precise, rate, resume_command, whole};
use crate::task::{Bundle, EndedBy};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a run is looked at that is followed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a line is written where standard output is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Show how a run stands
///
/// The exit status is the run's own once it has ended (0: all tasks ended well, 1: some failed, 3: tasks are left,
/// the run can be resumed), and 3 while it goes on.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: DirArg,
    /// Go on showing until the run ends
    #[arg(long, short)]
    follow: bool,
    /// One JSON object (with --follow: one at each look that shows news)
    #[arg(long)]
    json: bool,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Standing {
    /// Its owner lives.
    Running,
    /// Every task has an outcome.
    Complete,
    /// It ended in order, and tasks are left.
    Stopped,
    /// Its owner is gone without a word, and tasks are left.
    Died,
}

/// All that can be told of a run from its folder.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    dir: String,
    pub(super) state: Standing,
    tasks: u64,
    ok: u64,
    failed: u64,
    cancelled: u64,
    unfinished: u64,
    ended_by: Option<EndedBy>,
    /// Of the run; none while it goes on.
    exit_status: Option<i32>,
    /// The command that goes on with it; of a session, the one that started its program.
    resume: Option<String>,
    #[serde(skip)]
    is_session: bool,
    /// It died, and called functions without `--isolate`.
    #[serde(skip)]
    may_have_crashed: bool,
    owner: Option<OwnerRecord>,
    progress: Option<Progress>,
    summary: Option<Summary>,
}

impl Report {
    /// Looks at the folder. Where only the owner's beat can tell whether the run goes on, it is watched for a while.
    pub(super) fn read(dir: &RunDir) -> anyhow::Result<Self> {
        // The owner first: it takes the old summary away once it owns the folder.
        let owner = OwnerState::look(dir)?;
        let summary = Summary::read(dir)?;
        let (is_running, gave_back, owner) = match owner {
            OwnerState::None => (false, false, None),
            OwnerState::Released(record) => (false, true, Some(record)),
            OwnerState::Alive(record) => (true, false, Some(record)),
            OwnerState::Dead(record) => (false, false, Some(record)),
            OwnerState::Unknown(record) => (summary.is_none() && beats(dir, record.as_ref())?, false, record),
        };
        let path = dir.path().display().to_string();
        if is_running {
            return Self::running(dir, path, owner);
        }
        if let Some(summary) = summary {
            return Ok(Self::ended(dir, path, owner, summary));
        }
        Self::without_word(dir, path, owner, gave_back)
    }

    fn running(dir: &RunDir, path: String, owner: Option<OwnerRecord>) -> anyhow::Result<Self> {
        let progress = Progress::read(dir)?;
        let (tasks, ok, failed, cancelled) = match &progress {
            Some(p) => (p.tasks, p.ok, p.failed, p.cancelled),
            None => counted(dir)?,
        };
        Ok(Self {
            dir: path,
            state: Standing::Running,
            tasks,
            ok,
            failed,
            cancelled,
            unfinished: [ok, failed, cancelled].iter().fold(tasks, |left, n| left.saturating_sub(*n)),
            ended_by: None,
            exit_status: None,
            resume: None,
            is_session: dir.is_session(),
            may_have_crashed: false,
            owner,
            progress,
            summary: None,
        })
    }

    fn ended(dir: &RunDir, path: String, owner: Option<OwnerRecord>, summary: Summary) -> Self {
        let left = summary.unfinished > 0;
        Self {
            state: if left { Standing::Stopped } else { Standing::Complete },
            tasks: summary.tasks,
            ok: summary.ok,
            failed: summary.failed,
            cancelled: summary.cancelled,
            unfinished: summary.unfinished,
            ended_by: Some(summary.ended_by),
            exit_status: Some(summary.exit_status),
            resume: left.then(|| resume_with(dir)),
            is_session: dir.is_session(),
            may_have_crashed: false,
            dir: path,
            owner,
            progress: None,
            summary: Some(summary),
        }
    }

    /// Takes the counts of the journal where they say more: those of `progress.json` may be seconds old. Reads the whole
    /// journal, which is too much for a look that is repeated.
    fn look_closely(&mut self, dir: &RunDir) {
        if self.state != Standing::Running {
            return;
        }
        // A journal that a start is just about to replace may be gone.
        let Ok((tasks, ok, failed, cancelled)) = counted(dir) else { return };
        let unfinished = [ok, failed, cancelled].iter().fold(tasks, |left, n| left.saturating_sub(*n));
        if tasks == self.tasks && unfinished < self.unfinished {
            (self.ok, self.failed, self.cancelled, self.unfinished) = (ok, failed, cancelled, unfinished);
        }
    }

    /// A start that ended without a summary: the journal knows best.
    fn without_word(dir: &RunDir, path: String, owner: Option<OwnerRecord>, gave_back: bool) -> anyhow::Result<Self> {
        let reader = Reader::open(dir)?;
        let (tasks, Counts { ok, failed, cancelled }) = (reader.tasks(), reader.counts());
        let unfinished = [ok, failed, cancelled].iter().fold(tasks, |left, n| left.saturating_sub(*n));
        // What the program of a session would have submitted next nobody knows.
        let left = unfinished > 0 || tasks == 0 || dir.is_session();
        Ok(Self {
            state: match (left, gave_back) {
                (false, _) => Standing::Complete,
                (true, true) => Standing::Stopped,
                (true, false) => Standing::Died,
            },
            exit_status: Some(match (left, failed) {
                (true, _) => EXIT_UNFINISHED,
                (false, 0) => EXIT_OK,
                (false, _) => EXIT_FAILED,
            }),
            resume: left.then(|| resume_with(dir)),
            is_session: dir.is_session(),
            may_have_crashed: left && !gave_back && calls_unprotected(dir),
            dir: path,
            tasks,
            ok,
            failed,
            cancelled,
            unfinished,
            ended_by: reader.state().ended_by,
            owner,
            progress: None,
            summary: None,
        })
    }

    /// What this command's exit status is.
    pub(super) fn exit_status(&self) -> i32 {
        self.exit_status.unwrap_or(EXIT_UNFINISHED)
    }

    fn headline(&self) -> String {
        let state = match (self.state, self.ended_by, &self.progress) {
            (Standing::Running, _, Some(p)) if p.state != RunState::Running => p.state.to_string(),
            (Standing::Running, ..) => "running".to_owned(),
            (Standing::Complete, ..) => "complete".to_owned(),
            (Standing::Stopped, Some(why), _) => match stopped_by(why) {
                why if why.starts_with("stopped") => why.to_owned(),
                why => format!("stopped: {why}"),
            },
            (Standing::Stopped, None, _) => "stopped".to_owned(),
            (Standing::Died, ..) => "died".to_owned(),
        };
        let mut line = format!(
            "{}: {state}, {} of {} ended",
            self.dir,
            count(self.tasks.saturating_sub(self.unfinished)),
            of(self.tasks, "task")
        );
        let running = self.progress.as_ref().map_or(0, |p| p.running.min(self.unfinished));
        for (n, what) in [(self.failed, "failed"), (self.cancelled, "cancelled"), (running, "running")] {
            if n > 0 {
                line += &format!(", {} {what}", count(n));
            }
        }
        if let Some(lost) = self.progress.as_ref().map(|p| p.lost).filter(|lost| *lost > 0) {
            line += &format!(", {} lost", of(lost.into(), "rank"));
        }
        if let Some(p) = self.progress.as_ref().filter(|p| p.tasks_per_second > 0.0) {
            line += &format!(", {}", rate(p.tasks_per_second));
        }
        line
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}", self.headline())?;
        if let (Standing::Running | Standing::Died, Some(owner)) = (self.state, &self.owner) {
            writeln!(out, "  {owner}")?;
        }
        if let Some(s) = &self.summary {
            writeln!(out, "  last start: {}", last_start(s))?;
        }
        for task in self.progress.iter().flat_map(|p| &p.longest) {
            let label = task.bundle.map_or_else(String::new, |bundle| format!("{bundle}:"));
            let (index, seconds) = (task.index, whole(time(task.seconds)));
            writeln!(out, "  task {label}{index} has been running for {seconds} on {}", task.node)?;
        }
        if self.failed > 0 {
            writeln!(out, "  what failed: myriarch failed {}", self.dir)?;
        }
        if let Some(resume) = &self.resume {
            let how = if self.is_session { "go on by starting its program again" } else { "resume with" };
            writeln!(out, "  {how}: {resume}")?;
            if self.may_have_crashed {
                writeln!(
                    out,
                    "  where a function crashed its rank: the same with --isolate, and it costs its task alone"
                )?;
            }
        }
        Ok(())
    }
}

/// Whether tasks of a run are functions that its ranks call themselves.
fn calls_unprotected(dir: &RunDir) -> bool {
    let options: Option<serde_json::Value> = read_json(&dir.options()).ok().flatten();
    let is_isolated = options.is_some_and(|options| options["isolate"] == true);
    !is_isolated && Bundle::open(&dir.bundle()).is_ok_and(|bundle| !bundle.functions().is_empty())
}

/// What the last start came to; the counts are those of all.
fn last_start(s: &Summary) -> String {
    let (slots, nodes, ranks) = (of(s.slots, "slot"), of(s.nodes.into(), "node"), of(s.ranks.into(), "rank"));
    let place = format!("{slots} on {nodes} ({ranks})");
    if s.tasks_per_second <= 0.0 {
        return format!("no task ended; {place}");
    }
    let busy = (s.utilisation * 100.0).clamp(0.0, 100.0);
    let (time, rate) = (precise(time(s.wall_seconds)), rate(s.tasks_per_second));
    let benched = if s.benched.is_empty() { String::new() } else { format!("; benched: {}", s.benched.join(", ")) };
    let back = |lost: &LostRank| if lost.came_back { ", came back" } else { "" };
    let lost: Vec<String> = s.lost.iter().map(|lost| format!("{} ({}{})", lost.rank, lost.node, back(lost))).collect();
    let lost = if lost.is_empty() { String::new() } else { format!("; lost ranks: {}", lost.join(", ")) };
    format!("{time}, {rate}, {busy:.0} % of slot time busy, {place}{benched}{lost}")
}

fn time(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Tasks, and how many ended well, failed and were cancelled, by the journal.
fn counted(dir: &RunDir) -> anyhow::Result<(u64, u64, u64, u64)> {
    let reader = Reader::open(dir)?;
    let counts = reader.counts();
    Ok((reader.tasks(), counts.ok, counts.failed, counts.cancelled))
}

/// The command that goes on with the run, started as the run was.
fn resume_with(dir: &RunDir) -> String {
    if let Ok(Some(known)) = SessionInfo::read(dir) {
        return known.command();
    }
    let options = std::fs::read(dir.options()).unwrap_or_default();
    let options: serde_json::Value = serde_json::from_slice(&options).unwrap_or_default();
    resume_command(options["launch"].as_str().unwrap_or_default(), dir.path(), "")
}

/// Whether an owner on another host lives. A beat that is recent by both clocks is taken for life; otherwise the beat
/// is watched.
fn beats(dir: &RunDir, record: Option<&OwnerRecord>) -> anyhow::Result<bool> {
    let stale_after = Patience::default().stale_after;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    if record.is_some_and(|r| now.abs_diff(r.beat_unix) < stale_after.as_secs()) {
        return Ok(true);
    }
    eprintln!("myriarch: looking for up to {} s whether the run still beats", stale_after.as_secs());
    Ok(matches!(OwnerState::watch(dir, stale_after)?, OwnerState::Alive(_)))
}

/// Runs the command.
pub fn main(args: Args) -> anyhow::Result<i32> {
    let dir = args.dir.clone().find()?;
    if args.follow {
        return follow(&dir, args.json);
    }
    let mut report = Report::read(&dir)?;
    report.look_closely(&dir);
    print(|out| {
        show(&report, args.json, out)?;
        Ok(report.exit_status())
    })
}

fn show(report: &Report, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, report)?;
        out.write_all(b"\n")?;
    } else {
        report.write(out)?;
    }
    Ok(())
}

fn follow(dir: &RunDir, json: bool) -> anyhow::Result<i32> {
    print(|out| {
        let redraw = !json && std::io::stdout().is_terminal();
        let mut shown: Option<(Instant, String)> = None;
        loop {
            let report = Report::read(dir)?;
            if report.state != Standing::Running {
                if redraw && shown.is_some() {
                    out.write_all(b"\r\x1b[K")?;
                }
                show(&report, json, out)?;
                return Ok(report.exit_status());
            }
            let line = if json { serde_json::to_string(&report)? } else { report.headline() };
            let is_due = redraw || json || shown.as_ref().is_none_or(|(at, _)| at.elapsed() >= LINE_EVERY);
            if is_due && shown.as_ref().is_none_or(|(_, last)| *last != line) {
                let text = if redraw { format!("\r\x1b[K{line}") } else { format!("{line}\n") };
                out.write_all(text.as_bytes())?;
                out.flush()?;
                shown = Some((Instant::now(), line));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::dir::testing::{outcome, run_with};
    use super::*;
    use crate::ledger::{LongTask, Owner};
    use crate::task::Status;

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        report.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn progress() -> Progress {
        Progress {
            state: RunState::Running,
            updated_unix: 1.0,
            tasks: 10,
            ok: 3,
            failed: 1,
            cancelled: 0,
            unfinished: 6,
            running: 2,
            wall_seconds: 4.0,
            tasks_per_second: 1.0,
            utilisation: 0.5,
            ranks: 2,
            nodes: 1,
            slots: 2,
            lost: 0,
            longest: vec![LongTask { index: 7, bundle: None, node: "n1".into(), seconds: 3.2 }],
        }
    }

    fn summary(unfinished: u64, exit_status: i32, ended_by: EndedBy) -> Summary {
        Summary {
            tasks: 10,
            ok: 10 - unfinished,
            failed: 0,
            cancelled: 0,
            unfinished,
            ended_by,
            wall_seconds: 4.0,
            tasks_per_second: 1.0,
            utilisation: 0.5,
            ranks: 2,
            nodes: 1,
            slots: 2,
            exit_status,
            start_seconds: 0.5,
            end_seconds: 0.1,
            manager_messages: 7,
            benched: Vec::new(),
            lost: Vec::new(),
        }
    }

    #[test]
    fn a_run_is_followed_from_running_through_stopped_to_complete() {
        let (_folder, dir) = run_with(10, &[outcome(0, Status::Ok, b"", b"")]);
        let owner = Owner::acquire(&dir).unwrap();
        let early = Report::read(&dir).unwrap();
        assert_eq!((early.state, early.ok, early.exit_status()), (Standing::Running, 1, EXIT_UNFINISHED));
        progress().write(&dir).unwrap();
        let running = Report::read(&dir).unwrap();
        assert!(
            text(&running).contains("running, 4 of 10 tasks ended, 1 failed, 2 running, 1.0 tasks/s"),
            "{}",
            text(&running)
        );
        assert!(text(&running).contains("task 7 has been running for 4 s on n1"));
        summary(4, 3, EndedBy::Walltime).write(&dir).unwrap();
        drop(owner);
        let stopped = Report::read(&dir).unwrap();
        assert_eq!((stopped.state, stopped.exit_status()), (Standing::Stopped, 3));
        assert!(
            text(&stopped).contains(": stopped: the walltime was over, 6 of 10 tasks ended\n")
                && text(&stopped).contains("--resume")
        );
        summary(0, 0, EndedBy::Complete).write(&dir).unwrap();
        let complete = Report::read(&dir).unwrap();
        assert_eq!((complete.state, complete.exit_status(), &complete.resume), (Standing::Complete, 0, &None));
    }

    #[test]
    fn the_journal_counts_where_it_says_more_than_the_last_progress() {
        let outcomes: Vec<_> = (0..6).map(|i| outcome(i, Status::Exit(i as i32 % 3), b"", b"")).collect();
        let (_folder, dir) = run_with(10, &outcomes);
        let _owner = Owner::acquire(&dir).unwrap();
        progress().write(&dir).unwrap();
        let mut report = Report::read(&dir).unwrap();
        report.look_closely(&dir);
        assert_eq!((report.ok + report.failed, report.unfinished), (6, 4));
        Progress { ok: 8, unfinished: 1, ..progress() }.write(&dir).unwrap();
        let mut report = Report::read(&dir).unwrap();
        report.look_closely(&dir);
        assert_eq!((report.ok, report.failed, report.unfinished), (8, 1, 1));
        assert!(text(&report).contains(", 1 running,"), "no more run than are left: {}", text(&report));
    }

    #[test]
    fn of_a_run_that_has_ended_it_says_why_and_what_the_last_start_came_to() {
        let (_folder, dir) = run_with(10, &[]);
        drop(Owner::acquire(&dir).unwrap());
        for (ended_by, said) in [
            (EndedBy::Signal, "stopped by a signal"),
            (EndedBy::Stop, "stopped as asked"),
            (EndedBy::MaxFails, "stopped: too many failed"),
            (EndedBy::Disk, "stopped: files could not be written"),
        ] {
            summary(4, 3, ended_by).write(&dir).unwrap();
            let text = text(&Report::read(&dir).unwrap());
            assert!(text.contains(&format!(": {said}, 6 of 10 tasks ended\n")), "{text}");
        }
        let large = Summary { tasks: 12_345, tasks_per_second: 1_234.0, ..summary(0, 0, EndedBy::Complete) };
        large.write(&dir).unwrap();
        let complete = text(&Report::read(&dir).unwrap());
        assert!(complete.contains(": complete, 12,345 of 12,345 tasks ended\n"), "{complete}");
        let last = "\n  last start: 4.0 s, 1,234 tasks/s, 50 % of slot time busy, 2 slots on 1 node (2 ranks)\n";
        assert!(complete.contains(last), "{complete}");
        Summary { benched: vec!["n7".into(), "n9".into()], ..large.clone() }.write(&dir).unwrap();
        let benched = text(&Report::read(&dir).unwrap());
        assert!(benched.contains("2 slots on 1 node (2 ranks); benched: n7, n9\n"), "{benched}");
        Summary { tasks_per_second: 0.0, ranks: 1, slots: 1, ..large }.write(&dir).unwrap();
        let idle = text(&Report::read(&dir).unwrap());
        assert!(idle.contains("  last start: no task ended; 1 slot on 1 node (1 rank)\n"), "{idle}");
    }

    #[test]
    fn a_run_that_was_killed_has_died_and_is_counted_from_its_journal() {
        let (_folder, dir) = run_with(3, &[outcome(1, Status::Ok, b"", b"")]);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        drop(Owner::acquire(&dir).unwrap());
        let record = std::fs::read_to_string(dir.owner(1)).unwrap();
        let (mine, its) = (format!("\"pid\":{}", std::process::id()), format!("\"pid\":{}", child.id()));
        let killed = record.replace(&mine, &its).replace("\"released\":true", "\"released\":false");
        std::fs::write(dir.owner(1), killed).unwrap();
        child.wait().unwrap();
        let report = Report::read(&dir).unwrap();
        assert_eq!((report.state, report.ok, report.unfinished), (Standing::Died, 1, 2));
        assert_eq!(report.exit_status(), EXIT_UNFINISHED);
        assert!(text(&report).contains("died, 1 of 3") && text(&report).contains("resume with: myriarch run --resume"));
        std::fs::write(dir.options(), r#"{"launch": "srun -n 8 "}"#).unwrap();
        let report = Report::read(&dir).unwrap();
        assert!(text(&report).contains("resume with: srun -n 8 myriarch run --resume"), "{}", text(&report));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["state"], &json["exit_status"]), (&"died".into(), &3.into()));
    }
}
