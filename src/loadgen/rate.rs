//! The rate of a load: in frames or bits a second, or as a share of the line.

use std::fmt;
use std::str::FromStr;

use super::size::LINK_OVERHEAD;

/// What is offered. `100k`, `1.5Mfps` (frames a second), `2Gbps` (bits of the frames with their FCS, layer 2), `2GbpsL1`
/// (with preamble and gap, layer 1), `80%` (of the line's layer 1), `2x` (twice as fast as it was recorded), `max` (as fast as the
/// generator goes).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Frames a second.
    Frames(f64),
    /// Bits a second of the frames with their FCS.
    BitsL2(f64),
    /// Bits a second as the link carries them.
    BitsL1(f64),
    /// A share of the line's bits a second, 0 to 1.
    Line(f64),
    /// A multiple of the speed of a recording.
    Recorded(f64),
    /// No limit.
    Max,
}

/// A rate that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// None of the forms.
    #[error(
        "rate '{0}': use frames a second (250k, 1.5Mfps), bits a second (2Gbps, 2GbpsL1), a share of the line (80%), a multiple of a recording's speed (1x), or max"
    )]
    Unreadable(String),
    /// Zero, negative, or more than a line.
    #[error("rate '{0}': it must be above 0, and a share of the line at most 100%")]
    Range(String),
    /// The device does not say how fast it is.
    #[error(
        "a rate in % needs the line's speed, and the device tells none (virtual devices have none): give --line-rate, or a rate in frames or bits a second"
    )]
    NoLine,
    /// A multiple of nothing.
    #[error(
        "a rate of {0}x is a multiple of a recording's speed, and none is sent: give --pcap FILE"
    )]
    NoRecording(String),
}

/// The highest rate that is taken for meant, in frames a second: 100 lines of 100 Gbit/s.
const FRAMES_MAX: f64 = 15e9;

impl Rate {
    /// Frames a second of this mean size, in bytes with the FCS; infinite for [`Rate::Max`]. `line_bps`: the line's speed in
    /// bits a second.
    ///
    /// # Errors
    /// [`RateError::NoLine`] for a share of a line without speed, [`RateError::NoRecording`] for a multiple of a recording's.
    pub fn frames_per_second(
        self,
        mean_size: f64,
        line_bps: Option<u64>,
    ) -> Result<f64, RateError> {
        let l2_bits = mean_size * 8.0;
        let l1_bits = l2_bits + f64::from(LINK_OVERHEAD) * 8.0;
        Ok(match self {
            Self::Frames(frames) => frames,
            Self::BitsL2(bits) => bits / l2_bits,
            Self::BitsL1(bits) => bits / l1_bits,
            Self::Line(share) => share * line_bps.ok_or(RateError::NoLine)? as f64 / l1_bits,
            Self::Recorded(multiple) => return Err(RateError::NoRecording(multiple.to_string())),
            Self::Max => f64::INFINITY,
        })
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let unreadable = || RateError::Unreadable(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        if lower == "max" {
            return Ok(Self::Max);
        }
        let unit_at = lower
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(lower.len());
        let (number, unit) = lower.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| unreadable())?;
        let (scale, unit) = match unit.as_bytes().first() {
            Some(b'k') => (1e3, &unit[1..]),
            Some(b'm') => (1e6, &unit[1..]),
            Some(b'g') => (1e9, &unit[1..]),
            _ => (1.0, unit),
        };
        let number = number * scale;
        let (rate, most) = match unit {
            "" | "fps" | "pps" => (Self::Frames(number), FRAMES_MAX),
            "bps" | "bpsl2" | "bit" => (Self::BitsL2(number), FRAMES_MAX * 512.0),
            "bpsl1" => (Self::BitsL1(number), FRAMES_MAX * 512.0),
            "x" if scale == 1.0 => (Self::Recorded(number), 1e6),
            "%" if scale == 1.0 => (Self::Line(number / 100.0), 100.0),
            _ => return Err(unreadable()),
        };
        if number > 0.0 && number <= most {
            Ok(rate)
        } else {
            Err(RateError::Range(text.to_owned()))
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(frames) => write!(f, "{}fps", Scaled(*frames)),
            Self::BitsL2(bits) => write!(f, "{}bps", Scaled(*bits)),
            Self::BitsL1(bits) => write!(f, "{}bpsL1", Scaled(*bits)),
            Self::Line(share) => write!(f, "{}%", share * 100.0),
            Self::Recorded(multiple) => write!(f, "{multiple}x"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// A number with the unit's prefix that leaves it at least 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaled(pub f64);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, prefix) = match self.0 {
            n if n >= 1e9 => (n / 1e9, "G"),
            n if n >= 1e6 => (n / 1e6, "M"),
            n if n >= 1e3 => (n / 1e3, "k"),
            n => (n, ""),
        };
        // Four figures are more than a measurement has.
        let places = if number >= 100.0 { 1 } else { 3 };
        let text = format!("{number:.places$}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{text}{prefix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(rate: &str, size: f64) -> f64 {
        let rate: Rate = rate.parse().unwrap();
        rate.frames_per_second(size, Some(10_000_000_000)).unwrap()
    }

    #[test]
    fn the_line_rate_of_ten_gigabits_is_the_published_one() {
        assert_eq!(frames("100%", 64.0) as u64, 14_880_952);
        assert_eq!(frames("10GbpsL1", 1518.0) as u64, 812_743);
        assert_eq!(frames("50%", 64.0) as u64, 7_440_476);
    }

    #[test]
    fn frames_and_bits_are_read_in_every_scale() {
        assert_eq!(frames("250k", 64.0), 250_000.0);
        assert_eq!(frames("1.5Mfps", 64.0), 1_500_000.0);
        assert_eq!(frames("42", 64.0), 42.0);
        assert_eq!(frames("512Mbps", 64.0), 1_000_000.0);
        assert_eq!(frames("max", 64.0), f64::INFINITY);
    }

    #[test]
    fn what_is_read_is_written_alike() {
        for text in [
            "250kfps",
            "1.5Mfps",
            "2Gbps",
            "2.25GbpsL1",
            "80%",
            "2x",
            "0.5x",
            "max",
            "999.9Mfps",
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in [
            "", "fast", "1.2.3", "10k%", "5Gfoo", "-1", "nan", "inf", "1e9",
        ] {
            assert!(
                matches!(text.parse::<Rate>(), Err(RateError::Unreadable(_))),
                "{text:?}"
            );
        }
        for text in ["0", "0%", "101%", "99999999Gfps"] {
            assert!(
                matches!(text.parse::<Rate>(), Err(RateError::Range(_))),
                "{text:?}"
            );
        }
        let multiple: Rate = "1x".parse().unwrap();
        let alone = multiple.frames_per_second(64.0, None);
        assert_eq!(alone, Err(RateError::NoRecording("1".to_owned())));
        let share: Rate = "10%".parse().unwrap();
        let alone = share.frames_per_second(64.0, None);
        assert_eq!(alone, Err(RateError::NoLine));
    }
}
