//! Namespaces of one scenario, their cables, and shell lines to run in them.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::netns::{self, Netns};

/// The namespaces of one scenario. They go when it is dropped.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    all: Vec<Netns>,
}

impl Net {
    /// Makes namespaces that are called so in the scenario's picture. Without IPv6, nothing in them speaks unasked.
    pub fn new(names: &[&str], ipv6: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("vx{}x{number}", std::process::id());
        let all = names
            .iter()
            .map(|name| Netns::create(&format!("{prefix}-{name}")))
            .collect();
        let net = Self { prefix, all };
        let disabled = u8::from(!ipv6);
        for name in names {
            net.script(
                name,
                &format!(
                    "sysctl -qw net.ipv6.conf.all.disable_ipv6={disabled} net.ipv6.conf.default.disable_ipv6={disabled}
                     sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
                     sysctl -qw net.ipv6.conf.default.router_solicitations=0
                     sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
                     sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratelimit=0"
                ),
            );
        }
        net
    }

    /// One of the namespaces.
    pub fn ns(&self, name: &str) -> &Netns {
        let full = format!("{}-{name}", self.prefix);
        self.all
            .iter()
            .find(|netns| netns.name() == full)
            .unwrap_or_else(|| panic!("no namespace {name}"))
    }

    /// A cable between two namespaces, with the names of its ends; both are up.
    pub fn cable(&self, [near, near_device]: [&str; 2], [far, far_device]: [&str; 2]) {
        let [near, far] = [near, far].map(|name| self.ns(name).name().to_owned());
        netns::run(
            &format!(
                "ip link add {near_device} netns {near} type veth peer name {far_device} netns {far}"
            )
            .split(' ')
            .collect::<Vec<_>>(),
        );
        netns::run(&["ip", "-n", &near, "link", "set", near_device, "up"]);
        netns::run(&["ip", "-n", &far, "link", "set", far_device, "up"]);
    }

    /// Runs shell lines in a namespace; the first that fails ends the test.
    pub fn script(&self, name: &str, lines: &str) {
        self.ns(name).script(lines);
    }

    /// The MAC address of a device.
    pub fn mac(&self, name: &str, device: &str) -> [u8; 6] {
        let text = self
            .ns(name)
            .run(&format!("cat /sys/class/net/{device}/address"));
        crate::support::frames::mac(text.trim())
    }

    /// Echoes: all of them are answered.
    pub fn ping(&self, from: &str, to: &str, count: u32, more: &str) {
        self.ns(from)
            .run(&format!("ping -q -c {count} -i 0.01 -W 5 {more} {to}"));
    }

    /// Whether any of a few echoes is answered within a second.
    pub fn reaches(&self, from: &str, to: &str) -> bool {
        self.ns(from)
            .try_run(&format!("ping -q -c 2 -i 0.01 -W 1 {to}"))
            .is_ok()
    }
}
