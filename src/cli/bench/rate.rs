//! `vxgate bench rate`.

use std::env;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::ends::{End, EndError};
use super::traffic::Traffic;
use crate::cli::{exit, fail, print};
use crate::loadgen::books::{Arrivals, Books, Void};
use crate::loadgen::cpu::CpuTimes;
use crate::loadgen::engine::{
    self, Choice, EngineError, EngineKind, Expectations, Generator, Load, Received, Sent, Sink,
    StreamLoad, StreamReceived,
};
use crate::loadgen::guard::{self, NotALab};
use crate::loadgen::headers::FlowHeaders;
use crate::loadgen::host::Host;
use crate::loadgen::profile::{ProfileError, Stream};
use crate::loadgen::rate::{Rate, RateError, Scaled};
use crate::loadgen::report::{Latency, Measured, Report, SCHEMA, TrialReport};

/// Frames on their way are waited for until none has come for so long.
const DRAIN: Duration = Duration::from_millis(200);
/// How often the sink is asked while frames are under way.
const LOOK: Duration = Duration::from_millis(20);
/// How often progress is told on a terminal.
const PROGRESS: Duration = Duration::from_secs(1);
const DURATION_MAX_S: f64 = 24.0 * 3600.0;

/// Arguments of `vxgate bench rate`.
#[derive(Debug, Args)]
pub(super) struct MeasureRate {
    /// Device that sends.
    #[arg(long, value_name = "DEVICE")]
    tx: String,
    /// Device that receives: an XDP program is attached to it for the time of the measurement.
    #[arg(long, value_name = "DEVICE")]
    rx: String,
    /// Network namespace of the sending device [default: this one].
    #[arg(long, value_name = "NETNS")]
    tx_netns: Option<String>,
    /// Network namespace of the receiving device [default: this one].
    #[arg(long, value_name = "NETNS")]
    rx_netns: Option<String>,
    /// How frames are sent.
    #[arg(long, value_enum, default_value_t = Engine::Auto)]
    engine: Engine,
    /// Core of the thread that sends [default: any].
    #[arg(long, value_name = "CORE")]
    tx_core: Option<usize>,
    /// Frames a second (250k, 1.5Mfps), bits a second (2Gbps, 2GbpsL1), a share of the line (80%), or max.
    #[arg(long, default_value = "10k")]
    rate: Rate,
    /// Speed of the line, in Gbit/s, for rates in %.
    #[arg(long, value_name = "GBPS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    line_rate: Option<u64>,
    /// Frames that leave together at one intended time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    burst: u32,
    /// Seconds to send.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    duration: f64,
    #[command(flatten)]
    traffic: Traffic,
    /// Allow addresses outside of the benchmark ranges, and a device with the default route.
    #[arg(long)]
    i_know_this_network: bool,
    /// Print one JSON document (schema vxgate-bench/1) instead of text.
    #[arg(long)]
    json: bool,
}

/// How frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// AF_XDP where it is zero-copy, else live frames, else AF_XDP; the report says which, and why.
    Auto,
    /// Frames made by a BPF program and handed over as a driver would.
    Live,
    /// An AF_XDP socket.
    Afxdp,
}

impl From<Engine> for EngineKind {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Auto => Self::Auto,
            Engine::Live => Self::Live,
            Engine::Afxdp => Self::Afxdp,
        }
    }
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
enum RateFailure {
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
    #[error(transparent)]
    Rate(#[from] RateError),
    #[error(transparent)]
    Guard(#[from] NotALab),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("cannot read processor times: {0}")]
    Cpu(#[from] io::Error),
    #[error(transparent)]
    Void(#[from] Void),
}

impl RateFailure {
    fn code(&self) -> u8 {
        match self {
            Self::Profile(_) | Self::Rate(_) | Self::Guard(_) | Self::DefaultRoute(_) => {
                exit::CONFIG
            }
            Self::OneDevice(_) => exit::CONFIG,
            _ => exit::FAILED,
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('s').parse() {
        Ok(seconds) if (0.001..=DURATION_MAX_S).contains(&seconds) => Ok(seconds),
        _ => Err(format!("use seconds, 0.001 to {DURATION_MAX_S}")),
    }
}

impl MeasureRate {
    pub(super) fn execute(&self) -> ExitCode {
        let report = match self.measure() {
            Ok(report) => report,
            Err(failure) => return fail(failure.code(), &failure),
        };
        if !self.json {
            print(&report.to_string());
            return ExitCode::SUCCESS;
        }
        match serde_json::to_string_pretty(&report) {
            Ok(json) => print(&format!("{json}\n")),
            Err(error) => return fail(exit::FAILED, &error),
        }
        ExitCode::SUCCESS
    }

    fn measure(&self) -> Result<Report, RateFailure> {
        let tx = End::find(self.tx_netns.as_deref(), &self.tx)?;
        let rx = End::find(self.rx_netns.as_deref(), &self.rx)?;
        let stream = self.traffic.stream(tx.mac, rx.mac);
        let rate_fps = self.judge(&stream, [&tx, &rx])?;
        let flows = (0..stream.flows).map(|number| stream.headers(number));
        let flows = flows.collect::<Result<Vec<FlowHeaders>, _>>()?;
        let sizes = stream.lengths()?;
        let streams = [StreamLoad {
            id: 0,
            shape: stream.shape()?,
            flows: &flows,
            sizes: &sizes,
            share: stream.share,
        }];
        let load = Load {
            streams: &streams,
            rate_fps,
            burst: self.burst,
            duration: Duration::from_secs_f64(self.duration),
        };
        let host = Host::read();
        let expectations = Expectations {
            streams: 1,
            here: vec![0],
            vxlan_ports: self.traffic.vxlan_ports(),
        };
        let sink = rx.enter(|| Sink::attach(rx.ifindex, &expectations))??;
        let choice = Choice {
            kind: self.engine.into(),
            ifindex: tx.ifindex,
            queue: 0,
            core: self.tx_core,
            len_max: sizes
                .iter()
                .map(|(len, _)| *len)
                .max()
                .map_or(0, usize::from),
        };
        let opened = tx.enter(|| engine::open(&choice))??;
        let trial = self.trial(&tx, opened.generator, &load, &sink)?;
        Ok(Report {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host,
            command: env::args().collect(),
            engine: opened.kind.name().to_owned(),
            engine_reason: opened.why,
            sink_mode: rx.enter(|| sink.mode())??.name().to_owned(),
            trials: vec![trial],
        })
    }

    /// Frames a second, when nothing speaks against the load.
    fn judge(&self, stream: &Stream, [tx, rx]: [&End; 2]) -> Result<f64, RateFailure> {
        if tx.ifindex == rx.ifindex && self.tx_netns == self.rx_netns {
            return Err(RateFailure::OneDevice(tx.name.clone()));
        }
        stream.validate()?;
        if !self.i_know_this_network {
            if let Some(end) = [tx, rx].into_iter().find(|end| end.has_default_route) {
                return Err(RateFailure::DefaultRoute(end.name.clone()));
            }
            let own = [tx.networks.as_slice(), &rx.networks].concat();
            guard::check(stream, &own)?;
        }
        let line_bps = self.line_rate.map(|gbps| gbps * 1_000_000_000);
        Ok(self.rate.frames_per_second(&stream.sizes, line_bps)?)
    }

    fn trial(
        &self,
        tx: &End,
        mut generator: Box<dyn Generator + Send>,
        load: &Load<'_>,
        sink: &Sink,
    ) -> Result<TrialReport, RateFailure> {
        let before = CpuTimes::now()?;
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| tx.enter(|| generator.run(load)));
            let shows = !self.json && io::stderr().is_terminal();
            let (started, mut told) = (Instant::now(), Instant::now());
            while !sender.is_finished() {
                thread::park_timeout(LOOK);
                if shows && told.elapsed() >= PROGRESS {
                    tell(started, load.duration, sink);
                    told = Instant::now();
                }
            }
            if shows {
                // The line of progress makes room for the result.
                eprint!("\r\x1b[K");
            }
            match sender.join() {
                Ok(sent) => sent,
                Err(cause) => std::panic::resume_unwind(cause),
            }
        })??;
        let cpu = CpuTimes::now()?.since(&before);
        let received = drain(sink, &sent)?;
        let arrivals: Vec<_> = received.per_stream.iter().map(arrivals).collect();
        Ok(TrialReport::new(Measured {
            asked_fps: load.rate_fps,
            duration_s: sent.elapsed.as_secs_f64(),
            books: Books::close(&sent.per_stream, &arrivals)?,
            received_bytes: received.per_stream.iter().map(|stream| stream.bytes).sum(),
            late: sent.late,
            foreign: received.foreign,
            latency: latency(&received),
            cpu,
        }))
    }
}

/// Progress, a line over the last one.
fn tell(started: Instant, duration: Duration, sink: &Sink) {
    let elapsed = started.elapsed();
    let Ok(received) = sink.read() else { return };
    let rate = Scaled(frames(&received) as f64 / elapsed.as_secs_f64());
    let left = duration.saturating_sub(elapsed).as_secs();
    eprint!("\r\x1b[K  {rate} frames/s received, {left} s left");
}

/// Waits for what is under way.
fn drain(sink: &Sink, sent: &Sent) -> Result<Received, EngineError> {
    let mut received = sink.read()?;
    let mut last_change = Instant::now();
    while frames(&received) < sent.frames() && last_change.elapsed() < DRAIN {
        thread::park_timeout(LOOK);
        let now = sink.read()?;
        if frames(&now) != frames(&received) {
            last_change = Instant::now();
        }
        received = now;
    }
    Ok(received)
}

fn frames(received: &Received) -> u64 {
    let of = |stream: &StreamReceived| stream.frames + stream.corrupted + stream.misdelivered;
    received.per_stream.iter().map(of).sum()
}

fn arrivals(stream: &StreamReceived) -> Arrivals {
    Arrivals {
        received: stream.frames,
        duplicated: stream.duplicated,
        reordered: stream.reordered,
        corrupted: stream.corrupted,
        misdelivered: stream.misdelivered,
    }
}

fn latency(received: &Received) -> Option<Latency> {
    let (_, max_ns) = received.latency_range_ns?;
    let at = |quantile| received.latency.value_at_quantile(quantile);
    Some(Latency {
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p999_ns: at(0.999),
        max_ns,
    })
}
