//! Offloads of a device, asked for and switched off by name (`ethtool -k`, `ethtool -K`; `linux/ethtool.h`).
#![allow(unsafe_code)] // WHY: no safe crate in use speaks SIOCETHTOOL.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
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

/// Whether the device finishes the checksum of whatever frame says where it is (`NETIF_F_HW_CSUM`): as it is set now, be it in
/// hardware or by handing frames on unfinished, as virtual devices do. Offloads for certain protocols only do not count: the
/// kernel does not know the protocol of a frame that AF_XDP sends, and would finish it by itself.
///
/// # Errors
/// When the kernel does not tell.
pub fn finishes_checksums(device: &str) -> io::Result<bool> {
    let control = Control::open(device)?;
    let names = control.feature_names()?;
    let Some(bit) = names.iter().position(|name| name == CHECKSUM_ANY) else {
        return Ok(false);
    };
    Ok(control.active(names.len())?.contains(&bit))
}

/// The kernel's name of `NETIF_F_HW_CSUM`.
const CHECKSUM_ANY: &str = "tx-checksum-ip-generic";

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
        // SAFETY: the structure names a buffer that lives through the call. The kernel writes back what it was given, and
        // for `ETHTOOL_GSTRINGS` all names of a set, whose number is a constant of the running kernel that sized the buffer.
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
