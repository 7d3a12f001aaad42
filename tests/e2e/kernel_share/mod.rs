//! Destinations that only the kernel reaches, beside others on the same device: every frame arrives once, whoever carries it,
//! and the books say who did. Each scene plays on the plain kernel, too, with the same numbers at the far ends.
//!
//! ```text
//!             node: vx1 (VNI 1), vx2 (VNI 2), vx3 (VNI 1, UDP 4789)         far1, far2: vx1, vx2, vx3 likewise
//!               eth1 10.0.1.1, 10.0.1.9 ══════════════════════ eth0 10.0.1.2   far1
//!               eth2 10.0.2.1 ════════════════════════════════ eth0 10.0.2.2   far2
//!   vx1 is at 10.0.1.1 and the others at 10.0.1.9, all on eth1; both far ends also answer for 10.0.3.3.
//! ```

mod books;
mod carrier;
mod flood;
mod kill;
mod local;
mod routes;
mod site;
mod stations;

use std::time::Duration;

use carrier::Carrier;
use site::Site;
use stations::Stations;

const FRAMES: u32 = 100;
const PATIENCE: Duration = Duration::from_secs(10);
const BROADCAST: &str = "ff:ff:ff:ff:ff:ff";
/// Stations by where their FDB entries lead.
const FAR1: &str = "02:00:00:00:00:01";
const FAR2: &str = "02:00:00:00:00:02";
const FAR2_VIA: &str = "02:00:00:00:00:03";
const FAR1_VIA: &str = "02:00:00:00:00:04";
const ROAMING: &str = "02:00:00:00:00:05";
const LOST: &str = "02:00:00:00:00:06";
const TO_VX2: &str = "02:00:00:00:00:07";
const TO_VX3: &str = "02:00:00:00:00:08";
const MOVING: &str = "02:00:00:00:00:09";
const TO_NOBODY: &str = "02:00:00:00:00:0a";
