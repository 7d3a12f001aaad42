//! What a trial cost in processor time: everything that ran, softirq and kernel threads included.
//!
//! Per-process accounting misses most of a network device's work, so the cost is taken from `/proc/stat`, per core. It counts
//! in ticks of 10 ms: trials below a few seconds say little.

use std::fs;
use std::io;

/// Ticks a second of `/proc/stat` (USER_HZ, the same on all architectures that Linux's user space knows).
const TICKS_A_SECOND: f64 = 100.0;

/// Processor time of one core, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CpuTime {
    /// Programs, also at low priority.
    pub user_s: f64,
    /// The kernel on behalf of programs, and its threads.
    pub system_s: f64,
    /// Interrupts and softirqs: where network devices work.
    pub softirq_s: f64,
    /// Nothing to do, or waiting for a disk.
    pub idle_s: f64,
    /// Taken by the hypervisor: time that was not there to be used.
    pub steal_s: f64,
}

impl CpuTime {
    /// All but idle and stolen time.
    pub fn busy_s(&self) -> f64 {
        self.user_s + self.system_s + self.softirq_s
    }

    fn since(self, before: Self) -> Self {
        Self {
            user_s: self.user_s - before.user_s,
            system_s: self.system_s - before.system_s,
            softirq_s: self.softirq_s - before.softirq_s,
            idle_s: self.idle_s - before.idle_s,
            steal_s: self.steal_s - before.steal_s,
        }
    }
}

/// The time of every core since the machine started.
#[derive(Debug, Clone, PartialEq)]
pub struct CpuTimes(Vec<CpuTime>);

impl CpuTimes {
    /// Reads `/proc/stat`.
    ///
    /// # Errors
    /// Where `/proc` is not mounted, or says something else than expected.
    pub fn now() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        Self::parse(&text).ok_or_else(|| {
            let why = "/proc/stat has no line of a core with eight numbers";
            io::Error::new(io::ErrorKind::InvalidData, why)
        })
    }

    /// What every core did since an earlier reading.
    pub fn since(&self, before: &Self) -> Vec<CpuTime> {
        let pairs = self.0.iter().zip(&before.0);
        pairs.map(|(now, before)| now.since(*before)).collect()
    }

    fn parse(text: &str) -> Option<Self> {
        let cores: Vec<_> = text.lines().filter_map(core).collect();
        (!cores.is_empty()).then_some(Self(cores))
    }
}

/// `cpu0 user nice system idle iowait irq softirq steal ...`, in ticks (`man 5 proc_stat`).
fn core(line: &str) -> Option<CpuTime> {
    let (name, numbers) = line.split_once(' ')?;
    name.strip_prefix("cpu")?.parse::<u32>().ok()?;
    let ticks: Vec<u64> = numbers
        .split_ascii_whitespace()
        .map_while(|number| number.parse().ok())
        .collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = *ticks else {
        return None;
    };
    let seconds = |ticks: u64| ticks as f64 / TICKS_A_SECOND;
    Some(CpuTime {
        user_s: seconds(user + nice),
        system_s: seconds(system),
        softirq_s: seconds(irq + softirq),
        idle_s: seconds(idle + iowait),
        steal_s: seconds(steal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  300 0 0 0 0 0 0 0 0 0\n\
        cpu0 100 1 200 3000 40 5 60 7 0 0\n\
        cpu1 200 0 100 4000 0 0 0 0 0 0\n\
        intr 1 2 3\n\
        cpufreq 1 2 3 4 5 6 7 8\n";

    #[test]
    fn cores_are_read_each_by_itself() {
        let times = CpuTimes::parse(STAT).unwrap();
        assert_eq!(times.0.len(), 2);
        let first = times.0[0];
        assert_eq!(
            (first.user_s, first.system_s, first.softirq_s),
            (1.01, 2.0, 0.65)
        );
        assert_eq!((first.idle_s, first.steal_s), (30.4, 0.07));
    }

    #[test]
    fn a_difference_is_what_was_spent() {
        let before = CpuTimes::parse(STAT).unwrap();
        let after =
            CpuTimes::parse("cpu0 150 1 200 3000 40 5 160 7\ncpu1 200 0 100 4100 0 0 0 0\n")
                .unwrap();
        let spent = after.since(&before);
        assert!((spent[0].busy_s() - 1.5).abs() < 1e-9, "{spent:?}");
        assert!((spent[1].idle_s - 1.0).abs() < 1e-9);
    }

    #[test]
    fn other_text_is_not_taken_for_times() {
        assert_eq!(CpuTimes::parse(""), None);
        assert_eq!(CpuTimes::parse("cpu0 1 2 3\n"), None);
        assert!(CpuTimes::now().is_ok());
    }
}
