//! When frames died, and how many of them lately: what the counts were at moments before now.
//!
//! ```text
//!   a look a second ──▶ 60 samples ──▶ each 10th: 60 samples ──▶ each 6th of these: 60 samples
//!                       the last minute            the last 10 minutes                   the last hour
//! ```
//!
//! Whatever counts (workers, the kernel's sockets, devices) says only how many; so when it was is known to a second.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::observe::{DropState, PortState};

/// Samples of a window.
const SAMPLES: usize = 60;
/// How far apart they are.
const SPACING: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// Frames that died, by port and reason; those that are not 0.
type Counts = BTreeMap<(u32, String), u64>;

/// What was seen of the drops of a session.
#[derive(Debug, Default)]
pub(super) struct RecentDrops {
    last: Counts,
    /// When a count was last seen to rise, `CLOCK_MONOTONIC` in nanoseconds.
    rose_ns: BTreeMap<(u32, String), u64>,
    windows: [Window; 3],
}

/// What the counts were, the oldest first.
#[derive(Debug, Default)]
struct Window {
    samples: VecDeque<(u64, Counts)>,
}

impl RecentDrops {
    /// Takes note of the ports as they are at `now_ns`.
    pub(super) fn look(&mut self, ports: &[PortState], now_ns: u64) {
        let counts = counts(ports);
        for (key, count) in &counts {
            if *count > self.last.get(key).copied().unwrap_or(0) {
                self.rose_ns.insert(key.clone(), now_ns);
            }
        }
        for (window, spacing) in self.windows.iter_mut().zip(SPACING) {
            window.look(&counts, spacing, now_ns);
        }
        self.last = counts;
    }

    /// Every reason that a port has lost frames for, at `now_ns`.
    pub(super) fn states(&self, ports: &[PortState], now_ns: u64) -> Vec<DropState> {
        let state = |port: &PortState, reason: &str, count: u64| {
            let key = (port.ifindex, reason.to_owned());
            let lately = |window: &Window| count.saturating_sub(window.before(&key));
            let known = self.last.get(&key).copied().unwrap_or(0);
            // What has risen since the last look has done so just now.
            let rose = self.rose_ns.get(&key).filter(|_| count <= known);
            let [minute, ten_minutes, hour] = &self.windows;
            DropState {
                port: port.name.clone(),
                direction: if port.role == "underlay" { "rx" } else { "tx" }.to_owned(),
                reason: reason.to_owned(),
                count,
                last_age_ms: rose.map_or(0, |rose| now_ns.saturating_sub(*rose) / 1_000_000),
                last_minute: lately(minute),
                last_10_minutes: lately(ten_minutes),
                last_hour: lately(hour),
            }
        };
        let of_port = |port| {
            let died = died(port);
            died.map(move |(reason, count)| state(port, reason, count))
        };
        ports.iter().flat_map(of_port).collect()
    }
}

impl Window {
    fn look(&mut self, counts: &Counts, spacing: Duration, now_ns: u64) {
        let due = self.samples.back().is_none_or(|(at_ns, _)| {
            // The looks are a second apart, more or less.
            let since = Duration::from_nanos(now_ns.saturating_sub(*at_ns));
            since + Duration::from_millis(500) >= spacing
        });
        if due {
            if self.samples.len() > SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((now_ns, counts.clone()));
        }
    }

    /// What a count was before the window; as long as there is no more to look back at, 0 at the takeover.
    fn before(&self, key: &(u32, String)) -> u64 {
        let full = self.samples.len() > SAMPLES;
        let oldest = self.samples.front().filter(|_| full);
        oldest
            .and_then(|(_, counts)| counts.get(key).copied())
            .unwrap_or(0)
    }
}

fn counts(ports: &[PortState]) -> Counts {
    let of_port = |port| {
        died(port).map(|(reason, count): (&str, u64)| ((port.ifindex, reason.to_owned()), count))
    };
    ports.iter().flat_map(of_port).collect()
}

fn died(port: &PortState) -> impl Iterator<Item = (&str, u64)> {
    let drops = port.drops.iter();
    let drops = drops.map(|(reason, count)| (reason.as_str(), *count));
    drops.filter(|(reason, count)| *reason != "total" && *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(drops: &[(&str, u64)]) -> PortState {
        let mut port = PortState::named("eth1", 2, "underlay");
        let total = drops.iter().map(|(_, count)| count).sum();
        let drops = drops.iter().copied().chain([("total", total)]);
        port.drops = drops
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect();
        port
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn what_died_lately_is_told_apart_from_what_died_before() {
        let mut recent = RecentDrops::default();
        for second in 0..4000 {
            // One each minute, on the minute.
            recent.look(&[port(&[("oversize", 1 + second / 60)])], second * SECOND);
        }
        let now = [port(&[("oversize", 67)])];
        let [state] = &recent.states(&now, 4000 * SECOND)[..] else {
            panic!("one reason")
        };
        assert_eq!(
            (state.port.as_str(), state.direction.as_str()),
            ("eth1", "rx")
        );
        assert_eq!((state.count, state.last_minute), (67, 1));
        assert!((10..=11).contains(&state.last_10_minutes), "{state:?}");
        assert!((60..=61).contains(&state.last_hour), "{state:?}");
        assert_eq!(state.last_age_ms, 40_000);
        for window in &recent.windows {
            assert_eq!(window.samples.len(), SAMPLES + 1);
        }
    }

    #[test]
    fn at_first_all_is_recent_and_what_has_risen_since_the_last_look_is_of_now() {
        let mut recent = RecentDrops::default();
        let early = [port(&[("oversize", 3)])];
        let states = recent.states(&early, 5 * SECOND);
        assert_eq!((states[0].last_hour, states[0].last_age_ms), (3, 0));
        recent.look(&early, 5 * SECOND);
        assert_eq!(recent.states(&early, 8 * SECOND)[0].last_age_ms, 3000);
        let later = [port(&[("oversize", 4), ("unknown_peer", 1)])];
        let states = recent.states(&later, 8 * SECOND);
        assert_eq!(states.iter().map(|one| one.last_age_ms).max(), Some(0));
        assert_eq!(states.len(), 2);
        assert!(recent.states(&[port(&[("oversize", 0)])], 0).is_empty());
    }
}
