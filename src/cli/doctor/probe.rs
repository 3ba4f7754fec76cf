//! The measurements of `myriarch doctor`. Judges nothing.

use super::RankFacts;
use crate::execute::RankCores;
use crate::execute::bench::spawn_ceiling;
use crate::fabric::host_identity;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes are started.
const SPAWN_SECONDS: f64 = 1.0;
/// Files made, renamed and synced, each.
const FILES: u32 = 20;
/// No file system is measured for longer: a slow one is known as such by then.
const FILES_LIMIT: Duration = Duration::from_secs(5);

/// What file work costs, microseconds, the middle of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FileTimes {
    pub(super) create_us: f64,
    pub(super) rename_us: f64,
    pub(super) fsync_us: f64,
}

/// What this rank knows of its place.
pub(super) fn rank_facts() -> RankFacts {
    let RankCores { mask: cores, mut numa, machine_cores, .. } = RankCores::of_this_process();
    numa.sort_unstable();
    numa.dedup();
    RankFacts { host: host_identity(), pinning: try_pinning(&cores), cores, numa, machine_cores }
}

/// Pins a thread of its own to each core in turn. Says why that cannot be done, or nothing.
#[cfg(feature = "hwloc")]
fn try_pinning(cores: &[u32]) -> String {
    use hwlocality::Topology;
    use hwlocality::cpu::binding::CpuBindingFlags;
    use hwlocality::cpu::cpuset::CpuSet;
    let attempt = || -> Result<(), String> {
        let topology = Topology::new().map_err(|error| format!("hwloc does not know this machine: {error}"))?;
        for core in cores {
            let one = CpuSet::from_range(*core as usize..=*core as usize);
            topology.bind_cpu(&one, CpuBindingFlags::THREAD).map_err(|error| format!("core {core}: {error}"))?;
            let bound = topology.cpu_binding(CpuBindingFlags::THREAD).map_err(|error| error.to_string())?;
            if bound != one {
                return Err(format!("core {core} was asked for, {bound} was given"));
            }
        }
        Ok(())
    };
    match std::thread::scope(|scope| scope.spawn(attempt).join()) {
        Ok(Ok(())) => String::new(),
        Ok(Err(why)) => why,
        Err(_) => "hwloc gave up".to_owned(),
    }
}

/// Without hwloc it is not tried here; runs pin through the system itself.
#[cfg(not(feature = "hwloc"))]
fn try_pinning(cores: &[u32]) -> String {
    if cores.is_empty() { "the system does not tell which cores there are".to_owned() } else { String::new() }
}

/// Processes per second that so many bare loops start and wait for.
///
/// # Errors
/// None can be started.
pub(super) fn spawn_rate(loops: u32) -> Result<f64, String> {
    let rate = spawn_ceiling(loops, SPAWN_SECONDS).map_err(|error| error.to_string())?;
    if rate.is_finite() { Ok(rate) } else { Err("/bin/true cannot be started".to_owned()) }
}

/// Makes, syncs and renames small files in a folder of its own, which is removed again.
///
/// # Errors
/// The folder cannot be written to.
pub(super) fn files(dir: &Path) -> io::Result<FileTimes> {
    let own = dir.join(format!(".myriarch-doctor-{}", std::process::id()));
    fs::create_dir(&own)?;
    let measured = files_in(&own);
    let removed = fs::remove_dir_all(&own);
    measured.and_then(|times| removed.map(|()| times))
}

fn files_in(own: &Path) -> io::Result<FileTimes> {
    let (mut create, mut sync, mut rename) = (Vec::new(), Vec::new(), Vec::new());
    let start = Instant::now();
    for number in 0..FILES {
        let (path, named) = (own.join(format!("{number}.new")), own.join(number.to_string()));
        let mut before = Instant::now();
        let mut lap = |laps: &mut Vec<f64>| {
            laps.push(before.elapsed().as_secs_f64() * 1e6);
            before = Instant::now();
        };
        let mut file = File::create_new(&path)?;
        lap(&mut create);
        file.write_all(&[b'x'; 4096])?;
        file.sync_data()?;
        lap(&mut sync);
        fs::rename(&path, &named)?;
        lap(&mut rename);
        if start.elapsed() > FILES_LIMIT {
            break;
        }
    }
    Ok(FileTimes { create_us: middle(create), rename_us: middle(rename), fsync_us: middle(sync) })
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measuring_a_folder_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let times = files(folder.path()).unwrap();
        assert!(times.create_us > 0.0 && times.rename_us > 0.0 && times.fsync_us > 0.0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(files(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_rank_knows_its_cores() {
        let facts = rank_facts();
        assert!(!facts.cores.is_empty() && facts.machine_cores as usize >= facts.cores.len());
    }
}
