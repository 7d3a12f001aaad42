//! Where a measurement was made: a number without its machine says nothing.

use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

/// The machine. What `/proc` does not tell is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Runs under a hypervisor, which takes time away and adds gaps.
    pub virtual_machine: bool,
    /// Load average over the last minute at the start, in thousandths: other work disturbs.
    pub load_milli: u32,
}

impl Host {
    /// Reads `/proc`.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = text("/proc/cpuinfo");
        Self {
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpu: field(&cpuinfo, "model name").unwrap_or_default().to_owned(),
            cores: thread::available_parallelism().map_or(1, Into::into),
            virtual_machine: has_flag(&cpuinfo, "hypervisor"),
            load_milli: load_milli(&text("/proc/loadavg")).unwrap_or(0),
        }
    }
}

/// The first value of a `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find_map(|(key, value)| (key.trim() == name).then(|| value.trim()))
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    let flags = field(cpuinfo, "flags").unwrap_or_default();
    flags.split_ascii_whitespace().any(|known| known == flag)
}

fn load_milli(loadavg: &str) -> Option<u32> {
    let load: f64 = loadavg.split_ascii_whitespace().next()?.parse().ok()?;
    (load >= 0.0).then_some((load * 1000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_read_from_its_own_words() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: Some CPU @ 2.4: GHz\nflags\t\t: fpu hypervisor sse\n";
        assert_eq!(field(cpuinfo, "model name"), Some("Some CPU @ 2.4: GHz"));
        assert!(has_flag(cpuinfo, "hypervisor") && !has_flag(cpuinfo, "hyper"));
        assert_eq!(load_milli("0.52 0.58 0.59 1/234 5678\n"), Some(520));
        assert_eq!((load_milli(""), load_milli("x")), (None, None));
    }

    #[test]
    fn this_machine_has_a_kernel_and_a_core() {
        let host = Host::read();
        assert!(!host.kernel.is_empty() && host.cores >= 1, "{host:?}");
    }
}
