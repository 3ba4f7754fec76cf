//! The environment that a task gets: that of the rank, without what the launcher put there for the rank itself.
//!
//! Knows nothing of how the task is started.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStringExt;

/// Names that start like this tell a rank of MPI who it is. Left in, a task that calls MPI_Init takes itself for that
/// rank, or waits for it.
const LAUNCHER_PREFIXES: &[&str] = &[
    "ALPS_",
    "HYDI_",
    "HYDRA_",
    "MPIR_",
    "MPISPAWN_",
    "MPI_LOCAL",
    "MV2_COMM_WORLD_",
    "OMPI_",
    "OPAL_",
    "ORTE_",
    "PALS_",
    "PMIX",
    "PMI_",
    "PRTE_",
    "SLURM_PMI",
];

/// Whole names of the same kind. Open MPI takes a SLURM_STEP_ID for a sign that srun started the program as a rank;
/// Slurm's PMI library takes its rank from SLURM_PROCID; Hydra names the rank's own node in the one of MPICH's settings.
const LAUNCHER_NAMES: &[&str] = &[
    "MPIR_CVAR_CH3_INTERFACE_HOSTNAME",
    "MPI_UNIVERSE_SIZE",
    "SLURM_MPI_TYPE",
    "SLURM_PROCID",
    "SLURM_STEPID",
    "SLURM_STEP_ID",
];

/// Names with one of those prefixes that are the user's own: settings that an MPI program inside a task needs too.
const KEPT_PREFIXES: &[&str] = &["MPIR_CVAR_", "OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT"];

/// Names that every task gets anew; an outer Myriarch may have left its own.
const OWN_NAMES: &[&str] =
    &["MYRIARCH_ATTEMPT", "MYRIARCH_CORES", "MYRIARCH_ENTRY", "MYRIARCH_INDEX", "MYRIARCH_OUT", "MYRIARCH_SLOT"];

/// Whether a variable stays out of a task's environment.
fn is_removed(name: &[u8]) -> bool {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()));
    let is_one_of = |names: &[&str]| names.iter().any(|one| one.as_bytes() == name);
    (starts(LAUNCHER_PREFIXES) && !starts(KEPT_PREFIXES)) || is_one_of(LAUNCHER_NAMES) || is_one_of(OWN_NAMES)
}

/// The environment that all tasks of a rank share, ready for `execve`.
#[derive(Clone, Debug)]
pub(super) struct BaseEnvironment {
    /// `NAME=value`, sorted by name.
    entries: Vec<(Vec<u8>, CString)>,
}

impl BaseEnvironment {
    /// The environment of this process, cleaned. To be taken before a fork: it reads what other threads may change.
    pub(super) fn of_this_process() -> Self {
        Self::from_pairs(std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec())))
    }

    fn from_pairs(pairs: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let mut entries: Vec<_> = pairs
            .filter(|(name, _)| !is_removed(name))
            .filter_map(|(name, value)| Some((CString::new([&name[..], b"=", &value[..]].concat()).ok()?, name)))
            .map(|(entry, name)| (name, entry))
            .collect();
        entries.sort();
        Self { entries }
    }

    /// Makes it that of this process, which must have one thread.
    pub(super) fn adopt(&self) {
        for (name, _) in std::env::vars_os() {
            let name = name.into_vec();
            if self.position(&name).is_none() {
                // SAFETY: there is no other thread that could read the environment.
                unsafe { std::env::remove_var(std::ffi::OsString::from_vec(name)) };
            }
        }
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|(name, _)| &name[..])
    }

    /// The value of one.
    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.position(name)?;
        Some(&self.entries[at].1.as_bytes()[name.len() + 1..])
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|(one, _)| one.as_slice().cmp(name)).ok()
    }
}

/// The variables of one task on top of the shared ones. Its buffers are used again for the next task.
#[derive(Debug, Default)]
pub(super) struct TaskEnvironment {
    /// `NAME=value`, each with its NUL.
    text: Vec<u8>,
    /// Where in the text each starts, and how long its name is.
    starts: Vec<(usize, usize)>,
    pointers: Vec<*const c_char>,
}

impl TaskEnvironment {
    /// Forgets the task before.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.starts.clear();
        self.pointers.clear();
    }

    /// Sets a variable, in place of any of that name. Refuses what no environment can hold.
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), String> {
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            let name = String::from_utf8_lossy(name);
            return Err(format!("the environment variable \"{name}\" has an unusable name or a NUL byte in its value"));
        }
        let text = &self.text;
        self.starts.retain(|&(start, length)| length != name.len() || &text[start..start + length] != name);
        self.starts.push((self.text.len(), name.len()));
        self.text.extend_from_slice(name);
        self.text.push(b'=');
        self.text.extend_from_slice(value);
        self.text.push(0);
        Ok(())
    }

    /// The whole environment for `execve`. It points into `self` and `base` and holds while both stay as they are.
    pub(super) fn pointers<'a>(&'a mut self, base: &'a BaseEnvironment) -> &'a [*const c_char] {
        self.pointers.clear();
        self.pointers.extend(base.entries.iter().map(|(_, entry)| entry.as_ptr()));
        for &(start, length) in &self.starts {
            let entry = CStr::from_bytes_until_nul(&self.text[start..]).unwrap_or_default().as_ptr();
            match base.position(&self.text[start..start + length]) {
                Some(at) => self.pointers[at] = entry,
                None => self.pointers.push(entry),
            }
        }
        self.pointers.push(std::ptr::null());
        &self.pointers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(pairs: &[(&str, &str)]) -> BaseEnvironment {
        BaseEnvironment::from_pairs(pairs.iter().map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into())))
    }

    #[test]
    fn the_launcher_is_not_seen_and_the_job_is() {
        let gone = [
            "OMPI_COMM_WORLD_RANK",
            "OMPI_MCA_ess",
            "PMIX_RANK",
            "PMI_FD",
            "PMI_RANK",
            "PRTE_MCA_x",
            "MPI_LOCALRANKID",
            "HYDI_CONTROL_FD",
            "MPIR_X",
            "MPIR_CVAR_CH3_INTERFACE_HOSTNAME",
            "SLURM_PMIX_MAPPING",
            "SLURM_STEP_ID",
            "SLURM_PROCID",
            "MYRIARCH_SLOT",
        ];
        let kept = [
            "PATH",
            "SLURM_JOB_ID",
            "SLURM_NTASKS",
            "CUDA_VISIBLE_DEVICES",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM",
            "MPIR_CVAR_CH4_NETMOD",
            "MYRIARCH_SERVER",
            "MPICC",
        ];
        let all: Vec<_> = gone.iter().chain(&kept).map(|name| (*name, "1")).collect();
        let base = base(&all);
        let mut expected: Vec<&[u8]> = kept.iter().map(|name| name.as_bytes()).collect();
        expected.sort();
        assert_eq!(base.names().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_task_replaces_and_adds_and_leaves_the_next_task_nothing() {
        let base = base(&[("A", "1"), ("B", "2")]);
        let mut task = TaskEnvironment::default();
        let read = |task: &mut TaskEnvironment| {
            let pointers = task.pointers(&base);
            assert!(pointers.last().unwrap().is_null());
            let text = |&pointer: &*const c_char| {
                // SAFETY: the entries point to NUL-terminated text owned by `base` and `task`, both alive here.
                unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned()
            };
            pointers[..pointers.len() - 1].iter().map(text).collect::<Vec<_>>()
        };
        for (name, value) in [("C", "x"), ("A", ""), ("C", "3=4")] {
            task.set(name.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!(read(&mut task), ["A=", "B=2", "C=3=4"]);
        task.clear();
        assert_eq!(read(&mut task), ["A=1", "B=2"]);
    }

    #[test]
    fn a_variable_that_cannot_be_is_refused() {
        let mut task = TaskEnvironment::default();
        for (name, value) in [("", "1"), ("A=B", "1"), ("A\0", "1"), ("A", "1\0")] {
            assert!(task.set(name.as_bytes(), value.as_bytes()).is_err());
        }
    }
}
