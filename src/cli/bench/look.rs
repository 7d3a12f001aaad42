//! A look at a trial that is under way: how many frames have left, what has come, and how late.

use std::time::Duration;

use crate::loadgen::engine::{Control, EngineError, Received, Sink, StreamReceived};

/// What can be seen, and done, at one moment of a trial.
pub(super) struct Look<'a> {
    /// Since the trial was started.
    pub(super) elapsed: Duration,
    /// Frames that had left so long ago that they have come, or are lost.
    settled: u64,
    sink: &'a Sink,
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
        (sink, control): (&'a Sink, &'a Control),
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

impl Seen {
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
