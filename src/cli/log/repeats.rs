//! Events that say the same over and over: the first few of a minute pass, the rest are counted.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// How long an event is remembered after it was first seen.
const WINDOW: Duration = Duration::from_secs(60);
/// How often the same passes meanwhile.
const BURST: u64 = 5;
/// Different events that are remembered at a time; beyond, the oldest is given up.
const EVENTS_MAX: usize = 256;

/// All that an event says, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Said {
    pub(super) level: Level,
    pub(super) target: &'static str,
    /// The message, and each field with its value, on one line.
    pub(super) words: String,
}

impl Said {
    /// By this event.
    pub(super) fn by(event: &Event<'_>) -> Self {
        let mut words = Words::default();
        event.record(&mut words);
        let metadata = event.metadata();
        Self {
            level: *metadata.level(),
            target: metadata.target(),
            words: words.0,
        }
    }
}

/// An event that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) said: Said,
    /// How often.
    pub(super) count: u64,
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) passes: bool,
    /// What is to be told before it.
    pub(super) over: Vec<LeftOut>,
}

/// What was said of late.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    seen: HashMap<Said, Seen>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    count: u64,
}

impl Repeats {
    /// Counts an event.
    pub(super) fn judge(&mut self, said: Said, now: Instant) -> Judged {
        let mut over = self.take_due(now);
        if self.seen.len() >= EVENTS_MAX && !self.seen.contains_key(&said) {
            over.extend(self.give_up_oldest());
        }
        let new = Seen {
            since: now,
            count: 0,
        };
        let seen = self.seen.entry(said).or_insert(new);
        seen.count += 1;
        Judged {
            passes: seen.count <= BURST,
            over,
        }
    }

    /// Forgets what was first seen so long ago; what of it was left out, the oldest first.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<LeftOut> {
        self.take(|seen| now.saturating_duration_since(seen.since) >= WINDOW)
    }

    /// Forgets everything; what of it was left out.
    pub(super) fn take_all(&mut self) -> Vec<LeftOut> {
        self.take(|_| true)
    }

    /// When there is something to tell; none as long as nothing was left out.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let left_out = self.seen.values().filter(|seen| seen.count > BURST);
        left_out.map(|seen| seen.since + WINDOW).min()
    }

    fn take(&mut self, is_over: impl Fn(&Seen) -> bool) -> Vec<LeftOut> {
        let mut over: Vec<_> = self.seen.extract_if(|_, seen| is_over(seen)).collect();
        over.sort_by_key(|(_, seen)| seen.since);
        over.into_iter().filter_map(left_out).collect()
    }

    fn give_up_oldest(&mut self) -> Option<LeftOut> {
        let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.since);
        let oldest = oldest.map(|(said, _)| said.clone())?;
        self.seen.remove_entry(&oldest).and_then(left_out)
    }
}

fn left_out((said, seen): (Said, Seen)) -> Option<LeftOut> {
    let count = seen.count.checked_sub(BURST).filter(|count| *count > 0)?;
    Some(LeftOut { said, count })
}

/// All that an event says, on one line.
#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        // Writing into a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{gap}{value:?}"),
            name => write!(self.0, "{gap}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> Said {
        Said {
            level: Level::WARN,
            target: "here",
            words: words.to_owned(),
        }
    }

    fn told(left_out: &[LeftOut]) -> Vec<(&str, u64)> {
        let told = left_out.iter();
        told.map(|one| (one.said.words.as_str(), one.count))
            .collect()
    }

    #[test]
    fn the_first_few_pass_and_the_rest_are_counted_and_told() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for n in 0..20 {
            let judged = repeats.judge(said("a"), start + Duration::from_secs(n));
            assert_eq!((judged.passes, told(&judged.over)), (n < BURST, vec![]));
        }
        assert_eq!(repeats.due_at(), Some(start + WINDOW));
        // Others are not held up, nor do they end its minute.
        let judged = repeats.judge(said("b"), start + WINDOW - Duration::from_secs(1));
        assert_eq!((judged.passes, told(&judged.over)), (true, vec![]));
        let judged = repeats.judge(said("c"), start + WINDOW);
        assert_eq!(
            (judged.passes, told(&judged.over)),
            (true, vec![("a", 20 - BURST)])
        );
        assert_eq!(repeats.due_at(), None);
        let judged = repeats.judge(said("a"), start + WINDOW);
        assert_eq!((judged.passes, told(&judged.over)), (true, vec![]));
    }

    #[test]
    fn what_was_left_out_is_told_without_another_event() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for _ in 0..BURST + 2 {
            repeats.judge(said("a"), start);
        }
        assert!(repeats.take_due(start + WINDOW / 2).is_empty());
        assert_eq!(told(&repeats.take_due(start + WINDOW)), [("a", 2)]);
        assert!(repeats.take_due(start + WINDOW * 2).is_empty());
    }

    #[test]
    fn what_did_not_exceed_the_burst_is_not_told() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for _ in 0..BURST {
            assert!(repeats.judge(said("a"), start).passes);
        }
        assert_eq!(repeats.due_at(), None);
        assert!(repeats.take_all().is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_is_given_up_is_told() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for _ in 0..=BURST {
            repeats.judge(said("first"), start);
        }
        let at = start + Duration::from_secs(1);
        let mut over = Vec::new();
        for n in 0..EVENTS_MAX {
            let judged = repeats.judge(said(&n.to_string()), at);
            assert!(judged.passes);
            over.extend(judged.over);
        }
        assert_eq!(told(&over), [("first", 1)]);
        assert_eq!(repeats.seen.len(), EVENTS_MAX);
    }
}
