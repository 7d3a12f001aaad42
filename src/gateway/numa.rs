//! Which NUMA node the underlay devices are on, and which cores are there: what sysfs says, as far as it makes sense.
//!
//! A worker's memory comes from the node of the device that writes frames into it, and the first workers get that node's
//! cores. On a machine of one node, with devices that are on none (virtual ones), or with underlay devices on several, there is
//! nothing to choose: everything is as the kernel would have it.

use std::fs;
use std::path::{Path, PathBuf};

/// More than Linux has nodes or cores: a larger number is no number of one.
const NODES_MAX: u32 = 1024;
const CORES_MAX: usize = 1 << 16;

/// The kernel's description of the machine.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    sysfs: PathBuf,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Self::at(Path::new("/sys"))
    }

    /// As described in a folder.
    fn at(sysfs: &Path) -> Self {
        Self {
            sysfs: sysfs.to_owned(),
        }
    }

    /// The folder of a network device. Sysfs shows another namespace's devices when it was not mounted anew, hence the check of
    /// the index.
    pub fn network_device(&self, name: &str, ifindex: u32) -> Option<PathBuf> {
        let folder = self.sysfs.join("class/net").join(name);
        let same = number(&folder.join("ifindex")) == Some(i64::from(ifindex));
        same.then_some(folder)
    }

    /// The node that a network device is on; none for one that is on no node (a virtual one) or does not say.
    pub fn node_of_device(&self, name: &str, ifindex: u32) -> Option<u32> {
        let folder = self.network_device(name, ifindex)?;
        // -1 where it is not known.
        let node = u32::try_from(number(&folder.join("device/numa_node"))?).ok()?;
        self.cores_of(node).map(|_| node)
    }

    /// The node that a core is on.
    pub fn node_of_core(&self, core: usize) -> Option<u32> {
        let nodes = fs::read_dir(self.sysfs.join("devices/system/node")).ok()?;
        let nodes = nodes
            .flatten()
            .filter_map(|entry| node_number(entry.file_name().to_str()?));
        let mut with_core =
            nodes.filter(|node| self.cores_of(*node).is_some_and(|cores| has(&cores, core)));
        with_core.next()
    }

    /// The cores of a node, in ranges; none when there is no such node. One without cores has memory only.
    fn cores_of(&self, node: u32) -> Option<Vec<(usize, usize)>> {
        if node >= NODES_MAX {
            return None;
        }
        let file = format!("devices/system/node/node{node}/cpulist");
        ranges(&fs::read_to_string(self.sysfs.join(file)).ok()?)
    }

    /// The cores in the order in which workers get them: those of the node first.
    pub fn nearest_first(&self, mut cores: Vec<usize>, node: Option<u32>) -> Vec<usize> {
        if let Some(near) = node.and_then(|node| self.cores_of(node)) {
            // A stable sort: otherwise as they were.
            cores.sort_by_key(|core| !has(&near, *core));
        }
        cores
    }
}

/// The node that all of these devices are on which are on any; none when they are on several.
pub(super) fn common(nodes: impl IntoIterator<Item = Option<u32>>) -> Option<u32> {
    let mut known = nodes.into_iter().flatten();
    let first = known.next()?;
    known.all(|node| node == first).then_some(first)
}

/// As shown to people: the number, or `none`.
pub(super) fn label(node: Option<u32>) -> String {
    node.map_or_else(|| "none".to_owned(), |node| node.to_string())
}

fn number(file: &Path) -> Option<i64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn node_number(file_name: &str) -> Option<u32> {
    let node = file_name.strip_prefix("node")?.parse().ok()?;
    (node < NODES_MAX).then_some(node)
}

fn has(ranges: &[(usize, usize)], core: usize) -> bool {
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&core))
}

/// A list such as `0-3,8-11`; none when it is no such list.
fn ranges(text: &str) -> Option<Vec<(usize, usize)>> {
    let core = |text: &str| text.parse().ok().filter(|core| *core < CORES_MAX);
    let parts = text.trim().split(',').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (core(first)?, core(last)?);
            (first <= last).then_some((first, last))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of two nodes with two cores each, interleaved, and four network devices.
    fn machine() -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("devices/system/node/node0/cpulist", "0,2\n");
        write("devices/system/node/node1/cpulist", "1,3\n");
        write("devices/system/node/node2/cpulist", "\n");
        write("devices/system/node/node3/cpulist", "4-\n");
        write("devices/system/node/online", "0-3\n");
        let devices = [
            ("near", "2", "0\n"),
            ("far", "3", "1\n"),
            ("unknown", "4", "-1\n"),
            ("nonsense", "5", "one\n"),
            ("nowhere", "6", "7\n"),
            ("huge", "7", "4294967296\n"),
        ];
        for (name, ifindex, node) in devices {
            write(&format!("class/net/{name}/ifindex"), ifindex);
            write(&format!("class/net/{name}/device/numa_node"), node);
        }
        write("class/net/veth/ifindex", "8\n");
        let machine = Machine::at(folder.path());
        (folder, machine)
    }

    #[test]
    fn a_device_is_on_the_node_that_it_says_when_there_is_such_a_node() {
        let (_folder, machine) = machine();
        let node = |name, ifindex| machine.node_of_device(name, ifindex);
        assert_eq!((node("near", 2), node("far", 3)), (Some(0), Some(1)));
        for (name, ifindex) in [
            ("unknown", 4),
            ("nonsense", 5),
            ("nowhere", 6),
            ("huge", 7),
            ("veth", 8),
            ("gone", 9),
        ] {
            assert_eq!(node(name, ifindex), None, "{name}");
        }
        assert_eq!(node("near", 3), None, "another namespace's");
    }

    #[test]
    fn a_core_is_on_the_node_that_lists_it() {
        let (_folder, machine) = machine();
        let nodes = [0, 1, 2, 3, 4].map(|core| machine.node_of_core(core));
        assert_eq!(nodes, [Some(0), Some(1), Some(0), Some(1), None]);
        let nothing = Machine::at(Path::new("/nonexistent"));
        assert_eq!(nothing.node_of_core(0), None);
    }

    #[test]
    fn workers_get_the_cores_of_the_node_first() {
        let (_folder, machine) = machine();
        let order = |node| machine.nearest_first(vec![0, 1, 2, 3], node);
        assert_eq!(order(Some(1)), [1, 3, 0, 2]);
        assert_eq!(order(Some(0)), [0, 2, 1, 3]);
        for without in [None, Some(2), Some(3), Some(9)] {
            assert_eq!(order(without), [0, 1, 2, 3], "{without:?}");
        }
    }

    #[test]
    fn devices_on_several_nodes_have_none_in_common() {
        assert_eq!(common([Some(1), None, Some(1)]), Some(1));
        assert_eq!(common([Some(1), Some(0)]), None);
        assert_eq!(common([None, None]), None);
        assert_eq!(common([]), None);
    }

    #[test]
    fn lists_of_cores_are_read_and_nonsense_is_no_list() {
        assert_eq!(
            ranges("0-3,8-11,15\n"),
            Some(vec![(0, 3), (8, 11), (15, 15)])
        );
        assert_eq!(ranges("\n"), Some(vec![]));
        for nonsense in [
            "3-1",
            "a",
            "1-",
            "-",
            "1-2-3",
            "0-65536",
            "99999999999999999999",
        ] {
            assert_eq!(ranges(nonsense), None, "{nonsense}");
        }
    }
}
