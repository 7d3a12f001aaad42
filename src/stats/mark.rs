//! How far something has gone: the highest level since the takeover, and lately.
//!
//! ```text
//!   time      ... | round n-1 | round n |          a round is 2^30 ns, some more than a second
//!   slots     [n % 64] = n << 32 | the highest level of round n
//! ```
//!
//! A slot says of itself which round it is of, so nobody has to clear any: a level of a later round is the higher number. One
//! word is stored at a time, and so a reader never sees the level of one round with the number of another.

use super::Count;

/// Rounds that are remembered: more than a minute.
const ROUNDS: usize = 64;
/// A round in nanoseconds, as a power of two: what round a moment is in takes no division.
const ROUND_SHIFT: u32 = 30;

/// The highest level of something. What is to be watched for its lowest is counted from the other end.
#[derive(Debug)]
pub struct Mark {
    ever: Count,
    rounds: [Count; ROUNDS],
}

impl Default for Mark {
    fn default() -> Self {
        Self {
            ever: Count::default(),
            rounds: std::array::from_fn(|_| Count::default()),
        }
    }
}

impl Mark {
    /// Takes note of a level at this time (`CLOCK_MONOTONIC`). Only the owner may call this.
    #[inline]
    pub fn note(&self, level: u32, now_ns: u64) {
        let level = u64::from(level);
        if level > self.ever.get() {
            self.ever.set(level);
        }
        let round = now_ns >> ROUND_SHIFT;
        let entry = round << 32 | level;
        let slot = &self.rounds[round as usize % ROUNDS];
        if entry > slot.get() {
            slot.set(entry);
        }
    }

    /// The highest level so far.
    pub fn ever(&self) -> u32 {
        self.ever.get() as u32
    }

    /// The highest level between two moments, as far as it is remembered, and to a round: what was a second before may be
    /// among it.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> u32 {
        let rounds = from_ns >> ROUND_SHIFT..=to_ns >> ROUND_SHIFT;
        let entries = self.rounds.iter().map(Count::get);
        let of_then = entries.filter(|entry| rounds.contains(&(entry >> 32)));
        of_then.map(|entry| entry as u32).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: u64 = 1 << ROUND_SHIFT;

    #[test]
    fn the_highest_level_ever_and_that_of_a_time_are_told_apart() {
        let mark = Mark::default();
        assert_eq!((mark.ever(), mark.between(0, 10 * ROUND)), (0, 0));
        for (round, level) in [(1, 7), (1, 9), (1, 3), (2, 5), (4, 6)] {
            mark.note(level, round * ROUND + 17);
        }
        assert_eq!(mark.ever(), 9);
        assert_eq!(mark.between(ROUND, 2 * ROUND), 9);
        assert_eq!(mark.between(2 * ROUND, 3 * ROUND), 5);
        assert_eq!(mark.between(3 * ROUND, 3 * ROUND), 0);
        assert_eq!(mark.between(2 * ROUND, 9 * ROUND), 6);
    }

    #[test]
    fn what_is_older_than_a_minute_is_not_taken_for_the_present() {
        let mark = Mark::default();
        mark.note(100, 5 * ROUND);
        let later = 5 + ROUNDS as u64;
        assert_eq!(mark.between(later * ROUND, later * ROUND), 0);
        mark.note(1, later * ROUND);
        assert_eq!(mark.between(later * ROUND, later * ROUND), 1);
        assert_eq!(mark.between(5 * ROUND, 5 * ROUND), 0, "it gave way");
        assert_eq!(mark.ever(), 100);
    }
}
