//! For whom a frame on its way counts, and as how much.
//!
//! Only when a frame has been handed to a port is it known that it was. So where it was judged, what its peer's book is to say
//! of it is noted, and kept beside it until then.

use crate::port::Frame;
use crate::stats::{PeerId, Tallies};

/// What is counted for a peer when a frame has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) peer: PeerId,
    /// Of the wire: the segments of a superframe.
    frames: u16,
    pub(super) bytes: u32,
}

const _: () = assert!(size_of::<Note>() == 8, "a batch of notes is 512 bytes");

impl Note {
    /// Beside no frame.
    pub(super) const NONE: Self = Self {
        peer: PeerId(0),
        frames: 0,
        bytes: 0,
    };

    /// Beside a frame, as it leaves, of so many segments.
    #[inline]
    pub(super) fn new(peer: PeerId, frame: &Frame, segments: usize) -> Self {
        Self {
            peer,
            frames: segments as u16, // Bytes of a superframe fit in 16 bits, more or less: its segments do.
            bytes: frame.len() as u32,
        }
    }

    /// Counts for their peers what has left; returns frames of the wire and bytes, of all together.
    ///
    /// Neighbours in a batch often have one peer: its place is written once for all of them.
    #[inline]
    pub(super) fn count<'a>(
        notes: impl IntoIterator<Item = &'a Self>,
        peers: &Tallies,
    ) -> (u64, u64) {
        let (mut frames, mut bytes) = (0, 0);
        let (mut peer, mut run_frames, mut run_bytes) = (PeerId(0), 0, 0);
        for note in notes {
            if note.peer != peer {
                peers.count_some(peer, run_frames, run_bytes);
                (frames, bytes) = (frames + run_frames, bytes + run_bytes);
                (peer, run_frames, run_bytes) = (note.peer, 0, 0);
            }
            run_frames += u64::from(note.frames);
            run_bytes += u64::from(note.bytes);
        }
        peers.count_some(peer, run_frames, run_bytes);
        (frames + run_frames, bytes + run_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Tally;

    #[test]
    fn runs_of_one_peer_and_changes_of_peers_are_counted_alike() {
        let tallies = Tallies::new(4);
        tallies.set_now(9);
        let note = |peer, frames, bytes| Note {
            peer: PeerId(peer),
            frames,
            bytes,
        };
        let notes = [
            note(1, 1, 100),
            note(1, 1, 101),
            note(2, 44, 64_000),
            note(1, 1, 102),
            note(3, 1, 60),
        ];
        assert_eq!(Note::count(&notes, &tallies), (48, 64_363));
        let read = |peer| tallies.read(PeerId(peer));
        let tally = |frames, bytes| Tally {
            frames,
            bytes,
            last_ns: 9,
        };
        assert_eq!(read(1), tally(3, 303));
        assert_eq!(read(2), tally(44, 64_000));
        assert_eq!(read(3), tally(1, 60));
        assert_eq!(read(0), Tally::default(), "nobody was there");
        assert_eq!(Note::count(&[], &tallies), (0, 0));
    }
}
