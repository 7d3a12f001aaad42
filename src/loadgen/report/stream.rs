//! What a report says of a stream, and the table of what became of each.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::loadgen::books::Fates;

/// A stream of a measurement. Its place in the list is its number: that in its frames, and in `books.streams` of each trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Its share of the rate, among those of all streams.
    pub share: u16,
    /// How many flows it has.
    pub flows: u32,
    /// Its sizes, as flags name them.
    pub sizes: String,
    /// Its VNIs; none when it is plain.
    pub vnis: Option<String>,
    /// The order of its flows: `inc` or `random`.
    pub order: String,
    /// What made that order, when it is random.
    pub seed: Option<u64>,
}

/// The fates of several streams, a line each.
pub(super) struct Table<'a> {
    pub streams: &'a [StreamReport],
    pub fates: &'a [Fates],
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self
            .streams
            .iter()
            .map(|stream| stream.name.chars().count());
        let width = widths.max().unwrap_or(0).max(6);
        writeln!(
            f,
            "  {:<width$} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "stream", "sent", "received", "lost", "corrupted", "misled", "doubled", "reordered"
        )?;
        for (stream, fates) in self.streams.iter().zip(self.fates) {
            writeln!(
                f,
                "  {:<width$} {:>12} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
                stream.name,
                fates.sent,
                fates.received,
                fates.lost,
                fates.corrupted,
                fates.misdelivered,
                fates.duplicated,
                fates.reordered
            )?;
        }
        Ok(())
    }
}
