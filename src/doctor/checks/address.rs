//! The Ethernet addresses of the vxlan devices, which the peers' FDBs name.

use crate::doctor::facts::{Facts, Overlay};
use crate::doctor::finding::Finding;
use crate::fault::Fault;

const CHECK: &str = "address";

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let judged = facts.ready().map(|overlay| judge(facts, overlay));
    judged.collect()
}

fn judge(facts: &Facts, overlay: &Overlay) -> Finding {
    let (mac, name) = (overlay.found.device.mac, overlay.name());
    let behind = overlay
        .fdb
        .iter()
        .find(|entry| entry.mac == Some(mac) && entry.dst.is_some());
    if let Some(dst) = behind.and_then(|entry| entry.dst) {
        let what = format!("its address {mac} is also behind the peer {dst}");
        return Finding::fault(CHECK, Fault::AddressDoubled, what).of(name);
    }
    if overlay.random_mac && facts.sysctls.persistent_macs {
        let what = format!("its address {mac} was made up by the kernel, and udev may change it");
        return Finding::warning(CHECK, Fault::AddressUnstable, what).of(name);
    }
    Finding::ok(
        CHECK,
        format!("its address {mac} is no other node's, and stays"),
    )
    .of(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Verdict, healthy};

    #[test]
    fn an_address_behind_a_peer_or_at_udevs_mercy_is_told() {
        let mut facts = healthy::node();
        facts.overlays[0].random_mac = true;
        assert_eq!(
            check(&facts)[0].result,
            Verdict::Ok,
            "udev has no such rule"
        );
        facts.sysctls.persistent_macs = true;
        let unstable = &check(&facts)[0];
        assert_eq!(
            unstable.code.as_deref(),
            Some(Fault::AddressUnstable.code())
        );
        let mac = facts.overlays[0].found.device.mac;
        facts.overlays[0].fdb[0].mac = Some(mac);
        let doubled = &check(&facts)[0];
        assert_eq!(doubled.code.as_deref(), Some(Fault::AddressDoubled.code()));
        assert!(doubled.what.ends_with("behind the peer 10.0.0.10"));
    }
}
