//! Where the time of a worker's turns goes, stage by stage, as long as somebody wants to know.
//!
//! A clock that is read between all stages of every turn would be a part of what it measures. So it is read only for [`STAGES_LEASE_NS`]
//! after somebody has last asked for it, and then in one turn of [`TURNS_PER_SAMPLE`]; any other turn looks at one number. Whoever wants to
//! know for longer asks again, and when nobody does, it ends by itself. What is read counts when the turn has received frames.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Count;

/// One turn of so many is measured.
pub const TURNS_PER_SAMPLE: u64 = 32;
/// How long turns are measured when that was asked for once.
pub const STAGES_LEASE_NS: u64 = 2_000_000_000;

macro_rules! stages {
    ($($variant:ident $label:literal $help:literal;)*) => {
        /// A part of a turn.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Stage { $(#[doc = $help] $variant,)* }

        impl Stage {
            /// All of them, in the order of a turn.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Its name in metrics and JSON.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    };
}

stages! {
    Receive "receive" "Frames are taken from a receive ring or a TAP.";
    Decide "decide" "Headers are read, and tables are asked.";
    Apply "apply" "Headers are taken off or put on.";
    Join "join" "TCP and UDP are joined, and handed to a TAP.";
    Transmit "transmit" "Frames are put into transmit rings, and the kernel is called.";
    Recycle "recycle" "Sent frames come back, and fill rings are filled.";
}

/// Until when anybody wants to know (`CLOCK_MONOTONIC`). Clones are the same switch.
#[derive(Debug, Clone, Default)]
pub struct StageSwitch(Arc<AtomicU64>);

impl StageSwitch {
    /// Has workers measure from `now_ns` on, for [`STAGES_LEASE_NS`].
    pub fn measure(&self, now_ns: u64) {
        self.0
            .fetch_max(now_ns.saturating_add(STAGES_LEASE_NS), Ordering::Relaxed);
    }

    #[inline]
    fn is_on(&self, now_ns: u64) -> bool {
        now_ns < self.0.load(Ordering::Relaxed)
    }
}

/// What a worker has measured.
#[derive(Debug, Default)]
pub struct Stages {
    switch: StageSwitch,
    /// Turns while the switch was on.
    looked: Count,
    /// Turns that were measured and received frames.
    pub turns: Count,
    /// The frames that these received.
    pub frames: Count,
    /// Times that the clock was read for it.
    pub readings: Count,
    spent_ns: [Count; Stage::COUNT],
}

impl Stages {
    /// Measured when this switch is on.
    pub fn switched_by(switch: StageSwitch) -> Self {
        Self {
            switch,
            ..Self::default()
        }
    }

    /// Whether the turn that begins at `now_ns` is to be measured. Only the owner may call this.
    #[inline]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.switch.is_on(now_ns) && self.is_next()
    }

    #[cold]
    fn is_next(&self) -> bool {
        self.looked.add(1);
        self.looked.get().is_multiple_of(TURNS_PER_SAMPLE)
    }

    /// Counts a turn that has received frames. Only the owner may call this.
    pub fn count(&self, frames: u64, readings: u64, spent_ns: &[u64; Stage::COUNT]) {
        self.turns.add(1);
        self.frames.add(frames);
        self.readings.add(readings);
        for (total, spent_ns) in self.spent_ns.iter().zip(spent_ns) {
            total.add(*spent_ns);
        }
    }

    /// Nanoseconds that a stage took in the turns that were measured.
    pub fn spent_ns(&self, stage: Stage) -> u64 {
        self.spent_ns[stage as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_measured_only_while_somebody_wants_to_know() {
        let switch = StageSwitch::default();
        let stages = Stages::switched_by(switch.clone());
        let due = |turns: u64, now_ns| (0..turns).filter(|_| stages.is_due(now_ns)).count();
        assert_eq!(due(10 * TURNS_PER_SAMPLE, 0), 0);
        switch.measure(1_000);
        assert_eq!(due(10 * TURNS_PER_SAMPLE, 1_000), 10);
        switch.measure(5_000);
        assert_eq!(due(TURNS_PER_SAMPLE, 1_000 + STAGES_LEASE_NS), 1);
        assert_eq!(due(10 * TURNS_PER_SAMPLE, 5_000 + STAGES_LEASE_NS), 0);
        // Who asks late does not end it early.
        switch.measure(2_000);
        assert_eq!(due(TURNS_PER_SAMPLE, 4_999 + STAGES_LEASE_NS), 1);
    }

    #[test]
    fn stages_are_added_up_each_by_itself() {
        let stages = Stages::default();
        let mut spent_ns = [0; Stage::COUNT];
        spent_ns[Stage::Decide as usize] = 7;
        spent_ns[Stage::Recycle as usize] = 3;
        stages.count(64, 5, &spent_ns);
        stages.count(1, 5, &spent_ns);
        let spent: Vec<_> = Stage::ALL.iter().map(|one| stages.spent_ns(*one)).collect();
        assert_eq!(spent, [0, 14, 0, 0, 0, 6]);
        assert_eq!((stages.turns.get(), stages.frames.get()), (2, 65));
    }
}
