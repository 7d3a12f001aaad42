//! `vxgate top`: what happens a second, by port, worker, peer and reason, and what it was like in the last minutes.
//!
//! ```text
//!   Status, Status ──▶ Rates ──▶ Top::see ──▶ Top::draw        (cli asks the daemon, and has the terminal)
//!                                  keys ──▶ Top::press
//! ```
//!
//! Nothing here knows of a terminal or of time: what is shown depends on what was seen and pressed alone.

mod history;
mod rates;
mod rows;
mod view;

use ratatui::crossterm::event::KeyCode;

use history::History;

pub use rates::{DropRate, Flow, PeerRate, PortRate, Rates, WorkerRate};

/// Peers that a key for a page goes on by.
const PAGE: usize = 10;

/// What peers are sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    /// Frames both ways.
    #[default]
    Packets,
    /// Bits both ways.
    Bits,
    /// Frames received.
    Received,
    /// Frames sent.
    Sent,
    /// Device and address.
    Address,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Packets => Self::Bits,
            Self::Bits => Self::Received,
            Self::Received => Self::Sent,
            Self::Sent => Self::Address,
            Self::Address => Self::Packets,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Packets => "frames",
            Self::Bits => "bits",
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Address => "address",
        }
    }
}

/// How a terminal is to be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// With nothing but ASCII.
    pub ascii: bool,
}

/// What is on the screen.
#[derive(Debug)]
pub struct Top {
    style: Style,
    /// Seconds between two looks.
    interval_s: f64,
    rates: Option<Rates>,
    history: History,
    sort: Sort,
    /// The first peer on the screen.
    from: usize,
    paused: bool,
    helps: bool,
    /// Why there is nothing new.
    trouble: Option<String>,
}

impl Top {
    /// Nothing yet; a look every so many seconds.
    pub fn new(style: Style, interval_s: f64) -> Self {
        Self {
            style,
            interval_s,
            rates: None,
            history: History::new(interval_s),
            sort: Sort::default(),
            from: 0,
            paused: false,
            helps: false,
            trouble: None,
        }
    }

    /// Takes what has been seen, unless it pauses.
    pub fn see(&mut self, rates: Rates) {
        self.trouble = None;
        if !self.paused {
            self.history
                .push([rates.decap.packets, rates.encap.packets, rates.dropped]);
            self.from = self.from.min(rates.peers.len().saturating_sub(1));
            self.rates = Some(rates);
        }
    }

    /// Something was seen that there is nothing to compare with yet.
    pub fn begin(&mut self) {
        self.trouble = self
            .rates
            .is_some()
            .then(|| "all counts began anew: waiting for a second look".to_owned());
    }

    /// Nothing could be seen, because of this.
    pub fn miss(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// Does what a key is for. Whether to go on.
    pub fn press(&mut self, key: KeyCode) -> bool {
        let peers = self.rates.as_ref().map_or(0, |rates| rates.peers.len());
        let last = peers.saturating_sub(1);
        match key {
            KeyCode::Char('q') => return false,
            KeyCode::Esc if self.helps => self.helps = false,
            KeyCode::Esc => return false,
            KeyCode::Char('s') => (self.sort, self.from) = (self.sort.next(), 0),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('h' | '?') => self.helps = !self.helps,
            KeyCode::Up => self.from = self.from.saturating_sub(1),
            KeyCode::Down => self.from = last.min(self.from + 1),
            KeyCode::PageUp => self.from = self.from.saturating_sub(PAGE),
            KeyCode::PageDown => self.from = last.min(self.from + PAGE),
            KeyCode::Home => self.from = 0,
            KeyCode::End => self.from = last,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::gateway::DropState;
    use crate::show::Status;
    use crate::show::metrics::samples;

    /// Two looks at a small gateway.
    pub(super) fn looks() -> [Status; 2] {
        let drop = |reason: &str, count, last_age_ms, last_minute| DropState {
            port: "eth1".into(),
            direction: "rx".into(),
            reason: reason.into(),
            count,
            last_age_ms,
            last_minute,
            last_10_minutes: last_minute,
            last_hour: last_minute,
        };
        let mut before = samples::observation();
        before.drops = vec![
            drop("unknown_peer", 3, 100_000, 0),
            drop("tx_ring_full", 7, 900, 7),
        ];
        let mut after = before.clone();
        let [underlay, access] = &mut after.ports[..] else {
            panic!("two ports")
        };
        underlay.received += 100_000;
        underlay.forwarded += 90_000;
        underlay.forwarded_bytes += 9_000_000;
        underlay.drops.insert("total".into(), 40);
        access.received += 50_000;
        access.forwarded += 50_000;
        access.forwarded_bytes += 70_000_000;
        let worker = &mut after.workers[0];
        worker.awake_ns += 300_000_000;
        worker.working_ns += 200_000_000;
        worker.asleep_ns += 700_000_000;
        worker.calls += 3_100;
        worker.queues = vec![
            samples::queue("eth1", "rx", 101_010),
            samples::queue("flannel.1", "tx", 50_503),
        ];
        after.vnis[0].total.received += 90_000;
        after.vnis[0].total.received_bytes += 9_000_000;
        after.vnis[0].total.sent += 50_000;
        after.vnis[0].total.sent_bytes += 70_000_000;
        after.peers[0].traffic.received += 90_000;
        after.peers[0].traffic.received_bytes += 9_000_000;
        after.peers[1].traffic.sent += 50_000;
        after.peers[1].traffic.sent_bytes += 70_000_000;
        after.drops[1].count += 40;
        after.drops[1].last_minute += 40;
        after.drops[1].last_age_ms = 0;
        [before, after].map(|seen| Status::new(seen, 100_000))
    }

    pub(super) fn rates() -> Rates {
        let [before, after] = looks();
        let mut rates = Rates::between(&before, &after, 1.0).unwrap();
        rates.version = "VERSION".into();
        rates.pid = 7;
        rates
    }

    pub(super) const PLAIN: Style = Style {
        colour: false,
        ascii: false,
    };

    #[test]
    fn keys_do_what_they_are_for() {
        let mut top = Top::new(PLAIN, 1.0);
        assert!(top.press(KeyCode::Down) && top.from == 0, "nobody to go to");
        top.see(rates());
        assert!(top.press(KeyCode::End) && top.from == 1);
        assert!(top.press(KeyCode::Char('s')) && top.sort == Sort::Bits && top.from == 0);
        assert!(top.press(KeyCode::Char('p')) && top.paused);
        let mut other = rates();
        other.pid = 8;
        top.see(other.clone());
        assert_eq!(top.rates.as_ref().unwrap().pid, 7, "it pauses");
        assert!(top.press(KeyCode::Char(' ')));
        top.see(other);
        assert_eq!(top.rates.as_ref().unwrap().pid, 8);
        assert!(top.press(KeyCode::Char('h')) && top.helps);
        assert!(top.press(KeyCode::Esc) && !top.helps);
        assert!(!top.press(KeyCode::Esc) && !top.press(KeyCode::Char('q')));
    }

    #[test]
    fn every_order_has_its_turn() {
        let mut sort = Sort::default();
        let labels: Vec<_> = (0..5)
            .map(|_| {
                sort = sort.next();
                sort.label()
            })
            .collect();
        assert_eq!(labels, ["bits", "received", "sent", "address", "frames"]);
    }
}
