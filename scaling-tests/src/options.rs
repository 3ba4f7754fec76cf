//! The command line.

use crate::machine;
use crate::sections::Section;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Measures Myriarch at growing scale on this machine and in its simulator, beside other systems.
///
/// Writes raw JSON, a table and plots into a folder. A section whose JSON is there is kept where it was made with the same
/// options on the same machine; a quick look is replaced, and anything else is refused without --again.
#[derive(Parser)]
#[command(name = "scaling-tests", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What else it can do than measure.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to measure.
    #[command(flatten)]
    pub run: RunOptions,
}

const EXAMPLES: &str = "Examples:
  scaling-tests                                            all sections on this machine
  scaling-tests --only strong weak --again                 two of them, measured anew
  scaling-tests --only simulated --model here.toml         on a model that myriarch bench calibrate has written
  scaling-tests --launcher srun --nodes 1,2,4,8 --ranks-per-node 128 --machine mycluster
  scaling-tests plot scaling-tests/results/2026-11-22-2-core-vm    draw again from the JSON";

/// What else it can do.
#[derive(Subcommand)]
pub enum Command {
    /// Writes table and plots of a folder again from its JSON
    Plot {
        /// The folder of results
        dir: PathBuf,
    },
}

/// How to measure.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Only these sections
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',', value_name = "SECTION")]
    pub only: Vec<Section>,

    /// All sections but these
    #[arg(long, value_enum, num_args = 1.., value_delimiter = ',', value_name = "SECTION", conflicts_with = "only")]
    pub skip: Vec<Section>,

    /// A look whether all works: few points, short, figures that mean little and say so
    #[arg(long, conflicts_with_all = ["full", "rounds", "seconds"])]
    pub quick: bool,

    /// Simulate the largest machines too: about 25 minutes of one core in all, 2 GB for each point
    #[arg(long)]
    pub full: bool,

    /// Measure sections anew whose JSON is there
    #[arg(long)]
    pub again: bool,

    /// What simulated machines are like, in place of the models of the table in how-to/scaling.md: local, slingshot,
    /// infiniband, gemini, or a file in TOML
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,

    /// Folder of results [default: scaling-tests/results/DATE-MACHINE, with -quick behind it where that is asked for]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// What kind of machine this is, in a word; no host name [default: by its cores]
    #[arg(long, value_name = "NAME", value_parser = parse_kind)]
    pub machine: Option<String>,

    /// The program to measure
    #[arg(long, value_name = "FILE", default_value = "target/release/myriarch")]
    pub myriarch: PathBuf,

    /// What starts ranks: mpiexec, srun or a path, with options; or threads, for ranks as threads of one process
    #[arg(long, value_name = "PROGRAM", default_value = "mpiexec")]
    pub launcher: String,

    /// Further options of the launcher, several in one word or given several times
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub launcher_args: Vec<String>,

    /// Node counts of a cluster; every node gets its ranks. Without it ranks lie on this machine
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    pub nodes: Vec<u64>,

    /// With --nodes: ranks on each node, one slot each [default: cores of this machine]
    #[arg(long, value_name = "N", requires = "nodes", value_parser = clap::value_parser!(u64).range(1..))]
    pub ranks_per_node: Option<u64>,

    /// Without --nodes: how many workers, which may be more than cores since their tasks sleep
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1,2,4,8,16", conflicts_with = "nodes",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub workers: Vec<u64>,

    /// Most rounds of a point; its figure is their median
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=99))]
    pub rounds: u64,

    /// Strong scaling has as many tasks, up to 50,000, as take the fewest workers so long
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = parse_seconds)]
    pub seconds: f64,

    /// Folder where runs are kept while they are measured; with --nodes on a file system that all nodes share [default: a
    /// temporary one; with --nodes within the folder of results]
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,

    /// Folder where scripts/peers.sh has installed other systems, or installs them
    #[arg(long, value_name = "DIR", default_value = "target/peers")]
    pub peers: PathBuf,

    /// How long any command may take, in seconds
    #[arg(long, value_name = "S", default_value_t = 1_800, value_parser = clap::value_parser!(u64).range(1..))]
    pub deadline: u64,
}

/// Reads a number of seconds above zero.
fn parse_seconds(text: &str) -> Result<f64, String> {
    const MOST: f64 = 1e6;
    let seconds = text.parse::<f64>().ok().filter(|&seconds| seconds > 0.0 && seconds <= MOST);
    seconds.ok_or_else(|| format!("\"{text}\" is no number of seconds above 0, and up to {MOST}"))
}

/// Reads a word that can be a part of a folder's name.
fn parse_kind(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_alphanumeric() || "-_.+".contains(c);
    match !text.is_empty() && text.chars().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("\"{text}\" is no word of letters, digits, - and _")),
    }
}

impl RunOptions {
    /// What is asked for, in the order in which it is measured.
    pub fn sections(&self) -> Vec<Section> {
        let wanted = |section: &Section| match self.only.is_empty() {
            true => !self.skip.contains(section),
            false => self.only.contains(section),
        };
        Section::value_variants().iter().copied().filter(wanted).collect()
    }

    /// The kind of machine.
    pub fn machine_kind(&self) -> String {
        self.machine.clone().unwrap_or_else(machine::default_kind)
    }

    /// Where results go.
    pub fn out_folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let date = machine::now();
            let day = date.split(' ').next().unwrap_or_default();
            let quick = if self.quick { "-quick" } else { "" };
            PathBuf::from("scaling-tests/results").join(format!("{day}-{}{quick}", self.machine_kind()))
        })
    }

    /// Most rounds of a point.
    pub fn rounds(&self) -> u64 {
        if self.quick { 1 } else { self.rounds }
    }

    /// How long strong scaling takes the fewest workers.
    pub fn strong_seconds(&self) -> f64 {
        if self.quick { 0.2 } else { self.seconds }
    }

    /// Ranks on each node of a cluster.
    pub fn ranks_per_node(&self) -> u64 {
        self.ranks_per_node.unwrap_or_else(machine::cores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sections_are_those_asked_for_in_the_order_in_which_they_are_measured() {
        let sections = |arguments: &[&str]| {
            let words = ["scaling-tests"].iter().chain(arguments);
            Cli::parse_from(words).run.sections()
        };
        assert_eq!(sections(&["--only", "weak", "strong"]), [Section::Strong, Section::Weak]);
        assert_eq!(sections(&[]).len(), Section::value_variants().len());
        assert!(!sections(&["--skip", "peers,simulated"]).contains(&Section::Peers));
    }

    #[test]
    fn results_go_to_a_folder_of_the_day_and_the_kind_of_machine() {
        let out = Cli::parse_from(["scaling-tests", "--machine", "2-core-vm"]).run.out_folder();
        let name = out.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("20") && name.ends_with("-2-core-vm"), "{name}");
        let quick = Cli::parse_from(["scaling-tests", "--machine", "2-core-vm", "--quick"]).run.out_folder();
        assert!(quick.to_str().unwrap().ends_with("-2-core-vm-quick"), "{}", quick.display());
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for wrong in [
            "--quick --full",
            "--quick --rounds 2",
            "--quick --seconds 5",
            "--seconds 0",
            "--seconds=-1",
            "--seconds nan",
            "--seconds inf",
            "--deadline 0",
            "--rounds 0",
            "--workers 0",
            "--machine a/b",
            "--machine=",
        ] {
            let words = std::iter::once("scaling-tests").chain(wrong.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{wrong}");
        }
        assert_eq!(Cli::parse_from(["scaling-tests", "--seconds", "0.5"]).run.seconds, 0.5);
    }
}
