//! A look at a trial that is under way: how many frames have left, what has come, and how late.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::failure::Failure;
use crate::loadgen::engine::{Control, EngineError, Received, Receiver, StreamReceived};
use crate::loadgen::report::Latency;

/// What can be seen, and done, at one moment of a trial.
pub(super) struct Look<'a> {
    /// Since the first frames were seen to have left. At the very end it may be a little more than the trial has lasted: nobody
    /// has been told yet that it is over.
    pub(super) elapsed: Duration,
    /// Frames that had left so long ago that they have come, or are lost.
    settled: u64,
    sink: &'a dyn Receiver,
    control: &'a Control,
}

/// What had left and come at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Frames that had left: without those that may be under way still, as far as can be told.
    pub(super) sent: u64,
    /// What had come.
    pub(super) received: Received,
}

impl<'a> Look<'a> {
    pub(super) fn new(
        elapsed: Duration,
        settled: u64,
        (sink, control): (&'a dyn Receiver, &'a Control),
    ) -> Self {
        Self {
            elapsed,
            settled,
            sink,
            control,
        }
    }

    /// Reads the sink.
    pub(super) fn read(&self) -> Result<Seen, EngineError> {
        // Frames are numbered: of those that have come, the highest says how many had left. Asked first, because what comes
        // between the two questions must not pass for lost.
        let reached = self.sink.reached()?.iter().sum();
        let received = self.sink.read()?;
        let sent = self.settled.max(reached).max(frames(&received));
        Ok(Seen { sent, received })
    }

    /// Ends the trial.
    pub(super) fn stop(&self) {
        self.control.stop();
    }
}

/// What happened between two looks.
pub(super) struct Change {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Below 0: some of those that had been given up arrived after all.
    pub(super) lost: i64,
    pub(super) latency: Option<Latency>,
}

impl Seen {
    /// What happened since an earlier look of the same trial; without one, since its start.
    pub(super) fn since(&self, before: Option<&Self>) -> Result<Change, Failure> {
        let mut latency = self.received.latency.clone();
        let (mut sent, mut accounted, mut whole) = (0, 0, 0);
        let mut max_ns = self.max_ns();
        if let Some(before) = before {
            (sent, accounted, whole) = (before.sent, before.accounted(), before.whole());
            // It has all that the later one has.
            latency
                .subtract(&before.received.latency)
                .map_err(|_| Failure::Backwards)?;
            if max_ns == before.max_ns() {
                // The slowest came before.
                max_ns = None;
            }
        }
        let sent = self.sent.saturating_sub(sent);
        Ok(Change {
            sent,
            received: self.whole().saturating_sub(whole),
            lost: sent as i64 - self.accounted().saturating_sub(accounted) as i64,
            latency: quantiles(&latency, max_ns),
        })
    }

    fn max_ns(&self) -> Option<u64> {
        self.received.latency_range_ns.map(|(_, max_ns)| max_ns)
    }

    /// Frames that arrived as they should.
    pub(super) fn whole(&self) -> u64 {
        let streams = &self.received.per_stream;
        streams.iter().map(|stream| stream.frames).sum()
    }

    /// Frames that are not lost.
    pub(super) fn accounted(&self) -> u64 {
        frames(&self.received)
    }
}

/// Frames that arrived, whole or not, here or elsewhere; further copies of one do not count.
pub(super) fn frames(received: &Received) -> u64 {
    let of = |stream: &StreamReceived| stream.frames + stream.corrupted + stream.misdelivered;
    received.per_stream.iter().map(of).sum()
}

/// Of these latencies; `max_ns` is the highest one, where it is known to the nanosecond. A quantile is known to a bucket of
/// the histogram alone, whose end may be beyond the highest latency: none is higher than that.
pub(super) fn quantiles(latency: &Histogram<u64>, max_ns: Option<u64>) -> Option<Latency> {
    let max_ns = max_ns.unwrap_or_else(|| latency.max());
    let at = |quantile| latency.value_at_quantile(quantile).min(max_ns);
    (!latency.is_empty()).then(|| Latency {
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
        p999_ns: at(0.999),
        max_ns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loadgen::engine::histogram;

    #[test]
    fn no_quantile_is_beyond_the_highest_latency() {
        // The first value of a bucket that holds many more.
        let max_ns = 1 << 30;
        let mut latency = histogram();
        latency.record_n(1000, 900).unwrap();
        latency.record_n(max_ns, 100).unwrap();
        assert!(latency.value_at_quantile(0.999) > max_ns);
        let found = quantiles(&latency, Some(max_ns)).unwrap();
        assert_eq!((found.p50_ns, found.p90_ns), (1000, 1000));
        assert_eq!(
            [found.p99_ns, found.p999_ns, found.max_ns],
            [max_ns; 3],
            "{found:?}"
        );
    }

    #[test]
    fn without_an_exact_maximum_the_bucket_stands_for_it() {
        let mut latency = histogram();
        assert_eq!(quantiles(&latency, None), None);
        latency.record(1 << 30).unwrap();
        let found = quantiles(&latency, None).unwrap();
        assert_eq!(found.p50_ns, found.max_ns);
        assert!(found.max_ns >= 1 << 30);
    }
}
