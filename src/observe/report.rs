//! What is said of failures and at the end of a run. Writes text, and knows not where it goes.

use super::Names;
use super::text::{count, of, one_line, precise, rate, resume_command, word};
use crate::ledger::{LostRank, Summary};
use crate::task::{EndedBy, FailureDigest, FailureGroup, Status};
use std::cmp::Reverse;
use std::path::Path;
use std::time::Duration;

/// Groups of failures that are shown.
const GROUPS_SHOWN: usize = 10;

/// A run's first failure.
pub(super) fn first_failure(group: &FailureGroup, names: &Names<'_>, dir: &Path) -> String {
    let (status, last) = (one_line(&group.status), one_line(&group.last_line));
    let (task, node) = ((names.describe)(group.example), (names.node)(group.node));
    if took_ranks_along(group) {
        let remedy = "--isolate runs functions in processes of their own, and costs no rank";
        return format!(
            "first failure: {task} on {node}: {status}\n    the ranks that ran it were lost, each time; {remedy}"
        );
    }
    let said = if last.is_empty() { "(nothing on its stderr)" } else { &last };
    let see = see_stderr(group, names, dir);
    format!("first failure: {task} on {node}: {status}\n    {said}\n  its stderr: {see}")
}

/// Nobody is left then who could have kept what they said.
fn took_ranks_along(group: &FailureGroup) -> bool {
    group.status == Status::Lost.to_string()
}

fn see_stderr(group: &FailureGroup, names: &Names<'_>, dir: &Path) -> String {
    format!("myriarch output {} --task {} --stderr", word(dir), (names.label)(group.example))
}

/// What a start of the run came to, its failures in groups, and where to look next. `launch` is what stands before a
/// command that starts ranks.
pub(super) fn end(summary: &Summary, digest: &FailureDigest, names: &Names<'_>, launch: &str, dir: &Path) -> String {
    let mut groups: Vec<&FailureGroup> = digest.groups.iter().collect();
    // A stable sort: equals stay in order of appearance.
    groups.sort_by_key(|group| Reverse(group.count));
    let mut lines = vec![headline(summary)];
    failure_lines(summary, digest, &groups, names, &mut lines);
    lines.extend(benched_line(summary));
    lines.extend(lost_line(summary));
    let dir_word = word(dir);
    let mut next = Vec::new();
    if summary.failed > 0 {
        next.push(("what failed:", format!("myriarch failed {dir_word}")));
    }
    if let Some(group) = groups.iter().find(|group| !took_ranks_along(group)) {
        next.push(("its stderr:", see_stderr(group, names, dir)));
    }
    if summary.unfinished > 0 {
        next.push(("go on:", resume_command(launch, dir, "")));
    }
    if summary.failed > 0 {
        next.push(("retry failed:", resume_command(launch, dir, " --retry-failed")));
    }
    if summary.ok > 0 {
        next.push(("outputs:", format!("myriarch output {dir_word}")));
    }
    lines.extend(next.into_iter().map(|(what, command)| format!("  {what:<13} {command}")));
    lines.join("\n")
}

fn headline(summary: &Summary) -> String {
    let counts = [(summary.ok, "ok"), (summary.failed, "failed"), (summary.cancelled, "cancelled")];
    let mut parts: Vec<String> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    if summary.unfinished > 0 {
        parts.push(format!("{} unfinished ({})", count(summary.unfinished), stopped_by(summary.ended_by)));
    }
    let mut line = of(summary.tasks, "task");
    if !parts.is_empty() {
        line += &format!(": {}", parts.join(", "));
    }
    if summary.tasks_per_second > 0.0 {
        let wall = Duration::try_from_secs_f64(summary.wall_seconds).unwrap_or_default();
        let busy = (summary.utilisation * 100.0).clamp(0.0, 100.0);
        line += &format!("; {}, {}, {busy:.0} % of slot time busy", precise(wall), rate(summary.tasks_per_second));
    }
    line
}

/// Which nodes got no more tasks.
fn benched_line(summary: &Summary) -> Option<String> {
    let nodes = of(summary.benched.len() as u64, "node");
    Some(format!("  {nodes} benched, where nearly all failed: {}", first_of(&summary.benched)?))
}

/// Which ranks were given up.
fn lost_line(summary: &Summary) -> Option<String> {
    let name = |lost: &LostRank| {
        let back = if lost.came_back { ", came back" } else { "" };
        format!("{} ({}{back})", lost.rank, lost.node)
    };
    let names: Vec<String> = summary.lost.iter().map(name).collect();
    let elsewhere = if summary.unfinished > 0 { "" } else { ", whose tasks ran elsewhere" };
    Some(format!("  {} lost{elsewhere}: {}", of(names.len() as u64, "rank"), first_of(&names)?))
}

/// The first of the names, and how many more there are; none where there is none.
fn first_of(names: &[String]) -> Option<String> {
    const NAMED: usize = 10;
    let more = names.len().saturating_sub(NAMED);
    let named = names[..names.len() - more].join(", ");
    match more {
        0 if names.is_empty() => None,
        0 => Some(named),
        more => Some(format!("{named} and {more} more")),
    }
}

/// Why tasks are left.
pub(crate) fn stopped_by(why: EndedBy) -> &'static str {
    match why {
        EndedBy::Complete => "not handed out",
        EndedBy::Walltime => "the walltime was over",
        EndedBy::Signal => "stopped by a signal",
        EndedBy::Stop => "stopped as asked",
        EndedBy::MaxFails => "too many failed",
        EndedBy::Disk => "files could not be written",
    }
}

/// A line per group, and one for all that is in none of those shown.
fn failure_lines(
    summary: &Summary,
    digest: &FailureDigest,
    groups: &[&FailureGroup],
    names: &Names<'_>,
    lines: &mut Vec<String>,
) {
    let shown = &groups[..groups.len().min(GROUPS_SHOWN)];
    let width = shown.iter().map(|group| count(group.count).len()).max().unwrap_or(0).max(4);
    for group in shown {
        let (status, last) = (one_line(&group.status), one_line(&group.last_line));
        let said = if last.is_empty() { String::new() } else { format!("  {last}") };
        let (task, node) = ((names.describe)(group.example), (names.node)(group.node));
        let like = if group.count == 1 { "" } else { "such as " };
        lines.push(format!("  {:>width$} x {status}{said}  [{like}{task} on {node}]", count(group.count)));
    }
    let in_shown: u64 = shown.iter().map(|group| group.count).sum();
    let in_this_start = groups.iter().map(|group| group.count).sum::<u64>() + digest.others;
    if in_this_start > in_shown {
        lines.push(format!("  and {} in other ways", count(in_this_start - in_shown)));
    }
    if summary.failed > in_this_start {
        lines.push(format!("  {} failed in earlier starts", count(summary.failed - in_this_start)));
    }
}
