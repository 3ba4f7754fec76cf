//! Which GPUs a rank may give to tasks.
//!
//! The variable that a GPU runtime obeys is all that is used: no driver is asked.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// GPUs, as the variable that makes a runtime see them and the names that it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpus {
    /// `CUDA_VISIBLE_DEVICES`, `ROCR_VISIBLE_DEVICES` or `ZE_AFFINITY_MASK`; empty where there is no GPU.
    pub variable: String,
    /// Numbers or names, one per GPU.
    pub ids: Vec<String>,
}

/// In the order in which they are looked for.
const VARIABLES: [&str; 3] = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"];

impl Gpus {
    /// Those of the rank's own mask, which a launcher may have set; without a mask those that the kernel lists.
    pub fn of_this_process() -> Self {
        let masked = VARIABLES.into_iter().find_map(|variable| {
            let mask = std::env::var(variable).ok()?;
            Some(Self::masked(variable, &mask))
        });
        masked.unwrap_or_else(Self::found)
    }

    fn masked(variable: &str, mask: &str) -> Self {
        let ids: Vec<String> = mask.split(',').map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect();
        // CUDA's word for none is an empty mask, or one that starts with an impossible number.
        if ids.is_empty() || ids[0] == "-1" || ids[0] == "NoDevFiles" {
            return Self::default();
        }
        Self { variable: variable.to_owned(), ids }
    }

    fn found() -> Self {
        let count = |folder: &str, is_gpu: &dyn Fn(&std::path::Path) -> bool| {
            let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
            entries.filter(|entry| entry.as_ref().is_ok_and(|entry| is_gpu(&entry.path()))).count()
        };
        let nvidia = count("/proc/driver/nvidia/gpus", &|_| true);
        let amd = count("/sys/class/kfd/kfd/topology/nodes", &|node| {
            // A node of that tree without a GPU is a processor.
            std::fs::read_to_string(node.join("gpu_id")).is_ok_and(|id| id.trim() != "0")
        });
        let (variable, count) = if nvidia > 0 { (VARIABLES[0], nvidia) } else { (VARIABLES[1], amd) };
        match count {
            0 => Self::default(),
            count => Self { variable: variable.to_owned(), ids: (0..count).map(|id| id.to_string()).collect() },
        }
    }

    /// Shares the GPUs of a node out: those that several working ranks see go to each in turn.
    pub(super) fn share_out(seen: &[&Gpus], working: &[bool]) -> Vec<Gpus> {
        let mut shares: Vec<Gpus> =
            seen.iter().map(|gpus| Gpus { variable: gpus.variable.clone(), ids: Vec::new() }).collect();
        let ids: BTreeSet<(&str, usize, &str)> = seen
            .iter()
            .flat_map(|gpus| gpus.ids.iter().map(|id| (gpus.variable.as_str(), id.len(), id.as_str())))
            .collect();
        for (variable, _, id) in ids {
            let sees = |&rank: &usize| {
                working[rank] && seen[rank].variable == variable && seen[rank].ids.iter().any(|seen| seen == id)
            };
            if let Some(rank) = (0..seen.len()).filter(sees).min_by_key(|&rank| shares[rank].ids.len()) {
                shares[rank].ids.push(id.to_owned());
            }
        }
        shares
    }
}

/// The GPUs of one rank, taken and given back by its tasks.
#[derive(Debug)]
pub(super) struct GpuPool {
    gpus: Gpus,
    taken: Vec<bool>,
}

impl GpuPool {
    pub(super) fn new(gpus: Gpus) -> Self {
        Self { taken: vec![false; gpus.ids.len()], gpus }
    }

    /// Takes free ones; none where there are too few.
    pub(super) fn take(&mut self, count: u32) -> Option<Vec<usize>> {
        let free: Vec<usize> = (0..self.taken.len()).filter(|&at| !self.taken[at]).take(count as usize).collect();
        if free.len() < count as usize {
            return None;
        }
        free.iter().for_each(|&at| self.taken[at] = true);
        Some(free)
    }

    /// Gives them back.
    pub(super) fn give_back(&mut self, taken: &[usize]) {
        taken.iter().for_each(|&at| self.taken[at] = false);
    }

    /// The variable and the value that show these and no others.
    pub(super) fn mask(&self, taken: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let ids: Vec<&str> = taken.iter().map(|&at| self.gpus.ids[at].as_str()).collect();
        (self.gpus.variable.clone().into_bytes(), ids.join(",").into_bytes())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_read_as_cuda_reads_it() {
        assert_eq!(Gpus::masked("V", "0, 2,GPU-8a").ids, ["0", "2", "GPU-8a"]);
        for none in ["", "-1", "NoDevFiles", " , "] {
            assert_eq!(Gpus::masked("V", none), Gpus::default(), "{none:?}");
        }
    }

    #[test]
    fn ranks_that_see_the_same_gpus_share_them_and_masks_of_their_own_are_kept() {
        let same = Gpus::masked("V", "0,1,2,10");
        let own = Gpus::masked("V", "7");
        let shares = Gpus::share_out(&[&same, &same, &own, &same], &[true, true, true, false]);
        let ids: Vec<String> = shares.iter().map(|gpus| gpus.ids.join(",")).collect();
        assert_eq!(ids, ["0,2", "1,10", "7", ""]);
    }

    #[test]
    fn no_gpu_is_given_twice() {
        let mut pool = GpuPool::new(Gpus::masked("V", "3,5,6"));
        let first = pool.take(2).unwrap();
        assert_eq!(pool.mask(&first), (b"V".to_vec(), b"3,5".to_vec()));
        assert_eq!(pool.take(2), None);
        let second = pool.take(1).unwrap();
        assert_eq!(pool.mask(&second).1, b"6");
        pool.give_back(&first);
        assert_eq!(pool.take(2), Some(first));
    }
}
