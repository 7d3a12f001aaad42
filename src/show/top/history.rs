//! What the rates were in the last minutes, in as many columns as there are.

use std::collections::VecDeque;

/// How far back all columns together go, in seconds.
const SPAN_S: f64 = 180.0;
/// Samples that are kept: those of the widest screens, and of the shortest intervals.
const SAMPLES_MAX: usize = 4096;

/// The rates of the last minutes, of three kinds.
#[derive(Debug)]
pub(super) struct History {
    samples: VecDeque<[f64; 3]>,
    /// Samples so far, those that are no longer kept among them.
    seen: usize,
    /// Samples of the whole span.
    span: usize,
}

impl History {
    /// None yet; a sample every so many seconds.
    pub(super) fn new(interval_s: f64) -> Self {
        let span = (SPAN_S / interval_s).ceil() as usize;
        Self {
            samples: VecDeque::new(),
            seen: 0,
            span: span.clamp(1, SAMPLES_MAX),
        }
    }

    pub(super) fn push(&mut self, rates: [f64; 3]) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(rates);
        self.seen += 1;
    }

    /// The highest rate of a kind in each of so many columns, the last one being the present. Which samples share a column
    /// does not change as others come.
    pub(super) fn columns(&self, kind: usize, width: usize) -> Vec<u64> {
        let each = self.span.div_ceil(width.max(1));
        let mut columns = vec![0; width];
        let last = self.seen.saturating_sub(1) / each;
        let first = self.seen - self.samples.len();
        for (number, rates) in (first..).zip(&self.samples) {
            let place = (number / each + width).checked_sub(last + 1);
            let column = place.and_then(|place| columns.get_mut(place));
            if let (Some(column), Some(rate)) = (column, rates.get(kind)) {
                *column = (*column).max(rate.round() as u64);
            }
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_is_at_the_right() {
        let mut history = History::new(1.0);
        assert_eq!(history.columns(0, 3), [0, 0, 0]);
        for rate in [1.0, 2.0, 3.0] {
            history.push([rate, 10.0 * rate, 0.0]);
        }
        let wide = history.columns(0, 180);
        assert_eq!(wide[176..], [0, 1, 2, 3]);
        assert_eq!(history.columns(1, 180)[177..], [10, 20, 30]);
        // Sixty samples share a column.
        assert_eq!(history.columns(1, 3), [0, 0, 30]);
    }

    #[test]
    fn a_column_keeps_its_samples() {
        let mut history = History::new(1.0);
        let mut before: Vec<u64> = Vec::new();
        for number in 0..400_u32 {
            history.push([f64::from(number), 0.0, 0.0]);
            let now = history.columns(0, 18);
            if number % 10 != 0 {
                // Only the last column has risen.
                assert_eq!(now[..17], before[..17], "{number}");
            }
            before = now;
        }
        assert_eq!(before[16..], [389, 399]);
    }
}
