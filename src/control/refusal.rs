//! Why a vxlan device is left to the kernel: it uses something that the data path does not do.

use std::net::IpAddr;

use super::VxlanDevice;
use super::device::reserved_bits_from;
use crate::netlink::{Link, attributes, flag_or_u8, u32_from};
use crate::wire::vxlan::USED_BITS;

/// A device that is not taken over, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The attribute's name, as `ip link` has it where it does.
    pub attribute: String,
    /// A sentence for people.
    pub why: String,
}

impl Refusal {
    pub(super) fn new(attribute: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            attribute: attribute.into(),
            why: why.into(),
        }
    }
}

/// The largest IP packet whose frame is carried, in bytes: what switches call jumbo, and 9,000 bytes with any outer headers.
const MTU_MAX: u32 = 9216;

/// What an attribute of the device means for us.
enum Rule {
    /// Understood, or without effect where nothing is learned.
    Fine,
    /// Refused when set (a flag, or a value that is not zero).
    RefusedWhenSet(&'static str),
    /// Refused unless it is one of these numbers.
    RefusedUnlessOneOf(&'static [u32], &'static str),
    /// Refused unless it is a mask of header bits without I flag and VNI.
    ReservedBits(&'static str),
}

/// `IFLA_VXLAN_*` (`linux/if_link.h`): number, name, rule.
const RULES: &[(u16, &str, Rule)] = {
    use Rule::{Fine, RefusedUnlessOneOf, RefusedWhenSet, ReservedBits};
    &[
        (1, "id", Fine),
        (2, "group", Fine), // Also `remote`.
        (3, "dev", Fine),
        (4, "local", Fine),
        (5, "ttl", Fine),
        (6, "tos", Fine),
        (
            7,
            "learning",
            RefusedWhenSet("addresses learned from received frames are not kept yet"),
        ),
        (8, "ageing", Fine),     // Of learned entries only.
        (9, "maxaddress", Fine), // Of learned entries only.
        (10, "srcport", Fine),
        (
            11,
            "proxy",
            RefusedWhenSet("ARP is not answered on behalf of others yet"),
        ),
        (
            12,
            "rsc",
            RefusedWhenSet("route short circuit is not done yet"),
        ),
        (
            13,
            "l2miss",
            RefusedWhenSet("misses of the FDB are not announced yet"),
        ),
        (
            14,
            "l3miss",
            RefusedWhenSet("misses of the neighbour table are not announced yet"),
        ),
        (15, "dstport", Fine),
        (16, "group", Fine), // As 2, of IPv6.
        (17, "local", Fine),
        (18, "udpcsum", Fine),
        (19, "udp6zerocsumtx", Fine),
        (20, "udp6zerocsumrx", Fine),
        (
            21,
            "remcsumtx",
            RefusedWhenSet("remote checksum offload is not done"),
        ),
        (
            22,
            "remcsumrx",
            RefusedWhenSet("remote checksum offload is not done"),
        ),
        (23, "gbp", Fine),
        (
            24,
            "remcsum-nopartial",
            RefusedWhenSet("remote checksum offload is not done"),
        ),
        (
            25,
            "external",
            RefusedWhenSet(
                "tunnel metadata from routes and filters cannot be seen outside the kernel",
            ),
        ),
        (26, "flowlabel", Fine),
        (
            27,
            "gpe",
            RefusedWhenSet("the generic protocol extension is not carried"),
        ),
        (28, "ttl", Fine), // ttl inherit
        (29, "df", Fine),
        (
            30,
            "vnifilter",
            RefusedWhenSet("a device with many VNIs is not served yet"),
        ),
        (31, "localbypass", Fine), // Frames to addresses of this host are the kernel's either way.
        (
            32,
            "flowlabel",
            RefusedUnlessOneOf(
                &[0, 1],
                "it is neither fixed nor inherited, which this program does not know",
            ),
        ),
        (
            33,
            "reserved_bits",
            ReservedBits(
                "it is no mask of header bits beside I flag and VNI, so this program does not know its meaning",
            ),
        ),
        (
            34,
            "mcroute",
            RefusedWhenSet(
                "frames to the group are to pass this host's own multicast router, which only the kernel can do",
            ),
        ),
    ]
};

/// Judges `IFLA_INFO_DATA`: the first attribute that the data path does not do.
pub(super) fn of_attributes(data: &[u8]) -> Option<Refusal> {
    attributes(data).find_map(|(number, value)| {
        let Some((_, name, rule)) = RULES.iter().find(|(known, ..)| *known == number) else {
            return flag_or_u8(value).then(|| {
                let why = "it is newer than this program, which cannot know what it changes";
                Refusal::new(format!("attribute {number}"), why)
            });
        };
        let refused = match rule {
            Rule::Fine => None,
            Rule::RefusedWhenSet(why) => flag_or_u8(value).then_some(*why),
            Rule::RefusedUnlessOneOf(good, why) => {
                let known = u32_from(value).is_some_and(|number| good.contains(&number));
                (!known).then_some(*why)
            }
            Rule::ReservedBits(why) => {
                let known = reserved_bits_from(value).is_some_and(|bits| bits & USED_BITS == 0);
                (!known).then_some(*why)
            }
        };
        refused.map(|why| Refusal::new(*name, why))
    })
}

/// Judges the device as a whole and the link below it.
pub(super) fn of_device(device: &VxlanDevice, underlay: Option<&Link>) -> Option<Refusal> {
    if let Some(why) = of_local(device.local) {
        return Some(Refusal::new("local", why));
    }
    if device.mtu > MTU_MAX {
        let why = format!(
            "its MTU is {}, and frames of more than {MTU_MAX} bytes are not carried",
            device.mtu
        );
        return Some(Refusal::new("mtu", why));
    }
    of_underlay(underlay)
}

fn of_local(local: Option<IpAddr>) -> Option<&'static str> {
    match local {
        None => Some(
            "without it the kernel chooses a source address per route: set `local` to this node's VTEP address",
        ),
        Some(IpAddr::V6(local)) if local.to_ipv4_mapped().is_some() => {
            Some("an IPv4-mapped address is none that frames carry: give the IPv4 address itself")
        }
        Some(_) => None,
    }
}

fn of_underlay(underlay: Option<&Link>) -> Option<Refusal> {
    let Some(link) = underlay else {
        let why = "the device names no underlay device, and no link holds its local address";
        return Some(Refusal::new("dev", why));
    };
    let name = &link.name;
    if link.loopback {
        let why = format!(
            "the local address is on {name}, the loopback device, whose frames AF_XDP cannot carry"
        );
        return Some(Refusal::new("dev", why));
    }
    if !link.ethernet {
        return Some(Refusal::new(
            "dev",
            format!("the underlay device {name} carries no Ethernet frames"),
        ));
    }
    if link.kind.as_deref() == Some("vxlan") {
        return Some(Refusal::new(
            "dev",
            format!("the underlay device {name} is a tunnel itself"),
        ));
    }
    if link.mtu > MTU_MAX {
        let why = format!(
            "the MTU of the underlay device {name} is {}, and frames of more than {MTU_MAX} bytes are not carried",
            link.mtu
        );
        return Some(Refusal::new("mtu", why));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::RequestBody;

    /// What Linux 6.18 tells about `ip link add vx type vxlan id 1 local 10.9.0.1 dev u0 dstport 8472 nolearning`.
    fn flannel() -> RequestBody {
        let mut body = RequestBody::default()
            .with(1, &[1, 0, 0, 0])
            .with(3, &[3, 0, 0, 0])
            .with(4, &[10, 9, 0, 1])
            .with(8, &[0x2c, 1, 0, 0])
            .with(15, &[0x21, 0x18])
            .with(18, &[1])
            .with(31, &[1])
            .with(33, &[0xf7, 0xff, 0xff, 0xff, 0, 0, 0, 0xff]);
        for number in [5, 6, 7, 11, 12, 13, 14, 19, 20, 21, 22, 25, 28, 29] {
            body = body.with(number, &[0]);
        }
        body
    }

    #[test]
    fn flannels_device_is_served() {
        assert_eq!(of_attributes(flannel().as_bytes()), None);
        let without_local_bypass = flannel().with(31, &[0]);
        assert_eq!(of_attributes(without_local_bypass.as_bytes()), None);
    }

    #[test]
    fn each_attribute_that_is_not_done_is_named() {
        let set = [
            (7, "learning"),
            (11, "proxy"),
            (12, "rsc"),
            (13, "l2miss"),
            (14, "l3miss"),
            (21, "remcsumtx"),
            (22, "remcsumrx"),
            (25, "external"),
            (30, "vnifilter"),
            (34, "mcroute"),
        ];
        for (number, name) in set {
            let data = flannel().with(number, &[1]);
            assert_eq!(of_attributes(data.as_bytes()).unwrap().attribute, name);
        }
        for (number, name) in [(24, "remcsum-nopartial"), (27, "gpe")] {
            let data = flannel().with(number, &[]);
            assert_eq!(
                of_attributes(data.as_bytes()).unwrap().attribute,
                name,
                "a flag has no value"
            );
        }
        let marks = flannel().with(23, &[]);
        assert_eq!(of_attributes(marks.as_bytes()), None, "gbp is served");
        let policy = flannel().with(32, &2u32.to_ne_bytes());
        assert_eq!(
            of_attributes(policy.as_bytes()).unwrap().attribute,
            "flowlabel"
        );
    }

    #[test]
    fn v02_any_mask_of_reserved_bits_is_followed_and_what_is_none_is_refused() {
        for good in [
            [0xf7, 0xff, 0xff, 0xff, 0, 0, 0, 0xff],
            [0; 8],
            [0x80, 0, 0, 0, 0, 0, 0, 1],
        ] {
            let data = RequestBody::default().with(33, &good);
            assert_eq!(of_attributes(data.as_bytes()), None, "{good:?}");
        }
        // With one of these the kernel's device would take no frame at all; and a header has eight bytes.
        let [i_flag, of_the_vni] = [[8, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 0]];
        for bad in [&i_flag[..], &of_the_vni, &[0; 4], &[], &[0; 16]] {
            let data = RequestBody::default().with(33, bad);
            let refusal = of_attributes(data.as_bytes()).unwrap();
            assert_eq!(refusal.attribute, "reserved_bits", "{bad:?}");
        }
    }

    #[test]
    fn an_attribute_of_the_future_is_refused_only_when_it_says_something() {
        let silent = flannel().with(99, &[0, 0, 0, 0]);
        assert_eq!(of_attributes(silent.as_bytes()), None);
        let loud = flannel().with(99, &[0, 1]);
        assert_eq!(
            of_attributes(loud.as_bytes()).unwrap().attribute,
            "attribute 99"
        );
    }
}
