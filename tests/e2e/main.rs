//! End to end, in network namespaces: two flannel nodes, `vxgate` on one, the other or both, the plain kernel elsewhere.
//!
//! Needs root and what `scripts/setup.sh` installs. One test program, because its tests take turns: each lab is measured in
//! milliseconds on the same cores. Controls without any `vxgate` run the same traffic, so that the tests themselves are proven.

#[path = "../rig/mod.rs"]
mod rig;
#[path = "../support/mod.rs"]
mod support;

mod attributes;
mod capture;
mod capture_flood;
mod cleanup;
mod cli;
mod direct;
mod doctor;
mod drain;
mod drops;
mod dual_stack;
mod failover;
mod fdb;
mod flight;
mod gbp;
mod groups;
mod hop;
mod hostile;
mod jumbo;
mod kernel_share;
mod logs;
mod lossy;
mod metrics;
mod multicast;
mod offload;
mod overload;
mod path_mtu;
mod peers;
mod perf;
mod pod;
mod policy;
mod queues;
mod reload;
mod scale;
mod scenes;
mod schema;
mod superframes;
mod top;
mod topology;
mod trace;
mod who;
