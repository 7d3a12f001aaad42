//! Who finishes the outer UDP checksums of what is sent by an underlay device: asked of the device, once for each session.
//!
//! | frames go | the device says | who |
//! |---|---|---|
//! | copied | `tx-checksum-ip-generic: on` (`ethtool -k`) | the device, as for the kernel's own vxlan |
//! | zero-copy | the same, and `tx-checksum` of its `xsk-features` (`netdev` netlink family) | the device |
//! | either way | anything else, or frames take several buffers | the workers |
//!
//! `ethtool -K DEV tx off` is the operator's way to have the workers do it, from the next takeover on; until then the kernel
//! finishes what is asked for.

use super::plan::Nic;
use crate::netlink::xsk_features;
use crate::port::Finishes;
use crate::steer::finishes_checksums;

/// When this device finishes checksums. What it does not say it does not do.
pub(super) fn finishes(nic: &Nic) -> Finishes {
    let any = match finishes_checksums(&nic.name) {
        Ok(any) => any,
        Err(error) => {
            tracing::debug!(device = nic.name, %error, "does not tell its offloads");
            false
        }
    };
    if !any {
        return Finishes::default();
    }
    let zero_copy = match xsk_features(nic.ifindex) {
        Ok(features) => features.tx_checksum,
        Err(error) => {
            tracing::debug!(device = nic.name, %error, "does not tell what it does for AF_XDP");
            false
        }
    };
    Finishes {
        copied: true,
        zero_copy,
    }
}
