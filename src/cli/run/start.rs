//! `myriarch run` from checked options to the exit status: the folder, the tasks, the ranks.

use super::options::{KeepStdout, RunOptions};
use super::{RunArgs, dry_run};
use crate::cli::{EXIT_OK, EXIT_UNFINISHED, EXIT_USAGE, in_one_line};
use crate::drive::{self, DrainPatience, DriveError, Job, Keep, RankReport, WaitError};
use crate::execute::{Spawner, functions};
use crate::fabric::{self, Fabric, ThreadFabric};
use crate::ledger::{Owner, Patience, RunDir, RunDirError, load, write_atomically};
use crate::observe::log;
use crate::observe::text::resume_command;
use crate::task::{Bundle, Source, first_difference, first_difference_outside, io_cause, write_bundle};
use anyhow::{Context, bail};
use serde_json::{Map, Value};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Runs tasks and returns the exit status of this rank.
pub fn main(args: RunArgs) -> i32 {
    let began = Instant::now();
    let options = match args.check() {
        Ok(options) => options,
        Err(error) => return refuse(&error),
    };
    if options.dry_run {
        return show(&options);
    }
    end_with_panics();
    // Tasks do not inherit it: spawners begin with default dispositions.
    drive::survive_file_limits();
    let report = RankReport::of_this_process();
    if fabric::under_launcher() {
        return launched(options, began, &report);
    }
    alone(options, began, &report)
}

/// Lets a panic of any thread end this rank: the others would wait for it, and its end is what they and the launcher
/// notice. One inside of a function is its task's status instead.
pub(super) fn end_with_panics() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Said inside of a function too: one that cannot unwind ends the process, and no hook is told which it is.
        say(panic);
        if !functions::is_calling() {
            fabric::leave(101)
        }
    }));
}

/// Says what is wrong, once however many ranks there are, and gives the status to exit with.
fn refuse(error: &dyn std::fmt::Display) -> i32 {
    if !fabric::is_first_of_launch() {
        return EXIT_OK;
    }
    eprintln!("myriarch: {error}");
    EXIT_USAGE
}

fn show(options: &RunOptions) -> i32 {
    if !fabric::is_first_of_launch() {
        return EXIT_OK;
    }
    let Some(source) = &options.source else { return refuse(&"--dry-run needs the tasks") };
    let shown = tempdir().map_err(anyhow::Error::from).and_then(|folder| {
        let written = write_bundle(source, &options.defaults, &folder.join("bundle"));
        // The file stays readable while it is mapped.
        let _ = std::fs::remove_dir_all(&folder);
        Ok(written?)
    });
    match shown {
        Ok(written) => {
            written.warnings.iter().for_each(|warning| eprintln!("myriarch: {warning}"));
            print!("{}", dry_run(&written.bundle));
            EXIT_OK
        }
        Err(error) => refuse(&in_one_line(&error)),
    }
}

fn tempdir() -> std::io::Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("myriarch-dry-run-{}", std::process::id()));
    std::fs::create_dir(&path)?;
    Ok(path)
}

#[cfg(feature = "mpi")]
fn launched(options: RunOptions, began: Instant, report: &RankReport) -> i32 {
    if options.ranks.is_some() {
        return refuse(&"--ranks makes ranks of threads; under a launcher its processes are the ranks");
    }
    let spawner = match Spawner::prepare() {
        Ok(spawner) => spawner,
        // Trouble of this rank alone: it says so itself, and its status makes the launcher end the others.
        Err(error) => {
            eprintln!("myriarch: {error}");
            return EXIT_USAGE;
        }
    };
    let fabric = match fabric::MpiFabric::start_bounded() {
        Ok(fabric) => fabric,
        Err(error) => {
            if error.is_ours_to_tell() {
                eprintln!("myriarch: {error}");
            }
            return error.exit_status();
        }
    };
    play(Box::new(fabric), spawner, options, began, report)
}

#[cfg(not(feature = "mpi"))]
fn launched(options: RunOptions, began: Instant, report: &RankReport) -> i32 {
    match fabric::refuse_launcher() {
        Ok(()) => alone(options, began, report),
        Err(error) => {
            if error.is_ours_to_tell() {
                eprintln!("myriarch: {error}");
            }
            error.exit_status()
        }
    }
}

/// Ranks are threads of this process.
fn alone(options: RunOptions, began: Instant, report: &RankReport) -> i32 {
    let ranks = options.ranks.unwrap_or(1).max(1);
    // Spawners are forked while this process has one thread.
    let prepared: Result<Vec<Spawner>, _> = (0..ranks).map(|_| Spawner::prepare()).collect();
    let mut spawners = match prepared {
        Ok(spawners) => spawners,
        Err(error) => return refuse(&error),
    };
    let mut fabrics = match ThreadFabric::group(ranks) {
        Ok(fabrics) => fabrics,
        Err(error) => return refuse(&format!("cannot connect {ranks} ranks: {}", io_cause(&error))),
    };
    let (first_fabric, first_spawner) = (fabrics.remove(0), spawners.remove(0));
    std::thread::scope(|scope| {
        for (fabric, spawner) in fabrics.into_iter().zip(spawners) {
            scope.spawn(move || {
                if let Err(error) = drive::run(Box::new(fabric), spawner, report, None) {
                    fail(&error);
                }
            });
        }
        play(Box::new(first_fabric), first_spawner, options, began, report)
    })
}

/// A rank cannot go on, and the others would wait for it: the launcher ends them when it sees this status.
fn fail(error: &DriveError) -> ! {
    eprintln!("myriarch: {error}");
    tracing::error!("{error}");
    log::flush();
    fabric::leave(EXIT_UNFINISHED)
}

fn play(fabric: Box<dyn Fabric>, spawner: Spawner, options: RunOptions, began: Instant, report: &RankReport) -> i32 {
    if fabric.rank() != crate::task::Rank::MANAGER {
        log::errors_to_stderr(fabric.rank().0);
        return match drive::run(fabric, spawner, report, None) {
            Ok(_) => EXIT_OK,
            Err(error) => fail(&error),
        };
    }
    let options = RunOptions { launch: fabric::launcher().prefix(fabric.size()), ..options };
    let (job, made) = match prepare(options, began) {
        Ok((job, made)) => (Ok(job), made),
        Err(error) => (Err(error), None),
    };
    let (job, refused) = match job {
        Ok(job) => (Some(job), None),
        Err(error) => (None, Some(error)),
    };
    let end = drive::run(fabric, spawner, report, job);
    log::flush();
    if let Some(error) = refused {
        eprintln!("myriarch: {}", in_one_line(&error));
        return if matches!(error.downcast_ref(), Some(WaitError::AskedToStop(_))) {
            EXIT_UNFINISHED
        } else {
            EXIT_USAGE
        };
    }
    match end {
        Ok(Some(end)) => end.wait(),
        Ok(None) => EXIT_USAGE,
        Err(DriveError::Unfit(what)) => {
            // Nothing ran: a folder made for this run goes again.
            if let Some(dir) = made {
                let _ = dir.discard();
            }
            eprintln!("myriarch: {what}");
            EXIT_USAGE
        }
        Err(error) => fail(&error),
    }
}

/// Finds or makes the folder and the tasks. The second value is the folder when it was made for this run.
fn prepare(options: RunOptions, began: Instant) -> anyhow::Result<(Job, Option<RunDir>)> {
    match existing(&options)? {
        Some(dir) => Ok((resume(dir, options, began)?, None)),
        None => {
            let dir = match RunDir::create(options.out.as_deref()) {
                Err(RunDirError::HoldsRun(dir)) => {
                    refuse_session(&dir)?;
                    let (path, resume) = (dir.display(), resume_command(&options.launch, &dir, ""));
                    bail!("{path} holds a run already: go on with it with `{resume}`, or give another --out");
                }
                created => created?,
            };
            match begin(dir.clone(), options, began) {
                Ok(job) => Ok((job, Some(dir))),
                Err(error) => {
                    let _ = dir.discard();
                    Err(error)
                }
            }
        }
    }
}

/// The folder to go on in, if there is one; a resume of what never began is a start.
fn existing(options: &RunOptions) -> anyhow::Result<Option<RunDir>> {
    if !options.resume {
        return Ok(None);
    }
    let holds_run = match &options.out {
        Some(path) => RunDir::holds_run(path),
        None => RunDir::default_or_last(None).is_ok(),
    };
    if !holds_run && options.source.is_some() {
        return Ok(None);
    }
    Ok(Some(match &options.out {
        Some(path) => match RunDir::open(path) {
            Err(error) if !path.exists() || matches!(error, RunDirError::NoRun(_)) => {
                bail!("there is no run in {}, and no tasks are given", path.display())
            }
            opened => opened?,
        },
        None => RunDir::default_or_last(None)?,
    }))
}

fn begin(dir: RunDir, options: RunOptions, began: Instant) -> anyhow::Result<Job> {
    let source = options.source.as_ref().context("there are no tasks")?;
    let owner = Owner::acquire_with(&dir, Patience::default(), |what| eprintln!("myriarch: {what}"))?;
    remove_parts(dir.path());
    // The options first: a folder with a bundle can be resumed.
    let kept = serde_json::to_vec_pretty(&options).context("cannot write the options down")?;
    write_atomically(&dir.options(), &kept)?;
    let written = write_bundle(source, &options.defaults, &dir.bundle())?;
    // It is the one that the ranks are in.
    let options = RunOptions { folder: None, ..options };
    job(dir, owner, written.bundle, options, written.warnings, began)
}

/// Takes away what a start that was killed while it read its tasks left half written.
fn remove_parts(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("bundle.") && name.contains(".part")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The tasks of a session are its program's: the command cannot go on with them.
fn refuse_session(path: &Path) -> anyhow::Result<()> {
    if RunDir::open(path).is_ok_and(|dir| dir.is_session()) {
        bail!("{} holds the session of a program: start the program again to go on with it", path.display());
    }
    Ok(())
}

fn resume(dir: RunDir, options: RunOptions, began: Instant) -> anyhow::Result<Job> {
    refuse_session(dir.path())?;
    if !dir.bundle().exists() {
        // Killed while it read its tasks: nothing has run, and it begins anew.
        if options.source.is_none() {
            bail!(
                "{} has no tasks yet: its first start was killed too soon; give the tasks again",
                dir.path().display()
            );
        }
        return begin(dir, options, began);
    }
    let owner = Owner::acquire_with(&dir, Patience::default(), |what| eprintln!("myriarch: {what}"))?;
    let here = options.folder.clone();
    let mut options = with_kept(options, &dir)?;
    let mut notes = Vec::new();
    options.folder = elsewhere(here, options.folder, dir.path())?;
    if let Some(folder) = &options.folder {
        notes.push(format!("tasks run in {}, where the run was started", folder.display()));
    }
    let old = Bundle::open(&dir.bundle())?;
    let bundle = match &options.source {
        None => old,
        Some(source) => same_tasks(&dir, old, source, &options, &mut notes)?,
    };
    job(dir, owner, bundle, options, notes, began)
}

/// The folder in which the run was started, where that is not the one it is resumed in.
fn elsewhere(here: Option<PathBuf>, began: Option<PathBuf>, dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    let Some(began) = began.filter(|began| Some(began) != here.as_ref()) else { return Ok(None) };
    // What is no folder has no `.` in it.
    let identity = |path: &Path| std::fs::metadata(path.join(".")).map(|folder| (folder.dev(), folder.ino()));
    let there = identity(&began).with_context(|| {
        let (dir, began) = (dir.display(), began.display());
        let here = here.as_ref().map_or_else(|| "this folder".to_owned(), |here| here.display().to_string());
        format!("{dir} was started in {began}, which is gone; its tasks are not run in {here} instead: bring it back")
    })?;
    // Two names of one folder.
    let same = here.as_ref().is_some_and(|here| identity(here).is_ok_and(|here| here == there));
    Ok(Some(began).filter(|_| !same))
}

/// Tasks given again must be those in DIR; where failed ones are put back, those may have been mended.
fn same_tasks(
    dir: &RunDir,
    old: Bundle,
    source: &Source,
    options: &RunOptions,
    notes: &mut Vec<String>,
) -> anyhow::Result<Bundle> {
    let beside = dir.path().join("bundle.new");
    let written = write_bundle(source, &options.defaults, &beside)?;
    let failed = if options.retry_failed { load(dir)?.state.failed } else { Default::default() };
    let differs = if failed.is_empty() {
        first_difference(&old, &written.bundle)
    } else {
        first_difference_outside(&old, &written.bundle, |index| failed.contains(index))
    };
    if let Some(index) = differs {
        let _ = std::fs::remove_file(&beside);
        let (new, path) = (&written.bundle, dir.path().display());
        if old.len() != new.len() {
            bail!("{} has {} tasks, and {path} has {}: resume with the same tasks", new.source(), new.len(), old.len());
        }
        let place = match new.line(index) {
            Some(line) => format!("{}:{line}", new.source()),
            None => format!("task {}", new.label(index)),
        };
        let may = if options.retry_failed { " and has not failed" } else { "" };
        bail!("{place}: this task is not the one in {path}{may}: resume with the same tasks, or into another --out");
    }
    notes.extend(written.warnings);
    if old.id() == written.bundle.id() {
        let _ = std::fs::remove_file(&beside);
        return Ok(old);
    }
    std::fs::rename(&beside, dir.bundle()).with_context(|| format!("cannot replace {}", dir.bundle().display()))?;
    Ok(Bundle::open(&dir.bundle())?)
}

/// What was not said now is taken from the start that made the folder, but for what belongs to one start alone.
fn with_kept(options: RunOptions, dir: &RunDir) -> anyhow::Result<RunOptions> {
    const OF_ONE_START: [&str; 12] = [
        "launch",
        "source",
        "defaults",
        "out",
        "resume",
        "resume_now",
        "retry_failed",
        "dry_run",
        "walltime",
        "ranks",
        "said",
        "command_line",
    ];
    let path = dir.options();
    let kept = match std::fs::read(&path) {
        Ok(kept) => kept,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(options),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let kept: Map<String, Value> =
        serde_json::from_slice(&kept).with_context(|| format!("{} is damaged", path.display()))?;
    // An option has its argument's name, with two exceptions.
    let argument = |key: &str| match key {
        "keep_stdout" => "stdout".to_owned(),
        "recording" => "record".to_owned(),
        key => key.to_owned(),
    };
    let is_said = |argument: &String| options.said.contains(argument);
    let mut resumed = serde_json::to_value(&options)?;
    if let Some(Value::Object(defaults)) = kept.get("defaults") {
        if options.source.is_none() && defaults.keys().any(is_said) {
            bail!(
                "what each task gets (--timeout, --retries, --env …) is part of the tasks: give them again to change it"
            );
        }
        for (key, value) in defaults.iter().filter(|(key, _)| !is_said(key)) {
            resumed["defaults"][key] = value.clone();
        }
    }
    for (key, value) in kept {
        if !OF_ONE_START.contains(&key.as_str()) && !is_said(&argument(&key)) {
            resumed[&key] = value;
        }
    }
    serde_json::from_value(resumed).with_context(|| format!("{} was written by another version", path.display()))
}

fn job(
    dir: RunDir,
    owner: Owner,
    bundle: Bundle,
    options: RunOptions,
    mut notes: Vec<String>,
    began: Instant,
) -> anyhow::Result<Job> {
    if options.isolate && bundle.functions().is_empty() {
        bail!("--isolate is for functions, and the tasks of {} are processes", dir.path().display());
    }
    dir.begin()?;
    begin_log(&dir, &owner, &options, &mut notes);
    if options.resume {
        drive::wait_for_orphans(&dir, &owner, options.resume_now, |notice| {
            tracing::warn!("{notice}");
            eprintln!("myriarch: {notice}");
        })?;
    }
    let loaded = load(&dir)?;
    notes.extend(loaded.notes());
    let max_fails = options.max_fails.map(|most| most.limit(bundle.len()));
    Ok(Job {
        owner,
        loaded,
        retry_failed: options.retry_failed,
        slots_per_node: options.slots_per_node,
        ranks_per_node: options.ranks_per_node,
        dedicated_manager: options.dedicated_manager,
        pin: options.pin,
        fan_out: options.fan_out,
        crash_limit: options.crash_limit,
        lost_after: Some(options.lost_after).filter(|patience| !patience.is_zero()),
        max_fails,
        max_running: options.max_running,
        walltime: options.walltime.or_else(time_left),
        grace: options.grace,
        patience: DrainPatience::default(),
        sync: options.sync,
        max_output: options.max_output,
        keep: match options.keep_stdout {
            KeepStdout::None => Keep::None,
            KeepStdout::Failed => Keep::Failed,
            KeepStdout::All => Keep::All,
        },
        recording: options.recording,
        isolate: options.isolate,
        print: options.print,
        progress: options.progress,
        began,
        notes,
        folder: options.folder,
        bundle,
        dir,
    })
}

/// A run goes on without a log where there can be none.
fn begin_log(dir: &RunDir, owner: &Owner, options: &RunOptions, notes: &mut Vec<String>) {
    if let Err(error) = log::to_file(&dir.log()) {
        notes.push(format!("{} cannot be written: {}", dir.log().display(), io_cause(&error)));
    }
    let (version, generation) = (env!("CARGO_PKG_VERSION"), owner.generation());
    tracing::info!("myriarch {version}, generation {generation}: {}", options.command_line.join(" "));
}

/// What the batch system leaves of the job's time, where it says so.
fn time_left() -> Option<Duration> {
    let end = ["SLURM_JOB_END_TIME", "COBALT_ENDTIME"].iter().find_map(|name| std::env::var(name).ok())?;
    let end = Duration::from_secs(end.trim().parse().ok()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(end.saturating_sub(now))
}
