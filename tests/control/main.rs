//! The mirror against the real kernel: every known trap of its announcements, each a command and what the data path must
//! then see. Needs root and iproute2; works only in network namespaces of its own.

mod devices;
mod entries;
mod groups;
mod history;
mod ipv6;
mod kernel_share;
mod lab;
mod losses;
mod path_mtu;
mod scale;
mod ways;

use lab::Lab;
use vxgate::table::UnresolvedReason;
use vxgate::wire::MacAddr;

const NO_NEIGHBOUR: Option<Result<MacAddr, UnresolvedReason>> =
    Some(Err(UnresolvedReason::NoNeighbour));
const NO_ROUTE: Option<Result<MacAddr, UnresolvedReason>> = Some(Err(UnresolvedReason::NoRoute));
const LINK_DOWN: Option<Result<MacAddr, UnresolvedReason>> = Some(Err(UnresolvedReason::LinkDown));
const LOCAL_ADDRESS: Option<Result<MacAddr, UnresolvedReason>> =
    Some(Err(UnresolvedReason::LocalAddress));
const UNSUPPORTED: Option<Result<MacAddr, UnresolvedReason>> =
    Some(Err(UnresolvedReason::Unsupported));

fn b_mac() -> MacAddr {
    MacAddr([2, 0, 0, 0, 0xb, 0])
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.in_b(&format!("link set u0 address {}", b_mac()));
    lab
}
