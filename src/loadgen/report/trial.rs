//! One trial: a load for some time, and what became of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::loadgen::books::{Books, Fates};
use crate::loadgen::cpu::CpuTime;
use crate::loadgen::engine::Inspection;
use crate::loadgen::rate::Scaled;
use crate::loadgen::size::FCS_LEN;

/// One trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialReport {
    /// Frames a second that were asked for; none: as fast as it goes.
    pub asked_fps: Option<f64>,
    /// Seconds that the generator sent.
    pub duration_s: f64,
    /// Frames a second that were sent.
    pub sent_fps: f64,
    /// Frames a second, of the sending time, that arrived as they should.
    pub received_fps: f64,
    /// Bits a second of these, with FCS.
    pub received_bps: f64,
    /// The share of what was sent that did not arrive as it should, 0 to 1.
    pub loss_ratio: f64,
    /// Intended times that the generator could not keep.
    pub late: u64,
    /// Frames that carried no signature: other traffic.
    pub foreign: u64,
    /// The fate of every frame.
    pub books: Books,
    /// From the intended time of sending to arrival; none when nothing arrived.
    pub latency: Option<Latency>,
    /// Processor time of each core during the trial.
    pub cpu: Vec<CpuShare>,
    /// Processor time of all cores for each frame received, in nanoseconds; generator and sink included.
    pub cpu_ns_per_frame: Option<f64>,
    /// What a receiver that looks into all bytes has found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Inspection>,
}

/// Latencies in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Half were faster.
    pub p50_ns: u64,
    /// Nine of ten.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1000.
    pub p999_ns: u64,
    /// The slowest.
    pub max_ns: u64,
}

/// What one core did, as shares of the trial's time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CpuShare {
    /// Programs.
    pub user: f64,
    /// The kernel for programs, and its threads.
    pub system: f64,
    /// Interrupts and softirqs.
    pub softirq: f64,
    /// Taken by the hypervisor.
    pub steal: f64,
}

impl CpuShare {
    /// Of a core's time during so many seconds.
    pub fn new(time: &CpuTime, duration_s: f64) -> Self {
        Self {
            user: time.user_s / duration_s,
            system: time.system_s / duration_s,
            softirq: time.softirq_s / duration_s,
            steal: time.steal_s / duration_s,
        }
    }
}

/// What a trial is judged from.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Frames a second that were asked for; infinite: as fast as it goes.
    pub asked_fps: f64,
    /// Seconds that the generator sent.
    pub duration_s: f64,
    /// The balanced books.
    pub books: Books,
    /// Bytes of the frames received, without FCS.
    pub received_bytes: u64,
    /// Intended times that could not be kept.
    pub late: u64,
    /// Frames without signature.
    pub foreign: u64,
    /// What was found by looking into all bytes, if anybody did.
    pub inspection: Option<Inspection>,
    /// Latencies.
    pub latency: Option<Latency>,
    /// Processor time of each core.
    pub cpu: Vec<CpuTime>,
}

impl TrialReport {
    /// Works out the rates.
    pub fn new(measured: Measured) -> Self {
        let Fates { sent, received, .. } = measured.books.total;
        let seconds = measured.duration_s;
        let bytes = measured.received_bytes + received * u64::from(FCS_LEN);
        let busy_s: f64 = measured.cpu.iter().map(CpuTime::busy_s).sum();
        Self {
            asked_fps: Some(measured.asked_fps).filter(|rate| rate.is_finite()),
            duration_s: seconds,
            sent_fps: sent as f64 / seconds,
            received_fps: received as f64 / seconds,
            received_bps: bytes as f64 * 8.0 / seconds,
            loss_ratio: measured.books.loss_ratio(),
            late: measured.late,
            foreign: measured.foreign,
            books: measured.books,
            latency: measured.latency,
            cpu: measured
                .cpu
                .iter()
                .map(|core| CpuShare::new(core, seconds))
                .collect(),
            cpu_ns_per_frame: (received > 0).then(|| busy_s * 1e9 / received as f64),
            inspection: measured.inspection,
        }
    }
}

impl TrialReport {
    /// The share of the load that the generator did not send, 0 to 1.
    pub fn unsent_ratio(&self) -> f64 {
        match self.books.total.sent + self.late {
            0 => 0.0,
            meant => self.late as f64 / meant as f64,
        }
    }
}

impl fmt::Display for TrialReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = self
            .asked_fps
            .map_or("max".to_owned(), |rate| Scaled(rate).to_string());
        writeln!(
            f,
            "  asked     {asked} frames/s for {:.1} s; {} intended times not kept",
            self.duration_s, self.late
        )?;
        let fates = &self.books.total;
        if self.late > fates.sent / 100 {
            writeln!(
                f,
                "  note      the generator fell behind: what it could not send says nothing of the device"
            )?;
        }
        writeln!(
            f,
            "  sent      {:>12}   {} frames/s",
            fates.sent,
            Scaled(self.sent_fps)
        )?;
        writeln!(
            f,
            "  received  {:>12}   {} frames/s, {}bit/s with FCS",
            fates.received,
            Scaled(self.received_fps),
            Scaled(self.received_bps)
        )?;
        writeln!(
            f,
            "  lost      {:>12}   {:.4} %",
            fates.lost,
            self.loss_ratio * 100.0
        )?;
        let others = [
            ("corrupted", fates.corrupted),
            ("misled", fates.misdelivered),
            ("doubled", fates.duplicated),
            ("reordered", fates.reordered),
            ("foreign", self.foreign),
        ];
        for (name, frames) in others.into_iter().filter(|(_, frames)| *frames > 0) {
            writeln!(f, "  {name:<9} {frames:>12}")?;
        }
        if let Some(inspection) = &self.inspection {
            write!(f, "{inspection}")?;
        }
        if let Some(latency) = &self.latency {
            writeln!(f, "  latency   {latency}")?;
        }
        for (core, share) in self.cpu.iter().enumerate() {
            writeln!(f, "  core {core:<4} {share}")?;
        }
        match self.cpu_ns_per_frame {
            Some(ns) => writeln!(
                f,
                "  cost      {ns:.0} ns of all cores a frame received, generator and sink included"
            ),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |ns: u64| ns as f64 / 1000.0;
        write!(
            f,
            "p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} µs, from the intended time",
            us(self.p50_ns),
            us(self.p90_ns),
            us(self.p99_ns),
            us(self.p999_ns),
            us(self.max_ns)
        )
    }
}

impl fmt::Display for CpuShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        write!(
            f,
            "user {:.0} %  system {:.0} %  softirq {:.0} %",
            percent(self.user),
            percent(self.system),
            percent(self.softirq)
        )?;
        if self.steal >= 0.005 {
            write!(f, "  stolen {:.0} %", percent(self.steal))?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::loadgen::books::Arrivals;

    pub fn measured() -> Measured {
        let arrivals = Arrivals {
            received: 999_000,
            duplicated: 5,
            ..Arrivals::default()
        };
        Measured {
            asked_fps: 100_000.0,
            duration_s: 10.0,
            books: Books::close(&[1_000_000], &[arrivals]).unwrap(),
            received_bytes: 999_000 * 60,
            late: 3,
            foreign: 0,
            inspection: None,
            latency: Some(Latency {
                p50_ns: 10_000,
                p90_ns: 20_000,
                p99_ns: 30_000,
                p999_ns: 40_000,
                max_ns: 1_234_500,
            }),
            cpu: vec![CpuTime {
                user_s: 1.0,
                system_s: 2.0,
                softirq_s: 6.99,
                idle_s: 0.0,
                steal_s: 0.01,
            }],
        }
    }

    #[test]
    fn rates_are_of_the_time_that_was_sent() {
        let report = TrialReport::new(measured());
        assert_eq!(
            (report.sent_fps, report.received_fps),
            (100_000.0, 99_900.0)
        );
        assert_eq!(report.received_bps, 99_900.0 * 64.0 * 8.0);
        assert_eq!(report.loss_ratio, 0.001);
        assert_eq!(report.cpu_ns_per_frame.map(|ns| ns as u64), Some(10_000));
    }

    #[test]
    fn the_table_says_what_happened_and_keeps_silent_of_what_did_not() {
        let text = TrialReport::new(measured()).to_string();
        for line in [
            "  asked     100k frames/s for 10.0 s; 3 intended times not kept\n",
            "  received        999000   99.9k frames/s, 51.149Mbit/s with FCS\n",
            "  lost              1000   0.1000 %\n",
            "  doubled              5\n",
            "p99.9 40.0  max 1234.5 µs",
            "  core 0    user 10 %  system 20 %  softirq 70 %\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(
            !text.contains("corrupted") && !text.contains("stolen"),
            "{text}"
        );
    }
}
