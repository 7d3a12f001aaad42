//! What a device's driver says of XDP and AF_XDP: the generic netlink family `netdev` (`linux/netdev.h`, from Linux 6.3 on).

use super::generic::Family;
use super::{Error, Subscription};

/// `NETDEV_MCGRP_MGMT`: changes of devices.
const CHANGES: &str = "mgmt";
/// `NETDEV_CMD_DEV_GET`.
const DEVICE_GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX`.
const IFINDEX: u16 = 1;
/// `NETDEV_A_DEV_XDP_FEATURES`.
const XDP_FEATURES: u16 = 3;
/// `NETDEV_A_DEV_XSK_FEATURES`, from Linux 6.8 on.
const XSK_FEATURES: u16 = 6;
/// `NETDEV_XSK_FLAGS_TX_CHECKSUM`.
const TX_CHECKSUM: u64 = 1 << 1;

/// `enum netdev_xdp_act`: what a driver says that it can do. A hint: only an attempt tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// Programs run in the driver, and may redirect: native XDP.
    pub const fn is_native(self) -> bool {
        const BASIC_AND_REDIRECT: u64 = 1 | 2;
        self.0 & BASIC_AND_REDIRECT == BASIC_AND_REDIRECT
    }

    /// Programs of other devices may send frames out of this one.
    pub const fn takes_redirects(self) -> bool {
        self.0 & 4 != 0
    }

    /// AF_XDP sockets without copying.
    pub const fn has_zero_copy(self) -> bool {
        self.0 & 8 != 0
    }

    /// Received frames may take several buffers.
    pub const fn has_chains(self) -> bool {
        self.0 & 32 != 0
    }
}

/// What a driver does for frames that AF_XDP sockets send with TX metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XskFeatures {
    /// It finishes checksums, with zero-copy.
    pub tx_checksum: bool,
}

/// Asks what XDP can do on a device in the network namespace of this thread; none on a kernel that cannot be asked.
///
/// # Errors
/// When the kernel does not know the device, or does not answer.
pub fn xdp_features(ifindex: u32) -> Result<Option<XdpFeatures>, Error> {
    Ok(flags(ifindex, XDP_FEATURES)?.map(XdpFeatures))
}

/// Hears of every device of this network namespace whose features change; none on a kernel that does not tell.
///
/// # Errors
/// When the kernel does not answer.
pub fn xdp_feature_changes(queue_bytes: usize) -> Result<Option<Subscription>, Error> {
    match Family::find("netdev")? {
        Some(family) => family.join(CHANGES, queue_bytes),
        None => Ok(None),
    }
}

/// Asks what the driver of a device in the network namespace of this thread does with TX metadata. A kernel that cannot be
/// asked has drivers that do nothing.
///
/// # Errors
/// As [`xdp_features`].
pub fn xsk_features(ifindex: u32) -> Result<XskFeatures, Error> {
    let flags = flags(ifindex, XSK_FEATURES)?.unwrap_or(0);
    Ok(XskFeatures {
        tx_checksum: flags & TX_CHECKSUM != 0,
    })
}

/// The flags in an attribute of a device.
fn flags(ifindex: u32, attribute: u16) -> Result<Option<u64>, Error> {
    let Some(mut family) = Family::find("netdev")? else {
        return Ok(None);
    };
    let device = ifindex.to_ne_bytes();
    let value = family.ask(DEVICE_GET, (IFINDEX, &device), attribute)?;
    Ok(value.as_deref().and_then(flags_from))
}

fn flags_from(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_what_is_too_short_is_none() {
        assert_eq!(flags_from(&0x23_u64.to_ne_bytes()), Some(0x23));
        assert_eq!(flags_from(&[2, 0, 0, 0]), None);
        assert_eq!(flags_from(&[]), None);
    }

    #[test]
    fn flags_have_their_meanings() {
        let veth = XdpFeatures(0x23);
        assert!(veth.is_native() && veth.has_chains() && !veth.has_zero_copy());
        assert!(XdpFeatures(0xb).has_zero_copy() && !XdpFeatures(0xb).has_chains());
        assert!(!XdpFeatures(1).is_native());
        assert!(XdpFeatures(0x27).takes_redirects() && !veth.takes_redirects());
    }

    #[test]
    fn the_kernel_is_asked_and_knows_which_devices_it_has() {
        // The loopback device has the first index of every namespace, and no driver that would do anything.
        let lo = xdp_features(1).unwrap();
        assert!(lo.is_none_or(|features| !features.is_native()));
        assert_eq!(xsk_features(1).unwrap(), XskFeatures::default());
        if Family::find("netdev").unwrap().is_some() {
            assert!(xdp_feature_changes(1 << 16).unwrap().is_some());
            let unknown = [
                xdp_features(i32::MAX as u32).unwrap_err(),
                xsk_features(i32::MAX as u32).unwrap_err(),
            ];
            assert_eq!(unknown.map(|error| error.code()), [Some(libc::ENODEV); 2]);
        }
    }
}
