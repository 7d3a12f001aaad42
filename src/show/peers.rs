//! `vxgate peers`: what was received from each remote VTEP and sent to it. Text, JSON and tab-separated lines come from the same
//! value.

use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{Align, Columns, ago};
use super::{SCHEMA, Status};
use crate::gateway::{Observation, Traffic, VniState};

/// The answer to `peers`. Field names are the keys of `vxgate peers --json`: add, never rename.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peers {
    /// [`SCHEMA`].
    pub schema: String,
    /// Each VTEP address of each vxlan device, be it a destination, a sender or both.
    pub peers: Vec<Peer>,
    /// Each vxlan device's sum, and what is in it besides these peers.
    pub vnis: Vec<VniState>,
}

/// A peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    /// The vxlan device's name.
    pub device: String,
    /// Its VNI.
    pub vni: u32,
    /// The peer's address.
    pub addr: IpAddr,
    /// `resolved` when frames can be sent to it, else why not; `kernel` when only the kernel sends to it; `sender` when no frame
    /// goes there.
    pub state: String,
    /// Where it is known from.
    pub source: String,
    /// What was counted since the takeover.
    #[serde(flatten)]
    pub traffic: Traffic,
}

impl Peers {
    /// Of a status: all of them, or those of one VNI; none when there is no such VNI.
    pub fn of(status: &Status, vni: Option<u32>) -> Option<Self> {
        let seen = &status.observation;
        let asked = |of: u32| vni.is_none_or(|vni| vni == of);
        let vnis: Vec<_> = seen.vnis.iter().filter(|sum| asked(sum.vni)).collect();
        if vni.is_some() && vnis.is_empty() {
            return None;
        }
        let peers = seen.peers.iter().filter(|peer| asked(peer.vni));
        let peers = peers.map(|peer| Peer {
            device: peer.device.clone(),
            vni: peer.vni,
            addr: peer.addr,
            state: state(seen, &peer.device, peer.addr),
            source: "netlink".to_owned(),
            traffic: peer.traffic,
        });
        Some(Self {
            schema: SCHEMA.to_owned(),
            peers: peers.collect(),
            vnis: vnis.into_iter().cloned().collect(),
        })
    }

    /// One line a peer, tab-separated, for scripts. Columns keep their places, new ones come behind them:
    /// `vni vtep mac subnet state source age_s rx_pkts rx_bytes tx_pkts tx_bytes drops device`. What is not known is a dash; the
    /// age is that of the last frame received.
    pub fn dump(&self) -> String {
        let line = |peer: &Peer| {
            let traffic = &peer.traffic;
            let age = traffic.received_age_ms;
            [
                peer.vni.to_string(),
                peer.addr.to_string(),
                "-".to_owned(),
                "-".to_owned(),
                peer.state.clone(),
                peer.source.clone(),
                age.map_or("-".to_owned(), |ms| (ms / 1000).to_string()),
                traffic.received.to_string(),
                traffic.received_bytes.to_string(),
                traffic.sent.to_string(),
                traffic.sent_bytes.to_string(),
                "-".to_owned(),
                peer.device.clone(),
            ]
            .join("\t")
                + "\n"
        };
        self.peers.iter().map(line).collect()
    }
}

/// Whether, and by whom, frames are sent there. One address may be several destinations, of different ports: the best counts.
fn state(seen: &Observation, device: &str, addr: IpAddr) -> String {
    let vteps = seen.vteps.iter();
    let vteps = vteps.filter(|vtep| vtep.device == device && vtep.addr == addr);
    let states = vteps.map(|vtep| {
        if vtep.is_kernels() {
            "kernel"
        } else {
            vtep.state.as_str()
        }
    });
    let best = states.min_by_key(|state| match *state {
        "resolved" => 0,
        "kernel" => 2,
        _ => 1,
    });
    best.unwrap_or("sender").to_owned()
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Columns::new([
            ("VNI", Align::Left),
            ("VTEP", Align::Left),
            ("DEVICE", Align::Left),
            ("STATE", Align::Left),
            ("RX FRAMES", Align::Right),
            ("RX BYTES", Align::Right),
            ("LAST RX", Align::Right),
            ("TX FRAMES", Align::Right),
            ("TX BYTES", Align::Right),
            ("LAST TX", Align::Right),
        ]);
        for peer in &self.peers {
            table.row(row(
                peer.vni,
                peer.addr.to_string(),
                &peer.device,
                &peer.state,
                &peer.traffic,
            ));
        }
        for vni in &self.vnis {
            let others = [("other", &vni.other), ("former", &vni.former)];
            let some = others
                .into_iter()
                .filter(|(_, traffic)| traffic.received + traffic.sent > 0);
            for (name, traffic) in some {
                let name = format!("({name})");
                table.row(row(vni.vni, name, &vni.device, "-", traffic));
            }
        }
        write!(f, "{table}")?;
        for vni in &self.vnis {
            let (peers, total) = (vni.peers, &vni.total);
            let noun = if peers == 1 { "peer" } else { "peers" };
            write!(
                f,
                "{} VNI {}: {peers} {noun}, received {} frames, sent {}",
                vni.device, vni.vni, total.received, total.sent
            )?;
            if vni.uncounted > 0 {
                let more = vni.uncounted;
                write!(f, "; {more} peers beyond the bound are counted as other")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn row(vni: u32, name: String, device: &str, state: &str, traffic: &Traffic) -> [String; 10] {
    [
        vni.to_string(),
        name,
        device.to_owned(),
        state.to_owned(),
        traffic.received.to_string(),
        traffic.received_bytes.to_string(),
        ago(traffic.received_age_ms),
        traffic.sent.to_string(),
        traffic.sent_bytes.to_string(),
        ago(traffic.sent_age_ms),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::metrics::samples;

    fn status() -> Status {
        let mut seen = samples::observation();
        seen.vnis[0].uncounted = 3;
        Status::new(seen, 7)
    }

    #[test]
    fn the_text_is_a_table_with_a_sum() {
        let peers = Peers::of(&status(), None).unwrap();
        insta::assert_snapshot!(peers);
    }

    #[test]
    fn the_dump_has_its_columns_in_their_order() {
        let peers = Peers::of(&status(), Some(1)).unwrap();
        insta::assert_snapshot!(peers.dump());
    }

    #[test]
    fn json_has_these_keys_and_survives_the_round_trip() {
        let peers = Peers::of(&status(), None).unwrap();
        let json = serde_json::to_value(&peers).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
        assert_eq!(serde_json::from_value::<Peers>(json).unwrap(), peers);
    }

    #[test]
    fn another_vni_is_none() {
        assert_eq!(Peers::of(&status(), Some(9)), None);
        let nothing = Status::new(Observation::default(), 1);
        let text = Peers::of(&nothing, None).unwrap().to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
