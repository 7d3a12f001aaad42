//! `vxgate bench`: generate, receive, measure, judge. One file a measurement.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod calibration;
mod compare;
mod content;
mod deadline;
mod direct_wire;
mod disrupt;
mod disturber;
mod ends;
mod engine;
mod failure;
mod interrupt;
mod latency;
mod look;
mod ndr;
mod output;
mod page;
mod prepared;
mod profile;
mod progress;
mod rate;
mod replayed;
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
    /// A steady load while a command runs: for how long frames did not pass, the longest gap, and the same without the command.
    Disrupt(Box<disrupt::MeasureDisrupt>),
    /// Latency at shares of the PDR, which is searched for first unless it is given, and of the unloaded device.
    Latency(Box<latency::MeasureLatency>),
    /// One load for hours, with a line a minute: what was lost and how late frames were in each, and what became of all.
    Soak(Box<soak::MeasureSoak>),
    /// What scripts/bench.sh measured, row by row: everybody's median and spread, the ratios within each round, and whether they
    /// show a difference.
    Compare(compare::Compare),
}

impl Bench {
    pub(super) fn execute(self) -> ExitCode {
        match self.measurement {
            Measurement::Rate(rate) => rate.execute(),
            Measurement::Ndr(ndr) => ndr.execute(),
            Measurement::Disrupt(disrupt) => disrupt.execute(),
            Measurement::Latency(latency) => latency.execute(),
            Measurement::Soak(soak) => soak.execute(),
            Measurement::Compare(compare) => compare.execute(),
        }
    }
}
