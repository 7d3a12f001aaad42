//! What a driver does for frames that AF_XDP sockets send, as it says of itself (`netdev` family, `linux/netdev.h`, from
//! Linux 6.8 on).

use super::Error;
use super::generic::Family;

/// `NETDEV_CMD_DEV_GET`.
const DEVICE_GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX`.
const IFINDEX: u16 = 1;
/// `NETDEV_A_DEV_XSK_FEATURES`.
const XSK_FEATURES: u16 = 6;
/// `NETDEV_XSK_FLAGS_TX_CHECKSUM`.
const TX_CHECKSUM: u64 = 1 << 1;

/// What a driver does with TX metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XskFeatures {
    /// It finishes checksums, with zero-copy.
    pub tx_checksum: bool,
}

/// Asks the driver of a device in the network namespace of this thread. A kernel that cannot be asked has drivers that do
/// nothing.
///
/// # Errors
/// When the kernel does not know the device, or does not answer.
pub fn xsk_features(ifindex: u32) -> Result<XskFeatures, Error> {
    let Some(mut family) = Family::find("netdev")? else {
        return Ok(XskFeatures::default());
    };
    let device = ifindex.to_ne_bytes();
    let flags = family.ask(DEVICE_GET, (IFINDEX, &device), XSK_FEATURES)?;
    Ok(features(flags.as_deref()))
}

fn features(flags: Option<&[u8]>) -> XskFeatures {
    let flags = flags.and_then(<[u8]>::first_chunk);
    let flags = flags.map_or(0, |flags| u64::from_ne_bytes(*flags));
    XskFeatures {
        tx_checksum: flags & TX_CHECKSUM != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_what_is_no_number_says_nothing() {
        let with = |flags: u64| features(Some(&flags.to_ne_bytes())).tx_checksum;
        assert!(with(2) && with(7));
        assert!(!with(0) && !with(5));
        assert!(!features(None).tx_checksum);
        assert!(!features(Some(&[2, 0, 0, 0])).tx_checksum);
    }

    #[test]
    fn the_kernel_is_asked_and_knows_which_devices_it_has() {
        // The loopback device has the first index of every namespace, and no driver that would do anything.
        assert_eq!(xsk_features(1).unwrap(), XskFeatures::default());
        let unknown = xsk_features(i32::MAX as u32);
        if Family::find("netdev").unwrap().is_some() {
            assert_eq!(unknown.unwrap_err().code(), Some(libc::ENODEV));
        }
    }
}
