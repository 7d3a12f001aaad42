//! Frames that were taken off the underlay and never came to their pods' devices.
//!
//! Between the two is the NIC's own receive path. Where that leads to another processor (RPS), the kernel's queue for it drops what
//! finds no room, and tells nobody whose that was. So what has been on its way for longer than any frame can be is taken for lost.

use super::IN_FLIGHT_MAX;

/// What is known to be lost.
#[derive(Debug, Default)]
pub(super) struct Strays {
    /// Frames that had been taken by the last look.
    received: u64,
    lost: u64,
}

impl Strays {
    /// Takes a look, a second or more after the last one: so many frames had been taken so far, of which so many have a fate. Returns
    /// how many are lost by now.
    pub fn look(&mut self, received: u64, fates: u64) -> u64 {
        let missing = received.cast_signed() - (fates + self.lost).cast_signed();
        let under_way = match received == self.received {
            true => 0,
            false => IN_FLIGHT_MAX,
        };
        self.received = received;
        // One that came after all was not lost.
        let found = missing.min((missing - under_way).max(0));
        self.lost = self.lost.saturating_add_signed(found);
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_lost_when_nothing_more_has_come_for_a_while() {
        let mut strays = Strays::default();
        assert_eq!(strays.look(100, 90), 0, "they may be under way");
        assert_eq!(strays.look(200, 180), 0);
        assert_eq!(strays.look(200, 181), 19);
        assert_eq!(strays.look(200, 181), 19, "once");
        assert_eq!(strays.look(300, 250), 19);
        assert_eq!(strays.look(300, 250), 50);
    }

    #[test]
    fn more_than_can_be_under_way_is_lost_at_once() {
        let mut strays = Strays::default();
        let max = IN_FLIGHT_MAX as u64;
        assert_eq!(strays.look(10_000, 10_000 - max - 7), 7);
        assert_eq!(strays.look(20_000, 20_000 - max - 7), 7);
        assert_eq!(strays.look(20_000, 20_000 - max - 7), max + 7);
    }

    #[test]
    fn what_came_after_all_was_not_lost() {
        let mut strays = Strays::default();
        strays.look(100, 90);
        assert_eq!(strays.look(100, 90), 10);
        assert_eq!(strays.look(100, 94), 6);
        assert_eq!(strays.look(150, 146), 4);
        assert_eq!(strays.look(150, 150), 0);
    }
}
