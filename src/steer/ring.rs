//! The ring gear's part of what is kept of promoted flows: `struct ring_flow` of `bpf/ring.h`, in an array beside that of the
//! express gear.

use super::Error;
use super::copy::Copy;
use super::heartbeat::Cells;
use super::words::pair;

/// `sizeof(struct ring_flow)`, and its words.
const STRIDE: usize = 64;
const OUT_FRAMES: usize = 0;
const OUT_BYTES: usize = 1;
const IN_FRAMES: usize = 2;
const IN_BYTES: usize = 3;
const FOREIGN: usize = 4;
const DEVICE: usize = 5;

/// What went of one flow by the ring gear since it was promoted, in frames of the wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Frames from the pod.
    pub out_frames: u64,
    /// Their bytes, without outer headers; of a superframe with one set of inner headers.
    pub out_bytes: u64,
    /// Frames to the pod.
    pub in_frames: u64,
    /// Their bytes.
    pub in_bytes: u64,
}

/// The array.
pub(super) struct RingFlows(Cells);

impl RingFlows {
    /// Maps the one of this object, for so many flows.
    pub fn map(object: &Copy, flows: usize) -> Result<Self, Error> {
        let cells = Cells::map(object.map("ring_flows")?, flows, STRIDE);
        cells.map(Self).map_err(Error::Heartbeat)
    }

    /// Begins a flow.
    pub fn begin(&self, slot: usize) {
        for word in OUT_FRAMES..=FOREIGN {
            self.0.store_word(slot, word, 0);
        }
    }

    /// Has a flow go by this vxlan device.
    pub fn set_device(&self, slot: usize, device: u32) {
        self.0.store_word(slot, DEVICE, pair(device, 0));
    }

    /// What went of a flow.
    pub fn counters(&self, slot: usize) -> RingCounters {
        RingCounters {
            out_frames: self.0.load_word(slot, OUT_FRAMES),
            out_bytes: self.0.load_word(slot, OUT_BYTES),
            in_frames: self.0.load_word(slot, IN_FRAMES),
            in_bytes: self.0.load_word(slot, IN_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Gear;
    use super::super::copy::tests::{TC_ACT_REDIRECT, TCX_NEXT, pretend_alive};
    use super::super::copy::{COUNTS_EGRESS, COUNTS_UNDERLAY};
    use super::super::express::tests::{
        FAR, GATEWAY, Loaded, OWN, POD, SETS, UNLIKE, XDP_PASS, gear, loaded, longer, of_pod,
        of_wire, run, run_marked, run_superframe, sealed,
    };
    use super::super::express::{WAY_IN, WAY_OUT, WAY_RING_IN, WAY_RING_OUT};
    use crate::flows::{FlowKey, Promoted, Slot, Verdict, WAYS, Way, Ways};
    use crate::stats::{PassReason, UpReason};
    use crate::steer::InRing;

    const OUTER_LEN: usize = 50;
    /// As `bpf/ring.h` has it.
    const LEFT_TO_DEVICE: u32 = 0xfe76_786c;
    /// What the flows of these tests may be long, Ethernet header included.
    const FRAME_MAX: usize = 1464;

    /// What a worker makes of a frame from the wire.
    fn decapsulated(tcp: bool) -> Vec<u8> {
        of_wire(tcp).split_off(OUTER_LEN)
    }

    impl Loaded {
        fn slot(&self, frame: &[u8]) -> Slot {
            let key = FlowKey::of(frame, Way::Out).unwrap();
            let set = key.hash(&self.express.seed()) & (SETS - 1);
            Slot(set as usize * WAYS + 2)
        }

        fn receive_from_worker(&self, frame: &[u8]) -> Vec<u8> {
            let (verdict, out) = run(&self.steering, "vxgate_ingress", frame);
            assert_eq!(verdict, TC_ACT_REDIRECT);
            out
        }

        fn receive_from_wire(&self, frame: &[u8]) {
            run(&self.steering, "vxgate_underlay", frame);
        }

        fn forwarded(&self, way: u32) -> [u64; 2] {
            let counters = self.express.counters().read().unwrap()[way as usize];
            [counters.received, counters.forwarded]
        }
    }

    #[test]
    fn a_pods_frame_leaves_routed_for_the_workers() {
        for tcp in [false, true] {
            let mut gear = loaded(Gear::Ring);
            let sent = of_pod(tcp);
            gear.promote(&sent);
            let mut routed = Vec::new();
            let why = gear.why(WAY_OUT as usize, || {
                let (verdict, out) = gear.send_from_pod(&sent);
                assert_eq!(verdict, TC_ACT_REDIRECT);
                routed = out;
            });
            assert_eq!(why, UpReason::Ring);
            assert_eq!((&routed[..6], &routed[6..12]), (&FAR.0[..], &OWN.0[..]));
            assert!(sealed(&routed, 14));
            assert_eq!(routed[12..22], sent[12..22]);
            assert_eq!((routed[22], &routed[26..]), (sent[22] - 1, &sent[26..]));
            assert_eq!(gear.forwarded(WAY_RING_OUT), [1, 1]);
            let slot = gear.slot(&sent);
            let (counters, why) = gear.express.ring(slot, crate::port::now_ns());
            let bytes = sent.len() as u64;
            assert_eq!((counters.out_frames, counters.out_bytes), (1, bytes));
            assert_eq!(why, Some(InRing::Highest));
            assert_eq!(gear.express.look(slot), Verdict::Frames(1));
        }
    }

    #[test]
    fn a_superframe_goes_whole_and_the_flow_with_it_if_its_segments_fit() {
        let mut gear = gear();
        let sent = of_pod(true);
        gear.promote(&sent);
        assert_eq!(gear.send_from_pod(&sent).0, TC_ACT_REDIRECT);
        let superframe = longer(sent.clone(), 0, 3000);
        let send = |mss| run_superframe(&gear.express.object, "vxgate_from_pod", &superframe, mss);
        // Ethernet, IPv4 and TCP without options in front of each.
        let mss = FRAME_MAX as u32 - 54;
        assert_eq!(send(mss + 1), TCX_NEXT);
        assert_eq!(gear.forwarded(WAY_RING_OUT), [3, 0]);
        assert_eq!(send(mss), TC_ACT_REDIRECT);
        assert_eq!(gear.forwarded(WAY_RING_OUT), [6, 3]);
        let why = gear.why(WAY_OUT as usize, || drop(gear.send_from_pod(&sent)));
        assert_eq!(why, UpReason::Superframe);
        let (counters, why) = gear.express.ring(gear.slot(&sent), crate::port::now_ns());
        assert_eq!((counters.out_frames, why), (4, Some(InRing::Superframes)));
    }

    #[test]
    fn superframes_and_what_comes_between_them_are_left_to_the_vxlan_device_itself() {
        let mut left = [0; 20];
        left[4..8].copy_from_slice(&LEFT_TO_DEVICE.to_ne_bytes());
        for (highest, tcp) in [
            (Gear::Express, true),
            (Gear::Express, false),
            (Gear::Ring, true),
            (Gear::Ring, false),
        ] {
            let mut gear = loaded(highest);
            let lone = of_pod(tcp);
            gear.promote(&lone);
            let superframe = longer(lone.clone(), 0, 3000);
            let send = |frame: &[u8], size| {
                run_marked(
                    &gear.express.object,
                    "vxgate_from_pod",
                    frame,
                    size,
                    [0; 20],
                )
            };
            assert_eq!(send(&lone, 0), (TC_ACT_REDIRECT, [0; 20]));
            assert_eq!(send(&superframe, 1000), (TC_ACT_REDIRECT, left));
            assert_eq!(send(&lone, 0), (TC_ACT_REDIRECT, left), "none overtakes");
            let (_, why) = gear.express.ring(gear.slot(&lone), crate::port::now_ns());
            assert_eq!(why, Some(InRing::Superframes));
        }
    }

    #[test]
    fn superframes_that_the_vxlan_device_would_send_otherwise_are_the_workers() {
        let mut gear = gear();
        let lone = of_pod(true);
        let mut flow = gear.flow(&lone);
        flow.departure.as_kernel = false;
        gear.go(&flow);
        let superframe = longer(lone, 0, 3000);
        let program = &gear.express.object;
        let sent = run_marked(program, "vxgate_from_pod", &superframe, 1000, [0; 20]);
        assert_eq!(sent, (TC_ACT_REDIRECT, [0; 20]));
        let (_, why) = gear.express.ring(flow.slot, crate::port::now_ns());
        assert_eq!(why, Some(InRing::SuperframesByWorkers));
    }

    #[test]
    fn the_vxlan_device_keeps_what_is_left_to_it_and_says_why() {
        let gear = gear();
        let superframe = longer(of_pod(true), 0, 3000);
        let mut left = [0; 20];
        left[4..8].copy_from_slice(&LEFT_TO_DEVICE.to_ne_bytes());
        // What IP has there of a frame with all options that one can have.
        let mut options = [0; 20];
        options[4] = 40;
        let sent = |control, limit| {
            pretend_alive(&gear.steering, limit);
            let before = gear.steering.counters(COUNTS_EGRESS, 0).unwrap();
            let frame = &superframe[..];
            let (verdict, _) = run_marked(&gear.steering, "vxgate_egress", frame, 1000, control);
            let after = gear.steering.counters(COUNTS_EGRESS, 0).unwrap();
            let passed = |reason| after.passed[reason as usize] - before.passed[reason as usize];
            let passed = [PassReason::Superframe, PassReason::Oversize].map(passed);
            (verdict, passed, after.steered - before.steered)
        };
        assert_eq!(sent([0; 20], u64::MAX), (TC_ACT_REDIRECT, [0, 0], 4));
        assert_eq!(sent(options, u64::MAX), (TC_ACT_REDIRECT, [0, 0], 4));
        assert_eq!(sent(left, u64::MAX), (TCX_NEXT, [4, 0], 0));
        assert_eq!(sent(left, 500), (TCX_NEXT, [0, 4], 0));
    }

    #[test]
    fn what_is_too_long_for_the_path_or_the_pod_is_the_kernels() {
        let mut gear = loaded(Gear::Ring);
        let sent = of_pod(false);
        gear.promote(&sent);
        for (len, verdict) in [(FRAME_MAX, TC_ACT_REDIRECT), (FRAME_MAX + 1, TCX_NEXT)] {
            let long = longer(sent.clone(), 0, len - sent.len());
            let (found, out) = gear.send_from_pod(&long);
            assert_eq!(found, verdict);
            assert_eq!(out == long, verdict == TCX_NEXT, "unchanged");
        }
        let [_, _, _, out, _] = gear.express.counters().read().unwrap();
        assert_eq!((out.forwarded, out.up[UpReason::Oversize as usize]), (1, 1));
    }

    #[test]
    fn what_a_worker_decapsulated_reaches_the_pod_as_routing_would_send_it() {
        for tcp in [false, true] {
            let mut gear = gear();
            let came = decapsulated(tcp);
            assert_eq!(gear.receive_from_worker(&came), came, "nobody's yet");
            gear.promote(&of_pod(tcp));
            let out = gear.receive_from_worker(&came);
            assert_eq!((&out[..6], &out[6..12]), (&POD.0[..], &GATEWAY.0[..]));
            assert!(sealed(&out, 14));
            assert_eq!((out[22], &out[26..]), (came[22] - 1, &came[26..]));
            assert_eq!(gear.forwarded(WAY_RING_IN), [2, 1]);
            let (counters, _) = gear.express.ring(gear.slot(&of_pod(tcp)), 0);
            assert_eq!(
                (counters.in_frames, counters.in_bytes),
                (1, came.len() as u64)
            );
        }
    }

    #[test]
    fn what_workers_joined_is_counted_in_frames_of_the_wire() {
        for tcp in [false, true] {
            let mut gear = gear();
            gear.promote(&of_pod(tcp));
            // Four payloads of 101 bytes.
            let superframe = longer(decapsulated(tcp), 0, 303);
            let verdict = run_superframe(&gear.steering, "vxgate_ingress", &superframe, 101);
            assert_eq!(verdict, TC_ACT_REDIRECT);
            assert_eq!(gear.forwarded(WAY_RING_IN), [4, 4]);
        }
    }

    #[test]
    fn what_is_not_as_all_others_of_the_flow_is_the_kernels_unchanged() {
        let mut gear = gear();
        gear.promote(&of_pod(false));
        for (at, value, why) in UNLIKE {
            let mut came = decapsulated(false);
            came[at] = value;
            let found = gear.why(WAY_RING_IN as usize, || {
                assert_eq!(gear.receive_from_worker(&came), came);
            });
            assert_eq!(found, why, "{at}: {value}");
        }
        gear.express.heard(crate::port::now_ns() - 200_000_000);
        let why = gear.why(WAY_RING_IN as usize, || {
            gear.receive_from_worker(&decapsulated(false));
        });
        assert_eq!(why, UpReason::NotAlive);
    }

    #[test]
    fn while_somebody_forges_frames_of_the_flow_what_comes_of_it_is_the_kernels() {
        let mut gear = gear();
        gear.promote(&of_pod(false));
        let mut forged = of_wire(false);
        forged[29] = 77;
        let why = gear.why(WAY_IN as usize, || gear.receive_from_wire(&forged));
        assert_eq!(why, UpReason::Spoofed);
        let came = decapsulated(false);
        let why = gear.why(WAY_RING_IN as usize, || {
            assert_eq!(gear.receive_from_worker(&came), came);
        });
        assert_eq!(why, UpReason::Spoofed);
        // Express can tell whose a frame is.
        let [_, before] = gear.forwarded(WAY_IN);
        gear.receive_from_wire(&of_wire(false));
        assert_eq!(gear.forwarded(WAY_IN)[1], before + 1);
    }

    #[test]
    fn the_kernel_is_shown_one_frame_whole_and_the_next_goes_on() {
        let mut gear = gear();
        let long_ago = crate::port::now_ns() - 11_000_000_000;
        gear.promote_at(&of_pod(false), long_ago);
        let shown = || {
            let counts = gear.steering.counters(COUNTS_UNDERLAY, 0).unwrap();
            counts.passed[PassReason::Shown as usize]
        };
        let why = gear.why(WAY_IN as usize, || {
            let came = of_wire(false);
            assert_eq!(
                run(&gear.steering, "vxgate_underlay", &came),
                (XDP_PASS, came)
            );
        });
        assert_eq!((why, shown()), (UpReason::Shown, 1));
        gear.receive_from_wire(&of_wire(false));
        assert_eq!((gear.forwarded(WAY_IN), shown()), ([2, 1], 1));
        // It counts for both gears.
        let came = decapsulated(false);
        assert_ne!(gear.receive_from_worker(&came), came);
    }

    #[test]
    fn the_kernel_is_shown_a_frame_of_a_way_that_was_silent_for_half_the_clocks_round() {
        const DAYS_NS: u64 = 24 * 3600 * 1_000_000_000;
        let mut gear = gear();
        for days in [1, 26, 27, 40, 52] {
            let then_ns = crate::port::now_ns().wrapping_sub(days * DAYS_NS);
            gear.promote_at(&of_pod(false), then_ns);
            let why = gear.why(WAY_OUT as usize, || {
                drop(gear.send_from_pod(&of_pod(false)))
            });
            assert_eq!(why, UpReason::Shown, "{days} days");
            assert_eq!(gear.send_from_pod(&of_pod(false)).0, TC_ACT_REDIRECT);
        }
        // The clock by which flows are promoted is ahead of that of the programs.
        let ahead_ns = crate::port::now_ns() + 10_000_000;
        gear.promote_at(&of_pod(false), ahead_ns);
        assert_eq!(gear.send_from_pod(&of_pod(false)).0, TC_ACT_REDIRECT);
    }

    #[test]
    fn a_flow_that_leaves_by_another_device_than_it_first_came_by_goes_by_that_one() {
        let mut gear = gear();
        let both = gear.flow(&of_pod(false));
        let mut departure = both.arrival.unwrap().departure();
        departure.device += 1;
        let to_pod = Promoted {
            departure,
            ways: Ways::In,
            ..both
        };
        gear.go(&to_pod);
        let came = decapsulated(false);
        assert_eq!(gear.receive_from_worker(&came), came, "it is another's");
        gear.go(&Promoted { more: true, ..both });
        assert_ne!(gear.receive_from_worker(&came), came);
    }

    #[test]
    fn of_a_flow_in_this_gear_the_kernel_is_shown_a_frame_behind_the_workers() {
        let mut gear = loaded(Gear::Ring);
        let long_ago = crate::port::now_ns() - 11_000_000_000;
        gear.promote_at(&of_pod(false), long_ago);
        for _ in 0..2 {
            let why = gear.why(WAY_IN as usize, || gear.receive_from_wire(&of_wire(false)));
            assert_eq!(why, UpReason::Ring);
        }
        let came = decapsulated(false);
        let why = gear.why(WAY_RING_IN as usize, || {
            assert_eq!(gear.receive_from_worker(&came), came);
        });
        assert_eq!(why, UpReason::Shown);
        assert_ne!(gear.receive_from_worker(&came), came);
    }
}
