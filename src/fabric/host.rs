//! Which machine this process runs on, so that ranks that share one can be told from ranks that do not.

use serde::{Deserialize, Serialize};
use std::fs;

/// A machine, as one of its processes sees it. Two ranks share a node if both parts are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostIdentity {
    /// The host name, for people.
    pub name: String,
    /// The kernel's id of this boot: machines that were given the same name still differ. Empty where there is none.
    pub boot_id: String,
}

/// The machine of this process. The launchers' variables are no help here: Hydra hands the SLURMD_NODENAME of the first
/// node to the ranks of all.
pub fn host_identity() -> HostIdentity {
    let line = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut name = line("/proc/sys/kernel/hostname");
    if name.is_empty() {
        name = "localhost".to_owned();
    }
    HostIdentity { name, boot_id: line("/proc/sys/kernel/random/boot_id") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_name_and_is_the_same_machine_the_next_time() {
        let once = host_identity();
        assert!(!once.name.is_empty() && !once.name.contains('\n'));
        assert_eq!(once, host_identity());
    }
}
