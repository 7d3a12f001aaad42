//! The sink's latency counters, as a histogram. `bpf/loadgen.h` says how they are laid out.

use hdrhistogram::Histogram;

/// Steps of an octave.
pub(super) const STEPS: usize = 128;
/// How many octaves there are.
pub(super) const OCTAVES: u32 = 35;
/// The largest value that is told apart, in ns.
const MAX_NS: u64 = (1 << 41) - 1;
/// Decimal digits of the histogram. The counters are coarser than that, 0.8 % at worst, so no more is lost here.
const DIGITS: u8 = 3;

/// The value in the middle of what a counter counts, in ns.
pub(super) fn middle_ns(octave: u32, step: usize) -> u64 {
    let step = step as u64;
    match octave {
        0 => step,
        _ => {
            let width = 1 << (octave - 1);
            (STEPS as u64 + step) * width + width / 2
        }
    }
}

/// An empty histogram of nanoseconds that holds every latency.
pub fn histogram() -> Histogram<u64> {
    // Bounds and digits are constants that the crate accepts.
    Histogram::new_with_bounds(1, MAX_NS, DIGITS).expect("constant bounds are valid")
}

/// Adds the counters of one octave.
pub(super) fn add(histogram: &mut Histogram<u64>, octave: u32, counts: &[u64]) {
    for (step, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        histogram.saturating_record_n(middle_ns(octave, step), *count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the program in BPF counts.
    fn counter(value_ns: u64) -> (u32, usize) {
        if value_ns < STEPS as u64 {
            return (0, value_ns as usize);
        }
        let octave = value_ns.ilog2() - 6;
        let step = (value_ns >> (octave - 1)) as usize % STEPS;
        (octave, step)
    }

    #[test]
    fn a_counter_stands_for_its_values_within_half_a_percent() {
        for value_ns in
            (0..41).flat_map(|bit| [1u64 << bit, (1 << bit) + (1 << bit) / 3, (2 << bit) - 1])
        {
            let (octave, step) = counter(value_ns);
            assert!(octave < OCTAVES);
            let error = middle_ns(octave, step).abs_diff(value_ns);
            assert!(error * 200 <= value_ns, "{value_ns} ns: off by {error}");
        }
    }

    #[test]
    fn counters_follow_each_other_without_gap() {
        let all = (0..OCTAVES).flat_map(|octave| (0..STEPS).map(move |step| (octave, step)));
        let mut last = None;
        for (octave, step) in all {
            let middle = middle_ns(octave, step);
            assert!(last < Some(middle), "octave {octave}, step {step}");
            assert_eq!(counter(middle), (octave, step));
            last = Some(middle);
        }
    }

    #[test]
    fn every_count_reaches_the_histogram() {
        let mut latency = histogram();
        let mut counts = [0; STEPS];
        counts[3] = 5;
        counts[127] = 2;
        add(&mut latency, 0, &counts);
        add(&mut latency, OCTAVES - 1, &counts);
        assert_eq!(latency.len(), 14);
        assert_eq!(latency.min(), 3);
        assert!(latency.max() > MAX_NS / 100 * 99);
    }
}
