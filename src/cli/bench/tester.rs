//! The tester (RFC 2544): a sending and a receiving device with the device under test between them, and trials through it.

use std::collections::VecDeque;
use std::env;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::content::{Asked, Content};
use super::ends::End;
use super::engine::{Engine, Receives};
use super::failure::Failure;
use super::look::{Look, Seen, frames, quantiles};
use super::profile::{self, Entry};
use super::progress::Progress;
use super::replayed::ReplayFlags;
use super::traffic::{self, Traffic};
use crate::loadgen::books::{Arrivals, Books};
use crate::loadgen::cpu::CpuTimes;
use crate::loadgen::engine::{
    self, Choice, Control, EngineError, EngineKind, Expectations, Opened, Received, Receiver,
    ReceiverKind, STREAMS_MAX, Sent, StreamReceived,
};
use crate::loadgen::host::Host;
use crate::loadgen::rate::Rate;
use crate::loadgen::report::{Devices, Measured, Report, SCHEMA, TrialReport, rfc3339};

/// Frames on their way are waited for until none has come for so long.
const DRAIN: Duration = Duration::from_millis(200);
/// How often a trial is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The two devices, what is sent between them, and by whom.
#[derive(Debug, Clone, Args)]
pub(super) struct TesterFlags {
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
    /// How frames are received.
    #[arg(long, value_enum, default_value_t = Receives::Xdp)]
    receiver: Receives,
    /// Core of the thread that receives by AF_XDP [default: any].
    #[arg(long, value_name = "CORE")]
    rx_core: Option<usize>,
    /// Speed of the line, in Gbit/s, for rates in %.
    #[arg(long, value_name = "GBPS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    line_rate: Option<u64>,
    /// Frames that leave together at one intended time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    burst: u32,
    /// Send the streams of this file together: TOML, a table [[stream]] for each, whose keys are the flags of one stream
    /// below, and `name` and `share`. The flags themselves are not for use beside it.
    #[arg(long, value_name = "FILE", conflicts_with_all = traffic::FLAGS)]
    profile: Option<PathBuf>,
    #[command(flatten)]
    replay: ReplayFlags,
    #[command(flatten)]
    traffic: Traffic,
    /// Allow addresses outside of the benchmark ranges, and a device with the default route.
    #[arg(long)]
    i_know_this_network: bool,
}

/// A generator and a receiver, ready for trials.
pub(super) struct Tester {
    tx: End,
    rx: End,
    line_bps: Option<u64>,
    burst: u32,
    content: Content,
    opened: Opened,
    sink: Box<dyn Receiver + Send + Sync>,
    /// Between the ends is nothing but a wire of the tester's own: what the receiver loses is what the tester cannot do.
    on_wire: bool,
    host: Host,
    started: SystemTime,
    shows_progress: bool,
}

impl Tester {
    /// Judges what was asked for, and opens both ends.
    pub(super) fn open(flags: &TesterFlags, shows_progress: bool) -> Result<Self, Failure> {
        // Before the tester itself adds to the machine's load.
        let host = Host::read();
        let tx = End::find(flags.tx_netns.as_deref(), &flags.tx)?;
        let rx = End::find(flags.rx_netns.as_deref(), &flags.rx)?;
        let asked = flags.asked()?;
        flags.judge(&asked, [&tx, &rx])?;
        Self::prepare(flags, asked, (tx, rx), host, shows_progress)
    }

    /// As [`Tester::open`], on a wire that was made for it, where nobody else listens. The flags have been judged.
    pub(super) fn on_wire(flags: &TesterFlags, (tx, rx): (End, End)) -> Result<Self, Failure> {
        let tester = Self::prepare(flags, flags.asked()?, (tx, rx), Host::read(), false)?;
        Ok(Self {
            on_wire: true,
            ..tester
        })
    }

    fn prepare(
        flags: &TesterFlags,
        asked: Asked,
        (tx, rx): (End, End),
        host: Host,
        shows_progress: bool,
    ) -> Result<Self, Failure> {
        let vxlan_ports = asked.vxlan_ports();
        let content = asked.prepare([&tx, &rx])?;
        let numbers = 0..content.streams();
        let expectations = Expectations {
            streams: numbers.end,
            here: numbers.collect(),
            vxlan_ports,
            zeros: matches!(content, Content::Streams(_)),
        };
        let receiver = ReceiverKind::from(flags.receiver);
        let sink = rx.enter(|| receiver.attach(rx.ifindex, &expectations, flags.rx_core))??;
        let choice = Choice {
            kind: flags.kind(&content)?,
            ifindex: tx.ifindex,
            queue: 0,
            core: flags.tx_core,
            len_max: content.len_max(),
        };
        let mut opened = tx.enter(|| engine::open(&choice))??;
        if matches!(content, Content::Recording(_)) && flags.engine == Engine::Auto {
            opened.why = "live frames carry no recorded payloads".to_owned();
        }
        Ok(Self {
            tx,
            rx,
            line_bps: flags.line_rate.map(|gbps| gbps * 1_000_000_000),
            burst: flags.burst,
            content,
            opened,
            sink,
            on_wire: false,
            host,
            started: SystemTime::now(),
            shows_progress,
        })
    }

    /// The device that sends.
    pub(super) fn sending_end(&self) -> &End {
        &self.tx
    }

    /// What a rate is in frames a second, of all streams together.
    pub(super) fn frames_per_second(&self, rate: Rate) -> Result<f64, Failure> {
        self.content.frames_per_second(rate, self.line_bps)
    }

    /// Frames that leave together.
    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// Sends so many frames a second for some time, waits for the last of them, and tells what became of all.
    pub(super) fn trial(
        &mut self,
        rate_fps: f64,
        duration: Duration,
    ) -> Result<TrialReport, Failure> {
        let ended = self.watched(rate_fps, [duration; 2], &mut |_| Ok(()))?;
        Ok(ended.report)
    }

    /// A trial that somebody looks at every few milliseconds, and may end. It is expected to last for the first duration,
    /// and ends by itself after the second.
    pub(super) fn watched(
        &mut self,
        rate_fps: f64,
        [expected, longest]: [Duration; 2],
        watch: &mut dyn FnMut(&Look<'_>) -> Result<(), Failure>,
    ) -> Result<Ended, Failure> {
        self.sink.reset()?;
        let load = (rate_fps, self.burst, longest);
        let before = CpuTimes::now()?;
        let (generator, content) = (self.opened.generator.as_mut(), &self.content);
        let (tx, sink, control) = (&self.tx, self.sink.as_ref(), &Control::default());
        let mut progress = Progress::new(self.shows_progress, expected);
        let (sent, watched) = thread::scope(|scope| {
            let sender = scope.spawn(|| tx.enter(|| content.send(generator, load, control)));
            let (mut begun, mut leaving) = (None, Leaving::default());
            let mut watched = Ok(());
            while !sender.is_finished() {
                thread::park_timeout(LOOK);
                let sent = control.sent();
                if sent > 0 && begun.is_none() {
                    begun = Some(Instant::now());
                }
                let elapsed = begun.map_or(Duration::ZERO, |begun| begun.elapsed());
                let settled = leaving.settled(elapsed, sent);
                let look = Look::new(elapsed, settled, (sink, control));
                progress.tell(&look);
                if watched.is_ok() {
                    watched = watch(&look);
                }
                if watched.is_err() {
                    control.stop();
                }
            }
            match sender.join() {
                Ok(sent) => (sent, watched),
                Err(cause) => std::panic::resume_unwind(cause),
            }
        });
        drop(progress);
        watched?;
        let sent = sent??;
        let cpu = CpuTimes::now()?.since(&before);
        let received = drain(sink, &sent)?;
        if received.receiver_lost > 0 && !self.on_wire {
            return Err(Failure::ReceiverLost(received.receiver_lost));
        }
        let arrivals: Vec<_> = received.per_stream.iter().map(arrivals).collect();
        let report = TrialReport::new(Measured {
            asked_fps: rate_fps,
            duration_s: sent.elapsed.as_secs_f64(),
            books: Books::close(&sent.per_stream, &arrivals)?,
            received_bytes: received.per_stream.iter().map(|stream| stream.bytes).sum(),
            late: sent.late,
            foreign: received.foreign,
            inspection: received
                .inspection
                .map(|inspection| content.judge_payload(inspection)),
            latency: quantiles(
                &received.latency,
                received.latency_range_ns.map(|(_, max_ns)| max_ns),
            ),
            cpu,
        });
        Ok(Ended {
            report,
            reached: sink.reached()?,
            sent,
            received,
        })
    }

    /// The report of a measurement of this name.
    pub(super) fn report(
        self,
        measurement: &str,
        trials: Vec<TrialReport>,
    ) -> Result<Report, Failure> {
        let (rx, sink) = (&self.rx, self.sink.as_ref());
        let sink_mode = rx.enter(|| sink.mode())??;
        let (traffic, recording) = self.content.report();
        Ok(Report {
            schema: SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            measurement: measurement.to_owned(),
            receiver: Some(sink.name().to_owned()),
            sink_mode: sink_mode.name().to_owned(),
            host: self.host,
            command: env::args().collect(),
            engine: self.opened.kind.name().to_owned(),
            engine_reason: self.opened.why,
            recording,
            trials,
            search: None,
            latency_at: None,
            soak: None,
            disruption: None,
            date: Some(rfc3339(self.started)),
            devices: Some(Devices {
                tx: self.tx.report(),
                rx: self.rx.report(),
            }),
            traffic,
        })
    }
}

impl TesterFlags {
    /// What is to be sent: a recording, the streams of a profile, or the one of the flags.
    fn asked(&self) -> Result<Asked, Failure> {
        if let Some(replayed) = self.replay.read(&self.traffic)? {
            return Ok(Asked::Recording(replayed));
        }
        Ok(Asked::Streams(match &self.profile {
            Some(path) => profile::read(path, STREAMS_MAX)?,
            None => vec![Entry {
                name: None,
                share: 1,
                traffic: self.traffic.clone(),
            }],
        }))
    }

    /// The engine that is to be opened.
    fn kind(&self, content: &Content) -> Result<EngineKind, Failure> {
        match (content, self.engine) {
            (Content::Recording(_), Engine::Live) => Err(Failure::LiveRecording),
            (Content::Recording(_), _) => Ok(EngineKind::Afxdp),
            (Content::Streams(_), engine) => Ok(engine.into()),
        }
    }

    /// Whether anything speaks against such a load between these devices.
    fn judge(&self, asked: &Asked, [tx, rx]: [&End; 2]) -> Result<(), Failure> {
        if tx.ifindex == rx.ifindex && self.tx_netns == self.rx_netns {
            return Err(Failure::OneDevice(tx.name.clone()));
        }
        if self.i_know_this_network {
            return asked.judge([tx, rx], None);
        }
        if let Some(end) = [tx, rx].into_iter().find(|end| end.has_default_route) {
            return Err(Failure::DefaultRoute(end.name.clone()));
        }
        let own = [tx.networks.as_slice(), &rx.networks].concat();
        asked.judge([tx, rx], Some(&own))
    }
}

/// What came of a trial, and what it was judged from.
pub(super) struct Ended {
    pub(super) report: TrialReport,
    pub(super) sent: Sent,
    pub(super) received: Received,
    /// By number of stream, how many frames had left when the last one left that arrived.
    pub(super) reached: Vec<u64>,
}

impl Ended {
    /// What had left and come when all was over.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            sent: self.sent.frames(),
            received: self.received.clone(),
        }
    }
}

/// How many frames had left by when.
#[derive(Debug, Default)]
struct Leaving {
    told: VecDeque<(Duration, u64)>,
    settled: u64,
}

impl Leaving {
    /// Notes how many have left by now; how many had left so long ago that none of them is under way any more.
    fn settled(&mut self, now: Duration, sent: u64) -> u64 {
        self.told.push_back((now, sent));
        while let Some((then, sent)) = self.told.front()
            && *then + DRAIN <= now
        {
            self.settled = *sent;
            self.told.pop_front();
        }
        self.settled
    }
}

/// Waits for what is under way.
fn drain(sink: &dyn Receiver, sent: &Sent) -> Result<Received, EngineError> {
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

fn arrivals(stream: &StreamReceived) -> Arrivals {
    Arrivals {
        received: stream.frames,
        duplicated: stream.duplicated,
        reordered: stream.reordered,
        corrupted: stream.corrupted,
        misdelivered: stream.misdelivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_long_ago_has_settled() {
        let mut leaving = Leaving::default();
        let at = Duration::from_millis;
        assert_eq!(leaving.settled(at(0), 10), 0);
        assert_eq!(leaving.settled(at(100), 20), 0);
        assert_eq!(leaving.settled(at(200), 30), 10);
        assert_eq!(leaving.settled(at(299), 40), 10);
        assert_eq!(leaving.settled(at(1_000), 50), 40);
        assert_eq!(leaving.settled(at(1_200), 50), 50);
        assert_eq!(leaving.told.len(), 1);
    }
}
