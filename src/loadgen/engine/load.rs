//! What a generator is given, what it gives back, and how it goes through a load.

use std::time::Duration;

use super::layout::Layout;
use super::pace::FRACTION_BITS;
use super::replay::Replay;
use super::{Control, EngineError, STREAMS_MAX};
use crate::loadgen::headers::{FlowHeaders, Shape};
use crate::loadgen::signature;

/// Traffic at a constant rate for some time.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// What is sent.
    pub streams: &'a [StreamLoad<'a>],
    /// Frames a second, of all streams together; infinite: as fast as the engine can.
    pub rate_fps: f64,
    /// Frames that leave together, at one intended time; 1 or more.
    pub burst: u32,
    /// For how long.
    pub duration: Duration,
}

/// One stream of a load.
#[derive(Debug, Clone, Copy)]
pub struct StreamLoad<'a> {
    /// Its number: below 16, and no other generator's that the same sink receives.
    pub id: u16,
    /// Where the headers of its frames are.
    pub shape: Shape,
    /// Its flows, taken in turn.
    pub flows: &'a [FlowHeaders],
    /// Lengths of its frames in memory (all headers, no FCS), and how often each comes.
    pub sizes: &'a [(u16, u16)],
    /// Its share of the rate, among those of all streams.
    pub share: u16,
}

/// What a generator did. Every intended time is either in `per_stream` or `late`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Frames handed to the device, by the stream's place in the load.
    pub per_stream: Vec<u64>,
    /// Their bytes, without FCS.
    pub bytes: u64,
    /// From the first intended time to the end.
    pub elapsed: Duration,
    /// Frames that were not sent because their intended time was long over when their turn came.
    pub late: u64,
}

impl Sent {
    /// Frames of all streams.
    pub fn frames(&self) -> u64 {
        self.per_stream.iter().sum()
    }
}

/// What sends loads.
pub trait Generator {
    /// Sends a load; returns when its time is over.
    ///
    /// # Errors
    /// When the load cannot be, the device cannot carry it, or the kernel refuses.
    fn run(&mut self, load: &Load<'_>) -> Result<Sent, EngineError> {
        self.run_watched(load, &Control::default())
    }

    /// As [`Generator::run`], while others look on, who may end it early.
    ///
    /// # Errors
    /// As [`Generator::run`], and when it was ended before it began.
    fn run_watched(&mut self, load: &Load<'_>, control: &Control) -> Result<Sent, EngineError>;

    /// Sends a recording; else as [`Generator::run_watched`].
    ///
    /// # Errors
    /// As [`Generator::run_watched`], and of an engine that makes its frames elsewhere.
    fn replay_watched(
        &mut self,
        _replay: &Replay<'_>,
        _control: &Control,
    ) -> Result<Sent, EngineError> {
        Err(EngineError::Plan(
            "this engine makes its frames in the kernel, from headers only: recordings go by `--engine afxdp`".to_owned(),
        ))
    }
}

/// The longest run that the clock of intended times can count.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(72 * 3600);
/// The longest round of sizes or shares.
const ROUND_MAX: u64 = 1 << 20;

/// A validated load, laid out for an engine.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub streams: Vec<StreamPlan<'a>>,
    /// Whose turn it is: places in `streams`, each as often as its share says, spread out.
    pub turns: Vec<u32>,
    /// Time between bursts, in ns and fractions; 0: none.
    pub interval_q16: u64,
    /// How many bursts there are, when there is an interval.
    pub bursts: u64,
    pub burst: u32,
    pub duration: Duration,
}

/// A stream of a plan.
#[derive(Debug)]
pub(super) struct StreamPlan<'a> {
    pub id: u16,
    pub layout: Layout,
    pub flows: &'a [FlowHeaders],
    /// Lengths, each as often as its weight says, spread out.
    pub sizes: Vec<u32>,
    /// Frames after which flows and sizes both start anew though there are more pairs of them; 0: all pairs come.
    pub period: u32,
}

impl<'a> Plan<'a> {
    pub fn new(load: &Load<'a>) -> Result<Self, EngineError> {
        let refuse = |why: String| Err(EngineError::Plan(why));
        let count = load.streams.len();
        if !(1..=STREAMS_MAX).contains(&count) {
            return refuse(format!("{count} streams: 1 to {STREAMS_MAX} are possible"));
        }
        if load.rate_fps.is_nan() || load.rate_fps <= 0.0 {
            return refuse(format!("a rate of {} frames/s", load.rate_fps));
        }
        if load.burst == 0 {
            return refuse("a burst of no frames".to_owned());
        }
        if load.duration.is_zero() || load.duration > DURATION_MAX {
            return refuse(format!(
                "a duration of {:?}: at most {DURATION_MAX:?}",
                load.duration
            ));
        }
        let (interval_q16, bursts) = intervals(load)?;
        let shares: Vec<_> = load.streams.iter().map(|stream| stream.share).collect();
        let Some(turns) = spread(&shares) else {
            return refuse(format!("shares of {shares:?}"));
        };
        let streams = load.streams.iter().map(StreamPlan::new);
        Ok(Self {
            streams: streams.collect::<Result<_, _>>()?,
            turns,
            interval_q16,
            bursts,
            burst: load.burst,
            duration: load.duration,
        })
    }

    /// The longest frame.
    pub fn len_max(&self) -> usize {
        let lengths = self.streams.iter().flat_map(|stream| &stream.sizes);
        lengths.max().map_or(0, |len| *len as usize)
    }
}

impl<'a> StreamPlan<'a> {
    fn new(stream: &StreamLoad<'a>) -> Result<Self, EngineError> {
        let StreamLoad {
            id, shape, flows, ..
        } = *stream;
        let refuse = |why: String| Err(EngineError::Plan(format!("stream {id}: {why}")));
        if usize::from(id) >= STREAMS_MAX {
            return refuse(format!("numbers are 0 to {}", STREAMS_MAX - 1));
        }
        let Some(flow_count) = u32::try_from(flows.len()).ok().filter(|count| *count > 0) else {
            return refuse(format!("{} flows", flows.len()));
        };
        let len_min = shape.header_len() + signature::LEN as u16;
        if let Some((len, _)) = stream.sizes.iter().find(|(len, _)| *len < len_min) {
            return refuse(format!(
                "a frame of {len} bytes has no room for headers and signature: {len_min}"
            ));
        }
        let weights: Vec<_> = stream.sizes.iter().map(|(_, weight)| *weight).collect();
        let Some(places) = spread(&weights) else {
            return refuse(format!("sizes with the weights {weights:?}"));
        };
        let length = |place: u32| {
            stream
                .sizes
                .get(place as usize)
                .map_or(0, |(len, _)| u32::from(*len))
        };
        let sizes: Vec<_> = places.into_iter().map(length).collect();
        Ok(Self {
            id,
            layout: Layout::new(shape),
            flows,
            period: period(flow_count, sizes.len() as u32),
            sizes,
        })
    }
}

/// Where a stream is: its next frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Position {
    pub sequence: u32,
    pub flow: usize,
    pub size: usize,
    in_period: u32,
}

impl Position {
    /// Goes on to the frame after, as `advance` in `bpf/generator.bpf.c`.
    pub fn advance(&mut self, stream: &StreamPlan<'_>) {
        let next = |place: usize, count: usize| if place + 1 < count { place + 1 } else { 0 };
        self.sequence = self.sequence.wrapping_add(1);
        self.size = next(self.size, stream.sizes.len());
        self.flow = next(self.flow, stream.flows.len());
        self.in_period += 1;
        // Where both lists would start together again, a flow is left out, so that none keeps the same sizes for ever.
        if self.in_period == stream.period {
            self.in_period = 0;
            self.flow = next(self.flow, stream.flows.len());
        }
        if stream.period == 0 {
            self.in_period = 0;
        }
    }
}

/// Interval and number of bursts.
fn intervals(load: &Load<'_>) -> Result<(u64, u64), EngineError> {
    if load.rate_fps.is_infinite() {
        return Ok((0, 0));
    }
    let second_q16 = 1e9 * f64::from(1_u32 << FRACTION_BITS);
    let interval_q16 = (second_q16 * f64::from(load.burst) / load.rate_fps).round();
    let duration_q16 = u128::from(load.duration.as_nanos() as u64) << FRACTION_BITS;
    if interval_q16 < 1.0 || interval_q16 > duration_q16 as f64 {
        let (rate_fps, duration) = (load.rate_fps, load.duration);
        return Err(EngineError::Plan(format!(
            "{rate_fps} frames/s for {duration:?} in bursts of {}",
            load.burst
        )));
    }
    // Not from the interval, which is rounded; what is lacking for a whole burst by rounding only, is not lacking.
    let bursts = load.duration.as_secs_f64() * load.rate_fps / f64::from(load.burst);
    Ok((interval_q16 as u64, ((bursts + 1e-6).floor() as u64).max(1)))
}

/// A round of places, each as often as its weight says (in lowest terms), and as evenly as can be: at each step the one
/// that is most behind. None when there are no weights, one is 0, or the round is too long.
fn spread(weights: &[u16]) -> Option<Vec<u32>> {
    let common = weights
        .iter()
        .fold(0, |common, weight| gcd(common, u64::from(*weight)));
    if weights.contains(&0) || common == 0 {
        return None;
    }
    let weights: Vec<_> = weights
        .iter()
        .map(|weight| u64::from(*weight) / common)
        .collect();
    let sum: u64 = weights.iter().sum();
    if sum > ROUND_MAX {
        return None;
    }
    let mut credit = vec![0_i64; weights.len()];
    let step = |_| {
        let mut best = 0;
        for (place, weight) in weights.iter().enumerate() {
            credit[place] += *weight as i64;
            if credit[place] > credit[best] {
                best = place;
            }
        }
        credit[best] -= sum as i64;
        best as u32
    };
    Some((0..sum).map(step).collect())
}

fn period(flows: u32, sizes: u32) -> u32 {
    let common = gcd(u64::from(flows), u64::from(sizes));
    if common <= 1 {
        return 0;
    }
    u32::try_from(u64::from(flows) * u64::from(sizes) / common).unwrap_or(0)
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 {
        one
    } else {
        gcd(other, one % other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::headers::{Family, HEADERS_MAX, Transport};

    const SHAPE: Shape = Shape {
        outer: None,
        inner: Family::V4,
        transport: Transport::Udp,
        arrival_mac: None,
    };
    const FLOWS: [FlowHeaders; 6] = [FlowHeaders {
        bytes: [0; HEADERS_MAX],
    }; 6];
    const STREAM: StreamLoad<'static> = StreamLoad {
        id: 0,
        shape: SHAPE,
        flows: &FLOWS,
        sizes: &[(60, 1)],
        share: 1,
    };

    fn load<'a>(streams: &'a [StreamLoad<'a>]) -> Load<'a> {
        Load {
            streams,
            rate_fps: 1000.0,
            burst: 1,
            duration: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_round_is_in_proportion_and_spread_out() {
        assert_eq!(spread(&[1]), Some(vec![0]));
        assert_eq!(spread(&[20, 20]), Some(vec![0, 1]));
        assert_eq!(spread(&[4, 2]), Some(vec![0, 1, 0]));
        let imix = spread(&[7, 4, 1]).unwrap();
        let count = |place| imix.iter().filter(|found| **found == place).count();
        assert_eq!([count(0), count(1), count(2)], [7, 4, 1]);
        assert!(imix.windows(3).all(|some| some.contains(&0)), "{imix:?}");
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3, 0]), None);
        assert_eq!(spread(&[65_535; 16]).map(|round| round.len()), Some(16));
    }

    #[test]
    fn intended_times_fill_the_duration() {
        let one = [STREAM];
        let plan = Plan::new(&load(&one)).unwrap();
        assert_eq!((plan.interval_q16, plan.bursts), (1_000_000 << 16, 1000));
        let bursts = Load {
            burst: 10,
            ..load(&one)
        };
        let plan = Plan::new(&bursts).unwrap();
        assert_eq!((plan.interval_q16, plan.bursts), (10_000_000 << 16, 100));
        let fast = Load {
            rate_fps: 14_880_952.0,
            duration: Duration::from_secs(10),
            ..load(&one)
        };
        let plan = Plan::new(&fast).unwrap();
        assert_eq!(plan.bursts, 148_809_520);
        let uneven = Load {
            rate_fps: 6_000.0,
            duration: Duration::from_millis(60),
            ..load(&one)
        };
        assert_eq!(Plan::new(&uneven).unwrap().bursts, 360);
        let flat_out = Load {
            rate_fps: f64::INFINITY,
            ..load(&one)
        };
        assert_eq!(Plan::new(&flat_out).unwrap().interval_q16, 0);
    }

    #[test]
    fn flows_and_sizes_that_march_in_step_are_seen() {
        let plan = |sizes| StreamPlan::new(&StreamLoad { sizes, ..STREAM }).unwrap();
        assert_eq!(plan(&[(60, 1)]).period, 0, "one size");
        assert_eq!(
            plan(&[(60, 1), (100, 2), (200, 2)]).period,
            0,
            "5 sizes and 6 flows: all pairs come"
        );
        assert_eq!(
            plan(&[(60, 1), (100, 1)]).period,
            6,
            "each flow would keep its size"
        );
        assert_eq!(plan(&[(60, 3), (100, 1)]).period, 12);
    }

    #[test]
    fn every_flow_gets_every_size() {
        for sizes in [
            &[(60, 1)][..],
            &[(60, 1), (70, 1)],
            &[(60, 2), (70, 1)],
            &[(60, 1), (70, 2), (80, 2)],
        ] {
            let stream = StreamPlan::new(&StreamLoad { sizes, ..STREAM }).unwrap();
            let mut position = Position::default();
            let mut pairs = std::collections::BTreeSet::new();
            let mut by_flow = [0; FLOWS.len()];
            for sequence in 0..6 * 6 * 6 {
                assert_eq!(position.sequence, sequence);
                pairs.insert((position.flow, stream.sizes[position.size]));
                by_flow[position.flow] += 1;
                position.advance(&stream);
            }
            assert_eq!(pairs.len(), FLOWS.len() * sizes.len(), "{sizes:?}");
            let (least, most) = (by_flow.iter().min().unwrap(), by_flow.iter().max().unwrap());
            assert!(most - least <= 2, "{by_flow:?}");
        }
    }

    #[test]
    fn loads_that_cannot_be_are_refused() {
        let good = [STREAM];
        assert!(Plan::new(&load(&good)).is_ok());
        let short = [StreamLoad {
            sizes: &[(57, 1)],
            ..STREAM
        }];
        let weightless = [StreamLoad {
            sizes: &[(60, 0)],
            ..STREAM
        }];
        let sizeless = [StreamLoad {
            sizes: &[],
            ..STREAM
        }];
        let flowless = [StreamLoad {
            flows: &[],
            ..STREAM
        }];
        let shareless = [StreamLoad { share: 0, ..STREAM }];
        let seventeenth = [StreamLoad { id: 16, ..STREAM }];
        let many = [STREAM; 17];
        let mut bad: Vec<_> = [
            &short[..],
            &weightless,
            &sizeless,
            &flowless,
            &shareless,
            &seventeenth,
            &many,
            &[],
        ]
        .map(load)
        .to_vec();
        for rate_fps in [0.0, -1.0, f64::NAN, 0.5, 1e20] {
            bad.push(Load {
                rate_fps,
                ..load(&good)
            });
        }
        bad.push(Load {
            burst: 0,
            ..load(&good)
        });
        bad.push(Load {
            burst: 1001,
            ..load(&good)
        });
        bad.push(Load {
            duration: Duration::ZERO,
            ..load(&good)
        });
        bad.push(Load {
            duration: Duration::from_secs(1_000_000),
            ..load(&good)
        });
        for bad in bad {
            assert!(
                matches!(Plan::new(&bad), Err(EngineError::Plan(_))),
                "{bad:?}"
            );
        }
    }
}
