//! The lines of the direct path: its flows, its pods, and what became of the frames that its gears looked at.

use std::fmt;

use super::balance::{counted, total, verdict};
use crate::gateway::{DirectState, DirectWayState};

/// The word for XDP at pods' devices.
const XDP: &str = "xdp";

pub(super) struct DirectLines<'a>(pub &'a DirectState);

impl fmt::Display for DirectLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direct = self.0;
        let times = if direct.changes == 1 { "time" } else { "times" };
        write!(
            f,
            "  direct    {}: {} flows of {} pods express, {} in the ring gear; {} promoted, all demoted {} {times}",
            direct.mode,
            direct.express_flows,
            direct.pods,
            direct.ring_flows,
            direct.promotions,
            direct.changes
        )?;
        let causes = direct.changes_by.iter();
        let causes = causes.map(|(what, times)| format!("{what} {times}"));
        let causes: Vec<_> = causes.collect();
        if causes.is_empty() {
            writeln!(f)?;
        } else {
            writeln!(f, " ({})", causes.join(", "))?;
        }
        let lost = direct
            .sightings_lost
            .iter()
            .filter(|(_, count)| **count > 0);
        let lost: Vec<_> = lost.map(|(why, count)| format!("{count} {why}")).collect();
        if !lost.is_empty() {
            writeln!(f, "            sightings lost: {}", lost.join(", "))?;
        }
        if let Some(why) = &direct.why_not_express {
            writeln!(f, "            none express: {why}")?;
        }
        if !direct.pod_devices.is_empty() {
            writeln!(f, "            {}", PodsLine(direct))?;
        }
        if direct.pod_programs == XDP {
            writeln!(f, "            {}", SendingLine(direct))?;
        }
        for (name, pod) in &direct.pod_devices {
            if let Some(why) = &pod.why_not_xdp {
                writeln!(f, "            {name} sends by the classifier alone: {why}")?;
            }
        }
        for (name, why) in &direct.pods_left_out {
            writeln!(f, "            not {name}: {why}")?;
        }
        for (way, name) in direct.ways() {
            writeln!(f, "            {name}: {}", DirectWayWords(way))?;
        }
        Ok(())
    }
}

/// What the direct path means to its pods.
struct PodsLine<'a>(&'a DirectState);

impl fmt::Display for PodsLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direct = self.0;
        let pods = || direct.pod_devices.iter();
        let mtus = || pods().map(|(_, pod)| pod.mtu);
        let (shortest, longest) = (mtus().min().unwrap_or(0), mtus().max().unwrap_or(0));
        write!(
            f,
            "pods: {} of at most {}, {} by XDP; MTU {shortest}",
            direct.pods, direct.pods_max, direct.pods_by_xdp
        )?;
        if longest != shortest {
            write!(f, " to {longest}")?;
        }
        let mut losers = pods().filter(|(_, pod)| !pod.offloads_lost.is_empty());
        match losers.next() {
            None => write!(f, " and offloads as they were"),
            Some((name, pod)) => {
                let (lost, more) = (pod.offloads_lost.join(", "), losers.count());
                write!(f, " as it was; {name} lost {lost}")?;
                if more > 0 {
                    write!(f, ", and {more} more lost offloads")?;
                }
                Ok(())
            }
        }
    }
}

/// What takes the frames that pods send, and what that costs them.
struct SendingLine<'a>(&'a DirectState);

impl fmt::Display for SendingLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // XDP takes what goes express, and is at no pod's device where nothing does.
        if self.0.why_not.is_some() || self.0.why_not_express.is_some() {
            return f.write_str("sending: no pod by XDP, since no flow goes express");
        }
        let pods = self.0.pod_devices.values();
        let by_xdp = pods.filter(|pod| pod.sending == XDP).count();
        write!(
            f,
            "sending: {by_xdp} of {} pods by XDP, {} frames; it takes segmentation offload from them",
            self.0.pods, self.0.out_by_xdp
        )
    }
}

struct DirectWayWords<'a>(&'a DirectWayState);

impl fmt::Display for DirectWayWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = self.0;
        let handed_up = total(&way.handed_up);
        let verdict = verdict(way.balance_ok);
        write!(
            f,
            "received {} = forwarded {} + handed up {handed_up} + lost {} + in flight {}   {verdict}",
            way.received, way.forwarded, way.lost, way.in_flight
        )?;
        for (reason, count) in counted(&way.handed_up) {
            write!(f, "\n            handed up {count} {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Status;
    use super::*;
    use crate::gateway::{Observation, PodState};

    #[test]
    fn the_direct_path_is_told_with_the_balance_of_both_ways() {
        let way = |received| DirectWayState {
            received,
            forwarded: 90,
            forwarded_bytes: 9000,
            lost: 1,
            in_flight: 2,
            balance_ok: received == 100,
            handed_up: BTreeMap::from([
                ("total".into(), 7),
                ("tcp_flags".into(), 7),
                ("ttl".into(), 0),
            ]),
        };
        let pod = |(name, mtu): (&str, u32)| {
            let pod = PodState {
                mtu,
                delivery: "classifier".into(),
                ..PodState::default()
            };
            (name.to_owned(), pod)
        };
        let direct = DirectState {
            mode: "flows".into(),
            pods: 2,
            express_flows: 3,
            promotions: 9,
            sightings_lost: BTreeMap::from([("judge_busy".into(), 0), ("no_place".into(), 5)]),
            changes: 1,
            changes_by: BTreeMap::from([("filters".into(), 1)]),
            pods_left_out: BTreeMap::from([("veth7".into(), "it is limited".into())]),
            ring_flows: 1,
            why_not_express: Some("it is forbidden".into()),
            pods_max: 448,
            pod_devices: [("veth1", 1450), ("veth2", 1400)].map(pod).into(),
            out: way(100),
            into: way(101),
            ring_out: way(100),
            ..DirectState::default()
        };
        let observation = Observation {
            direct: Some(direct),
            ..Observation::default()
        };
        let status = Status::new(observation, 7);
        let text = status.to_string();
        let lines = "  direct    flows: 3 flows of 2 pods express, 1 in the ring gear; 9 promoted, all demoted 1 time (filters 1)\n            \
            sightings lost: 5 no_place\n            \
            none express: it is forbidden\n            \
            pods: 2 of at most 448, 0 by XDP; MTU 1400 to 1450 and offloads as they were\n            \
            not veth7: it is limited\n            \
            express from pods: received 100 = forwarded 90 + handed up 7 + lost 1 + in flight 2   balance OK\n            \
            handed up 7 tcp_flags\n            \
            express to pods: received 101 = forwarded 90 + handed up 7 + lost 1 + in flight 2   BALANCE BROKEN\n            \
            handed up 7 tcp_flags\n            \
            ring from pods: received 100 = forwarded 90 + handed up 7 + lost 1 + in flight 2   balance OK\n";
        assert!(text.contains(lines), "{text}");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["direct"]["in"]["handed_up"]["tcp_flags"], 7);
        let mut direct = status.observation.direct.clone().unwrap();
        let lost = &mut direct.pod_devices.get_mut("veth2").unwrap().offloads_lost;
        lost.push("tx-tcp-segmentation".into());
        assert_eq!(
            PodsLine(&direct).to_string(),
            "pods: 2 of at most 448, 0 by XDP; MTU 1400 to 1450 as it was; veth2 lost tx-tcp-segmentation"
        );
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
        direct.pod_programs = "xdp".into();
        let none = "sending: no pod by XDP, since no flow goes express";
        assert_eq!(SendingLine(&direct).to_string(), none);
        let why_not_express = direct.why_not_express.take();
        direct.why_not = why_not_express;
        assert_eq!(SendingLine(&direct).to_string(), none);
        direct.why_not = None;
        direct.out_by_xdp = 60;
        direct.pod_devices.get_mut("veth2").unwrap().sending = "xdp".into();
        let other = direct.pod_devices.get_mut("veth1").unwrap();
        other.why_not_xdp = Some("it has a program".into());
        let lines = "            sending: 1 of 2 pods by XDP, 60 frames; it takes segmentation offload from them\n            \
            veth1 sends by the classifier alone: it has a program\n            not veth7";
        let text = DirectLines(&direct).to_string();
        assert!(text.contains(lines), "{text}");
    }
}
