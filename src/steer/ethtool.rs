//! Offloads of a device, switched off by name (`ethtool -K`; `linux/ethtool.h`).
#![allow(unsafe_code)] // WHY: no safe crate in use speaks SIOCETHTOOL.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
/// Features come in blocks of 32 bits.
const BLOCK_BITS: usize = 32;

/// What would leave a frame unfinished, merged, or its VLAN tag outside of its bytes.
const UNFINISHED: [&str; 16] = [
    "tx-checksum-ipv4",
    "tx-checksum-ip-generic",
    "tx-checksum-ipv6",
    "tx-checksum-sctp",
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-sctp-segmentation",
    "tx-gso-list",
    "rx-gro",
    "tx-vlan-hw-insert",
    "rx-vlan-hw-parse",
    "tx-vlan-stag-hw-insert",
    "rx-vlan-stag-hw-parse",
];

/// Switches off every offload that hides a frame's final bytes from AF_XDP. Offloads that the device does not have are
/// skipped.
pub(super) fn finish_frames(device: &str) -> io::Result<()> {
    let control = Control::open(device)?;
    let names = control.feature_names()?;
    let unwanted = names
        .iter()
        .enumerate()
        .filter(|(_, name)| UNFINISHED.contains(&name.as_str()))
        .map(|(bit, _)| bit);
    control.disable(unwanted, names.len())
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
        let mut info = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
        self.call(&mut info)?;
        let count = info[4] as usize;
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
        // SAFETY: the structure names a buffer that lives through the call, and whose own fields tell the kernel a length
        // that it has.
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
