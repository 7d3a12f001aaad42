//! What a measurement says: numbers that can be pasted, and the JSON document that plots are made of.

mod calibration;
mod search;
mod soak;
mod stream;
mod trial;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use calibration::Calibration;
pub use search::{GoalName, GoalReport, Parameters, SearchReport, Throughput, Verdict};
pub use soak::{Soak, Window};
pub use stream::StreamReport;
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
    /// How the sink's program ran: `native` or `generic`.
    pub sink_mode: String,
    /// What was sent, by number of stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams: Option<Vec<StreamReport>>,
    /// Every trial, in its order.
    pub trials: Vec<TrialReport>,
    /// What a search found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchReport>,
    /// Of a soak: its windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<Soak>,
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
            "  engine    {}: {}; sink {}",
            self.engine, self.engine_reason, self.sink_mode
        )?;
        if host.virtual_machine {
            writeln!(
                f,
                "  note      a virtual machine: time taken by its host shows as gaps and as stolen"
            )?;
        }
        // The trials of a search are too many to be read.
        if let Some(search) = &self.search {
            return write!(f, "{search}");
        }
        let streams = self.streams.as_deref().unwrap_or_default();
        for trial in &self.trials {
            write!(f, "{trial}")?;
            if streams.len() > 1 {
                let fates = &trial.books.streams;
                write!(f, "{}", stream::Table { streams, fates })?;
            }
        }
        match &self.soak {
            Some(soak) => write!(f, "{soak}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::books::{Arrivals, Books};
    use super::trial::tests::measured;
    use super::*;

    fn stream(name: &str) -> StreamReport {
        StreamReport {
            name: name.to_owned(),
            share: 1,
            flows: 1,
            sizes: "64".to_owned(),
            vnis: None,
            order: "inc".to_owned(),
            seed: None,
        }
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
        let mut report = report(vec![TrialReport::new(measured)]);
        report.streams = Some(vec![stream("web"), stream("bulk transfer")]);
        let text = report.to_string();
        for line in [
            "  stream                sent     received       lost ",
            "  web                    100           99          1 ",
            "  bulk transfer           50           50          0 ",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        report.streams = Some(vec![stream("web")]);
        assert!(!report.to_string().contains("web"));
    }

    #[test]
    fn the_document_survives_the_round_trip() {
        let unlimited = Measured {
            asked_fps: f64::INFINITY,
            ..measured()
        };
        let report = report(vec![
            TrialReport::new(measured()),
            TrialReport::new(unlimited),
        ]);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(
            json.contains("\"schema\":\"vxgate-bench/1\"") && json.contains("\"asked_fps\":null")
        );
    }

    fn report(trials: Vec<TrialReport>) -> Report {
        Report {
            schema: SCHEMA.to_owned(),
            version: "0".to_owned(),
            measurement: "rate".to_owned(),
            host: Host::read(),
            command: vec!["vxgate".to_owned()],
            engine: "live".to_owned(),
            engine_reason: "why".to_owned(),
            sink_mode: "native".to_owned(),
            streams: Some(vec![stream("only")]),
            trials,
            search: None,
            soak: None,
        }
    }
}
