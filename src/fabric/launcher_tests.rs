//! Tests of what is read from launchers' variables, as the launchers set them.

use super::*;
use std::collections::HashMap;

fn with(variables: &[(&'static str, &'static str)], parents: &[&[&str]]) -> Environment {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    Environment {
        variable: Box::new(move |name| variables.get(name).map(|value| (*value).to_owned())),
        parents: parents.iter().map(|words| words.iter().map(|word| (*word).to_owned()).collect()).collect(),
    }
}

const OPEN_MPI: &[(&str, &str)] = &[
    ("OMPI_COMM_WORLD_SIZE", "4"),
    ("OMPI_COMM_WORLD_RANK", "2"),
    ("OMPI_MCA_orte_launch", "1"),
    ("PMIX_RANK", "2"),
    ("PMIX_NAMESPACE", "2012938241"),
];
const HYDRA: &[(&str, &str)] =
    &[("PMI_SIZE", "3"), ("PMI_RANK", "1"), ("PMI_FD", "6"), ("MPI_LOCALNRANKS", "3"), ("MPI_LOCALRANKID", "1")];
const SRUN: &[(&str, &str)] = &[
    ("SLURM_JOB_ID", "7"),
    ("SLURM_STEP_ID", "0"),
    ("SLURM_NTASKS", "8"),
    ("SLURM_STEP_NUM_TASKS", "4"),
    ("SLURM_PROCID", "3"),
];

#[test]
fn outside_of_a_launcher_nothing_is_promised() {
    let plain = with(&[("HOME", "/root")], &[&["bash"]]);
    assert_eq!(plain.launcher(), Launcher::None);
    assert_eq!(plain.broken_promise(1), None);
}

#[test]
fn mpi_that_has_fewer_ranks_than_the_launcher_started_breaks_a_promise() {
    let promise = with(OPEN_MPI, &[]).broken_promise(1).expect("4 were promised");
    assert_eq!((promise.ranks, promise.number, promise.variable), (4, Some(2), "OMPI_COMM_WORLD_SIZE"));
    let promise = with(HYDRA, &[]).broken_promise(1).expect("3 were promised");
    assert_eq!((promise.ranks, promise.number), (3, Some(1)));
    assert!(matches!(promise.launcher, Launcher::Hydra { .. }));
    let promise = with(SRUN, &[]).broken_promise(1).expect("4 were promised");
    assert_eq!((promise.ranks, promise.number, promise.variable), (4, Some(3), "SLURM_STEP_NUM_TASKS"));
}

#[test]
fn mpi_that_has_as_many_ranks_as_promised_is_fine() {
    assert_eq!(with(OPEN_MPI, &[]).broken_promise(4), None);
    assert_eq!(with(HYDRA, &[]).broken_promise(3), None);
    assert_eq!(with(SRUN, &[]).broken_promise(4), None);
}

#[test]
fn one_launcher_inside_another_counts_by_the_inner_one() {
    let both: Vec<_> = OPEN_MPI.iter().chain(HYDRA).copied().collect();
    assert_eq!(with(&both, &[]).broken_promise(3), None, "mpiexec of MPICH inside a rank of Open MPI");
    let slurm: Vec<_> = SRUN.iter().chain(HYDRA).copied().collect();
    assert_eq!(with(&slurm, &[]).broken_promise(3), None, "Hydra, whose proxies srun has started");
    assert!(matches!(with(&slurm, &[]).launcher(), Launcher::Hydra { .. }));
}

#[test]
fn a_batch_script_and_an_interactive_step_are_no_launcher() {
    let batch = [("SLURM_JOB_ID", "7"), ("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")];
    assert_eq!(with(&batch, &[]).launcher(), Launcher::None);
    let interactive = [("SLURM_STEP_ID", "4294967290"), ("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")];
    assert_eq!(with(&interactive, &[]).launcher(), Launcher::None);
    assert_eq!(with(&interactive, &[]).broken_promise(1), None);
    let shell = [("SLURM_STEP_ID", "3"), ("SLURM_STEP_NUM_TASKS", "1"), ("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")];
    assert_eq!(with(&shell, &[]).launcher(), Launcher::None, "srun --pty bash");
}

#[test]
fn the_flag_that_keeps_survivors_is_seen_in_the_variables_or_at_the_launcher() {
    let survives = |environment: Environment| environment.loss_survival() == LossSurvival::Survives;
    let mut recovery = OPEN_MPI.to_vec();
    assert!(!survives(with(&recovery, &[])));
    recovery.push(("OMPI_MCA_orte_enable_recovery", "1"));
    assert!(survives(with(&recovery, &[])));

    let proxy: &[&str] = &["/usr/bin/hydra_pmi_proxy", "--control-port", "n1:1"];
    let kept = with(HYDRA, &[proxy, &["mpiexec.hydra", "-disable-auto-cleanup", "-n", "3", "x"]]);
    assert_eq!(kept.launcher(), Launcher::Hydra { auto_cleanup_disabled: Some(true) });
    assert!(matches!(kept.loss_survival(), LossSurvival::Unknown(_)), "only on other nodes");
    let plain = with(HYDRA, &[proxy, &["/usr/bin/mpiexec.mpich", "-n", "3", "x"]]);
    assert!(matches!(plain.loss_survival(), LossSurvival::Ends(_)));
    let remote = with(HYDRA, &[proxy, &["sshd"]]);
    assert!(matches!(remote.loss_survival(), LossSurvival::Unknown(_)));

    let five = [("OMPI_COMM_WORLD_SIZE", "4")];
    assert!(survives(with(&five, &[&["/opt/bin/mpirun", "--rtos", "RECOVERABLE,CONTINUOUS", "-n", "4", "x"]])));
    assert!(matches!(with(&five, &[&["prted"]]).loss_survival(), LossSurvival::Unknown(_)));
}

#[test]
fn who_is_started_by_an_srun_that_joins_no_ranks_is_told_the_option_for_that() {
    let told = |variables| with(variables, &[]).broken_promise(1).unwrap().broken(1, "MPICH".to_owned()).to_string();
    assert!(told(SRUN).contains("--mpi=pmi2"), "{}", told(SRUN));
    assert!(told(HYDRA).contains("mpiexec of that MPI"), "{}", told(HYDRA));
}

#[test]
fn srun_with_pmix_ends_with_its_first_lost_rank() {
    let mut pmix = SRUN.to_vec();
    pmix.push(("PMIX_RANK", "3"));
    pmix.push(("SLURM_KILL_BAD_EXIT", "0"));
    assert!(matches!(with(&pmix, &[]).loss_survival(), LossSurvival::Ends(_)));
    let mut pmi2 = SRUN.to_vec();
    pmi2.push(("SLURM_KILL_BAD_EXIT", "0"));
    assert_eq!(with(&pmi2, &[]).loss_survival(), LossSurvival::Survives);
}

#[test]
fn a_command_is_started_again_by_the_launcher_that_started_it() {
    let prefix = |variables: &[(&'static str, &'static str)]| with(variables, &[]).launcher().prefix(4);
    assert_eq!([OPEN_MPI, HYDRA, SRUN].map(prefix), ["mpiexec -n 4 ", "mpiexec -n 4 ", "srun -n 4 "]);
    assert_eq!(prefix(&[("PALS_RANKID", "0")]), "mpiexec -n 4 ");
    assert_eq!(prefix(&[("ALPS_APP_PE", "0")]), "aprun -n 4 ");
    assert_eq!(prefix(&[]), "");
}

#[test]
fn what_stands_before_a_command_is_what_the_launcher_was_told() {
    let prefix = |more: &[(&'static str, &'static str)]| with(&[OPEN_MPI, more].concat(), &[]).launcher().prefix(4);
    assert_eq!(prefix(&[]), "mpiexec -n 4 ");
    let given = [("OMPI_MCA_orte_enable_recovery", "1"), ("OMPI_MCA_rmaps_base_oversubscribe", "1")];
    assert_eq!(prefix(&given), "mpiexec --enable-recovery --oversubscribe -n 4 ");
    assert_eq!(prefix(&[("OMPI_MCA_rmaps_base_oversubscribe", "0")]), "mpiexec -n 4 ");
}
