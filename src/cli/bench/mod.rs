//! `vxgate bench`: generate, receive, measure, judge. One file a measurement.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod calibration;
mod direct_wire;
mod ends;
mod failure;
mod interrupt;
mod look;
mod ndr;
mod output;
mod prepared;
mod profile;
mod progress;
mod rate;
mod search;
mod soak;
mod tester;
mod traffic;

/// Arguments of `vxgate bench`.
#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    /// One load for some time: what was sent, what arrived and how late, what was lost, doubled, reordered or damaged.
    Rate(Box<rate::MeasureRate>),
    /// The highest loads that the device bears: without loss (NDR) and with hardly any (PDR), in one search (MLRsearch).
    Ndr(Box<ndr::SearchNdr>),
    /// One load for hours, with a line a minute: what was lost and how late frames were in each, and what became of all.
    Soak(Box<soak::MeasureSoak>),
}

impl Bench {
    pub(super) fn execute(self) -> ExitCode {
        match self.measurement {
            Measurement::Rate(rate) => rate.execute(),
            Measurement::Ndr(ndr) => ndr.execute(),
            Measurement::Soak(soak) => soak.execute(),
        }
    }
}
