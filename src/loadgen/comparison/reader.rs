//! Lines of files become rows of measures, and lines that contradict each other are found.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::measure::{Contender, Line, LineError, Measure, Setting};

/// Where a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)
    }
}

/// Why lines make no comparison.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComparisonError {
    /// A line says nothing that can be used.
    #[error("{place}: {source}")]
    Line {
        /// Where.
        place: Place,
        /// Why.
        source: LineError,
    },
    /// The values of a row count different things.
    #[error("{place}: {row} was in {before} before, and is in {now} here")]
    Unit {
        /// Where.
        place: Place,
        /// The row.
        row: String,
        /// Unit and direction of its first measure.
        before: String,
        /// Those of this one.
        now: String,
    },
    /// The same twice.
    #[error("{place}: {device} has a value of {row} in round {round} of this file already")]
    Twice {
        /// Where.
        place: Place,
        /// The contender.
        device: Contender,
        /// The row.
        row: String,
        /// The round.
        round: u32,
    },
    /// Nothing was measured.
    #[error("no measures in {0}: write them with scripts/bench.sh")]
    Empty(String),
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Facts, each said once.
    pub settings: Vec<Setting>,
    /// Rows in the order of their first measure; of each measure the number of its file.
    pub rows: Vec<Vec<(usize, Measure)>>,
    /// Which row has which name.
    named: HashMap<String, usize>,
    /// File, contender, row and round of each measure.
    seen: HashSet<(usize, Contender, usize, u32)>,
}

impl Reader {
    /// Takes the lines of one file.
    pub(super) fn file(
        &mut self,
        number: usize,
        name: &str,
        content: &str,
    ) -> Result<(), ComparisonError> {
        for (line, text) in (1..).zip(content.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let place = Place {
                file: name.to_owned(),
                line,
            };
            match Line::parse(text) {
                Ok(Line::Setting(setting)) if self.settings.contains(&setting) => {}
                Ok(Line::Setting(setting)) => self.settings.push(setting),
                Ok(Line::Measure(measure)) => self.measure(number, place, measure)?,
                Err(source) => return Err(ComparisonError::Line { place, source }),
            }
        }
        Ok(())
    }

    fn measure(
        &mut self,
        file: usize,
        place: Place,
        measure: Measure,
    ) -> Result<(), ComparisonError> {
        let next = self.rows.len();
        let index = *self.named.entry(measure.row.clone()).or_insert(next);
        if index == next {
            self.rows.push(Vec::new());
        }
        let Some(row) = self.rows.get_mut(index) else {
            return Ok(());
        };
        let counts = |measure: &Measure| format!("{} ({})", measure.unit, measure.better);
        if let Some((_, first)) = row.first()
            && counts(first) != counts(&measure)
        {
            return Err(ComparisonError::Unit {
                place,
                before: counts(first),
                now: counts(&measure),
                row: measure.row,
            });
        }
        if !self
            .seen
            .insert((file, measure.device, index, measure.round))
        {
            return Err(ComparisonError::Twice {
                place,
                device: measure.device,
                row: measure.row,
                round: measure.round,
            });
        }
        row.push((file, measure));
        Ok(())
    }
}
