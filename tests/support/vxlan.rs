//! vxlan devices with attributes for which `ip` has no words yet.

use vxgate::netlink::{RequestBody, Socket};

use super::netns::Netns;

/// `linux/rtnetlink.h`, `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = NESTED | 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = NESTED | 2;
/// `linux/netlink.h`.
const NESTED: u16 = 1 << 15;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;

/// Makes a device with these attributes (`IFLA_VXLAN_*`).
pub fn add(netns: &Netns, name: &str, attributes: &RequestBody) {
    request(netns, name, NLM_F_CREATE | NLM_F_EXCL, attributes);
}

/// Changes these attributes of a device (`IFLA_VXLAN_*`).
pub fn change(netns: &Netns, name: &str, attributes: &RequestBody) {
    request(netns, name, 0, attributes);
}

fn request(netns: &Netns, name: &str, flags: u16, attributes: &RequestBody) {
    let info = RequestBody::default()
        .with(IFLA_INFO_KIND, b"vxlan")
        .with(IFLA_INFO_DATA, attributes.as_bytes());
    // `struct ifinfomsg`: the name says which device.
    let body = RequestBody::new(&[0; 16])
        .with(IFLA_IFNAME, format!("{name}\0").as_bytes())
        .with(IFLA_LINKINFO, info.as_bytes());
    netns.enter(|| {
        let mut socket = Socket::open().expect("a netlink socket");
        socket
            .exchange(RTM_NEWLINK, flags, body.as_bytes(), |_| {})
            .unwrap_or_else(|error| panic!("{name}: the kernel knows the attributes: {error}"));
    });
}
