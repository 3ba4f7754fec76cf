//! Which NUMA node each processing unit belongs to: from hwloc where it is built in, otherwise from sysfs.
//!
//! The only file that knows hwloc.

use std::collections::BTreeMap;

/// NUMA node by processing unit, as the operating system numbers both. Units of no node are missing.
pub(super) fn numa_of_units() -> BTreeMap<u32, u32> {
    #[cfg(feature = "hwloc")]
    if let Some(nodes) = from_hwloc() {
        return nodes;
    }
    from_sysfs()
}

#[cfg(feature = "hwloc")]
fn from_hwloc() -> Option<BTreeMap<u32, u32>> {
    use hwlocality::Topology;
    use hwlocality::object::types::ObjectType;
    let topology = Topology::new().ok()?;
    let mut nodes = BTreeMap::new();
    for node in topology.objects_with_type(ObjectType::NUMANode) {
        let (Some(number), Some(units)) = (node.os_index(), node.cpuset()) else { continue };
        for unit in units.iter_set() {
            // Memory without processors of its own (HBM, CXL) lists those of its neighbour: the first one counts.
            nodes.entry(usize::from(unit) as u32).or_insert(number as u32);
        }
    }
    Some(nodes)
}

fn from_sysfs() -> BTreeMap<u32, u32> {
    let mut nodes = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/sys/devices/system/node") else { return nodes };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("node")?.parse::<u32>().ok());
        if let (Some(number), Ok(list)) = (number, std::fs::read_to_string(entry.path().join("cpulist"))) {
            nodes.extend(units_of_list(&list).into_iter().map(|unit| (unit, number)));
        }
    }
    nodes
}

/// Processing units of the machine that are switched on.
pub(super) fn units_of_machine() -> u32 {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    match units_of_list(&online).len() {
        // SAFETY: sysconf takes a plain number.
        0 => unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.max(1) as u32,
        count => count as u32,
    }
}

/// Reads the kernel's lists: `0-3,8,10-11`. What does not read is passed over.
fn units_of_list(list: &str) -> Vec<u32> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(first..=last.min(first.saturating_add(1 << 16)))
    };
    list.trim().split(',').filter_map(part).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_the_kernel_are_read() {
        assert_eq!(units_of_list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert!(units_of_list("\n").is_empty());
        assert_eq!(units_of_list("x,3-1,2-x,4"), [4]);
    }

    #[cfg(feature = "hwloc")]
    #[test]
    fn hwloc_and_sysfs_agree_on_this_machine() {
        let sysfs = from_sysfs();
        if !sysfs.is_empty() {
            assert_eq!(from_hwloc(), Some(sysfs));
        }
    }
}
