//! What the operator decides where the kernel and the RFC differ, or where neither asks enough. The kernel's device
//! says the rest.

use std::fmt;

/// Declares a choice of words: what the configuration takes and `status` shows.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Every choice, the default first.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word for it.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The choice that this word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|choice| choice.label() == word)
            }
        }
    };
}

choice! {
    /// Who may send to us (`peer_check`). Whatever it says, a datagram without a checksum over IPv6 is taken from known
    /// VTEPs only (RFC 6936 §5).
    PeerCheck {
        /// The outer source must be a known VTEP of the VNI.
        #[default]
        Strict "strict";
        /// And the inner source must be a station that the FDB says is behind it. A station that the FDB does not know
        /// is refused, too: nothing says that it belongs there, and an attacker would choose just such an address. So
        /// it is for networks whose control plane writes an entry for every station, as flannel does.
        StrictMac "strict-mac";
        /// As [`Self::Strict`], but frames of others are delivered, counted and told.
        Log "log";
        /// Anybody, as with the kernel.
        Off "off";
    }
}

choice! {
    /// The outer ECN bits of a frame sent whose inner header says that congestion was met (`ecn_encap`).
    EcnEncap {
        /// ECT(0), as the kernel does.
        #[default]
        Kernel "kernel";
        /// Copied: the normal mode of RFC 6040 §4.1.
        Rfc6040 "rfc6040";
        /// Nothing is copied, whatever the inner header says: the compatibility mode of RFC 6040 §4.1.
        Compat "compat";
    }
}

choice! {
    /// What becomes of inner frames with a VLAN tag, in both directions (`inner_vlan`).
    InnerVlan {
        /// They are carried with their tags, as the kernel does.
        #[default]
        Pass "pass";
        /// They are dropped (RFC 7348 §6.1).
        Drop "drop";
    }
}

choice! {
    /// Whether a received outer UDP checksum that is not zero must be right (`udp_checksum_rx`).
    UdpChecksumRx {
        /// On an underlay that is real hardware; a virtual one may hand over sums that the sender left unfinished.
        #[default]
        Auto "auto";
        /// On any.
        Verify "verify";
        /// On none.
        Ignore "ignore";
    }
}

/// Which reserved bits of a received VXLAN header may be set (`reserved_bits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReservedBits {
    /// Those that the kernel's device lets through (its attribute `reserved_bits`); by its default none.
    #[default]
    Device,
    /// None, whatever the device says.
    Strict,
    /// All: they are ignored, as RFC 7348 §5 has it.
    Ignore,
    /// These bits of the header's 64, the first byte on the wire the highest.
    Allow(u64),
}

impl ReservedBits {
    /// What stands in front of a mask.
    const MASK: &'static str = "mask:";

    /// The choice that this word stands for: `device`, `strict`, `ignore`, or `mask:` and 16 hexadecimal digits.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "device" => Some(Self::Device),
            "strict" => Some(Self::Strict),
            "ignore" => Some(Self::Ignore),
            _ => {
                let digits = word.strip_prefix(Self::MASK)?;
                // `from_str_radix` would take a sign.
                let all_hex = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let mask = u64::from_str_radix(digits, 16).ok()?;
                all_hex.then_some(Self::Allow(mask))
            }
        }
    }
}

impl fmt::Display for ReservedBits {
    /// The word for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device"),
            Self::Strict => f.write_str("strict"),
            Self::Ignore => f.write_str("ignore"),
            Self::Allow(mask) => write!(f, "{}{mask:016x}", Self::MASK),
        }
    }
}

/// All that the operator decides of a segment. The default is the kernel's behaviour, and [`PeerCheck::Strict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Who may send to us.
    pub peer_check: PeerCheck,
    /// Which reserved bits may be set.
    pub reserved_bits: ReservedBits,
    /// The outer ECN bits of what is sent.
    pub ecn_encap: EcnEncap,
    /// Inner VLAN tags.
    pub inner_vlan: InnerVlan,
    /// Received outer UDP checksums.
    pub udp_checksum_rx: UdpChecksumRx,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_for_one_choice_and_the_default_comes_first() {
        for choice in PeerCheck::ALL {
            assert_eq!(PeerCheck::from_word(choice.label()), Some(*choice));
        }
        assert_eq!(PeerCheck::ALL.first(), Some(&PeerCheck::default()));
        assert_eq!(EcnEncap::ALL.first(), Some(&EcnEncap::default()));
        assert_eq!(InnerVlan::ALL.first(), Some(&InnerVlan::default()));
        assert_eq!(UdpChecksumRx::ALL.first(), Some(&UdpChecksumRx::default()));
        assert_eq!(PeerCheck::from_word("STRICT"), None);
        assert_eq!(PeerCheck::from_word(""), None);
    }

    #[test]
    fn v02_a_mask_has_sixteen_digits() {
        let mask = ReservedBits::Allow(0x8100_0000_0000_00ff);
        assert_eq!(ReservedBits::from_word("mask:81000000000000FF"), Some(mask));
        for choice in [
            ReservedBits::Device,
            ReservedBits::Strict,
            ReservedBits::Ignore,
            mask,
        ] {
            assert_eq!(ReservedBits::from_word(&choice.to_string()), Some(choice));
        }
        for word in [
            "",
            "mask",
            "mask:",
            "mask:ff",
            "mask:+1000000000000ff",
            "mask:0x000000000000ff",
            "mask:000000000000000ff",
            "mask:00000000000000f\u{e9}",
        ] {
            assert_eq!(ReservedBits::from_word(word), None, "{word:?}");
        }
    }
}
