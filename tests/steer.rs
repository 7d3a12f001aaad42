//! Steering on real devices: a node of its own for each test, frames put onto its wire byte for byte, the kernel's own vxlan
//! device behind and above.
//!
//! ```text
//!   wire namespace      node namespace
//!   raw socket ── wire ════ eth1 ── XDP ──▶ XskPort
//!                            └── flannel.1 ──tcx──▶ vxg0 ════ vxg1 ── XDP ──▶ XskPort
//! ```
#![allow(unsafe_code)] // WHY: asking which tcx programs a device has has no safe form.

mod support;

#[path = "steer/access.rs"]
mod access;
#[path = "steer/attach.rs"]
mod attach;
#[path = "steer/egress.rs"]
mod egress;
#[path = "steer/fail_open.rs"]
mod fail_open;
#[path = "steer/judge.rs"]
mod judge;
#[path = "steer/scene.rs"]
mod scene;
#[path = "steer/taps.rs"]
mod taps;
