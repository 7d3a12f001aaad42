//! Numbers for people.

/// A rate in four digits or so: `1234`, `12.3K`, `4.56M`.
pub(super) fn short(rate: f64) -> String {
    let (number, unit) = match rate {
        rate if rate >= 1e9 => (rate / 1e9, "G"),
        rate if rate >= 1e6 => (rate / 1e6, "M"),
        rate if rate >= 1e4 => (rate / 1e3, "K"),
        rate => return format!("{rate:.0}"),
    };
    let decimals = match number {
        number if number >= 99.95 => 0,
        number if number >= 9.995 => 1,
        _ => 2,
    };
    format!("{number:.decimals$}{unit}")
}

/// A number, or a dash for none.
pub(super) fn figure(number: Option<f64>, decimals: usize) -> String {
    number.map_or("-".to_owned(), |number| format!("{number:.decimals$}"))
}

/// A share of all, or a dash where there is nothing to have one of.
pub(super) fn percent(part: u64, all: u64) -> String {
    if all == 0 {
        return "-".to_owned();
    }
    format!("{:.1} %", 100.0 * part as f64 / all as f64)
}

/// How long something has lasted, shortly.
pub(super) fn lasted(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds:02}s"),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_four_digits_or_so() {
        for (rate, text) in [
            (0.0, "0"),
            (0.4, "0"),
            (9_999.4, "9999"),
            (10_000.0, "10.0K"),
            (99_949.0, "99.9K"),
            (412_345.0, "412K"),
            (3_104_000.0, "3.10M"),
            (21_200_000_000.0, "21.2G"),
        ] {
            assert_eq!(short(rate), text);
        }
    }

    #[test]
    fn shares_of_nothing_are_a_dash() {
        assert_eq!(
            (percent(1, 3), percent(0, 0)),
            ("33.3 %".into(), "-".into())
        );
        assert_eq!(
            (figure(Some(1.25), 1), figure(None, 1)),
            ("1.2".into(), "-".into())
        );
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [
            (7, "7s"),
            (67, "1m07s"),
            (3_600, "1h00m"),
            (270_000, "3d03h"),
        ] {
            assert_eq!(lasted(seconds), text);
        }
    }
}
