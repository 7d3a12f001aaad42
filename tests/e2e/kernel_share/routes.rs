//! By the kernel's routes.

use std::time::Instant;

use serde_json::Value;

use super::carrier::stream;
use super::*;
use crate::support::vxgate::Vxgate;

#[test]
fn vteps_of_another_underlay_device_are_reached_by_the_kernel_beside_our_own() {
    for with_vxgate in [false, true] {
        let site = Site::new("route");
        let mut stations = site.stations();
        let mut carrier = Carrier::start(&site, with_vxgate);
        // FAR2, FAR2_VIA, ROAMING, LOST, TO_VX2, TO_VX3, TO_NOBODY.
        carrier.wait_kernel_keeps("frames to 7 addresses");
        for (station, end, kernels) in [
            (FAR1, "far1", 0),
            (FAR1_VIA, "far1", 0),
            (FAR2, "far2", FRAMES),
            (FAR2_VIA, "far2", FRAMES),
            (ROAMING, "far2", FRAMES),
        ] {
            let sent = stations.burst(station);
            stations.assert_heard(station, &sent, &[end]);
            carrier.assert_books(station, FRAMES - kernels, 0, kernels);
        }
        if let Some(vxgate) = &carrier.vxgate {
            assert_told(vxgate);
        }

        // No route: the kernel counts it, as it did before.
        let errors = site.count("vx1", "tx", "carrier_errors");
        let sent = stations.burst(LOST);
        stations.assert_heard(LOST, &sent, &[]);
        carrier.assert_books(LOST, 0, 0, FRAMES);
        assert_eq!(
            site.count("vx1", "tx", "carrier_errors"),
            errors + u64::from(FRAMES)
        );
        for (kind, answer) in [
            ("blackhole", FRAMES),
            ("unreachable", FRAMES),
            ("prohibit", FRAMES),
        ] {
            site.node.run(&format!("ip route add {kind} 10.99.0.1/32"));
            let sent = stations.burst(LOST);
            carrier.assert_books(kind, 0, 0, answer);
            stations.assert_heard(kind, &sent, &[]);
            site.node.run(&format!("ip route del {kind} 10.99.0.1/32"));
        }

        // The way to one of them moves to our own underlay and back, under a stream.
        let mut sent = Vec::new();
        for (gateway, words) in [
            ("10.0.1.2", "frames to 6 addresses"),
            ("10.0.2.2", "frames to 7 addresses"),
        ] {
            site.node
                .run(&format!("ip route replace 10.0.3.3/32 via {gateway}"));
            stream(&mut stations, ROAMING, &mut sent, &carrier, words);
        }
        assert_each_once(&mut stations, &sent);
        carrier.take_books();
        let settled = stations.burst(ROAMING);
        stations.assert_heard("back at far2", &settled, &["far2"]);
        carrier.assert_books("back at far2", 0, 0, FRAMES);
    }
}

/// Every frame was heard by one of the far ends, and by one only.
fn assert_each_once(stations: &mut Stations, sent: &[u32]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        stations.listen();
        let (at1, again1) = stations.heard("far1", sent);
        let (at2, again2) = stations.heard("far2", sent);
        assert_eq!((again1, again2), (0, 0), "none is heard twice");
        if at1 + at2 == sent.len() as u32 {
            assert!(at1 > 0 && at2 > 0, "{at1} at far1, {at2} at far2");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{at1} at far1, {at2} at far2 of {}",
            sent.len()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// It is healthy, and says what is the kernel's and why.
fn assert_told(vxgate: &Vxgate) {
    let status = vxgate.status();
    assert_eq!(status.state(), "healthy", "{}", status.0);
    let device = status.device("vx1").expect("vx1");
    assert_eq!(
        (&device["kernel_entries"], &device["fdb_entries"]),
        (&7.into(), &10.into())
    );
    let warnings: Vec<_> = status.list("warnings").filter_map(Value::as_str).collect();
    assert!(
        warnings
            .iter()
            .any(|words| words.starts_with("vx1: 7 of 10 FDB and flood entries")),
        "{warnings:?}"
    );
    let state = |addr: &str| {
        let mut vteps = status.list("vteps");
        let vtep = vteps.find(|vtep| vtep["device"] == "vx1" && vtep["addr"] == addr);
        let vtep = vtep.unwrap_or_else(|| panic!("no VTEP {addr}"));
        (vtep["state"].clone(), vtep["carried_by"].clone())
    };
    for (addr, why, who) in [
        ("10.0.1.2", "resolved", "vxgate"),
        ("10.0.1.77", "no_neighbour", "vxgate"),
        ("10.0.2.2", "unsupported", "kernel"),
        ("10.0.1.9", "local_address", "kernel"),
        ("10.99.0.1", "no_route", "kernel"),
    ] {
        assert_eq!(state(addr), (why.into(), who.into()), "{addr}");
    }
}
