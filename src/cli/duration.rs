//! Times as flags give them.

use std::time::Duration;

/// As long as the clock of an engine of `vxgate bench` counts, and longer than anybody waits for anything else.
const DURATION_MAX_S: f64 = 72.0 * 3600.0;

/// A time as flags give it: in seconds, or with its unit.
pub(in crate::cli) fn seconds(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = UNITS
        .iter()
        .find_map(|(unit, length_s)| Some((text.strip_suffix(unit)?, *length_s)));
    let (number, length_s) = unit.unwrap_or((text, 1.0));
    match number.parse::<f64>().map(|number| number * length_s) {
        Ok(seconds) if (0.001..=DURATION_MAX_S).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err("use seconds (10, 0.5) or a unit (500ms, 90s, 10m, 2h): 1 ms to 72 h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_seconds_or_have_a_unit() {
        for (text, expected_ms) in [
            ("10", 10_000),
            ("0.5", 500),
            ("250ms", 250),
            ("90s", 90_000),
            ("1.5m", 90_000),
            ("72h", 72 * 3_600_000),
        ] {
            assert_eq!(
                seconds(text),
                Ok(Duration::from_millis(expected_ms)),
                "{text}"
            );
        }
        for bad in [
            "", "s", "0", "-1", "73h", "10d", "1e-4", "NaN", "inf", "1 h 2",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
