//! What a measurement says: numbers that can be pasted, and the JSON document that plots are made of.

mod calibration;
mod csv;
mod date;
mod device;
mod disruption;
mod inspection;
mod latency_at;
mod recording;
mod search;
mod soak;
mod traffic;
mod trial;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use calibration::Calibration;
pub use date::rfc3339;
pub use device::{Device, Devices};
pub use disruption::{Blocked, DisruptedRun, Disruption, Outcome, Phase};
pub use latency_at::{Base, LatencyAt, LoadLatency};
pub use recording::RecordingReport;
pub use search::{GoalName, GoalReport, Parameters, SearchReport, Throughput, Verdict};
pub use soak::{Soak, Window};
pub use traffic::{StreamReport, TunnelReport};
pub use trial::{CpuShare, Latency, Measured, TrialReport};

use super::host::Host;

/// The schema of the JSON document; keys are added, never renamed.
pub const SCHEMA: &str = "vxgate-bench/1";

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The program's version.
    pub version: String,
    /// What was measured: the subcommand of `vxgate bench`.
    pub measurement: String,
    /// The machine.
    pub host: Host,
    /// What was run, so that anybody can run it again.
    pub command: Vec<String>,
    /// Who sent: `live` or `afxdp`.
    pub engine: String,
    /// Why this engine.
    pub engine_reason: String,
    /// Who received: `xdp`, or `afxdp` and how it got the frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<String>,
    /// How the sink's program ran: `native` or `generic`.
    pub sink_mode: String,
    /// Every trial, in its order.
    pub trials: Vec<TrialReport>,
    /// What a search found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// Latency at shares of a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_at: Option<LatencyAt>,
    /// Of a soak: its windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<Soak>,
    /// Of a disruption: its runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
    /// When it began: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// The devices of both ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Devices>,
    /// What was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Vec<StreamReport>>,
    /// The recording that was sent instead of streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingReport>,
}

impl Report {
    /// Whether it says less than was asked for.
    pub fn is_unfinished(&self) -> bool {
        self.search.as_ref().is_some_and(|search| !search.finished)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.host;
        writeln!(
            f,
            "vxgate bench {} {}  Linux {}  {} x {}",
            self.measurement, self.version, host.kernel, host.cores, host.cpu
        )?;
        writeln!(
            f,
            "  engine    {}: {}; sink {}{}",
            self.engine,
            self.engine_reason,
            self.receiver
                .as_ref()
                .map_or(String::new(), |receiver| format!("{receiver}, ")),
            self.sink_mode
        )?;
        if let Some(devices) = &self.devices {
            write!(f, "{devices}")?;
        }
        for stream in self.traffic.iter().flatten() {
            writeln!(f, "  traffic   {stream}")?;
        }
        if let Some(recording) = &self.recording {
            write!(f, "{recording}")?;
        }
        if host.virtual_machine {
            writeln!(
                f,
                "  note      a virtual machine: time taken by its host shows as gaps and as stolen"
            )?;
        }
        if let Some(search) = &self.search {
            write!(f, "{search}")?;
        }
        if let Some(latency_at) = &self.latency_at {
            write!(f, "{latency_at}")?;
        }
        // The trials of a search are too many to be read.
        let alone = self.search.is_none() && self.latency_at.is_none();
        let streams = self.traffic.as_deref().unwrap_or_default();
        for trial in self.trials.iter().filter(|_| alone) {
            write!(f, "{trial}")?;
            if streams.len() > 1 {
                let fates = &trial.books.streams;
                write!(f, "{}", traffic::Table { streams, fates })?;
            }
        }
        if let Some(soak) = &self.soak {
            write!(f, "{soak}")?;
        }
        match &self.disruption {
            Some(disruption) => write!(f, "{disruption}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::books::{Arrivals, Books};
    use super::traffic::tests::stream;
    use super::trial::tests::measured;
    use super::*;

    /// A measurement with a trial at a rate and one without.
    pub fn report() -> Report {
        let unlimited = Measured {
            asked_fps: f64::INFINITY,
            ..measured()
        };
        let tx = Device {
            name: "near0".to_owned(),
            netns: None,
            driver: Some("veth".to_owned()),
            mtu: 1500,
        };
        let rx = Device {
            name: "far0".to_owned(),
            ..tx.clone()
        };
        Report {
            schema: SCHEMA.to_owned(),
            version: "0".to_owned(),
            measurement: "rate".to_owned(),
            host: Host::read(),
            command: vec!["vxgate".to_owned()],
            engine: "live".to_owned(),
            engine_reason: "why".to_owned(),
            receiver: Some("xdp".to_owned()),
            sink_mode: "native".to_owned(),
            trials: vec![TrialReport::new(measured()), TrialReport::new(unlimited)],
            search: None,
            latency_at: None,
            soak: None,
            disruption: None,
            date: Some("2026-12-31T23:59:59Z".to_owned()),
            devices: Some(Devices { tx, rx }),
            traffic: None,
            recording: None,
        }
    }

    #[test]
    fn the_document_survives_the_round_trip() {
        let report = report();
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(
            json.contains("\"schema\":\"vxgate-bench/1\"") && json.contains("\"asked_fps\":null")
        );
    }

    #[test]
    fn several_streams_have_a_line_each() {
        let arrivals = [99, 50].map(|received| Arrivals {
            received,
            ..Arrivals::default()
        });
        let measured = Measured {
            books: Books::close(&[100, 50], &arrivals).unwrap(),
            ..measured()
        };
        let mut report = Report {
            trials: vec![TrialReport::new(measured)],
            traffic: Some(vec![stream("web"), stream("bulk transfer")]),
            ..report()
        };
        let text = report.to_string();
        for line in [
            "  stream                sent     received       lost ",
            "  web                    100           99          1 ",
            "  bulk transfer           50           50          0 ",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        report.traffic = Some(vec![stream("web")]);
        assert!(!report.to_string().contains("  web "));
    }

    #[test]
    fn a_recording_is_told_with_what_was_left_out() {
        let recording = RecordingReport {
            file: "web.pcap".to_owned(),
            timing: "original".to_owned(),
            frames: 97,
            recorded_fps: Some(1500.0),
            left_out: vec![("fragments".to_owned(), 3)],
        };
        let report = Report {
            recording: Some(recording),
            ..report()
        };
        let text = report.to_string();
        for line in [
            "  recording web.pcap: 97 frames at 1.5k frames/s; original timing, payloads end in a signature\n",
            "  left out             3   fragments\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn a_document_of_an_older_version_is_read() {
        let report = Report {
            date: None,
            devices: None,
            traffic: None,
            ..report()
        };
        let json = serde_json::to_string(&report).unwrap();
        assert!(!json.contains("\"devices\"") && !json.contains("\"date\""));
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
