//! Frame sizes, as benchmarks name them: Ethernet frames **with** the 4 bytes of frame check sequence (RFC 2544 §9), which
//! neither end of a program ever sees. Size 64 is a frame of 60 bytes in memory.

use std::fmt;
use std::str::FromStr;

/// Bytes of the frame check sequence.
pub const FCS_LEN: u16 = 4;

/// Bytes that a frame occupies on an Ethernet link beyond its size: preamble, start delimiter, inter-frame gap.
pub const LINK_OVERHEAD: u16 = 20;

/// The largest size that can be asked for.
pub const SIZE_MAX: u16 = 9018;

/// A size and how often it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighted {
    /// Bytes with the FCS.
    pub size: u16,
    /// Frames of this size in every round through the list.
    pub weight: u16,
}

/// The sizes of a stream: `1518`, `64,512,1518`, `64:7,570:4,1518:1`, or `imix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes(Vec<Weighted>);

/// CSIT's mix, of mean 353.8 bytes: 28 × 64, 16 × 570, 4 × 1518, in lowest terms.
const IMIX: [(u16, u16); 3] = [(64, 7), (570, 4), (1518, 1)];

/// A list of sizes that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Neither a number, nor `SIZE:WEIGHT`, nor `imix`.
    #[error(
        "size '{0}': use a number of bytes (64 to {SIZE_MAX}), SIZE:WEIGHT, a list of these, or imix"
    )]
    Unreadable(String),
    /// Out of the range of Ethernet.
    #[error("size {0}: an Ethernet frame has 64 to {SIZE_MAX} bytes with its FCS")]
    Range(u16),
    /// A weight of zero, or weights that are too many for one round.
    #[error("size {size}: a weight is 1 to {WEIGHT_MAX}, not {weight}")]
    Weight {
        /// The size.
        size: u16,
        /// Its weight.
        weight: u16,
    },
}

const WEIGHT_MAX: u16 = 1000;

impl Sizes {
    /// One size alone.
    ///
    /// # Errors
    /// [`SizeError::Range`].
    pub fn one(size: u16) -> Result<Self, SizeError> {
        Self::new([(size, 1)])
    }

    fn new(list: impl IntoIterator<Item = (u16, u16)>) -> Result<Self, SizeError> {
        let judge = |(size, weight)| match (size, weight) {
            (..64, _) | (9019.., _) => Err(SizeError::Range(size)),
            (_, 0) | (_, 1001..) => Err(SizeError::Weight { size, weight }),
            _ => Ok(Weighted { size, weight }),
        };
        list.into_iter()
            .map(judge)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The sizes with their weights, in the order given.
    pub fn list(&self) -> &[Weighted] {
        &self.0
    }

    /// The smallest size.
    pub fn smallest(&self) -> u16 {
        self.0.iter().map(|entry| entry.size).min().unwrap_or(0)
    }

    /// The largest size.
    pub fn largest(&self) -> u16 {
        self.0.iter().map(|entry| entry.size).max().unwrap_or(0)
    }

    /// The mean size in bytes, by weight.
    pub fn mean(&self) -> f64 {
        let weights: f64 = self.0.iter().map(|entry| f64::from(entry.weight)).sum();
        let bytes: f64 = self
            .0
            .iter()
            .map(|entry| f64::from(entry.size) * f64::from(entry.weight))
            .sum();
        bytes / weights
    }
}

impl FromStr for Sizes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        if text.eq_ignore_ascii_case("imix") {
            return Self::new(IMIX);
        }
        let unreadable = |part: &str| SizeError::Unreadable(part.to_owned());
        let entry = |part: &str| {
            let part = part.trim();
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            match (size.parse(), weight.parse()) {
                (Ok(size), Ok(weight)) => Ok((size, weight)),
                _ => Err(unreadable(part)),
            }
        };
        Self::new(text.split(',').map(entry).collect::<Result<Vec<_>, _>>()?)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self
            .0
            .iter()
            .map(|entry| (entry.size, entry.weight))
            .eq(IMIX)
        {
            return f.write_str("imix");
        }
        for (index, Weighted { size, weight }) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match weight {
                1 => write!(f, "{comma}{size}")?,
                _ => write!(f, "{comma}{size}:{weight}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_weights_and_the_mix_are_read_and_written_alike() {
        for text in ["64", "64,512,1518", "64:7,570:4,1400", "imix", "9018"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        assert_eq!("IMIX".parse::<Sizes>(), "64:7, 570:4, 1518:1".parse());
    }

    #[test]
    fn the_mix_has_the_published_mean() {
        let mix: Sizes = "imix".parse().unwrap();
        assert!((mix.mean() - 353.8).abs() < 0.05, "{}", mix.mean());
        assert_eq!((mix.smallest(), mix.largest()), (64, 1518));
    }

    #[test]
    fn what_cannot_be_a_frame_is_refused() {
        for text in ["", "x", "64,", "64:", ":3", "-64", "99999"] {
            assert!(
                matches!(text.parse::<Sizes>(), Err(SizeError::Unreadable(_))),
                "{text:?}"
            );
        }
        for text in ["63", "9019", "64,20"] {
            assert!(
                matches!(text.parse::<Sizes>(), Err(SizeError::Range(_))),
                "{text:?}"
            );
        }
        for text in ["64:0", "64:1001"] {
            assert!(
                matches!(text.parse::<Sizes>(), Err(SizeError::Weight { .. })),
                "{text:?}"
            );
        }
    }
}
