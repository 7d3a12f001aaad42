//! Offloads of a device, asked for and switched off by name (`ethtool -k`, `ethtool -K`; `linux/ethtool.h`), and what else
//! its driver tells of itself.
#![allow(unsafe_code)] // WHY: no safe crate in use speaks SIOCETHTOOL.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// `UDP_V4_FLOW`, `UDP_V6_FLOW`.
const UDP_FLOWS: [u32; 2] = [0x02, 0x06];
/// `RXH_L4_B_0_1 | RXH_L4_B_2_3`: both UDP ports.
const HASHED_PORTS: u32 = 1 << 6 | 1 << 7;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
/// Linux has some 64; a number beyond this bound is no number of features.
const FEATURES_MAX: usize = 1024;
/// Features come in blocks of 32 bits.
const BLOCK_BITS: usize = 32;

/// Whether a feature would leave a frame unfinished, merged, or its VLAN tag outside of its bytes. By the shape of the
/// name: kernels keep adding kinds of segmentation, and one that is forgotten lets superframes through.
fn hides_final_bytes(feature: &str) -> bool {
    match feature.split_once('-') {
        Some(("tx", what)) => {
            what.starts_with("checksum-")
                || what.ends_with("-segmentation")
                || what.starts_with("gso-")
                || is_vlan(what)
        }
        Some(("rx", what)) => what.starts_with("gro") || what == "lro" || is_vlan(what),
        _ => false,
    }
}

/// `vlan-hw-insert`, `vlan-stag-hw-parse` and the like.
fn is_vlan(what: &str) -> bool {
    what.starts_with("vlan-") && (what.ends_with("-insert") || what.ends_with("-parse"))
}

/// Switches off every offload that hides a frame's final bytes from AF_XDP. Offloads that the device does not have are
/// skipped.
pub(super) fn finish_frames(device: &str) -> io::Result<()> {
    let control = Control::open(device)?;
    let names = control.feature_names()?;
    let unwanted = names
        .iter()
        .enumerate()
        .filter(|(_, name)| hides_final_bytes(name))
        .map(|(bit, _)| bit);
    control.disable(unwanted, names.len())
}

/// The receive queues that a device has, and could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// In use.
    pub used: u32,
    /// At most.
    pub max: u32,
    /// They come in pairs with the transmit queues (`combined`), and not by themselves (`rx`).
    pub combined: bool,
}

/// The offloads of a device that are on, by their names.
///
/// # Errors
/// When the device or its driver does not tell.
pub fn offloads(device: &str) -> io::Result<Vec<String>> {
    let control = Control::open(device)?;
    let mut names = control.feature_names()?;
    let on = control.active(names.len())?;
    Ok(on
        .into_iter()
        .filter_map(|bit| names.get_mut(bit).map(mem::take))
        .collect())
}

/// The names of all offloads that the kernel knows.
///
/// # Errors
/// As [`offloads`].
pub fn known_offloads(device: &str) -> io::Result<Vec<String>> {
    Control::open(device)?.feature_names()
}

/// The kernel's name of `NETIF_F_HW_CSUM`.
const CHECKSUM_ANY: &str = "tx-checksum-ip-generic";

/// Whether the device finishes the checksum of whatever frame says where it is (`NETIF_F_HW_CSUM`): as it is set now, be it in
/// hardware or by handing frames on unfinished, as virtual devices do. Offloads for certain protocols only do not count: the
/// kernel does not know the protocol of a frame that AF_XDP sends, and would finish it by itself.
///
/// # Errors
/// As [`offloads`].
pub fn finishes_checksums(device: &str) -> io::Result<bool> {
    Ok(offloads(device)?.iter().any(|name| name == CHECKSUM_ANY))
}

/// Which of these offloads hide a frame's final bytes: an access device has none of them.
pub fn hiding(offloads: &[String]) -> Vec<String> {
    let hiding = offloads.iter().filter(|name| hides_final_bytes(name));
    hiding.cloned().collect()
}

/// The name of a device's driver.
///
/// # Errors
/// As [`offloads`].
pub fn driver(device: &str) -> io::Result<String> {
    // struct ethtool_drvinfo: cmd, five texts of 32 bytes of which the first is the driver's name, 12 bytes, five numbers
    let mut answer = [0_u32; 1 + 5 * 8 + 3 + 5];
    answer[0] = ETHTOOL_GDRVINFO;
    Control::open(device)?.call(&mut answer)?;
    let name: Vec<u8> = answer[1..9]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// How many receive queues a device uses.
///
/// # Errors
/// As [`offloads`].
pub fn channels(device: &str) -> io::Result<Channels> {
    // struct ethtool_channels: cmd, max of rx, tx, other, combined, and as many in use
    let mut answer = [0_u32; 9];
    answer[0] = ETHTOOL_GCHANNELS;
    Control::open(device)?.call(&mut answer)?;
    let [_, max_rx, _, _, max_combined, rx, _, _, combined] = answer;
    let in_pairs = max_combined > 0;
    Ok(Channels {
        used: rx.saturating_add(combined),
        max: if in_pairs { max_combined } else { max_rx },
        combined: in_pairs,
    })
}

/// Whether the ports of UDP decide over which receive queue a frame comes in, and not the addresses alone.
///
/// # Errors
/// As [`offloads`].
pub fn spreads_by_port(device: &str, ipv6: bool) -> io::Result<bool> {
    // struct ethtool_rxnfc: cmd, flow_type, u64 data, and much that this question leaves alone
    let mut answer = [0_u32; 64];
    answer[..2].copy_from_slice(&[ETHTOOL_GRXFH, UDP_FLOWS[usize::from(ipv6)]]);
    Control::open(device)?.call(&mut answer)?;
    // The lower half of a number of eight bytes, in the machine's order.
    let [a, b, c, d] = answer[2].to_ne_bytes();
    let [e, f, g, h] = answer[3].to_ne_bytes();
    let data = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    Ok(data & u64::from(HASHED_PORTS) == u64::from(HASHED_PORTS))
}

/// A socket to ask through, and the device to ask about.
struct Control {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Control {
    fn open(device: &str) -> io::Result<Self> {
        let mut name = [0; libc::IFNAMSIZ];
        if device.len() >= libc::IFNAMSIZ {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        for (to, from) in name.iter_mut().zip(device.bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: makes a new descriptor and touches no memory.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket, name })
    }

    /// Names of all features, by bit.
    fn feature_names(&self) -> io::Result<Vec<String>> {
        // struct ethtool_sset_info: cmd, reserved, u64 mask, u32 data[1]
        let [a, b, c, d, e, f, g, h] = (1_u64 << ETH_SS_FEATURES).to_ne_bytes();
        let mask = [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes);
        let mut info = [ETHTOOL_GSSET_INFO, 0, mask[0], mask[1], 0];
        self.call(&mut info)?;
        let count = info[4] as usize;
        if !(1..=FEATURES_MAX).contains(&count) {
            return Err(io::Error::other(format!(
                "the kernel names {count} offloads, which makes no sense"
            )));
        }
        // struct ethtool_gstrings: cmd, string_set, len, data
        let mut strings = vec![0_u32; 3 + count * ETH_GSTRING_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, info[4]]);
        self.call(&mut strings)?;
        let bytes: Vec<u8> = strings[3..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let text = |name: &[u8]| {
            String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
        };
        Ok(bytes.chunks(ETH_GSTRING_LEN).map(text).collect())
    }

    /// The bits of the features that are on.
    fn active(&self, features: usize) -> io::Result<Vec<usize>> {
        let blocks = features.div_ceil(BLOCK_BITS);
        // struct ethtool_gfeatures: cmd, size, { available, requested, active, never_changed } for each block
        let mut request = vec![0_u32; 2 + 4 * blocks];
        request[0] = ETHTOOL_GFEATURES;
        request[1] = u32::try_from(blocks).unwrap_or(0);
        self.call(&mut request)?;
        let is_on = |bit: &usize| {
            let active = request.get(2 + 4 * (bit / BLOCK_BITS) + 2);
            active.is_some_and(|active| active >> (bit % BLOCK_BITS) & 1 != 0)
        };
        Ok((0..features).filter(is_on).collect())
    }

    fn disable(&self, bits: impl Iterator<Item = usize>, features: usize) -> io::Result<()> {
        let blocks = features.div_ceil(BLOCK_BITS);
        // struct ethtool_sfeatures: cmd, size, { valid, requested } for each block
        let mut request = vec![0_u32; 2 + 2 * blocks];
        request[0] = ETHTOOL_SFEATURES;
        request[1] = u32::try_from(blocks).unwrap_or(0);
        for bit in bits {
            request[2 + 2 * (bit / BLOCK_BITS)] |= 1 << (bit % BLOCK_BITS);
        }
        // Bits that the device cannot change are reported by a positive answer, which is no error.
        self.call(&mut request)
    }

    /// One request; the answer overwrites it.
    fn call(&self, request: &mut [u32]) -> io::Result<()> {
        let mut interface = libc::ifreq {
            ifr_name: self.name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_data: request.as_mut_ptr().cast(),
            },
        };
        // SAFETY: the structure names a buffer that lives through the call, and is no shorter than the structure of its
        // command. The kernel writes back what it was given, for `ETHTOOL_GFEATURES` as many blocks as the request says,
        // and for `ETHTOOL_GSTRINGS` all names of a set, whose number is a constant of the running kernel that sized the
        // buffer.
        let answer = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL,
                &raw mut interface,
            )
        };
        if answer < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_tells_its_offloads_and_no_queues() {
        let on = offloads("lo").unwrap();
        assert!(on.iter().any(|name| name == "loopback"), "{on:?}");
        assert!(channels("lo").is_err());
        assert!(spreads_by_port("lo", false).is_err());
        assert!(offloads("no-such-device").is_err());
        let names = ["rx-checksum", "tx-gso-robust"].map(str::to_owned);
        assert_eq!(hiding(&names), ["tx-gso-robust"]);
    }

    #[test]
    fn features_are_told_by_the_shape_of_their_names() {
        // net/ethtool/common.c, netdev_features_strings
        for hiding in [
            "tx-checksum-ipv4",
            "tx-checksum-ip-generic",
            "tx-checksum-fcoe-crc",
            "tx-generic-segmentation",
            "tx-tcp-accecn-segmentation",
            "tx-udp_tnl-csum-segmentation",
            "tx-esp-segmentation",
            "tx-gso-robust",
            "tx-gso-list",
            "tx-vlan-hw-insert",
            "tx-vlan-stag-hw-insert",
            "rx-vlan-hw-parse",
            "rx-gro",
            "rx-gro-list",
            "rx-lro",
        ] {
            assert!(hides_final_bytes(hiding), "{hiding}");
        }
        for harmless in [
            "tx-scatter-gather",
            "tx-nocache-copy",
            "rx-checksum",
            "rx-vlan-filter",
            "rx-all",
            "highdma",
            "loopback",
            "hw-tc-offload",
            "",
        ] {
            assert!(!hides_final_bytes(harmless), "{harmless}");
        }
    }
}
