//! A recording, sent again and again until its time is over.

use std::time::Duration;

use super::EngineError;
use super::frame::Tag;
use super::load::DURATION_MAX;
use super::pace::{RESYNC_NS, Turn};
use super::source::Source;
use crate::loadgen::recording::Recorded;

/// How the frames of a recording are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timing {
    /// As they were recorded, stretched or shrunk to the rate.
    #[default]
    Original,
    /// At equal distances.
    Even,
}

impl Timing {
    /// The word for it, as in flags and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Even => "even",
        }
    }
}

/// A recording at a rate for some time.
#[derive(Debug, Clone, Copy)]
pub struct Replay<'a> {
    /// The number of the stream that its frames carry.
    pub id: u16,
    /// What is sent, over and over.
    pub frames: &'a [Recorded],
    /// Frames a second, on average; infinite: as fast as the engine can.
    pub rate_fps: f64,
    /// How they are spread.
    pub timing: Timing,
    /// For how long.
    pub duration: Duration,
}

/// A replay that is under way.
pub(super) struct Replaying<'a> {
    id: u16,
    frames: &'a [Recorded],
    /// When each frame leaves within a lap, in ns; empty: as fast as it goes.
    offsets_ns: Vec<u64>,
    lap_ns: f64,
    /// Frames of all laps that are to leave.
    total: u64,
    duration_ns: u64,
    start_ns: u64,
    /// The next frame, of all laps.
    next: u64,
    /// The one to be written.
    current: usize,
    sequence: u32,
    late: u64,
}

impl<'a> Replaying<'a> {
    pub fn new(replay: &Replay<'a>) -> Result<Self, EngineError> {
        let refuse = |why: String| Err(EngineError::Plan(why));
        let Replay {
            frames, rate_fps, ..
        } = *replay;
        if frames.is_empty() {
            return refuse("a recording without frames".to_owned());
        }
        if rate_fps.is_nan() || rate_fps <= 0.0 {
            return refuse(format!("a rate of {rate_fps} frames/s"));
        }
        if replay.duration.is_zero() || replay.duration > DURATION_MAX {
            return refuse(format!(
                "a duration of {:?}: at most {DURATION_MAX:?}",
                replay.duration
            ));
        }
        let mut replaying = Self {
            id: replay.id,
            frames,
            offsets_ns: Vec::new(),
            lap_ns: 0.0,
            total: u64::MAX,
            duration_ns: replay.duration.as_nanos() as u64,
            start_ns: 0,
            next: 0,
            current: 0,
            sequence: 0,
            late: 0,
        };
        if rate_fps.is_finite() {
            replaying.schedule(replay)?;
        }
        Ok(replaying)
    }

    fn schedule(&mut self, replay: &Replay<'_>) -> Result<(), EngineError> {
        let count = self.frames.len() as f64;
        self.lap_ns = count * 1e9 / replay.rate_fps;
        let even_ns = |place: usize| (place as f64 * 1e9 / replay.rate_fps) as u64;
        self.offsets_ns = match (replay.timing, self.frames.last()) {
            (Timing::Original, Some(last)) if last.at_ns > 0 => {
                // Between the last frame and the first of the next lap passes the mean time between two.
                let recorded_ns = last.at_ns as f64 * count / (count - 1.0);
                let scale = self.lap_ns / recorded_ns;
                let frames = self.frames.iter();
                frames
                    .map(|frame| (frame.at_ns as f64 * scale) as u64)
                    .collect()
            }
            (Timing::Original, _) if self.frames.len() > 1 => {
                return Err(EngineError::Plan(
                    "the recording has no times of its own: send it evenly".to_owned(),
                ));
            }
            _ => (0..self.frames.len()).map(even_ns).collect(),
        };
        // What is lacking for a whole lap, or a frame, by rounding only, is not lacking.
        let laps = self.duration_ns as f64 / self.lap_ns + 1e-9;
        let rest_ns = ((laps.fract() * self.lap_ns) as u64).saturating_sub(1);
        let rest = match replay.timing {
            Timing::Even => (laps.fract() * count + 1e-6) as usize,
            Timing::Original => self.offsets_ns.partition_point(|at| *at < rest_ns),
        };
        self.total = (laps as u64 * self.frames.len() as u64 + rest as u64).max(1);
        Ok(())
    }

    /// When a frame of all laps is to leave.
    fn intended_ns(&self, number: u64) -> u64 {
        let count = self.frames.len() as u64;
        let offset_ns = self.offsets_ns.get((number % count) as usize);
        self.start_ns
            + ((number / count) as f64 * self.lap_ns) as u64
            + offset_ns.copied().unwrap_or(0)
    }

    fn take(&mut self, at_ns: u64) -> Turn {
        self.current = (self.next % self.frames.len() as u64) as usize;
        self.next += 1;
        Turn::Send(at_ns)
    }
}

impl Source for Replaying<'_> {
    fn streams(&self) -> usize {
        1
    }

    fn len_max(&self) -> usize {
        self.frames.iter().map(Recorded::len).max().unwrap_or(0)
    }

    fn start(&mut self, now_ns: u64) {
        self.start_ns = now_ns;
    }

    fn turn(&mut self, now_ns: u64) -> Turn {
        let elapsed_ns = now_ns.saturating_sub(self.start_ns);
        if self.offsets_ns.is_empty() && elapsed_ns < self.duration_ns {
            return self.take(now_ns);
        }
        while !self.offsets_ns.is_empty() && self.next < self.total {
            let intended_ns = self.intended_ns(self.next);
            if now_ns < intended_ns {
                return Turn::Wait;
            }
            if now_ns - intended_ns <= RESYNC_NS {
                return self.take(intended_ns);
            }
            self.next += 1;
            self.late += 1;
        }
        if elapsed_ns < self.duration_ns {
            Turn::Wait
        } else {
            Turn::Over
        }
    }

    fn write(&mut self, intended_ns: u64, frame: &mut [u8]) -> Option<(usize, usize)> {
        let tag = Tag {
            stream: self.id,
            sequence: self.sequence,
            intended_ns,
        };
        self.sequence = self.sequence.wrapping_add(1);
        let len = self.frames.get(self.current)?.write(tag, frame)?;
        Some((0, len))
    }

    fn stop(&mut self) {
        (self.total, self.duration_ns) = (0, 0);
    }

    fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::recording::tests::frame_at;

    /// Frames at 0, 1, 2 and 9 µs: with the mean distance of 3 µs behind the last, a lap of 12.
    fn frames() -> Vec<Recorded> {
        [0, 1_000, 2_000, 9_000].map(frame_at).to_vec()
    }

    fn replay(frames: &[Recorded], timing: Timing) -> Replay<'_> {
        Replay {
            id: 0,
            frames,
            rate_fps: 4e9 / 12_000.0,
            timing,
            duration: Duration::from_micros(18),
        }
    }

    /// All intended times of a run whose clock is looked at every 100 ns.
    fn times(replay: &Replay<'_>) -> Vec<u64> {
        let mut replaying = Replaying::new(replay).unwrap();
        replaying.start(1_000_000);
        let mut times = Vec::new();
        let mut now_ns = 1_000_000;
        loop {
            match replaying.turn(now_ns) {
                Turn::Send(at_ns) => times.push(at_ns - 1_000_000),
                Turn::Wait => now_ns += 100,
                Turn::Over => break,
            }
        }
        assert_eq!(replaying.late(), 0);
        assert_eq!(u128::from(now_ns - 1_000_000), replay.duration.as_nanos());
        times
    }

    #[test]
    fn frames_leave_as_they_were_recorded_lap_after_lap() {
        let frames = frames();
        let original = replay(&frames, Timing::Original);
        assert_eq!(
            times(&original),
            [0, 1_000, 2_000, 9_000, 12_000, 13_000, 14_000]
        );
        let twice = Replay {
            rate_fps: original.rate_fps * 2.0,
            duration: Duration::from_micros(6),
            ..original
        };
        assert_eq!(times(&twice), [0, 500, 1_000, 4_500], "twice as fast");
        let even = replay(&frames, Timing::Even);
        assert_eq!(times(&even), [0, 3_000, 6_000, 9_000, 12_000, 15_000]);
    }

    #[test]
    fn what_is_long_over_is_given_up_and_counted() {
        let frames = frames();
        let mut replaying = Replaying::new(&Replay {
            duration: Duration::from_millis(1),
            ..replay(&frames, Timing::Even)
        })
        .unwrap();
        replaying.start(0);
        assert_eq!(replaying.turn(0), Turn::Send(0));
        assert_eq!(replaying.turn(500_000), Turn::Send(300_000));
        assert_eq!((replaying.late(), replaying.current), (99, 0));
        replaying.stop();
        assert_eq!(replaying.turn(500_001), Turn::Over);
    }

    #[test]
    fn without_a_rate_it_is_always_time_until_the_end() {
        let frames = frames();
        let mut replaying = Replaying::new(&Replay {
            rate_fps: f64::INFINITY,
            ..replay(&frames, Timing::Original)
        })
        .unwrap();
        replaying.start(10);
        for _ in 0..9 {
            assert_eq!(replaying.turn(20), Turn::Send(20));
        }
        assert_eq!(replaying.turn(18_010), Turn::Over);
    }

    #[test]
    fn replays_that_cannot_be_are_refused() {
        let frames = frames();
        let good = replay(&frames, Timing::Original);
        let at_once = [0, 0].map(frame_at);
        for bad in [
            Replay {
                frames: &[],
                ..good
            },
            Replay {
                rate_fps: 0.0,
                ..good
            },
            Replay {
                rate_fps: f64::NAN,
                ..good
            },
            Replay {
                duration: Duration::ZERO,
                ..good
            },
            Replay {
                frames: &at_once,
                ..good
            },
        ] {
            assert!(Replaying::new(&bad).is_err(), "{bad:?}");
        }
    }
}
