//! What an inspection of all bytes found, for people.

use std::fmt;

use crate::loadgen::engine::Inspection;

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  inspected {:>12}   in full", self.inspected)?;
        let mut found = self
            .findings()
            .into_iter()
            .filter(|(_, frames)| *frames > 0);
        found.try_for_each(|(what, frames)| writeln!(f, "  found     {frames:>12}   {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_found_is_told() {
        let inspection = Inspection {
            inspected: 1000,
            outer_udp_checksum: 7,
            ..Inspection::default()
        };
        assert_eq!(
            inspection.to_string(),
            "  inspected         1000   in full\n  found                7   outer UDP checksum wrong\n"
        );
    }
}
