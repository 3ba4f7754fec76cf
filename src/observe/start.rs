//! What is said when a run starts: who takes part, where it is kept, how to stop it, and what the launcher forgot.

use super::text::{count, of, resume_command, word};
use crate::fabric::{Launcher, LossSurvival};
use std::path::PathBuf;

/// What is known of a run when it starts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Ranks.
    pub ranks: u32,
    /// Nodes.
    pub nodes: u32,
    /// Slots.
    pub slots: u64,
    /// Cores that have a slot.
    pub cores_used: u64,
    /// Cores that the ranks may use: the affinity masks of all nodes.
    pub cores_allotted: u64,
    /// Cores that the nodes have.
    pub machine_cores: u64,
    /// Tasks of the bundle.
    pub tasks: u64,
    /// Those that ended in earlier starts.
    pub already_ended: u64,
    /// Those of them that failed and are put back.
    pub put_back: u64,
    /// The run's folder.
    pub dir: PathBuf,
    /// Where the tasks came from.
    pub source: String,
    /// What started the ranks.
    pub launcher: Launcher,
    /// Whether the loss of a rank can be survived.
    pub survival: LossSurvival,
    /// Whether silent ranks are given up.
    pub gives_up: bool,
    /// Whether tasks are bound to cores.
    pub pinned: bool,
}

impl Facts {
    /// What to say, one message each.
    pub(super) fn lines(&self) -> Vec<String> {
        let ended = match (self.already_ended, self.put_back) {
            (0, _) => String::new(),
            (n, 0) => format!(", {} ended before", count(n)),
            (n, back) => format!(", {} ended before, of which {} are put back", count(n), count(back)),
        };
        let mut lines = vec![
            format!(
                "{} on {}, {}, {} of {} cores allotted{}; {} of {}{ended}; {}{}",
                of(self.ranks.into(), "rank"),
                of(self.nodes.into(), "node"),
                of(self.slots, "slot"),
                count(self.cores_used),
                count(self.cores_allotted),
                if self.pinned { "" } else { ", not pinned" },
                of(self.tasks, "task"),
                self.source,
                self.dir.display(),
                self.after_a_loss()
            ),
            format!(
                "stop with: myriarch stop {}; go on later with: {}",
                word(&self.dir),
                resume_command(&self.launcher.prefix(self.ranks), &self.dir, "")
            ),
        ];
        lines.extend(self.core_warning());
        lines
    }

    /// What becomes of the run when a rank is lost.
    fn after_a_loss(&self) -> &'static str {
        if self.ranks == 1 || self.launcher == Launcher::None {
            return "";
        }
        match self.survival {
            LossSurvival::Survives if self.gives_up => "; goes on without lost ranks",
            LossSurvival::Survives => "; waits for lost ranks",
            LossSurvival::Ends(_) => "; a lost rank ends it",
            LossSurvival::Unknown(_) => "; a lost rank may end it",
        }
    }

    /// Where less than half of the cores are used: why, and the option that changes it.
    fn core_warning(&self) -> Option<String> {
        let warn = |whole, what, advice: &str| {
            let used = of(self.cores_used, "core");
            Some(format!("warning: only {used} of {} {what} used: {advice}", count(whole)))
        };
        if self.cores_used < self.cores_allotted.div_ceil(2) {
            return warn(self.cores_allotted, "allotted are", "-j (--slots-per-node) gives each node more slots");
        }
        if self.cores_used >= self.machine_cores.div_ceil(2) {
            return None;
        }
        let each = (self.machine_cores / u64::from(self.ranks.max(1))).max(1);
        let advice = match &self.launcher {
            Launcher::Srun { .. } => format!("give srun -c {each} (srun does not take it over from sbatch)"),
            Launcher::OpenMpi { .. } => "give mpirun --bind-to none".to_owned(),
            Launcher::Hydra { .. } => "give mpiexec -bind-to none".to_owned(),
            Launcher::Other(name) if name.contains("PALS") => format!("give mpiexec --depth {each} --cpu-bind none"),
            Launcher::Other(name) if name == "aprun" => format!("give aprun -d {each} -cc none"),
            Launcher::Other(name) => format!("see how {name} is told to give each rank {each} cores"),
            // Nothing was forgotten: a batch job, a container or taskset allots so many.
            Launcher::None => return None,
        };
        let machine = if self.nodes == 1 { "of the machine are" } else { "of the machines are" };
        warn(self.machine_cores, machine, &advice)
    }
}
