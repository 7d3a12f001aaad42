//! Between devices of one host.

use super::*;
use crate::support::vxgate::Status;

#[test]
fn devices_of_one_host_exchange_frames_with_and_without_local_bypass() {
    for with_vxgate in [false, true] {
        let site = Site::new("local");
        site.far[0].run("ip addr add 10.0.1.77/32 dev eth0");
        let mut stations = site.stations();
        let mut carrier = Carrier::start(&site, with_vxgate);
        carrier.wait_kernel_keeps("frames to 7 addresses");
        let loopback = || site.count("lo", "rx", "packets");
        for bypass in [true, false, true] {
            site.set_local_bypass(bypass);
            if let Some(vxgate) = &carrier.vxgate {
                let status = vxgate.status();
                assert_eq!(status.device("vx1").expect("vx1")["taken_over"], true);
            }
            // One VNI and another port, one port and another VNI; each is told from the other.
            for (station, end) in [(TO_VX2, "vx2"), (TO_VX3, "vx3")] {
                let before = loopback();
                let sent = stations.burst(station);
                stations.assert_heard(end, &sent, &[end]);
                carrier.assert_books(end, 0, 0, FRAMES);
                let through_the_stack = if bypass { 0 } else { u64::from(FRAMES) };
                assert_eq!(loopback() - before, through_the_stack, "bypass {bypass}");
            }
            // Nobody has this VNI: with the bypass the kernel says so at once.
            let errors = site.count("vx1", "tx", "errors");
            let sent = stations.burst(TO_NOBODY);
            stations.assert_heard("nobody", &sent, &[]);
            carrier.assert_books("nobody", 0, 0, FRAMES);
            let counted = if bypass { u64::from(FRAMES) } else { 0 };
            assert_eq!(site.count("vx1", "tx", "errors") - errors, counted);
        }

        // An address of far1 becomes ours, and goes back.
        for (change, ends, words, kernels) in [
            ("", ["far1/vx2"], "frames to 7 addresses", 0),
            (
                "ip addr add 10.0.1.77/32 dev lo",
                ["vx2"],
                "frames to 8 addresses",
                FRAMES,
            ),
            (
                "ip addr del 10.0.1.77/32 dev lo",
                ["far1/vx2"],
                "frames to 7 addresses",
                0,
            ),
        ] {
            if !change.is_empty() {
                site.node.run(change);
            }
            carrier.wait_kernel_keeps(words);
            if kernels == 0 {
                carrier.wait_resolved("10.0.1.77");
            }
            let sent = stations.burst(MOVING);
            stations.assert_heard(change, &sent, &ends);
            carrier.assert_books(change, FRAMES - kernels, 0, kernels);
        }
    }
}

#[test]
fn several_vteps_of_one_host_are_carried_side_by_side_and_reach_each_other() {
    /// Where the station behind the node is, as the far ends know it.
    const NODE: &str = "02:00:00:00:00:0b";
    /// The same by the address of another device.
    const NODE_BY_VX1: &str = "02:00:00:00:00:0c";
    const TO_VX1: &str = "02:00:00:00:00:0d";
    for with_vxgate in [false, true] {
        let site = Site::new("several");
        let [far1, far2] = &site.far;
        for (netns, entry) in [
            (&site.node, format!("{FAR1} dev vx2 dst 10.0.1.2")),
            (&site.node, format!("{FAR1} dev vx3 dst 10.0.1.2")),
            (&site.node, format!("{TO_VX1} dev vx2 dst 10.0.1.1 vni 1")),
            (far1, format!("{NODE} dev vx1 dst 10.0.1.1")),
            (far1, format!("{NODE} dev vx2 dst 10.0.1.9")),
            (far1, format!("{NODE} dev vx3 dst 10.0.1.9")),
            (far1, format!("{NODE_BY_VX1} dev vx2 dst 10.0.1.1")),
            (far2, format!("{NODE} dev vx1 dst 10.0.1.1")),
        ] {
            netns.run(&format!("bridge fdb add {entry} self permanent"));
        }
        let carrier = Carrier::start(&site, with_vxgate);
        let status = |what: &str| {
            let vxgate = carrier.vxgate.as_ref()?;
            let status = vxgate.balanced();
            for device in ["vx1", "vx2", "vx3"] {
                let device = status.device(device).expect("it is there");
                assert_eq!(device["taken_over"], true, "{what}");
            }
            Some(status)
        };
        let at_node = [("vx1", "vx1"), ("vx2", "vx2"), ("vx3", "vx3")];
        let at_node = at_node.map(|(name, device)| (name, &site.node, device));
        // Who decapsulates: `None` for the kernel without any program in between.
        for (from, device, station, end, ours) in [
            (far1, "vx1", NODE, "vx1", Some(true)),
            (far1, "vx2", NODE, "vx2", Some(true)),
            (far1, "vx3", NODE, "vx3", Some(true)),
            (far1, "vx2", NODE_BY_VX1, "vx2", Some(false)),
            (far2, "vx1", NODE, "vx1", None),
        ] {
            let what = format!("{device} of {} to {station}", from.name());
            let before = status(&what);
            let mut stations = Stations::new((from, device), &at_node);
            let sent = stations.burst(station);
            stations.assert_heard(&what, &sent, &[end]);
            if let (Some(before), Some(after)) = (before, status(&what)) {
                let forwarded = after.forwarded("underlay") - before.forwarded("underlay");
                let foreign = |status: &Status| status.passed("underlay", "foreign_vni");
                let frames = |on: bool| if on { u64::from(FRAMES) } else { 0 };
                assert_eq!(forwarded, frames(ours == Some(true)), "{what}");
                let passed = foreign(&after) - foreign(&before);
                assert_eq!(passed, frames(ours == Some(false)), "{what}");
            }
        }
        for (device, station, end, kernels) in [
            ("vx2", FAR1, "far1/vx2", 0),
            ("vx3", FAR1, "far1/vx3", 0),
            ("vx2", TO_VX1, "vx1", u64::from(FRAMES)),
        ] {
            let what = format!("{device} to {station}");
            let before = status(&what);
            let mut stations = Stations::new(
                (&site.node, device),
                &[
                    ("vx1", &site.node, "vx1"),
                    ("far1/vx2", far1, "vx2"),
                    ("far1/vx3", far1, "vx3"),
                ],
            );
            let sent = stations.burst(station);
            stations.assert_heard(&what, &sent, &[end]);
            if let (Some(before), Some(after)) = (before, status(&what)) {
                let passed = |status: &Status| status.passed("access", "kernel_route");
                assert_eq!(passed(&after) - passed(&before), kernels, "{what}");
                let forwarded = after.forwarded("access") - before.forwarded("access");
                assert_eq!(forwarded, u64::from(FRAMES) - kernels, "{what}");
            }
        }
        if let Some(status) = status("the end") {
            assert_eq!(status.state(), "healthy", "{}", status.0);
            let keeps =
                |device| status.device(device).expect("it is there")["kernel_keeps"].clone();
            assert_eq!(keeps("vx2"), "frames to 1 address");
            assert_eq!(keeps("vx3"), "no frames");
        }
    }
}
