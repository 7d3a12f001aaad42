//! The books of a trial: every frame that was sent is received, lost, corrupted or misdelivered, and nothing else arrived.
//!
//! ```text
//!   sent = received + corrupted + misdelivered + lost          duplicated and reordered are told beside
//! ```
//!
//! `lost` is what is left; if it would be less than nothing, somebody counted wrong, and the trial is void. A corrupted frame
//! may carry another stream's number, so the balance of a single stream may owe what another has too much: it is judged
//! in total, and by stream only where nothing was corrupted.

use serde::{Deserialize, Serialize};

/// What happened to the frames of one stream, or of all. In frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// Handed to the wire by the generator.
    pub sent: u64,
    /// Distinct, whole, and where they belong.
    pub received: u64,
    /// Never seen again.
    pub lost: u64,
    /// Further copies of those received.
    pub duplicated: u64,
    /// Those of the received that came behind a later one.
    pub reordered: u64,
    /// Changed on the way.
    pub corrupted: u64,
    /// Whole, but at a sink where they do not belong.
    pub misdelivered: u64,
}

/// What a sink says of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Distinct, whole, and where they belong.
    pub received: u64,
    /// Further copies.
    pub duplicated: u64,
    /// Of the received, those behind a later one.
    pub reordered: u64,
    /// Changed on the way.
    pub corrupted: u64,
    /// Whole, but elsewhere.
    pub misdelivered: u64,
}

/// More arrived than was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the books do not balance: {accounted} frames arrived{of} of {sent} that were sent. The trial is void; is another \
     generator at work on this wire?"
)]
pub struct Void {
    accounted: u64,
    sent: u64,
    of: String,
}

/// The balanced books.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Of all streams together.
    pub total: Fates,
    /// By number of stream.
    pub streams: Vec<Fates>,
}

impl Books {
    /// Closes the books over what was sent and what arrived, both by number of stream.
    ///
    /// # Errors
    /// [`Void`] when more arrived than was sent.
    pub fn close(sent: &[u64], arrivals: &[Arrivals]) -> Result<Self, Void> {
        let silent = Arrivals::default();
        let pairs = sent
            .iter()
            .enumerate()
            .map(|(stream, sent)| (*sent, *arrivals.get(stream).unwrap_or(&silent)));
        let streams: Vec<_> = pairs.map(|(sent, arrived)| fates(sent, arrived)).collect();
        let mut total = streams.iter().fold(Fates::default(), add);
        let accounted = total.received + total.corrupted + total.misdelivered;
        total.lost = total.sent.checked_sub(accounted).ok_or(Void {
            accounted,
            sent: total.sent,
            of: String::new(),
        })?;
        // Without damage every frame says its stream truly.
        let wrong = streams.iter().enumerate().find(|(_, stream)| {
            total.corrupted == 0 && stream.received + stream.misdelivered > stream.sent
        });
        match wrong {
            Some((number, stream)) => Err(Void {
                accounted: stream.received + stream.misdelivered,
                sent: stream.sent,
                of: format!(" in stream {number}"),
            }),
            None => Ok(Self { total, streams }),
        }
    }

    /// The share of what was sent that did not arrive as it should, 0 to 1; 0 when nothing was sent.
    pub fn loss_ratio(&self) -> f64 {
        match self.total.sent {
            0 => 0.0,
            sent => (sent - self.total.received) as f64 / sent as f64,
        }
    }
}

fn fates(sent: u64, arrived: Arrivals) -> Fates {
    let accounted = arrived.received + arrived.corrupted + arrived.misdelivered;
    Fates {
        sent,
        received: arrived.received,
        lost: sent.saturating_sub(accounted),
        duplicated: arrived.duplicated,
        reordered: arrived.reordered,
        corrupted: arrived.corrupted,
        misdelivered: arrived.misdelivered,
    }
}

fn add(sum: Fates, stream: &Fates) -> Fates {
    Fates {
        sent: sum.sent + stream.sent,
        received: sum.received + stream.received,
        lost: 0,
        duplicated: sum.duplicated + stream.duplicated,
        reordered: sum.reordered + stream.reordered,
        corrupted: sum.corrupted + stream.corrupted,
        misdelivered: sum.misdelivered + stream.misdelivered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrived(received: u64) -> Arrivals {
        Arrivals {
            received,
            ..Arrivals::default()
        }
    }

    #[test]
    fn what_did_not_come_is_lost() {
        let books = Books::close(&[100, 50], &[arrived(99), arrived(50)]).unwrap();
        assert_eq!(
            (books.total.sent, books.total.received, books.total.lost),
            (150, 149, 1)
        );
        assert_eq!((books.streams[0].lost, books.streams[1].lost), (1, 0));
        assert_eq!(books.loss_ratio(), 1.0 / 150.0);
    }

    #[test]
    fn damaged_and_misled_frames_are_not_lost_but_count_as_loss() {
        let arrivals = Arrivals {
            received: 90,
            corrupted: 4,
            misdelivered: 3,
            duplicated: 7,
            reordered: 2,
        };
        let books = Books::close(&[100], &[arrivals]).unwrap();
        assert_eq!(books.total.lost, 3);
        assert_eq!((books.total.duplicated, books.total.reordered), (7, 2));
        assert_eq!(books.loss_ratio(), 0.1);
    }

    #[test]
    fn more_than_was_sent_is_void() {
        let error = Books::close(&[100, 50], &[arrived(100), arrived(51)]).unwrap_err();
        assert!(error.to_string().contains("void"), "{error}");
        // A stream may not take from another either.
        let error = Books::close(&[100, 50], &[arrived(90), arrived(51)]).unwrap_err();
        assert!(error.to_string().contains("stream 1"), "{error}");
    }

    /// A damaged frame may claim another stream's number.
    #[test]
    fn damage_is_balanced_in_total() {
        let strange = Arrivals {
            corrupted: 1,
            ..arrived(50)
        };
        let books = Books::close(&[100, 50], &[arrived(99), strange]).unwrap();
        assert_eq!((books.total.lost, books.total.corrupted), (0, 1));
    }

    #[test]
    fn streams_that_nobody_heard_are_lost_whole() {
        let books = Books::close(&[10, 20], &[]).unwrap();
        assert_eq!(books.total.lost, 30);
        assert_eq!(Books::close(&[], &[]).unwrap().loss_ratio(), 0.0);
    }

    proptest! {
        #[test]
        fn every_frame_sent_has_one_fate(streams in prop::collection::vec((0u64..1000, 0u64..300, 0u64..300, 0u64..300), 0..8)) {
            let sent: Vec<_> = streams.iter().map(|s| s.0).collect();
            let arrivals: Vec<_> = streams
                .iter()
                .map(|s| Arrivals { received: s.1, corrupted: s.2, misdelivered: s.3, ..Arrivals::default() })
                .collect();
            if let Ok(Books { total, .. }) = Books::close(&sent, &arrivals) {
                prop_assert_eq!(total.sent, total.received + total.corrupted + total.misdelivered + total.lost);
            }
        }
    }
}
