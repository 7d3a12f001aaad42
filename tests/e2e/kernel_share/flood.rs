//! Flooded by the kernel.

use serde_json::Value;

use super::books::books;
use super::carrier::stream;
use super::*;

#[test]
fn one_flooded_destination_of_the_kernels_and_every_far_end_still_gets_one_copy() {
    for with_vxgate in [false, true] {
        let site = Site::new("flood");
        site.flood("append", "10.0.1.2");
        let mut stations = site.stations();
        let mut carrier = Carrier::start(&site, with_vxgate);
        let (ours, both) = (
            "frames to 7 addresses",
            // FAR1, FAR1_VIA, MOVING.
            "all frames but those to 3 addresses",
        );
        carrier.wait_kernel_keeps(ours);
        let stranger = "02:00:00:00:00:ee";
        for station in [BROADCAST, stranger] {
            let sent = stations.burst(station);
            stations.assert_heard("one far end", &sent, &["far1"]);
            carrier.assert_books("one far end", FRAMES, 0, 0);
        }
        site.flood("append", "10.0.2.2");
        carrier.wait_kernel_keeps(both);
        for station in [BROADCAST, stranger] {
            let sent = stations.burst(station);
            stations.assert_heard("two far ends", &sent, &["far1", "far2"]);
            carrier.assert_books("two far ends", 0, 0, FRAMES);
        }
        for (station, end, kernels) in [(FAR1, "far1", 0), (FAR2, "far2", FRAMES)] {
            let sent = stations.burst(station);
            stations.assert_heard(station, &sent, &[end]);
            carrier.assert_books(station, FRAMES - kernels, 0, kernels);
        }
        if let Some(vxgate) = &carrier.vxgate {
            let status = vxgate.status();
            assert_eq!(status.state(), "healthy", "{}", status.0);
            let mut warnings = status.list("warnings").filter_map(Value::as_str);
            assert!(
                warnings.any(|words| words.contains("and so are all that no FDB entry names")),
                "{}",
                status.0
            );
        }

        // It comes and goes under a stream: the far end that is always there hears every frame once.
        let mut sent = Vec::new();
        for _ in 0..3 {
            for (change, words) in [("del", ours), ("append", both)] {
                site.flood(change, "10.0.2.2");
                stream(&mut stations, BROADCAST, &mut sent, &carrier, words);
            }
        }
        stations.assert_heard_at("far1", &sent);
        let (at2, again) = stations.heard("far2", &sent);
        assert!(
            at2 > 0 && again == 0,
            "{at2} at far2, {again} of them again"
        );
        if let Some(vxgate) = &carrier.vxgate {
            let status = vxgate.balanced();
            let moved = books(&status);
            assert_eq!(moved.dropped, 0, "{}", status.0);
            assert!(moved.forwarded > 0 && moved.kernels > 0);
        }
    }
}
