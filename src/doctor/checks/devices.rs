//! The vxlan devices: whether there are any, whether each can be taken over, and if not, why.

use std::net::IpAddr;

use crate::doctor::facts::{Facts, Overlay};
use crate::doctor::finding::Finding;
use crate::fault::Fault;
use crate::gateway::refusal_words;

const CHECK: &str = "device";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    if facts.overlays.is_empty() {
        let what = "there is no vxlan device in this network namespace";
        return vec![Finding::fault(CHECK, Fault::DeviceNone, what)];
    }
    let judged = facts.overlays.iter().map(|overlay| judge(facts, overlay));
    judged.collect()
}

fn judge(facts: &Facts, overlay: &Overlay) -> Finding {
    let (device, name) = (&overlay.found.device, overlay.name());
    if !device.up
        && let Some(taken) = port_taken(facts, overlay)
    {
        return taken;
    }
    if overlay.found.refusal.is_some() {
        return refused(facts, overlay);
    }
    if !device.up {
        return Finding::fault(CHECK, Fault::DeviceDown, "it is down")
            .of(name)
            .command(["ip", "link", "set", "dev", name, "up"]);
    }
    if let Some(local) = device.local.filter(|local| !has_address(facts, *local)) {
        let what = format!("its address is {local}, and no device here has that");
        return Finding::fault(CHECK, Fault::AddressMissing, what).of(name);
    }
    let mut what = format!("VNI {}, UDP {}", device.vni.get(), device.port);
    if let Some(local) = device.local {
        what.push_str(&format!(", VTEP {local}"));
    }
    if let Some(underlay) = &overlay.found.underlay {
        what.push_str(&format!(" on {}", underlay.name));
    }
    what.push_str(&match overlay.holder {
        Some(Some(pid)) => format!("; vxgate has it, process {pid}"),
        Some(None) => "; a vxgate has it".to_owned(),
        None => "; can be taken over".to_owned(),
    });
    Finding::ok(CHECK, what).of(name)
}

fn refused(facts: &Facts, overlay: &Overlay) -> Finding {
    let (attribute, why) = refusal_words(&overlay.found);
    let others = facts.ready().next().is_some();
    let what = format!("is left to the kernel because of its attribute '{attribute}'");
    // Beside one that can be carried, it may be meant so.
    let finding = if others {
        Finding::warning(CHECK, Fault::DeviceRefused, what)
    } else {
        Finding::fault(CHECK, Fault::DevicesAllRefused, what)
    };
    finding.because(why).of(overlay.name())
}

/// Who keeps a device that is down from its UDP port.
fn port_taken(facts: &Facts, overlay: &Overlay) -> Option<Finding> {
    let (device, name) = (&overlay.found.device, overlay.name());
    let port = device.port;
    if let Some(holder) = &overlay.port_holder {
        let what = format!("it is down, and its UDP port {port} is taken by {holder}");
        return Some(Finding::fault(CHECK, Fault::PortTaken, what).of(name));
    }
    let ipv6 = |local: Option<IpAddr>| local.is_some_and(|local| local.is_ipv6());
    let other = facts.overlays.iter().find(|other| {
        let other = &other.found.device;
        // What a socket is shared by (`VXLAN_F_RCV_FLAGS`).
        let differs = other.gbp != device.gbp
            || other.accept_udp6_zero_checksum != device.accept_udp6_zero_checksum;
        other.up && other.port == port && ipv6(other.local) == ipv6(device.local) && differs
    })?;
    let what = format!(
        "it is down, and its UDP port {port} is taken by {}, whose attributes are others (gbp, udp6zerocsumrx)",
        other.name()
    );
    Some(Finding::fault(CHECK, Fault::PortTaken, what).of(name))
}

fn has_address(facts: &Facts, wanted: IpAddr) -> bool {
    let mut addresses = facts.addresses.iter();
    addresses.any(|address| address.local == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Refusal;
    use crate::doctor::{Verdict, healthy};

    fn finding(change: impl FnOnce(&mut Facts)) -> Finding {
        let mut facts = healthy::node();
        change(&mut facts);
        check(&facts).swap_remove(0)
    }

    fn down(facts: &mut Facts) -> &mut Overlay {
        let overlay = &mut facts.overlays[0];
        (overlay.found.device.up, overlay.ready) = (false, false);
        overlay
    }

    fn code(finding: &Finding) -> Option<&str> {
        finding.code.as_deref()
    }

    #[test]
    fn a_device_that_is_down_is_told_with_the_command_or_with_who_has_its_port() {
        let plain = finding(|facts| down(facts).port_holder = None);
        assert_eq!(code(&plain), Some(Fault::DeviceDown.code()));
        assert!(
            plain
                .to_string()
                .contains("fix  ip link set dev flannel.1 up")
        );
        let taken = finding(|facts| down(facts).port_holder = Some("nc (process 7)".into()));
        assert_eq!(code(&taken), Some(Fault::PortTaken.code()));
        assert!(taken.what.contains("8472 is taken by nc (process 7)"));
        let by_other = finding(|facts| {
            let mut other = facts.overlays[0].clone();
            other.found.device.gbp = true;
            other.found.device.name = "vx7".into();
            down(facts);
            facts.overlays.push(other);
        });
        assert!(by_other.what.contains("taken by vx7"), "{}", by_other.what);
    }

    #[test]
    fn an_address_that_nobody_has_and_an_attribute_that_is_not_done_are_named() {
        let missing = finding(|facts| facts.addresses.clear());
        assert_eq!(code(&missing), Some(Fault::AddressMissing.code()));
        assert!(missing.what.contains("10.0.0.11"));
        let refuse = |facts: &mut Facts| {
            facts.overlays[0].ready = false;
            facts.overlays[0].found.refusal = Some(Refusal {
                attribute: "learning".into(),
                why: "it learns".into(),
            });
        };
        let alone = finding(refuse);
        assert_eq!(alone.result, Verdict::Fault);
        assert_eq!(alone.why.as_deref(), Some("it learns"));
        let beside = finding(|facts| {
            let other = facts.overlays[0].clone();
            refuse(facts);
            facts.overlays.push(other);
        });
        assert_eq!(beside.result, Verdict::Warning);
    }
}
