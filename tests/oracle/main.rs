//! The kernel as oracle: the same frames go to a kernel vxlan device and to `vxgate` that has taken one over, and what comes
//! out of both is compared byte for byte.
//!
//! `VXGATE_ORACLE_SEED` repeats a run; `VXGATE_ORACLE_FRAMES` makes it longer.

#[path = "../rig/mod.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod checksums;
mod compare;
mod departures;
mod ecn;
mod generate;
mod generate_outer;
mod group;
mod inherit;
mod inner;
mod justified;
mod mtu;
mod order;
mod outer;
mod peer_check;
mod piece;
mod reserved;
mod rows;
mod rows_ipv6;
mod runs;
mod script;
mod sentinel;
mod setting;
mod silence;
mod site;
mod superframes;
mod train;
mod trains;
mod tunnels;
mod unfinished;
