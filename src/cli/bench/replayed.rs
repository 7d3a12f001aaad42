//! A recording that is sent instead of streams, and the flags for it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::failure::Failure;
use super::traffic::{Traffic, one_mac};
use crate::loadgen::engine::{Replay, Timing};
use crate::loadgen::guard;
use crate::loadgen::range::Mac;
use crate::loadgen::recording::{Recording, Rewrite};
use crate::loadgen::report::RecordingReport;

/// Which recording is sent, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Recording")]
pub(super) struct ReplayFlags {
    /// Send the frames of this pcap or pcapng file instead, over and over, by AF_XDP. The last 16 bytes of each (inner) payload
    /// become the signature, and its checksums are made right; frames without room for it are left out and counted. Of the
    /// flags below, only --vxlan-port and --arrival-mac go with it.
    #[arg(long, value_name = "FILE", conflicts_with_all = CONFLICTS)]
    pcap: Option<PathBuf>,
    /// How the recorded frames are spread: as they were recorded, stretched or shrunk to the rate (`--rate 1x`: as fast as they
    /// were recorded), or at equal distances.
    #[arg(long, value_enum, requires = "pcap", default_value_t = ReplayTiming::Original)]
    pcap_timing: ReplayTiming,
    /// Another (outer) Ethernet source for the recorded frames.
    #[arg(long, value_name = "MAC", value_parser = one_mac, requires = "pcap")]
    pcap_src_mac: Option<Mac>,
    /// Another (outer) Ethernet destination for the recorded frames.
    #[arg(long, value_name = "MAC", value_parser = one_mac, requires = "pcap")]
    pcap_dst_mac: Option<Mac>,
}

/// All flags that say what is sent, and not what is received, and those of loads that a recording has no use for.
const CONFLICTS: [&str; 21] = {
    let mut all = ["profile"; 21];
    let (mut from, mut to) = (0, 1);
    while from < super::traffic::FLAGS.len() {
        let [one, other] = super::traffic::RECEIVED_AT;
        if from != one && from != other {
            all[to] = super::traffic::FLAGS[from];
            to += 1;
        }
        from += 1;
    }
    all[to] = "burst";
    all
};

/// How recorded frames are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReplayTiming {
    /// As they were recorded.
    Original,
    /// At equal distances.
    Even,
}

impl ReplayFlags {
    /// The recording, if there is one.
    pub fn read(&self, traffic: &Traffic) -> Result<Option<Replayed>, Failure> {
        let Some(path) = &self.pcap else {
            return Ok(None);
        };
        let vxlan_port = traffic.vxlan_port();
        let rewrite = Rewrite {
            source_mac: self.pcap_src_mac,
            destination_mac: self.pcap_dst_mac,
            arrival_mac: traffic.arrival_mac(),
            vxlan_port,
        };
        Ok(Some(Replayed {
            recording: Recording::read(path, &rewrite)?,
            path: path.clone(),
            vxlan_port,
            timing: match self.pcap_timing {
                ReplayTiming::Original => Timing::Original,
                ReplayTiming::Even => Timing::Even,
            },
        }))
    }
}

/// A recording and how it is sent.
pub(super) struct Replayed {
    path: PathBuf,
    /// The frames.
    pub recording: Recording,
    timing: Timing,
    /// The UDP port behind which its frames are encapsulated.
    pub vxlan_port: u16,
}

impl Replayed {
    /// As the engines take it.
    pub fn load(&self, rate_fps: f64, duration: Duration) -> Replay<'_> {
        Replay {
            id: 0,
            frames: &self.recording.frames,
            rate_fps,
            timing: self.timing,
            duration,
        }
    }

    /// Whether every address stays in the lab; `own` as for [`guard::check`].
    pub fn judge(&self, own: &[(IpAddr, u8)]) -> Result<(), Failure> {
        let frames = self.recording.frames.iter();
        let mut addresses = frames.flat_map(|frame| frame.addresses(self.vxlan_port));
        Ok(addresses.try_for_each(|addr| guard::check_address(addr, own))?)
    }

    /// What reports say of it.
    pub fn report(&self) -> RecordingReport {
        let left_out = self.recording.left_out.iter();
        RecordingReport {
            file: self.path.display().to_string(),
            timing: self.timing.name().to_owned(),
            frames: self.recording.frames.len() as u64,
            recorded_fps: self.recording.rate_fps().ok(),
            left_out: left_out
                .map(|(reason, count)| (reason.words().to_owned(), *count))
                .collect(),
        }
    }
}
