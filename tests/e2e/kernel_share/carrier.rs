//! Who carries the frames: vxgate beside the kernel, or the kernel alone.

use std::time::Instant;

use super::books::{Books, books};
use super::*;
use crate::support::vxgate::Vxgate;
use crate::support::wait_until;

/// A gateway at work, or none: the control.
pub(super) struct Carrier<'a> {
    site: &'a Site,
    pub(super) vxgate: Option<Vxgate>,
    before: Option<Books>,
}

impl<'a> Carrier<'a> {
    pub(super) fn start(site: &'a Site, with_vxgate: bool) -> Self {
        let vxgate = with_vxgate.then(|| Vxgate::start(&site.node, &[]));
        let mut carrier = Self {
            site,
            vxgate,
            before: None,
        };
        // The first frames to a neighbour wait for its address: all later ones are counted.
        for (station, addr) in [("eth1", "10.0.1.2"), ("eth2", "10.0.2.2")] {
            carrier
                .site
                .node
                .run(&format!("ping -q -c 1 -W 5 -I {station} {addr}"));
        }
        carrier.wait_resolved("10.0.1.2");
        carrier
    }

    /// Waits until vxgate, or the kernel where there is none, knows the neighbour.
    pub(super) fn wait_resolved(&mut self, addr: &str) {
        match &self.vxgate {
            Some(vxgate) => wait_until(&format!("{addr} is resolved"), PATIENCE, || {
                vxgate.status().list("vteps").any(|vtep| {
                    vtep["device"] == "vx1" && vtep["addr"] == addr && vtep["state"] == "resolved"
                })
            }),
            None => {
                self.site.node.run(&format!("ping -q -c 1 -W 5 {addr}"));
            }
        }
        self.take_books();
    }

    pub(super) fn take_books(&mut self) {
        self.before = self.vxgate.as_ref().map(|vxgate| books(&vxgate.balanced()));
    }

    /// Waits until vxgate says that the kernel keeps these frames of vx1.
    pub(super) fn wait_kernel_keeps(&mut self, words: &str) {
        if let Some(vxgate) = &self.vxgate {
            wait_until(&format!("the kernel keeps {words}"), PATIENCE, || {
                let status = vxgate.status();
                let device = status.device("vx1").expect("vx1");
                device["kernel_keeps"] == words
            });
        }
        self.take_books();
    }

    /// What became of the frames since the last call, to the last one; they are not counted again.
    pub(super) fn assert_books(&mut self, what: &str, forwarded: u32, copies: u32, kernels: u32) {
        let Some(vxgate) = &self.vxgate else {
            return;
        };
        let before = self.before.as_ref().expect("taken before");
        let after = books(&vxgate.balanced());
        let moved = Books {
            forwarded: after.forwarded - before.forwarded,
            copies: after.copies - before.copies,
            kernels: after.kernels - before.kernels,
            dropped: after.dropped - before.dropped,
        };
        let wanted = Books {
            forwarded: forwarded.into(),
            copies: copies.into(),
            kernels: kernels.into(),
            dropped: 0,
        };
        assert_eq!(moved, wanted, "{what}");
        self.before = Some(after);
    }
}

/// Sends to a station until the programs were told these words, and for a while.
pub(super) fn stream(
    stations: &mut Stations,
    station: &str,
    sent: &mut Vec<u32>,
    carrier: &Carrier<'_>,
    words: &str,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for _ in 0..FRAMES {
            sent.push(stations.send(station));
            stations.listen();
            std::thread::sleep(Duration::from_micros(200));
        }
        let told = carrier.vxgate.as_ref().is_none_or(|vxgate| {
            let status = vxgate.status();
            status.device("vx1").expect("vx1")["kernel_keeps"] == words
        });
        if told {
            return;
        }
        assert!(Instant::now() < deadline, "the kernel keeps {words}");
    }
}
