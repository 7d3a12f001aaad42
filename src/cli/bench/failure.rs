//! Why there is no result.

use std::io;

use super::calibration::CalibrationError;
use super::direct_wire::WireError;
use super::ends::EndError;
use super::profile::ProfileFileError;
use crate::fault::{Explained, Fault, Report};
use crate::loadgen::books::Void;
use crate::loadgen::comparison::ComparisonError;
use crate::loadgen::engine::EngineError;
use crate::loadgen::guard::NotALab;
use crate::loadgen::profile::ProfileError;
use crate::loadgen::rate::RateError;
use crate::loadgen::recording::RecordingError;

/// What ends a measurement without a result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    End(#[from] EndError),
    #[error(
        "the default route of its namespace leaves by {0}: a load there reaches strangers. Use another device, or say --i-know-this-network"
    )]
    DefaultRoute(String),
    #[error("{0} sends and receives: --tx and --rx are two devices")]
    OneDevice(String),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("stream {name}: {source}")]
    Stream { name: String, source: ProfileError },
    #[error(transparent)]
    File(#[from] ProfileFileError),
    #[error(transparent)]
    Recording(#[from] RecordingError),
    #[error(
        "the engine `live` makes its frames in the kernel, from headers only: a recording goes by `--engine afxdp`"
    )]
    LiveRecording,
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error(transparent)]
    Guard(#[from] NotALab),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot read processor times: {0}")]
    Cpu(#[from] io::Error),
    #[error("cannot search: {0}")]
    Search(String),
    #[error("cannot calibrate the generator: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    #[error(transparent)]
    Void(#[from] Void),
    #[error(
        "the receiver lost {0} frames that had reached it, so nobody knows what became of them all. The trial is void; use --receiver xdp, a lower --rate, or a core of its own (--rx-core)"
    )]
    ReceiverLost(u64),
    #[error(
        "{count} windows: at most {most} are kept; use a longer --every, or a shorter --duration"
    )]
    Windows { count: usize, most: usize },
    #[error("cannot listen for SIGINT and SIGTERM: {0}")]
    Signals(#[source] io::Error),
    #[error("cannot read how much memory this process holds: {0}")]
    Memory(#[source] io::Error),
    #[error(
        "the receiver counts less than before: was it reset by another process? The trial is void"
    )]
    Backwards,
    #[error("there is no command: give it behind `--`")]
    NoCommand,
    #[error("cannot start the command {program}: {source}")]
    Command { program: String, source: io::Error },
    #[error("cannot wait for the command: {0}")]
    Wait(#[source] io::Error),
    #[error("a signal ended the measurement before the command was started")]
    Interrupted,
    #[error("cannot read {name}: {source}")]
    Read { name: String, source: io::Error },
    #[error(transparent)]
    Comparison(#[from] ComparisonError),
}

impl Explained for Failure {
    fn fault(&self) -> Fault {
        match self {
            Self::Profile(_)
            | Self::Stream { .. }
            | Self::Rate(_)
            | Self::OneDevice(_)
            | Self::Search(_)
            | Self::Windows { .. } => Fault::LoadInvalid,
            Self::File(_) => Fault::ProfileInvalid,
            Self::Recording(_) | Self::LiveRecording => Fault::RecordingInvalid,
            Self::Guard(_) | Self::DefaultRoute(_) => Fault::StrangersReached,
            Self::End(_) => Fault::EndUnusable,
            Self::Engine(_) => Fault::EngineFailed,
            Self::Calibration(CalibrationError::NoWire(_)) => Fault::WireImpossible,
            Self::Calibration(CalibrationError::TooBusy(..) | CalibrationError::Ended)
            | Self::Wire(_) => Fault::CalibrationFailed,
            Self::Void(_) | Self::ReceiverLost(_) | Self::Backwards => Fault::TrialVoid,
            Self::Cpu(_) | Self::Signals(_) | Self::Memory(_) => Fault::MeasuringFailed,
            Self::NoCommand | Self::Command { .. } | Self::Wait(_) => Fault::CommandFailed,
            Self::Interrupted => Fault::MeasurementInterrupted,
            Self::Read { .. } | Self::Comparison(_) => Fault::ResultsUnreadable,
        }
    }

    /// The load generator's errors say themselves what to do.
    fn reports(&self) -> Vec<Report> {
        vec![Report::bare(self)]
    }
}
