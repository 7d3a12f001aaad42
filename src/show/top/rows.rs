//! The tables of `vxgate top`, on a screen and as plain text.

use std::cmp::Reverse;
use std::fmt;

use super::{Flow, Rates, Sort};
use crate::show::Health;
use crate::show::columns::{Align, Columns, ago};
use crate::show::figures::{figure, lasted, short};

/// Peers that plain text lists; JSON has them all.
const PEERS_SHOWN: usize = 20;

impl Rates {
    /// Who and how: the first line.
    pub(super) fn title(&self) -> String {
        let state = match self.state {
            Health::Healthy => "HEALTHY",
            Health::Degraded => "DEGRADED",
            Health::Drained => "DRAINED",
        };
        let (version, pid) = (&self.version, self.pid);
        let uptime = lasted(self.uptime_s);
        format!("vxgate {version}  pid {pid}  up {uptime}   {state}")
    }

    pub(super) fn ports_table(&self) -> Columns<8> {
        let mut table = Columns::new([
            ("PORT", Align::Left),
            ("WAY", Align::Left),
            ("RX PPS", Align::Right),
            ("FWD PPS", Align::Right),
            ("BIT/S", Align::Right),
            ("TO KERNEL", Align::Right),
            ("DROPS", Align::Right),
            ("MODE", Align::Left),
        ]);
        for port in &self.ports {
            let way = if port.role == "underlay" {
                "decap"
            } else {
                "encap"
            };
            table.row([
                port.port.clone(),
                way.to_owned(),
                short(port.received),
                short(port.forwarded.packets),
                short(port.forwarded.bits),
                short(port.passed),
                short(port.dropped),
                port.mode.clone(),
            ]);
        }
        table
    }

    pub(super) fn workers_table(&self) -> Columns<9> {
        let mut table = Columns::new([
            ("WORKER", Align::Left),
            ("CORE", Align::Left),
            ("WORKING", Align::Right),
            ("SPINNING", Align::Right),
            ("RX PPS", Align::Right),
            ("PKTS/BATCH", Align::Right),
            ("NS/PKT", Align::Right),
            ("CALLS/S", Align::Right),
            ("RX RING", Align::Right),
        ]);
        for worker in &self.workers {
            let percent = |share: f64| format!("{:.1} %", 100.0 * share);
            let life = if worker.alive { "" } else { " HANGS" };
            table.row([
                format!("{}{life}", worker.worker),
                worker
                    .core
                    .map_or("any".to_owned(), |core| core.to_string()),
                percent(worker.working),
                percent(worker.spinning),
                short(worker.received),
                figure(worker.frames_per_batch, 1),
                figure(worker.ns_per_frame, 0),
                short(worker.calls),
                worker
                    .rx_ring
                    .map_or("-".to_owned(), |ratio| format!("{:.0} %", 100.0 * ratio)),
            ]);
        }
        table
    }

    /// The peers, those that come first by this from a place on, at most so many.
    pub(super) fn peers_table(&self, sort: Sort, from: usize, count: usize) -> Columns<7> {
        let mut table = Columns::new([
            ("PEER", Align::Left),
            ("RX PPS", Align::Right),
            ("BIT/S", Align::Right),
            ("TX PPS", Align::Right),
            ("BIT/S", Align::Right),
            ("LAST RX", Align::Right),
            ("DEVICE", Align::Left),
        ]);
        let mut peers: Vec<_> = self.peers.iter().collect();
        // Rates are no negative numbers, so their order is that of their bits.
        let key = |flow: f64| Reverse(flow.to_bits());
        peers.sort_by_cached_key(|peer| {
            let sum = |pick: fn(Flow) -> f64| pick(peer.received) + pick(peer.sent);
            let rank = match sort {
                Sort::Packets => key(sum(|flow| flow.packets)),
                Sort::Bits => key(sum(|flow| flow.bits)),
                Sort::Received => key(peer.received.packets),
                Sort::Sent => key(peer.sent.packets),
                Sort::Address => key(0.0),
            };
            (rank, peer.device.clone(), peer.addr)
        });
        for peer in peers.into_iter().skip(from).take(count) {
            table.row([
                peer.addr.to_string(),
                short(peer.received.packets),
                short(peer.received.bits),
                short(peer.sent.packets),
                short(peer.sent.bits),
                ago(peer.received_age_ms),
                format!("{} (VNI {})", peer.device, peer.vni),
            ]);
        }
        table
    }

    pub(super) fn drops_table(&self) -> Columns<6> {
        let mut table = Columns::new([
            ("DROPPED FOR", Align::Left),
            ("A SECOND", Align::Right),
            ("LAST MINUTE", Align::Right),
            ("ALL", Align::Right),
            ("LAST", Align::Right),
            ("PORTS", Align::Left),
        ]);
        for drop in &self.drops {
            table.row([
                drop.reason.clone(),
                short(drop.rate),
                drop.last_minute.to_string(),
                drop.count.to_string(),
                ago(Some(drop.last_age_ms)),
                drop.ports.join(", "),
            ]);
        }
        table
    }
}

impl fmt::Display for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}   rates over {:.1} s", self.title(), self.seconds)?;
        for reason in &self.reasons {
            writeln!(f, "reason: {reason}")?;
        }
        writeln!(
            f,
            "decap {} pps {} bit/s   encap {} pps {} bit/s   dropped {}/s   left to the kernel {}/s",
            short(self.decap.packets),
            short(self.decap.bits),
            short(self.encap.packets),
            short(self.encap.bits),
            short(self.dropped),
            short(self.passed)
        )?;
        write!(f, "\n{}", self.ports_table())?;
        write!(f, "\n{}", self.workers_table())?;
        write!(f, "\n{}", self.peers_table(Sort::Packets, 0, PEERS_SHOWN))?;
        if let Some(more @ 1..) = self.peers.len().checked_sub(PEERS_SHOWN) {
            writeln!(f, "and {more} more: --json lists them")?;
        }
        if self.drops.is_empty() {
            writeln!(f, "\nno frame was dropped since the takeover")
        } else {
            write!(f, "\n{}", self.drops_table())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::looks;
    use super::*;

    #[test]
    fn the_plain_text_has_every_table() {
        let [before, after] = looks();
        let mut rates = Rates::between(&before, &after, 1.0).unwrap();
        rates.version = "VERSION".into();
        rates.pid = 7;
        insta::assert_snapshot!(rates);
    }

    #[test]
    fn peers_are_sorted_as_it_is_asked_for() {
        let [before, after] = looks();
        let rates = Rates::between(&before, &after, 1.0).unwrap();
        let first = |sort| {
            let text = rates.peers_table(sort, 0, 1).to_string();
            let line = text.lines().nth(1).unwrap();
            line.split_whitespace().next().unwrap().to_owned()
        };
        assert_eq!(first(Sort::Packets), "10.0.0.10");
        assert_eq!(first(Sort::Sent), "10.0.0.12");
        assert_eq!(first(Sort::Address), "10.0.0.10");
    }
}
