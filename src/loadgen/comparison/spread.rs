//! What a value was over several rounds.

use serde::Serialize;

/// The least, the middle and the most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these values; none when there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let lower = match sorted.len() % 2 {
            0 => *sorted.get(middle.checked_sub(1)?)?,
            _ => upper,
        };
        Some(Self {
            min: *sorted.first()?,
            median: lower + (upper - lower) / 2.0,
            max: *sorted.last()?,
        })
    }

    /// Whether it reaches from one side of a value to the other, or touches it.
    pub fn includes(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_in_the_middle() {
        let spread = |values: &[f64]| Spread::of(values).map(|s| (s.min, s.median, s.max));
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(spread(&[5.0, 1.0, 2.0]), Some((1.0, 2.0, 5.0)));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 10.0]), Some((1.0, 3.0, 10.0)));
    }

    #[test]
    fn touching_is_including() {
        let spread = Spread::of(&[1.0, 2.0]).unwrap();
        assert!(spread.includes(1.0) && spread.includes(1.5) && !spread.includes(0.99));
    }
}
