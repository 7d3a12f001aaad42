//! Scenarios that the kernel tests its own vxlan with, rebuilt: the same topologies, the same expected numbers, other code.
//!
//! Each scenario is one function that does not know who carries the vxlan device of its switch. It runs twice, as
//! `SCENARIO::kernel` (the control, which proves the test itself) and as `SCENARIO::vxgate`: a number that only one of them
//! reaches is a finding. The far ends are always the plain kernel.
//!
//! What is counted is seen by `AF_PACKET` sockets at the ends. This needs neither 802.1Q devices, nor VRFs, nor a bridge
//! that filters VLANs, which not every kernel has: hosts have namespaces of their own, tagged frames are made by hand, and
//! where a VLAN-aware bridge is asked for, nftables keeps the VLANs of a plain one apart.
//!
//! With `vxgate`, every scenario ends with the balance of its books, and with the number of frames that must have gone
//! through it: a run that fell back to the kernel does not pass.

#[path = "../support/mod.rs"]
mod support;

#[macro_use]
mod carrier;
mod frame;
mod hop;
mod net;
mod probe;
mod topology_a;

mod anycast;
mod bridge_1d;
mod checksums;
mod drops;
mod flooding;
mod learning;
mod path_mtu;
mod requirements;
mod tunnels;
mod vlans;
