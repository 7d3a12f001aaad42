//! A table for people: columns as wide as what is in them, numbers to the right.

use std::fmt;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A head, and rows below it.
#[derive(Debug)]
pub(super) struct Columns<const N: usize> {
    aligns: [Align; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Columns<N> {
    /// Of columns with these names, and no rows.
    pub(super) fn new(heads: [(&str, Align); N]) -> Self {
        Self {
            aligns: heads.map(|(_, align)| align),
            rows: vec![heads.map(|(name, _)| name.to_owned())],
        }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Columns<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(widths).zip(self.aligns) {
                // Not by a width of the format: beyond 65,535 that panics, and a cell may list all ports.
                let room = " ".repeat(width.saturating_sub(cell.chars().count()));
                let parts = match align {
                    Align::Left => [cell, &room],
                    Align::Right => [&room, cell],
                };
                line.extend(parts.map(String::as_str));
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How long ago something was, shortly; a dash for never.
pub(super) fn ago(age_ms: Option<u64>) -> String {
    let Some(ms) = age_ms else {
        return "-".to_owned();
    };
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Columns::new([
            ("NAME", Align::Left),
            ("COUNT", Align::Right),
            ("WORDS", Align::Left),
        ]);
        for (name, count, words) in [("a", "7", "one"), ("longer", "1234567", "")] {
            table.row([name, count, words].map(str::to_owned));
        }
        let text = "NAME      COUNT  WORDS\na             7  one\nlonger  1234567\n";
        assert_eq!(table.to_string(), text);
    }

    #[test]
    fn a_cell_may_be_as_long_as_it_is() {
        let mut table = Columns::new([("PORTS", Align::Left), ("COUNT", Align::Right)]);
        let ports = vec!["eth1"; 20_000].join(", ");
        table.row([ports.clone(), "7".to_owned()]);
        table.row(["eth1".to_owned(), "12".to_owned()]);
        let text = table.to_string();
        assert!(text.contains(&format!("{ports}      7\n")) && text.ends_with(" 12\n"));
    }

    #[test]
    fn ages_have_two_digits_or_so() {
        let words = [
            (0, "0.0s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (119_999, "119s"),
            (120_000, "2m"),
            (7_199_999, "119m"),
            (7_200_000, "2h"),
            (172_800_000, "2d"),
        ];
        for (ms, text) in words {
            assert_eq!(ago(Some(ms)), text);
        }
        assert_eq!(ago(None), "-");
    }
}
