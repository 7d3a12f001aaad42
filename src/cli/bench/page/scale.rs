//! Axes: where a value is, and which values have a tick.

/// How values spread over an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By their logarithm.
    Log,
    /// A share of 1: evenly near 0, which is on it, and by its logarithm above 0.1 %.
    Share,
}

/// An axis over some values.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// What the values are.
    pub name: String,
    scale: Scale,
    /// Ticks: where, and what they say.
    ticks: Vec<(f64, String)>,
    range: (f64, f64),
}

/// Below this a share is drawn as if on a linear axis.
const SHARE_KNEE: f64 = 0.001;

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(f64::MIN_POSITIVE).log10(),
            Self::Share => (1.0 + value.max(0.0) / SHARE_KNEE).log10(),
        }
    }
}

impl Axis {
    /// An axis that these values fit on, with round numbers as ticks, written by `write`.
    pub(super) fn new(
        name: &str,
        scale: Scale,
        values: impl IntoIterator<Item = f64>,
        write: impl Fn(f64) -> String,
    ) -> Self {
        let usable = |value: &f64| value.is_finite() && (scale != Scale::Log || *value > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(usable) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 1.0);
        }
        let ticks = match scale {
            Scale::Linear => linear_ticks(high),
            Scale::Log => log_ticks(low, high),
            Scale::Share => share_ticks(high),
        };
        let ends = [ticks.first(), ticks.last()].map(|end| end.copied().unwrap_or(high));
        Self {
            name: name.to_owned(),
            scale,
            range: (scale.place(ends[0]), scale.place(ends[1])),
            ticks: ticks
                .into_iter()
                .map(|value| (scale.place(value), write(value)))
                .collect(),
        }
    }

    /// An axis with named places; values are spread by their logarithm when `scale` says so.
    pub(super) fn named(name: &str, scale: Scale, ticks: &[(f64, String)]) -> Self {
        let places: Vec<_> = ticks
            .iter()
            .map(|(value, text)| (scale.place(*value), text.clone()))
            .collect();
        let low = places
            .iter()
            .map(|tick| tick.0)
            .fold(f64::INFINITY, f64::min);
        let high = places
            .iter()
            .map(|tick| tick.0)
            .fold(f64::NEG_INFINITY, f64::max);
        let margin = ((high - low) * 0.06).max(0.01);
        Self {
            name: name.to_owned(),
            scale,
            ticks: places,
            range: (low - margin, high + margin),
        }
    }

    /// Where a value is.
    pub(super) fn place(&self, value: f64) -> f64 {
        let (low, high) = self.range;
        self.scale.place(value).clamp(low, high)
    }

    /// Whether a value is beyond its end.
    pub(super) fn ends_before(&self, value: f64) -> bool {
        self.scale.place(value) > self.range.1
    }

    /// From where to where it goes.
    pub(super) fn range(&self) -> (f64, f64) {
        self.range
    }

    /// Where the ticks are, and what they say.
    pub(super) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

/// 0 to the first round number that is enough, in 4 to 8 steps of 1, 2 or 5 times a power of ten.
fn linear_ticks(high: f64) -> Vec<f64> {
    let high = if high > 0.0 { high } else { 1.0 };
    let rough = high / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let steps = (high / step - 1e-9).ceil().max(1.0) as u32;
    (0..=steps).map(|number| f64::from(number) * step).collect()
}

/// Powers of ten; over few of them, 2 and 5 times these as well.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = first..=last.max(first + 1);
    let factors: &[f64] = if last - first > 3 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let ticks: Vec<_> = decades
        .flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)))
        .collect();
    // The last below the data, to the first above.
    let begin = ticks.iter().rposition(|tick| *tick <= low).unwrap_or(0);
    let end = ticks
        .iter()
        .position(|tick| *tick >= high)
        .unwrap_or(ticks.len() - 1)
        .max(begin + 1);
    ticks.get(begin..=end).unwrap_or(&ticks).to_vec()
}

fn share_ticks(high: f64) -> Vec<f64> {
    const TICKS: [f64; 6] = [0.0, 0.001, 0.005, 0.02, 0.1, 1.0];
    let enough = TICKS
        .iter()
        .position(|tick| *tick >= high)
        .unwrap_or(TICKS.len() - 1);
    TICKS.get(..=enough.max(2)).unwrap_or(&TICKS).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_beyond_the_data() {
        assert_eq!(linear_ticks(93.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear_ticks(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear_ticks(0.0).len(), 6);
        assert_eq!(log_ticks(3.0, 45.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(log_ticks(7.0, 7.0), [5.0, 10.0]);
        assert_eq!(
            log_ticks(2.0, 3e6),
            [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6, 1e7]
        );
        assert_eq!(share_ticks(0.0), [0.0, 0.001, 0.005]);
        assert_eq!(share_ticks(0.3), [0.0, 0.001, 0.005, 0.02, 0.1, 1.0]);
    }

    #[test]
    fn whatever_the_values_a_place_is_on_the_axis() {
        for scale in [Scale::Linear, Scale::Log, Scale::Share] {
            for values in [
                vec![],
                vec![0.0],
                vec![f64::NAN, 1.0],
                vec![-5.0, 1e12],
                vec![0.5],
            ] {
                let axis = Axis::new("x", scale, values.clone(), |value| value.to_string());
                let (low, high) = axis.range();
                assert!(
                    low < high && axis.ticks().len() >= 2,
                    "{scale:?} {values:?}"
                );
                for value in [0.0, -1.0, 1e15, 0.3] {
                    assert!(
                        (low..=high).contains(&axis.place(value)),
                        "{scale:?} {value}"
                    );
                }
            }
        }
    }
}
