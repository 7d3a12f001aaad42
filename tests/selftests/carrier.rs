//! Who carries the vxlan device of the switch: the kernel alone, or `vxgate`.

use std::time::Duration;

use crate::support::netns::Netns;
use crate::support::vxgate::{Status, Vxgate};
use crate::support::wait_until;

/// Whose numbers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// The kernel's vxlan device alone.
    Kernel,
    /// `vxgate` has taken the device over.
    Vxgate,
}

/// Two tests of every scenario: `SCENARIO::kernel` and `SCENARIO::vxgate`.
macro_rules! scenarios {
    ($($(#[$doc:meta])* $name:ident)*) => {
        $(
            $(#[$doc])*
            mod $name {
                #[test]
                fn kernel() {
                    super::$name($crate::carrier::Carrier::Kernel);
                }

                #[test]
                fn vxgate() {
                    super::$name($crate::carrier::Carrier::Vxgate);
                }
            }
        )*
    };
}

/// A switch whose devices are carried.
#[derive(Debug)]
pub struct Carried {
    switch: String,
    vxgate: Option<Vxgate>,
    before: Option<Status>,
}

impl Carried {
    /// Lets the carrier have the vxlan devices of a switch; all these are taken over when it returns.
    pub fn start(carrier: Carrier, switch: &Netns, devices: &[&str]) -> Self {
        Self::start_with(carrier, switch, devices, &[])
    }

    /// As [`Carried::start`], with more arguments for `vxgate run`.
    pub fn start_with(
        carrier: Carrier,
        switch: &Netns,
        devices: &[&str],
        arguments: &[&str],
    ) -> Self {
        let arguments = [&["--workers", "1"], arguments].concat();
        let vxgate = (carrier == Carrier::Vxgate).then(|| Vxgate::start(switch, &arguments));
        let carried = Self {
            switch: switch.name().to_owned(),
            before: vxgate.as_ref().map(Vxgate::status),
            vxgate,
        };
        for device in devices {
            carried.wait_taken(device);
        }
        carried
    }

    /// Whether `vxgate` is the one.
    pub fn is_vxgate(&self) -> bool {
        self.vxgate.is_some()
    }

    /// The process, where there is one.
    pub fn vxgate(&self) -> Option<&Vxgate> {
        self.vxgate.as_ref()
    }

    /// Waits until `vxgate` has the device.
    pub fn wait_taken(&self, device: &str) {
        self.wait_status(&format!("vxgate has {device}"), |status| {
            status
                .device(device)
                .is_some_and(|found| found["taken_over"] == true)
        });
    }

    /// Waits until `vxgate` says that it leaves the device to the kernel, and for which attribute.
    pub fn wait_refused(&self, device: &str, attribute: &str) {
        self.wait_status(
            &format!("vxgate refuses {device} for {attribute}"),
            |status| {
                status.device(device).is_some_and(|found| {
                    found["taken_over"] == false && found["refused"]["attribute"] == attribute
                })
            },
        );
    }

    /// Waits for something in the status of `vxgate`; the kernel has none to wait for.
    pub fn wait_status(&self, what: &str, condition: impl Fn(&Status) -> bool) {
        if let Some(vxgate) = &self.vxgate {
            wait_until(what, Duration::from_secs(20), || {
                vxgate.try_status().is_ok_and(|status| condition(&status))
            });
        }
    }

    /// Frames that died for a reason, received from the underlay; 0 with the kernel.
    pub fn drops(&self, reason: &str) -> u64 {
        self.vxgate
            .as_ref()
            .map_or(0, |vxgate| vxgate.status().drops("underlay", reason))
    }

    /// Asserts that since the start at least so many frames were encapsulated and decapsulated by `vxgate`.
    ///
    /// Frames that a hook left to the kernel while a worker was kept off a busy core are explained, but not more of them
    /// than went through.
    pub fn assert_through(&self, encapsulated: u64, decapsulated: u64) {
        let (Some(vxgate), Some(before)) = (&self.vxgate, &self.before) else {
            return;
        };
        let now = vxgate.balanced();
        for (role, wanted) in [("access", encapsulated), ("underlay", decapsulated)] {
            let ours = now.forwarded(role) - before.forwarded(role);
            let stale =
                now.passed(role, "heartbeat_stale") - before.passed(role, "heartbeat_stale");
            assert!(
                ours + stale >= wanted && ours >= wanted / 2,
                "{}: {ours} frames of {role} went through vxgate, {wanted} wanted, {stale} explained: {}",
                self.switch,
                now.0
            );
        }
    }

    /// The last word: what went through, and the balance; then a clean stop.
    pub fn finish(self, encapsulated: u64, decapsulated: u64) {
        self.assert_through(encapsulated, decapsulated);
        self.stop();
    }

    /// The balance and a clean stop, where what went through was judged before.
    pub fn stop(self) {
        if let Some(vxgate) = &self.vxgate {
            vxgate.balanced();
        }
        if let Some(vxgate) = self.vxgate {
            vxgate.stop();
        }
    }
}

/// A counter of a device (`rx_errors`, `tx_packets`, …) as `/sys/class/net` has it.
pub fn counter(netns: &Netns, device: &str, name: &str) -> u64 {
    let text = netns.run(&format!("cat /sys/class/net/{device}/statistics/{name}"));
    text.trim().parse().expect("a count")
}
