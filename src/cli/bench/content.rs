//! What a tester sends: streams, or a recording.

use std::net::IpAddr;
use std::time::Duration;

use super::ends::End;
use super::failure::Failure;
use super::prepared::{self, Prepared};
use super::profile::{self, Entry};
use super::replayed::Replayed;
use crate::loadgen::engine::{Control, EngineError, Generator, Inspection, Load, Sent};
use crate::loadgen::guard;
use crate::loadgen::rate::Rate;
use crate::loadgen::report::{RecordingReport, StreamReport};

/// What was asked for.
pub(super) enum Asked {
    /// Streams, by flags or by a profile.
    Streams(Vec<Entry>),
    /// A recording.
    Recording(Replayed),
}

impl Asked {
    /// Whether there can be such frames, and whether they stay in the lab: without `own` networks, anything does.
    pub fn judge(&self, ends: [&End; 2], own: Option<&[(IpAddr, u8)]>) -> Result<(), Failure> {
        let entries = match self {
            Self::Streams(entries) => entries,
            Self::Recording(replayed) => return own.map_or(Ok(()), |own| replayed.judge(own)),
        };
        for entry in entries {
            let stream = entry.stream(ends);
            stream.validate().map_err(|source| match &entry.name {
                Some(name) => Failure::Stream {
                    name: name.clone(),
                    source,
                },
                None => Failure::Profile(source),
            })?;
            if let Some(own) = own {
                guard::check(&stream, own)?;
            }
        }
        Ok(())
    }

    /// The UDP ports behind which frames are encapsulated.
    pub fn vxlan_ports(&self) -> Vec<u16> {
        match self {
            Self::Streams(entries) => profile::vxlan_ports(entries),
            Self::Recording(replayed) => vec![replayed.vxlan_port],
        }
    }

    /// Makes it ready to be sent between two devices.
    pub fn prepare(self, ends: [&End; 2]) -> Result<Content, Failure> {
        let entries = match self {
            Self::Streams(entries) => entries,
            Self::Recording(replayed) => return Ok(Content::Recording(replayed)),
        };
        let streams = entries.into_iter().map(|entry| {
            let (stream, order) = (entry.stream(ends), entry.traffic.order());
            let name = entry.name.unwrap_or_else(|| "0".to_owned());
            Prepared::new(name, stream, order)
        });
        Ok(Content::Streams(streams.collect::<Result<_, _>>()?))
    }
}

/// What is sent.
pub(super) enum Content {
    /// Streams with the headers of all their flows.
    Streams(Vec<Prepared>),
    /// A recording.
    Recording(Replayed),
}

impl Content {
    /// How many streams its frames say that they are of.
    pub fn streams(&self) -> u16 {
        match self {
            Self::Streams(streams) => streams.len() as u16,
            Self::Recording(_) => 1,
        }
    }

    /// Its longest frame, in bytes without FCS.
    pub fn len_max(&self) -> usize {
        match self {
            Self::Streams(streams) => {
                let lengths = streams.iter().flat_map(|stream| &stream.lengths);
                lengths.map(|(len, _)| usize::from(*len)).max().unwrap_or(0)
            }
            Self::Recording(replayed) => replayed.recording.len_max(),
        }
    }

    /// What a rate is in frames a second, of all streams together.
    pub fn frames_per_second(&self, rate: Rate, line_bps: Option<u64>) -> Result<f64, Failure> {
        let mean_size = match (self, rate) {
            (Self::Recording(replayed), Rate::Recorded(multiple)) => {
                return Ok(replayed.recording.rate_fps()? * multiple);
            }
            (Self::Recording(replayed), _) => replayed.recording.mean_size(),
            (Self::Streams(streams), _) => prepared::mean_size(streams),
        };
        Ok(rate.frames_per_second(mean_size, line_bps)?)
    }

    /// Sends it, in bursts if it is streams.
    pub fn send(
        &self,
        generator: &mut dyn Generator,
        (rate_fps, burst, duration): (f64, u32, Duration),
        control: &Control,
    ) -> Result<Sent, EngineError> {
        let streams = match self {
            Self::Streams(streams) => (0..).zip(streams),
            Self::Recording(replayed) => {
                return generator.replay_watched(&replayed.load(rate_fps, duration), control);
            }
        };
        let streams: Vec<_> = streams.map(|(id, prepared)| prepared.load(id)).collect();
        let load = Load {
            streams: &streams,
            rate_fps,
            burst,
            duration,
        };
        generator.run_watched(&load, control)
    }

    /// An inspection takes generated payloads for damaged that are not zeros. Recorded ones need not be; that they came as they
    /// were sent, the signature's check says of every frame.
    pub fn judge_payload(&self, inspection: Inspection) -> Inspection {
        match self {
            Self::Streams(_) => inspection,
            Self::Recording(_) => Inspection {
                payload: 0,
                ..inspection
            },
        }
    }

    /// What reports say of it.
    pub fn report(&self) -> (Option<Vec<StreamReport>>, Option<RecordingReport>) {
        match self {
            Self::Streams(streams) => (Some(streams.iter().map(Prepared::report).collect()), None),
            Self::Recording(replayed) => (None, Some(replayed.report())),
        }
    }
}
