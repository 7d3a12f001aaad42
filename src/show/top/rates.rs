//! What happened between two looks at a daemon, a second.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway::{DropState, Observation, PeerState, PortState, WorkerState};
use crate::show::{Health, SCHEMA, Status};

/// The answer to `top`. Field names are the keys of `vxgate top --once --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// [`SCHEMA`].
    pub schema: String,
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// The verdict.
    pub state: Health,
    /// Why it is not healthy.
    pub reasons: Vec<String>,
    /// What deserves a look although frames flow.
    pub warnings: Vec<String>,
    /// Seconds between the looks.
    pub seconds: f64,
    /// What was decapsulated.
    pub decap: Flow,
    /// What was encapsulated.
    pub encap: Flow,
    /// Frames that died, a second.
    pub dropped: f64,
    /// Frames that were left to the kernel, a second.
    pub passed: f64,
    /// Where frames enter.
    pub ports: Vec<PortRate>,
    /// The workers.
    pub workers: Vec<WorkerRate>,
    /// The peers, by what went to them and came from them.
    pub peers: Vec<PeerRate>,
    /// What frames died of since the takeover, the most frequent first.
    pub drops: Vec<DropRate>,
}

/// Frames of the wire, each segment of a superframe by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// Frames a second.
    pub packets: f64,
    /// Bits a second.
    pub bits: f64,
}

impl Flow {
    fn of(packets: [u64; 2], bytes: [u64; 2], seconds: f64) -> Self {
        Self {
            packets: rate(packets, seconds),
            bits: 8.0 * rate(bytes, seconds),
        }
    }
}

/// A port. A superframe is one frame here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PortRate {
    /// The underlay device's name, or the vxlan device's.
    pub port: String,
    /// `underlay` or `access`.
    pub role: String,
    /// How its frames are carried, in words.
    pub mode: String,
    /// Frames a second that arrived.
    pub received: f64,
    /// Those handed on.
    pub forwarded: Flow,
    /// Those left to the kernel.
    pub passed: f64,
    /// Those that died.
    pub dropped: f64,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRate {
    /// Its number.
    pub worker: u32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// Whether its thread runs and its heartbeat is fresh.
    pub alive: bool,
    /// The share of its time, 0 to 1, in turns that moved frames.
    pub working: f64,
    /// That in turns that looked for some.
    pub spinning: f64,
    /// Frames a second that it took.
    pub received: f64,
    /// Frames a batch; none without batches.
    pub frames_per_batch: Option<f64>,
    /// Nanoseconds that it worked for each frame; none without frames.
    pub ns_per_frame: Option<f64>,
    /// System calls a second that moved frames or asked the kernel to.
    pub calls: f64,
    /// How full the fullest of its receive rings was in the last minute, 0 to 1; none without rings.
    pub rx_ring: Option<f64>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PeerRate {
    /// The vxlan device's name.
    pub device: String,
    /// The device's VNI.
    pub vni: u32,
    /// The peer's address.
    pub addr: IpAddr,
    /// What was received from it.
    pub received: Flow,
    /// What was sent to it.
    pub sent: Flow,
    /// Milliseconds since the last frame from it.
    pub received_age_ms: Option<u64>,
}

/// A reason to die.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DropRate {
    /// Its name.
    pub reason: String,
    /// Frames a second.
    pub rate: f64,
    /// How many in the last minute.
    pub last_minute: u64,
    /// How many since the takeover.
    pub count: u64,
    /// Milliseconds since the last one.
    pub last_age_ms: u64,
    /// The ports that they came in by.
    pub ports: Vec<String>,
}

impl Rates {
    /// What happened between two looks, so many seconds apart; none when all counts began anew in between.
    pub fn between(before: &Status, after: &Status, seconds: f64) -> Option<Self> {
        let (then, now) = (&before.observation, &after.observation);
        if before.pid != after.pid || then.takeovers != now.takeovers {
            return None;
        }
        let ports = ports(then, now, seconds);
        let total = |pick: fn(&PortRate) -> f64| ports.iter().map(pick).sum();
        let (decap, encap) = flows(then, now, seconds);
        Some(Self {
            schema: SCHEMA.to_owned(),
            version: after.version.clone(),
            pid: after.pid,
            uptime_s: after.uptime_s,
            state: after.state,
            reasons: now.reasons.clone(),
            warnings: now.warnings.clone(),
            seconds,
            decap,
            encap,
            dropped: total(|port| port.dropped),
            passed: total(|port| port.passed),
            workers: workers(then, now, seconds),
            peers: peers(then, now, seconds),
            drops: drops(then, now, seconds),
            ports,
        })
    }
}

/// What all peers of all devices come to.
fn flows(then: &Observation, now: &Observation, seconds: f64) -> (Flow, Flow) {
    let sum = |seen: &Observation, pick: fn(&crate::gateway::Traffic) -> u64| {
        seen.vnis.iter().map(|vni| pick(&vni.total)).sum::<u64>()
    };
    let both = |pick| [sum(then, pick), sum(now, pick)];
    let received = both(|traffic| traffic.received);
    let received_bytes = both(|traffic| traffic.received_bytes);
    let (sent, sent_bytes) = (
        both(|traffic| traffic.sent),
        both(|traffic| traffic.sent_bytes),
    );
    (
        Flow::of(received, received_bytes, seconds),
        Flow::of(sent, sent_bytes, seconds),
    )
}

fn ports(then: &Observation, now: &Observation, seconds: f64) -> Vec<PortRate> {
    let before: BTreeMap<_, _> = then.ports.iter().map(|port| (&port.name, port)).collect();
    let rates = now.ports.iter().filter_map(|port| {
        let before = *before.get(&port.name)?;
        let both = |pick: fn(&PortState) -> u64| [pick(before), pick(port)];
        Some(PortRate {
            port: port.name.clone(),
            role: port.role.clone(),
            mode: mode(port),
            received: rate(both(|port| port.received), seconds),
            forwarded: Flow::of(
                both(|port| port.forwarded),
                both(|port| port.forwarded_bytes),
                seconds,
            ),
            passed: rate(both(|port| total(&port.passed)), seconds),
            dropped: rate(both(|port| total(&port.drops)), seconds),
        })
    });
    rates.collect()
}

fn mode(port: &PortState) -> String {
    let copy = if port.zero_copy { "zero-copy" } else { "copy" };
    format!("{} {copy}", port.xdp_mode)
}

fn workers(then: &Observation, now: &Observation, seconds: f64) -> Vec<WorkerRate> {
    let before = |number| then.workers.iter().find(|one| one.worker == number);
    let rates = now.workers.iter().filter_map(|worker| {
        let before = before(worker.worker)?;
        let risen = |pick: fn(&WorkerState) -> u64| pick(worker).saturating_sub(pick(before));
        let received = risen(|one| one.queues.iter().map(|queue| queue.received).sum());
        let batched = risen(|one| one.queues.iter().map(|queue| queue.batched).sum());
        let batches = risen(|one| one.queues.iter().flat_map(|queue| &queue.batches).sum());
        let (awake_ns, asleep_ns) = (risen(|one| one.awake_ns), risen(|one| one.asleep_ns));
        let working_ns = risen(|one| one.working_ns);
        let all_ns = awake_ns + asleep_ns;
        Some(WorkerRate {
            worker: worker.worker,
            core: worker.core,
            alive: worker.alive,
            working: ratio(working_ns, all_ns).unwrap_or(0.0),
            spinning: ratio(awake_ns.saturating_sub(working_ns), all_ns).unwrap_or(0.0),
            received: received as f64 / seconds,
            frames_per_batch: ratio(batched, batches),
            ns_per_frame: ratio(working_ns, received),
            calls: risen(|one| one.calls) as f64 / seconds,
            rx_ring: fullest(worker),
        })
    });
    rates.collect()
}

/// How full the fullest receive ring of a worker was.
fn fullest(worker: &WorkerState) -> Option<f64> {
    let rings = worker.queues.iter().flat_map(|queue| &queue.rings);
    let ratios = rings
        .filter(|ring| ring.ring == "rx")
        .filter_map(|ring| ratio(ring.lately.into(), ring.size.into()));
    ratios.max_by(f64::total_cmp)
}

fn peers(then: &Observation, now: &Observation, seconds: f64) -> Vec<PeerRate> {
    let key = |peer: &PeerState| (peer.device.clone(), peer.addr);
    let before: BTreeMap<_, _> = then.peers.iter().map(|peer| (key(peer), peer)).collect();
    let rates = now.peers.iter().map(|peer| {
        // Who was not there has had nothing.
        let before = before.get(&key(peer)).copied();
        let both = |pick: fn(&PeerState) -> u64| [before.map_or(0, pick), pick(peer)];
        PeerRate {
            device: peer.device.clone(),
            vni: peer.vni,
            addr: peer.addr,
            received: Flow::of(
                both(|peer| peer.traffic.received),
                both(|peer| peer.traffic.received_bytes),
                seconds,
            ),
            sent: Flow::of(
                both(|peer| peer.traffic.sent),
                both(|peer| peer.traffic.sent_bytes),
                seconds,
            ),
            received_age_ms: peer.traffic.received_age_ms,
        }
    });
    rates.collect()
}

/// Each reason of all ports together.
fn drops(then: &Observation, now: &Observation, seconds: f64) -> Vec<DropRate> {
    let mut reasons: BTreeMap<&str, Vec<&DropState>> = BTreeMap::new();
    for state in &now.drops {
        reasons.entry(&state.reason).or_default().push(state);
    }
    let counted = |seen: &Observation, reason: &str| {
        let states = seen.drops.iter().filter(|state| state.reason == reason);
        states.map(|state| state.count).sum::<u64>()
    };
    let rates = reasons.into_iter().map(|(reason, states)| DropRate {
        reason: reason.to_owned(),
        rate: rate([counted(then, reason), counted(now, reason)], seconds),
        last_minute: states.iter().map(|state| state.last_minute).sum(),
        count: states.iter().map(|state| state.count).sum(),
        last_age_ms: states
            .iter()
            .map(|state| state.last_age_ms)
            .min()
            .unwrap_or(0),
        ports: states.iter().map(|state| state.port.clone()).collect(),
    });
    let mut rates: Vec<_> = rates.collect();
    rates.sort_by(|a, b| {
        let rank = |one: &DropRate| (one.last_minute, one.count);
        b.rate.total_cmp(&a.rate).then(rank(b).cmp(&rank(a)))
    });
    rates
}

fn total(counts: &BTreeMap<String, u64>) -> u64 {
    counts.get("total").copied().unwrap_or(0)
}

/// How much a count has risen in so many seconds, a second. One that went back, by a little, has not.
fn rate([before, after]: [u64; 2], seconds: f64) -> f64 {
    after.saturating_sub(before) as f64 / seconds
}

fn ratio(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::super::tests::looks;
    use super::*;

    #[test]
    fn counts_are_made_rates_of_the_time_between() {
        let [before, after] = looks();
        let rates = Rates::between(&before, &after, 2.0).unwrap();
        assert_eq!(rates.ports[0].received, 50_000.0);
        assert_eq!(rates.decap.packets, 45_000.0);
        assert_eq!(rates.peers[0].received.packets, 45_000.0);
        assert_eq!(rates.drops[0].reason, "tx_ring_full");
        assert_eq!(rates.drops[0].rate, 20.0);
        assert_eq!(rates.workers[0].rx_ring, Some(0.25));
        // Nothing happened to the reason that comes last.
        assert_eq!(rates.drops.last().unwrap().rate, 0.0);
        let json = serde_json::to_value(&rates).unwrap();
        assert_eq!(json["schema"], SCHEMA);
        assert_eq!(serde_json::from_value::<Rates>(json).unwrap(), rates);
    }

    #[test]
    fn another_takeover_or_another_daemon_has_no_rates_yet() {
        let [before, after] = looks();
        let mut other = after.clone();
        other.pid += 1;
        assert_eq!(Rates::between(&before, &other, 1.0), None);
        let mut again = after;
        again.observation.takeovers += 1;
        assert_eq!(Rates::between(&before, &again, 1.0), None);
    }
}
