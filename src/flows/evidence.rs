//! What has to have been seen of a flow before its frames may go the direct path: a pure judgement.
//!
//! The kernel leaves a flow's 5-tuple alone when its frames have the same one at the tunnel and at their pod's device. Who filters
//! as well as translates has to be asked both ways ([`Evidence::BothWays`]); where nobody filters, one will do
//! ([`Evidence::OneWay`]):
//!
//! ```text
//!   seen from the pod and to a VTEP     all is known: what comes back has to come from where it goes to     both ways
//!   seen from a VTEP and to the pod     how frames leave is not                                             in, until it is
//! ```

use super::{Arrival, Departure};
use crate::wire::MacAddr;

/// How much of it there must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Evidence {
    /// Both ways alike, at the tunnel and at the pod's device.
    #[default]
    BothWays,
    /// One way, at the tunnel and at the pod's device.
    OneWay,
}

/// Which ways of a flow may go direct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Ways {
    /// From the pod: `FLOW_OUT` of `bpf/direct.h`.
    Out = 1,
    /// To it: `FLOW_IN`.
    In = 2,
    /// Both.
    Both = 3,
}

impl Ways {
    /// As the programs read it: a bit for each way.
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// In a word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Both => "both",
        }
    }
}

/// Where a flow's pod is, and by which Ethernet addresses it talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodSide {
    /// The index of the pod's device on the host's side.
    pub pod: u32,
    /// The pod's Ethernet address.
    pub pod_mac: MacAddr,
    /// The address that it sends to, and that it is sent from.
    pub gateway_mac: MacAddr,
}

/// What was seen of a flow at the pods' devices. Where one way is to suffice, only what this node's own tables confirm: a pod may
/// send in another one's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtPods {
    /// Who sends its frames.
    pub sender: Option<PodSide>,
    /// Who is sent its frames.
    pub receiver: Option<PodSide>,
}

impl AtPods {
    /// The pod, when both ways were seen alike.
    pub fn agreed(&self) -> Option<PodSide> {
        self.sender.filter(|_| self.sender == self.receiver)
    }
}

impl Evidence {
    /// Which ways could go direct by what was seen at the tunnel.
    pub fn at_tunnel(self, out: Option<&Departure>, arrived: Option<&Arrival>) -> Option<Ways> {
        match (self, out, arrived) {
            (_, Some(out), Some(arrived)) if out.meets(arrived) => Some(Ways::Both),
            (Self::BothWays, _, _) | (_, None, None) => None,
            // What comes from elsewhere is nothing that this entry could say.
            (Self::OneWay, Some(_), Some(_)) => Some(Ways::Out),
            (Self::OneWay, Some(_), None) => Some(Ways::Both),
            (Self::OneWay, None, Some(_)) => Some(Ways::In),
        }
    }

    /// Which ways may, and where the pod is.
    pub fn judge(
        self,
        out: Option<&Departure>,
        arrived: Option<&Arrival>,
        pods: &AtPods,
    ) -> Option<(Ways, PodSide)> {
        let ways = self.at_tunnel(out, arrived)?;
        if let (Ways::Both, Some(pod)) = (ways, pods.agreed()) {
            return Some((ways, pod));
        }
        match (self, pods.sender, pods.receiver) {
            (Self::BothWays, _, _) => None,
            (Self::OneWay, Some(sender), _) if out.is_some() => Some((ways, sender)),
            (Self::OneWay, _, Some(receiver)) if arrived.is_some() => Some((Ways::In, receiver)),
            (Self::OneWay, _, _) => None,
        }
    }
}

impl Departure {
    /// Whether frames that arrive so come back from where those that leave go to, by the same devices.
    pub fn meets(&self, arrived: &Arrival) -> bool {
        self.destination() == Some(arrived.source)
            && self.device == arrived.device
            && self.nic == arrived.nic
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::judge::tests::{FAR, alike, arrived, decide_by, judge, out, pod};
    use super::super::key::tests::key;
    use super::super::{FlowKey, Generation, Hitch, Judge, Promoted, Verdict};
    use super::*;

    const OTHER: [u8; 4] = [10, 0, 0, 12];

    fn content() -> Judge {
        judge().content_with(Evidence::OneWay)
    }

    fn decide(judge: &mut Judge, pods: AtPods) -> Vec<Promoted> {
        decide_by(judge, 1, |_| pods)
    }

    fn sends() -> AtPods {
        AtPods {
            sender: pod(),
            receiver: None,
        }
    }

    fn is_sent() -> AtPods {
        AtPods {
            sender: None,
            receiver: pod(),
        }
    }

    fn hitch(judge: &Judge) -> Option<Hitch> {
        judge.flows().next().unwrap().hitch
    }

    #[test]
    fn a_flow_that_was_seen_leaving_goes_both_ways() {
        let mut judge = content();
        judge.hear(&out(key(5, 1)), 0);
        // Delivered to a pod, which is the other way.
        assert_eq!(decide(&mut judge, is_sent()), []);
        assert_eq!(hitch(&judge), Some(Hitch::PodUnknown));
        let promoted = decide(&mut judge, sends());
        assert_eq!(promoted.len(), 1);
        assert_eq!((promoted[0].ways, promoted[0].more), (Ways::Both, false));
        assert_eq!((judge.promoted(), hitch(&judge)), (1, None));
        judge.hear(&arrived(key(5, 1), FAR), 2);
        assert_eq!(decide(&mut judge, alike(pod())), [], "it goes both ways");
    }

    #[test]
    fn a_flow_that_was_seen_arriving_goes_to_its_pod_and_both_ways_when_it_leaves_to_there() {
        let mut judge = content();
        judge.hear(&arrived(key(5, 1), FAR), 0);
        let promoted = decide(&mut judge, is_sent());
        assert_eq!((promoted[0].ways, promoted[0].more), (Ways::In, false));
        assert_eq!(promoted[0].departure.destination(), Some(FAR.into()));
        assert_eq!(hitch(&judge), Some(Hitch::NotSeenLeaving));
        // It goes on as before while it leaves to elsewhere, or from another pod.
        let Some(elsewhere) = pod().map(|pod| PodSide { pod: 10, ..pod }) else {
            panic!("it is one");
        };
        judge.hear(&out(key(5, 1)), 1);
        assert_eq!(decide(&mut judge, alike(Some(elsewhere))), []);
        judge.hear(&out(key(5, 1)), 2);
        let promoted = decide(&mut judge, alike(pod()));
        assert_eq!((promoted[0].ways, promoted[0].more), (Ways::Both, true));
        assert_eq!((judge.promoted(), hitch(&judge)), (1, None));
        let mut gone = 0;
        judge.sweep(9, 1, |_| Verdict::Demoted, |_, _| gone += 1);
        assert_eq!((gone, judge.promoted()), (1, 0));
    }

    #[test]
    fn what_comes_from_elsewhere_than_the_flow_goes_to_stays_with_the_kernel() {
        let mut judge = content();
        judge.hear(&out(key(5, 1)), 0);
        judge.hear(&arrived(key(5, 1), OTHER), 0);
        let promoted = decide(&mut judge, sends());
        assert_eq!(promoted[0].ways, Ways::Out);
        assert_eq!(hitch(&judge), Some(Hitch::OtherWayBack));
        judge.hear(&arrived(key(5, 1), FAR), 1);
        let promoted = decide(&mut judge, sends());
        assert_eq!((promoted[0].ways, promoted[0].more), (Ways::Both, true));
    }

    #[test]
    fn one_way_is_not_enough_where_both_are_asked_for() {
        for (seen, pods) in [
            (out(key(5, 1)), sends()),
            (out(key(5, 1)), alike(pod())),
            (arrived(key(5, 1), FAR), is_sent()),
        ] {
            let mut judge = judge();
            judge.hear(&seen, 0);
            assert_eq!(decide(&mut judge, pods), []);
        }
        let mut judge = judge();
        judge.hear(&out(key(5, 1)), 0);
        judge.hear(&arrived(key(5, 1), FAR), 0);
        for pods in [sends(), is_sent()] {
            assert_eq!(decide(&mut judge, pods), []);
        }
        assert_eq!(decide(&mut judge, alike(pod())).len(), 1);
    }

    #[test]
    fn tcp_goes_no_way_where_it_may_not() {
        let tcp = FlowKey {
            protocol: 6,
            ..key(5, 1)
        };
        let mut judge = content();
        judge.allow_tcp(false);
        judge.hear(&out(tcp), 0);
        assert_eq!(decide(&mut judge, sends()), []);
        assert_eq!(hitch(&judge), Some(Hitch::TcpForbidden));
    }

    /// What happens to a judge: something is heard of one of a few flows, it decides by what pods do, or all begins anew.
    #[derive(Debug, Clone)]
    enum Event {
        Out(u16),
        In(u16, bool),
        Decide(Option<u32>, Option<u32>),
        Anew,
    }

    fn event() -> impl Strategy<Value = Event> {
        let device = || prop::option::of(9_u32..11);
        prop_oneof![
            3 => (0_u16..3).prop_map(Event::Out),
            3 => ((0_u16..3), any::<bool>()).prop_map(|(flow, near)| Event::In(flow, near)),
            3 => (device(), device()).prop_map(|(sender, receiver)| Event::Decide(sender, receiver)),
            1 => Just(Event::Anew),
        ]
    }

    /// What a slow twin remembers of a flow since all began anew.
    #[derive(Debug, Default)]
    struct Memory {
        left: bool,
        from: Option<[u8; 4]>,
        goes: Option<(Ways, u32)>,
    }

    proptest! {
        /// Whatever the order, a flow goes a way only where the rule of this module says so of what was last seen; it loses no way
        /// and changes no pod before all begins anew; and what was seen both ways alike goes.
        #[test]
        fn no_flow_goes_a_way_that_was_not_seen(
            events in prop::collection::vec(event(), 0..40),
            one_way in any::<bool>(),
        ) {
            let evidence = [Evidence::BothWays, Evidence::OneWay][usize::from(one_way)];
            let mut judge = judge().content_with(evidence);
            let mut memories: [Memory; 3] = Default::default();
            for event in events {
                match event {
                    Event::Out(flow) => {
                        judge.hear(&out(key(5, flow)), 0);
                        memories[usize::from(flow)].left = true;
                    }
                    Event::In(flow, near) => {
                        let from = [OTHER, FAR][usize::from(near)];
                        judge.hear(&arrived(key(5, flow), from), 0);
                        let memory = &mut memories[usize::from(flow)];
                        // Nobody listens any more for what goes both ways.
                        if !matches!(memory.goes, Some((Ways::Both, _))) {
                            memory.from = Some(from);
                        }
                    }
                    Event::Anew => {
                        judge.begin(Generation::NONE, 0);
                        judge.begin(7, 0);
                        memories = Default::default();
                    }
                    Event::Decide(sender, receiver) => {
                        let at = |device: Option<u32>| {
                            Some(PodSide { pod: device?, ..pod()? })
                        };
                        let pods = AtPods { sender: at(sender), receiver: at(receiver) };
                        for promoted in decide(&mut judge, pods) {
                            let memory = &mut memories[usize::from(promoted.key.local.port())];
                            let device = promoted.pod.pod;
                            let (out, into) = (promoted.ways != Ways::In, promoted.ways != Ways::Out);
                            prop_assert!(!out || memory.left);
                            let back = memory.from == Some(FAR);
                            if one_way {
                                let alike = sender.is_some() && sender == receiver;
                                prop_assert!(!out || sender == Some(device));
                                prop_assert!(out || receiver == Some(device));
                                prop_assert!(!(out && into) || back || memory.from.is_none() || alike);
                                prop_assert!(!(out && into) || memory.from != Some(OTHER));
                            } else {
                                prop_assert!(out && into && back);
                                prop_assert_eq!((sender, receiver), (Some(device), Some(device)));
                            }
                            match memory.goes {
                                None => prop_assert!(!promoted.more),
                                Some((before, on)) => {
                                    prop_assert!(promoted.more && on == device);
                                    prop_assert!(before != Ways::Both && promoted.ways == Ways::Both);
                                }
                            }
                            memory.goes = Some((promoted.ways, device));
                        }
                        if sender.is_some() && sender == receiver {
                            for (memory, flow) in memories.iter().zip(0..) {
                                let whole = memory.left && memory.from == Some(FAR);
                                prop_assert!(!whole || memory.goes.is_some(), "{flow}");
                            }
                        }
                    }
                }
                let goes = memories.iter().filter(|memory| memory.goes.is_some());
                prop_assert_eq!(judge.promoted(), goes.count());
            }
        }
    }
}
